"""Calls made in place give the same bits, never need more memory, and take no order away."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx

import graphs
from graphs import fx_reuse
from graphs.fx_reuse import reuse
from tests.reality import Case, disagreements, rand, random_orders, run, traced
from tests.reality_cases import CASES
from tests.reality_programs import random_program

aten = torch.ops.aten


pytestmark = pytest.mark.usefixtures("one_thread")


def changed(before: fx.GraphModule, after: fx.GraphModule) -> list[str]:
    pairs = zip(before.graph.nodes, after.graph.nodes, strict=True)
    return [str(new.target) for old, new in pairs if old.target != new.target and old.op == "call_function"]


def check(case: Case, orders: int) -> list[str]:
    """Hold the rewritten program against the given one; returns the operators that are in place now."""
    better = reuse(case.module, donated=case.donated)
    given, graph = (graphs.from_fx(module, donated=case.donated) for module in (case.module, better))
    rewritten = Case(better, case.inputs, case.donated)
    assert run(rewritten, better).seen == run(case, case.module).seen
    assert disagreements(rewritten, graph, orders) == []
    for order in random_orders(given, orders):
        before, after = (
            graphs.simulate(g, order).step_bytes for g in (given, graph)
        )  # simulate checks that it is legal
        assert (after <= before).all()
    return changed(case.module, better)


@pytest.mark.parametrize("name", CASES)
def test_programs_with_every_pitfall(name: str) -> None:
    check(CASES[name](), 5)


@pytest.mark.parametrize("seed", range(1000, 1045))
def test_random_programs(seed: int) -> None:
    check(random_program(seed, calls=24), 4)


def test_random_programs_are_really_changed() -> None:
    cases = [random_program(seed, calls=24) for seed in range(1000, 1045)]
    count = sum(len(changed(case.module, reuse(case.module, donated=case.donated))) for case in cases)
    assert count > 30


def made(function: Callable[..., Any], *inputs: Any) -> list[str]:
    return check(traced(function, *inputs), 3)


X = rand(6, 4)


def twice(x):
    y = x.exp()
    return y * y


def summed_at_any_time(x):
    y = x.exp()
    return y.sum(), y * 2


def summed_before(x):
    y = x.exp()
    return y * y.sum()


def returned_too(x):
    y = x.exp()
    return y, y * 2


def with_a_copy(x):
    y = x.exp()
    return y + y.flip(0)


def with_its_transpose(x):
    y = x[:4].exp()
    return y * y.t()


def smoothed(x):
    return F.avg_pool2d(x.exp()[None], 3, 1, 1)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda x: (x.exp() * 2).sin(), ["mul_.Tensor", "sin_.default"]),
        (lambda x: x + x.exp(), ["add.out"]),
        (lambda x: torch.where(x > 0, x.exp(), x), ["where.self_out"]),
        (lambda x: x.exp().view(4, 6).mul(3.0), ["mul_.Tensor"]),
        (lambda x: x.exp().square().sum(), ["pow.Tensor_Scalar_out"]),
        (lambda x: x.exp().t() * 2, ["mul_.Tensor"]),
        (lambda x: F.dropout(x.exp(), 0.5), ["mul_.Tensor"]),
        (twice, ["mul_.Tensor"]),
        (summed_before, ["mul_.Tensor"]),
        (with_a_copy, ["add_.Tensor"]),
        (summed_at_any_time, []),
        (returned_too, []),
        (with_its_transpose, []),
        (lambda x: x * 2, []),  # an argument
        (lambda x: x.exp()[0] + 1, []),  # a part of something larger
        (lambda x: x.exp() > 0.5, []),  # another type
        (lambda x: x.exp().sum(0) + x, []),  # another shape
        (smoothed, []),  # not element by element
        (lambda x: torch.rand_like(x.exp()), []),
    ],
)
def test_what_is_made_in_place(function: Any, wanted: list[str]) -> None:
    assert made(function, X) == [f"aten.{name}" for name in wanted]


BACKWARD = {
    "hardtanh_backward": lambda g, x: aten.hardtanh_backward.default(g, x, -1.0, 1.0),
    "hardsigmoid_backward": aten.hardsigmoid_backward.default,
    "leaky_relu_backward": lambda g, x: aten.leaky_relu_backward.default(g, x, 0.1, False),
    "elu_backward": lambda g, x: aten.elu_backward.default(g, 1.0, 1.0, 1.0, False, x),
    "softplus_backward": lambda g, x: aten.softplus_backward.default(g, x, 1.0, 20.0),
    "softshrink_backward": lambda g, x: aten.softshrink_backward.default(g, x, 0.5),
    "hardshrink_backward": lambda g, x: aten.hardshrink_backward.default(g, x, 0.5),
    "hardswish": lambda g, x: aten.hardswish.default(g) + x,
    "_softmax_backward_data": lambda g, x: aten._softmax_backward_data.default(g, x.softmax(1), 1, torch.float32),
    "_log_softmax_backward_data": lambda g, x: aten._log_softmax_backward_data.default(
        g, x.log_softmax(1), 1, torch.float32
    ),
}


def test_every_operator_that_is_listed_is_tried() -> None:
    assert {f"aten::{name}" for name in BACKWARD} == {*fx_reuse.POINTWISE, *fx_reuse.BY_ROWS}


@pytest.mark.parametrize("name", BACKWARD)
@pytest.mark.parametrize("shape", [(3, 5), (70, 1000), (2, 33, 7)])
def test_the_listed_operators_give_the_same_bits(name: str, shape: tuple[int, ...]) -> None:
    case = traced(lambda g, x: BACKWARD[name](g * 1.5, x), rand(*shape), rand(*shape) * 2)
    better = reuse(case.module)
    assert any(name in target for target in changed(case.module, better))
    assert run(Case(better, case.inputs), better).seen == run(case, case.module).seen


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_gradients_of_softmax_by_any_dimension(op: str, dim: int) -> None:
    def function(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            y = getattr(leaf, op)(dim)
        return torch.autograd.grad(y, leaf, g * 3.0)[0]

    case = traced(function, rand(9, 17, 33), rand(9, 17, 33))
    better = reuse(case.module)
    assert any("softmax_backward_data" in target for target in changed(case.module, better))
    assert run(Case(better, case.inputs), better).seen == run(case, case.module).seen


def test_the_given_program_is_not_changed() -> None:
    case = traced(lambda x: x.exp() * 2, X)
    text = case.module.code
    reuse(case.module)
    assert case.module.code == text


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "later readers forgotten": lambda m: m.setattr(fx_reuse, "_ancestors", lambda facts: [-1] * len(facts.steps)),
    "forms not compared": lambda m: m.setattr(fx_reuse, "_same_form", lambda *_: True),
    "any operator": lambda m: m.setattr(fx_reuse, "_keeps_to_places", lambda *_: True),
}


def try_everything() -> None:
    for seed in range(1000, 1045):
        check(random_program(seed, calls=24), 4)
    for function in (with_its_transpose, smoothed):
        made(function, X)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_tests_kill(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        try_everything()
