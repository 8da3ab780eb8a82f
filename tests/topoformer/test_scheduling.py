"""schedule(): never worse, certified, deterministic, and honest about what it was given."""

import subprocess
import sys

import pytest

import graphs
import topoformer
from graphs.bound import footprint_bound
from graphs.synthetic import FAMILIES, layered, tree
from tests import oracle
from tests.strategies import random_graph
from topoformer.scheduling import SCHEDULERS, schedule, scheduler_named, summary

NAMED = {name: make(60, seed=11) for name, make in FAMILIES.items()}


@pytest.mark.parametrize("method", SCHEDULERS)
def test_laws_on_random_graphs(method):
    for seed in range(200):
        graph = random_graph(1000 + seed)
        result = schedule(graph, method, seed=3)
        assert oracle.is_legal(graph, result.order.tolist())
        assert oracle.peak(graph, result.order.tolist()) == result.cost.peak_bytes
        assert result.cost.peak_bytes <= oracle.peak(graph, range(graph.n)) == result.program_cost.peak_bytes
        assert result.bound_bytes <= oracle.best_peak(graph)


@pytest.mark.parametrize("method", SCHEDULERS)
@pytest.mark.parametrize("family", NAMED)
def test_laws_on_named_graphs(method, family):
    graph = NAMED[family]
    result = schedule(graph, method, seconds=0.3, seed=4)
    assert result.cost.peak_bytes == graphs.simulate(graph, result.order).peak_bytes
    assert result.bound_bytes <= result.cost.peak_bytes <= graphs.peak_bytes(graph)


@pytest.mark.parametrize("method", SCHEDULERS)
def test_the_same_seed_gives_the_same_order(method):
    graph = layered(40, seed=3)  # solved long before the deadline, which would be the one thing that could differ
    first, second = (schedule(graph, method, seed=4) for _ in range(2))
    assert first.order.tolist() == second.order.tolist()


def test_auto_is_never_worse_than_any_policy():
    policies = [name for name, place in SCHEDULERS.items() if ".list_scheduling:" in place and name != "streams"]
    assert len(policies) == 10
    for graph in NAMED.values():
        own = [schedule(graph, name).method_cost.peak_bytes for name in policies]
        assert schedule(graph, seconds=0.3).cost.peak_bytes <= min(own)


def test_auto_is_optimal_and_proves_it_on_small_graphs():
    for seed in range(300):
        graph = random_graph(seed)
        result = schedule(graph)
        assert result.cost.peak_bytes == result.bound_bytes == oracle.best_peak(graph), f"graph of seed {seed}"


def test_auto_keeps_the_program_order_where_nothing_is_gained():
    graph = graphs.Graph.build("flat", "abc", [[], [], []], [0, 1, 2], [8] * 3, kind=[1] * 3)
    result = schedule(graph)
    assert result.order.tolist() == [0, 1, 2]
    assert result.proven_optimal
    assert result.bound_bytes == 24  # all outputs at the end


def test_a_worse_order_is_reported_but_not_returned():
    graph = tree(40, seed=2)
    best = schedule(graph, "dfs").order
    rows = [graph.reads.row(int(i)).tolist() for i in best]
    place = {int(old): new for new, old in enumerate(best)}
    tensors = {int(graph.writes.row(int(i))[0]): place[int(i)] for i in best}
    sorted_graph = graphs.Graph.build(
        "sorted", [graph.labels[i] for i in best], [[tensors[t] for t in row] for row in rows],
        range(40), [int(graph.size[graph.writes.row(int(i))[0]]) for i in best],
    )  # fmt: skip
    result = schedule(sorted_graph, "bfs")
    assert result.method_cost.peak_bytes > result.program_cost.peak_bytes == result.cost.peak_bytes
    assert result.order.tolist() == list(range(40))
    assert result.ratio == 1.0


def test_footprint_bound_by_hand():
    graph = graphs.Graph.build(
        "hand", "ab", [[0, 3], [1]], [-1, 0, 1, -1], [5, 7, 11, 100],
        kind=[graphs.Kind.DONATED, graphs.Kind.TEMPORARY, graphs.Kind.OUTPUT, graphs.Kind.WEIGHT], scratch=[2, 0],
    )  # fmt: skip
    assert footprint_bound(graph) == 7 + 11  # node b; node a needs 5 + 7 + 2
    assert footprint_bound(graphs.Graph.build("empty", [], [], [], [])) == 0


def test_any_function_is_a_method():
    graph = tree(20, seed=1)

    def backwards_ready(graph, objective, *, seconds, seed):
        assert (objective.name, seconds, seed) == ("memory", 2.0, 9)
        return topoformer.schedule(graph, "dfs").order

    result = schedule(graph, backwards_ready, seconds=2, seed=9)
    assert result.method == "backwards_ready"
    assert result.order.tolist() == schedule(graph, "dfs").order.tolist()


def test_an_illegal_order_is_refused_by_name():
    graph = graphs.Graph.build("pair", ["first", "second"], [[], [0]], [0, 1], [1, 1])
    with pytest.raises(topoformer.GraphError, match="'second' must run after node 'first'"):
        schedule(graph, lambda graph, objective, *, seconds, seed: [1, 0])
    with pytest.raises(topoformer.GraphError, match="more than once"):
        schedule(graph, lambda graph, objective, *, seconds, seed: [0, 0])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"seconds": 0}, "'seconds' must be positive and finite .got 0."),
        ({"seconds": float("nan")}, "'seconds' must be positive"),
        ({"seconds": float("inf")}, "'seconds' must be positive and finite"),
        ({"seed": -1}, "'seed' must be an integer that is not negative .got -1."),
        ({"seed": True}, "'seed' must be an integer"),
        ({"method": "lpfm"}, "unknown method 'lpfm'; did you mean 'lpmf'"),
        ({"objective": "memroy"}, "unknown objective 'memroy'; did you mean 'memory'"),
    ],
)
def test_bad_arguments(arguments, text):
    graph = graphs.Graph.build("one", ["a"], [[]], [0], [1])
    with pytest.raises(ValueError, match=text):
        schedule(graph, **arguments)


def test_schedule_json_and_repr():
    graph = tree(30, seed=5)
    result = schedule(graph)
    data = result.to_json()
    assert data["format"] == "topoformer.schedule"
    assert data["graph_sha256"] == graph.fingerprint
    assert graphs.peak_bytes(graph, graphs.check_order(graph, data["order"])) == data["peak_bytes"]
    assert data["proven_optimal"] is (data["peak_bytes"] == data["bound_bytes"])
    assert graph.name in repr(result)


def test_schedules_cannot_be_written_to():
    result = schedule(tree(10, seed=0))
    with pytest.raises(ValueError, match="read-only"):
        result.order[0] = 3
    with pytest.raises(AttributeError):
        result.method = "other"


def test_empty_graph():
    result = schedule(graphs.Graph.build("empty", [], [], [], []))
    assert (result.cost.peak_bytes, result.ratio, result.gap, result.proven_optimal) == (0, 1.0, 0.0, True)


def test_every_method_says_what_it_is():
    for name in SCHEDULERS:
        line = summary(scheduler_named(name))
        assert line.endswith(".")
        assert line[0].isupper()


def test_saying_what_the_methods_are_loads_nothing_heavy():
    code = "import sys, topoformer.cli as cli; cli.main(['methods']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\nbo " in done.stdout
    assert not {"torch", "bayesopt_perm"} & set(done.stderr.split())
