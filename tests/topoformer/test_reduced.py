"""Permutations of a graph's few movable nodes, and the orders that they stand for."""

import random

import numpy as np
import pytest

import graphs
from bayesopt_perm import PermutationSpace
from graphs.synthetic import layered, series_parallel
from tests import oracle
from tests.strategies import random_order, tangled_graph
from topoformer.schedulers.bayes import NothingToSearchError, evaluate, refine_order
from topoformer.schedulers.reduced import ReducedSpace
from topoformer.scheduling import schedule


@pytest.mark.parametrize("most", [1, 3, 6, 40])
def test_every_permutation_stands_for_a_legal_order_and_the_first_for_the_base(most):
    for seed in range(120):
        graph = tangled_graph(seed, 3 + seed % 17)
        base = np.array(random_order(graph, random.Random(seed)), np.int32)
        space = ReducedSpace.around(graph, base, most)
        m = len(space.units)
        if not m:
            continue
        assert m <= most
        assert space.order_of(np.arange(m)).tolist() == base.tolist()
        for permutation in PermutationSpace(m, space.precedence).sample(5, seed):
            order = space.order_of(permutation)
            assert oracle.is_legal(graph, order.tolist())
            assert space.permutation_of(order).tolist() == permutation.tolist()


def test_where_all_nodes_that_can_move_are_units_every_legal_order_is_there():
    whole = 0
    for seed in range(60):
        graph = tangled_graph(seed, 5)
        base = graphs.program_order(graph)
        space = ReducedSpace.around(graph, base, 40)
        orders = {tuple(order) for order in oracle.legal_orders(graph)}
        if len(orders) == 1:
            assert not len(space.units)
            continue
        members = PermutationSpace(len(space.units), space.precedence)
        assert {tuple(space.order_of(p).tolist()) for p in members} == orders
        whole += 1
    assert whole > 30


def test_units_are_taken_where_most_is_alive_and_one_of_a_chain():
    graph = layered(200, seed=7010)
    space = ReducedSpace.around(graph, graphs.program_order(graph), 20)
    step_bytes = graphs.simulate(graph).step_bytes
    assert len(space.units) == 20
    assert step_bytes[space.units].mean() > step_bytes.mean()


def refined(graph, cost, **more):
    asked = {"evaluations": 40, "batch_size": 4, "seed": 1} | more
    return refine_order(graph, cost, [graphs.program_order(graph)], **asked)


def test_it_finds_orders_of_lower_cost_and_says_which():
    graph = series_parallel(60, seed=7011)
    cost = lambda order: float(graphs.peak_bytes(graph, order))  # noqa: E731
    found = refined(graph, cost)
    assert found.value == cost(found.order) < found.start_value == cost(graphs.program_order(graph))
    assert len(found.trials) == 40
    assert found.value == min(trial.value for trial in found.trials)
    again = refined(graph, cost)
    assert [t.order.tolist() for t in again.trials] == [t.order.tolist() for t in found.trials]


def test_failures_are_avoided_and_never_the_result():
    graph = series_parallel(60, seed=7011)

    def cost(order):
        peak = graphs.peak_bytes(graph, order)
        if order[10] % 3 == 0:
            raise MemoryError("not enough")
        return float("inf") if order[11] % 5 == 0 else float(peak)

    found = refined(graph, cost)
    failures = [trial for trial in found.trials if trial.failure is not None]
    assert failures
    assert all(np.isnan(trial.value) for trial in failures)
    assert found.value == cost(found.order)


def test_a_journal_is_gone_on_with(tmp_path):
    graph = series_parallel(60, seed=7012)
    counted = []

    def cost(order):
        counted.append(1)
        return float(graphs.peak_bytes(graph, order))

    whole = refined(graph, cost)
    counted.clear()

    def stopping(order):
        if len(counted) == 17:
            raise KeyboardInterrupt
        return cost(order)

    first = refined(graph, stopping, journal=tmp_path / "tried.jsonl")
    assert first.stopped == "interrupted"
    assert len(first.trials) == 17
    counted.clear()
    second = refined(graph, cost, journal=tmp_path / "tried.jsonl")
    assert len(counted) == 40 - 17
    assert [t.order.tolist() for t in second.trials] == [t.order.tolist() for t in whole.trials]


def test_nothing_to_search():
    chain = graphs.Graph.build("chain", "abc", [[], [0], [1]], [0, 1, 2], [1, 1, 1])
    with pytest.raises(NothingToSearchError, match="no node of 'chain' can be moved"):
        refined(chain, lambda order: 1.0)
    with pytest.raises(NothingToSearchError, match="nothing to learn from"):
        refined(series_parallel(60, seed=7011), lambda order: 1.0)
    with pytest.raises(ValueError, match="could be evaluated: ZeroDivisionError"):
        refined(series_parallel(60, seed=7011), lambda order: 1 / 0)


def test_trials_outside_of_the_search():
    orders = [np.array([0, 1]), np.array([1, 0])]
    good, bad = evaluate(lambda order: 1 / int(order[0]), orders)[::-1]
    assert (good.value, good.failure) == (1.0, None)
    assert bad.failure == "ZeroDivisionError: division by zero"


def test_the_method_bo_is_never_worse_than_auto():
    graph = layered(80, seed=7013)
    for objective, device in (("memory", None), ("latency", "h100-sxm")):
        asked = {"objective": objective, "device": device, "seconds": 30.0, "steps": 300}
        assert schedule(graph, "bo", **asked).value_ratio <= schedule(graph, "auto", **asked).value_ratio
