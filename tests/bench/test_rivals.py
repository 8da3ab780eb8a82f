"""Every rival: its orders are legal, the same for the same seed, and it leaves the graph as it was."""

import sys
from functools import cache
from importlib import import_module

import numpy as np
import pytest

import bench.rivals
from bench.rivals import RIVALS, NotApplicable, note, rival
from graphs import Graph, Kind, check_order, inverse, peak_bytes
from graphs.cost import OBJECTIVES
from graphs.synthetic import layered, series_parallel
from tests import oracle
from tests.strategies import random_graph
from topoformer.scheduling import schedule

MEMORY = OBJECTIVES["memory"]
GRAPHS = {"cp_sat": 25, "xla": 100, "xla_concurrent": 100, "xla_gpu": 60, "onnxruntime": 60, "onnxruntime_priority": 60}
USUAL = 300  # graphs for the other rivals
BUDGETS = {"random_best": 0.001, "genetic": 0.002}


@pytest.fixture(params=RIVALS)
def name(request):
    """A rival that can be run here."""
    if reason := note(request.param):
        pytest.skip(reason)
    return request.param


def ordered(name, graph, seed=0):
    """A rival's order, not checked."""
    return rival(name)(graph, MEMORY, seconds=BUDGETS.get(name, 5.0), seed=seed)


@cache
def odd():
    """Every kind of tensor, no bytes and many, scratch, several writes, orders without a read, names for trouble."""
    kind = [Kind.INPUT, Kind.WEIGHT, Kind.DONATED, *[Kind.TEMPORARY] * 4, Kind.OUTPUT, Kind.OUTPUT]
    return Graph.build(
        'a "name" {with} %signs, ü',
        ["", 'q"uote', "back\\slash", "new\nline", "{brace}", "n0", "%n1 = custom-call("],
        reads=[[0, 2], [3, 4], [], [5, 2], [], [6, 3], [1]],
        writer=[-1, -1, -1, 0, 0, 1, 2, 3, 5],
        size=[7, 8, 9, 0, 100, 2**40, 1, 0, 12],
        kind=kind,
        after=[(0, 2), (0, 4), (4, 6), (0, 1)],
        scratch=[0, 5, 0, 0, 2**33, 1, 0],
    )


def test_legal_orders_of_random_graphs(name):
    for seed in range(GRAPHS.get(name, USUAL)):
        graph = random_graph(seed)
        order = ordered(name, graph)
        assert order.dtype == np.int32
        assert oracle.is_legal(graph, order.tolist()), seed


def test_the_oracle_tells_orders_that_are_not_legal(monkeypatch):
    def backwards(graph, objective, *, seconds, seed):
        return np.arange(graph.n, dtype=np.int32)[::-1]

    monkeypatch.setattr("bench.rivals.networkx_sort.networkx_sort", backwards)
    with pytest.raises(AssertionError):
        test_legal_orders_of_random_graphs("networkx")


def test_what_is_odd(name):
    alone = Graph.build("alone", "abc", [[], [], []], [1], [3])
    nothing = Graph.build("nothing", "", [], [], [])
    for graph in (odd(), alone, nothing):
        assert oracle.is_legal(graph, ordered(name, graph).tolist())


def test_the_graph_is_left_as_it_was(name):
    graph = odd()
    before = {key: value.copy() for key, value in vars(graph).items() if isinstance(value, np.ndarray)}
    fingerprint = graph.fingerprint
    limit = sys.getrecursionlimit()
    ordered(name, graph)
    del graph.__dict__["fingerprint"]
    assert graph.fingerprint == fingerprint
    assert all(np.array_equal(vars(graph)[key], value) for key, value in before.items())
    assert sys.getrecursionlimit() == limit


def test_the_same_order_for_the_same_seed(name):
    graph = layered(30, seed=3)
    if name in (*BUDGETS, "cp_sat"):
        pytest.skip("how much it does in its time differs")
    assert ordered(name, graph, seed=1).tolist() == ordered(name, graph, seed=1).tolist()


def test_thousands_of_nodes(name):
    graph = series_parallel(3_000, seed=1)
    if name == "cp_sat":
        with pytest.raises(NotApplicable, match="3000"):
            ordered(name, graph)
    else:
        check_order(graph, ordered(name, graph))


@pytest.mark.parametrize("name", ["xla", "xla_concurrent", "xla_gpu", "onnxruntime", "onnxruntime_priority", "cp_sat"])
def test_limits_are_told_in_a_line(name, monkeypatch):
    if reason := note(name):
        pytest.skip(reason)
    monkeypatch.setattr(module_of(name), "MOST_NODES", 4)
    with pytest.raises(NotApplicable, match=r"^[^\n]*\(got 5\b[^\n]*\)$"):
        ordered(name, layered(5, seed=1))
    assert isinstance(NotApplicable("x"), ValueError)


def test_as_many_bytes_as_a_graph_can_have(name):
    graph = Graph.build("huge", "abcde", [[], [], [0], [1], [2, 3]], range(5), [2**60, 2**60, 2**59, 2**59, 3])
    if name == "cp_sat":
        with pytest.raises(NotApplicable, match="bytes"):
            ordered(name, graph)
    else:
        assert oracle.is_legal(graph, ordered(name, graph).tolist())


def test_a_rival_is_a_method():
    result = schedule(layered(30, seed=3), rival("networkx"))
    assert result.method == "networkx_sort"


@pytest.mark.parametrize(
    ("name", "module"),
    [("xla", "jaxlib"), ("xla_gpu", "jaxlib"), ("onnxruntime", "onnxruntime"), ("onnxruntime_priority", "onnx")],
)
def test_what_is_not_installed_is_told(name, module, monkeypatch):
    missing = module_of(name).missing
    missing.cache_clear()  # not what it loaded: that is loaded once a process
    monkeypatch.setitem(sys.modules, module, None)
    assert note(name) == f"{module} is not installed"
    missing.cache_clear()


def test_xla_without_its_plugin(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax_cuda12_plugin.cuda_plugin_extension", None)
    with pytest.raises(ImportError) as caught:
        module_of("xla_gpu")._device.__wrapped__()
    assert caught.value.name.split(".")[0] in ("jax_cuda12_plugin", "jaxlib")


def module_of(name):
    """The module of a rival, imported."""
    return import_module(RIVALS[name].split(":")[0])


def test_each_name_has_a_function_and_a_note():
    for name in RIVALS:
        assert callable(rival(name))
        assert "\n" not in note(name)
    with pytest.raises(KeyError):
        bench.rivals.rival("nobody")


def test_all_but_those_for_concurrency_look_at_bytes():
    """Two branches, the heavier one second in the program: who sees bytes or edges ends it first."""
    graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
    peaks = {name: peak_bytes(graph, ordered(name, graph)) for name in RIVALS if not note(name)}
    broad = {"onnxruntime_priority", "xla_concurrent", "networkx", "inductor_bfs"}
    assert {name for name, peak in peaks.items() if peak == 210} == broad & set(peaks)
    assert {peak for name, peak in peaks.items() if name not in broad} == {120}
    assert inverse(ordered("networkx", graph)).tolist() == [0, 1, 2, 3, 4]
