"""XLA's schedulers as rivals: they reorder for memory, by the bytes that they are told, and keep the whole program."""

import numpy as np
import pytest

from bench.rivals import note, rival
from bench.rivals.xla import ROW, program
from graphs import Graph, Kind, check_order, peak_bytes
from graphs.cost import OBJECTIVES
from graphs.synthetic import FAMILIES
from tests.strategies import random_graph

MEMORY = OBJECTIVES["memory"]


@pytest.fixture(params=["xla", "xla_gpu"])
def name(request):
    """A scheduler for least memory that can be run here."""
    if reason := note(request.param):
        pytest.skip(reason)
    return request.param


def peak(name, graph):
    """Peak, in bytes, of the order that XLA would run."""
    return peak_bytes(graph, check_order(graph, rival(name)(graph, MEMORY, seconds=1, seed=0)))


def branches(*sizes):
    """Branches of two nodes, the first of which writes that many bytes, the second ten; they meet in one node."""
    n = len(sizes)
    reads = [[] for _ in sizes] + [[i] for i in range(n)] + [list(range(n, 2 * n))]
    return Graph.build("branches", map(str, range(2 * n + 1)), reads, range(2 * n + 1), [*sizes, *[10] * n, 1])


def test_it_reorders_for_memory(name):
    graph = branches(*[1_000] * 8)
    assert peak_bytes(graph) == 8_010
    assert peak(name, graph) == 1_080


def test_sizes_matter(name):
    """The branch that writes most goes first, wherever it stands."""
    for largest in range(4):
        sizes = [1_000] * 4
        sizes[largest] = 5_000
        order = rival(name)(branches(*sizes), MEMORY, seconds=1, seed=0).tolist()
        assert order[0] == largest or name == "xla_gpu"
        assert peak(name, branches(*sizes)) <= 5_040


def test_scratch_counts(name):
    sizes, n = [10] * 4, 4
    graph = branches(*sizes)
    heavy = Graph.build(
        "scratch", graph.labels, graph.reads, graph.writer, graph.size, scratch=[0, 0, 900, 0] + [0] * 5
    )
    orders = [rival(name)(given, MEMORY, seconds=1, seed=0).tolist() for given in (graph, heavy)]
    if name == "xla":
        assert orders[0] != orders[1]
        assert orders[1][0] == 2
    assert len(orders[1]) == 2 * n + 1


def test_it_is_a_rival(name):
    made = [family(nodes, seed=7) for family in FAMILIES.values() for nodes in (40, 90, 200)]
    assert sum(peak(name, graph) < peak_bytes(graph) for graph in made) >= len(made) / 3


def test_the_gpus_scheduler_is_not_the_cpus():
    for name in ("xla", "xla_gpu"):
        if reason := note(name):
            pytest.skip(reason)
    made = [family(200, seed=7) for family in FAMILIES.values()]
    theirs = np.array([[peak(name, graph) for name in ("xla", "xla_gpu")] for graph in made])
    assert (theirs[:, 1] <= theirs[:, 0]).all()
    assert (theirs[:, 1] < theirs[:, 0]).any()


def test_every_node_is_in_the_text_once():
    for seed in range(200):
        graph = random_graph(seed)
        assert [int(v) for v in ROW.findall(program(graph).replace("  n", "  %n"))] == list(range(graph.n))


def test_the_text():
    graph = Graph.build(
        "g", "abc", [[0], [], [1]], [-1, 0, 0, 1], [7, 5, 0, 3], after=[(0, 1)], scratch=[0, 4, 0],
        kind=[Kind.INPUT, Kind.TEMPORARY, Kind.OUTPUT, Kind.OUTPUT],
    )  # fmt: skip
    call = 'custom_call_target="topoformer_node", api_version=API_VERSION_TYPED_FFI'
    assert program(graph).splitlines()[3:-1] == [
        f"  n0 = (u8[5], u8[1], u8[1]) custom-call(), {call}",
        "  n0r0 = u8[5] get-tuple-element(n0), index=0",
        "  n0r1 = u8[1] get-tuple-element(n0), index=1",
        "  n0r2 = u8[1] get-tuple-element(n0), index=2",
        f"  n1 = (u8[3], u8[4]) custom-call(n0r2), {call}",
        "  n1r0 = u8[3] get-tuple-element(n1), index=0",
        f"  n2 = u8[1] custom-call(n0r0), {call}",
        "  ROOT end = (u8[1], u8[3], u8[1]) tuple(n0r1, n1r0, n2)",
    ]
