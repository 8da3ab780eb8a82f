"""The reality law on whole training steps: simulated bytes are measured bytes, and every order trains the same."""

import copy

import pytest
import torch

import graphs
import topoformer
from bench.training_setups import SETUPS, setup
from tests.reality import Case, run
from tests.topoformer.pytorch.stepping import bits
from topoformer.pytorch.measure import measure_peak
from topoformer.schedulers.list_scheduling import random

pytestmark = pytest.mark.usefixtures("one_thread")


def compiled(given, model, **options):
    optimizer = given.optimizer(model.parameters())
    return topoformer.compile_train_step(model, given.loss_fn, optimizer, given.batch, **options), optimizer


def random_order(graph, objective, *, seconds, seed):
    return random(graph, objective, seconds=seconds, seed=seed)


@pytest.mark.parametrize("name", SETUPS)
def test_twenty_steps_in_any_order_are_those_of_eager_pytorch(name):
    given = setup(name, small=True)
    models = [copy.deepcopy(given.model) for _ in range(4)]
    methods = ("auto", "program", random_order)
    steps = [compiled(given, model, method=method, seconds=3) for model, method in zip(models, methods, strict=False)]
    optimizer = given.optimizer(models[3].parameters())
    for seed in range(20):
        losses = []
        for step, _ in steps:
            torch.manual_seed(seed)
            losses.append(step(given.batch))
        torch.manual_seed(seed)
        loss = given.loss(models[3])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert all(torch.equal(other, loss) for other in losses)
    wanted = bits(models[3], optimizer)
    assert all(bits(model, other) == wanted for model, (_, other) in zip(models, steps, strict=False))


@pytest.mark.parametrize("name", SETUPS)
def test_simulated_bytes_are_measured_bytes(name):
    given = setup(name, small=True)
    for method in ("auto", "program"):
        step, _ = compiled(given, copy.deepcopy(given.model), method=method, seconds=3)
        plan, leaves = step._plan_for(given.batch)
        step._begin_gradients(plan)
        case = Case(step.program, tuple(step._arguments(plan, leaves)), gradients=True)
        graph = graphs.from_fx(step.program)
        simulated = graphs.simulate(graph).step_bytes + graph.resident_bytes
        assert run(case, step.program).steps == simulated.tolist()
        assert int(simulated.max()) - graph.resident_bytes == step.schedule.cost.peak_bytes


@pytest.mark.parametrize("name", SETUPS)
def test_the_measured_peak_is_not_above_that_of_eager_pytorch(name):
    given = setup(name, small=True)
    model = copy.deepcopy(given.model)
    step, _ = compiled(given, model, seconds=3)
    step(given.batch)
    optimizer = given.optimizer(given.model.parameters())

    def eager():
        given.loss(given.model).backward()
        optimizer.step()
        optimizer.zero_grad()

    eager()
    assert measure_peak(lambda: step(given.batch)).bytes < measure_peak(eager).bytes
