"""The traffic of on-chip memory against its slow twin, against brute force, and against laws that it must obey."""

import random
from itertools import pairwise

import numpy as np
import pytest

from graphs import Graph, Kind, program_order
from graphs.traffic import compulsory_bytes, simulate_traffic
from tests import oracle
from tests.strategies import random_order, tangled_graph

CAPACITIES = (0, 1, 3, 7, 15, 40, 200)


def small_graph(seed, nodes, sizes=(0, 1, 2, 3, 5)):
    """A graph whose tensors have few bytes, with nodes that move nothing."""
    rng = random.Random(f"traffic {seed}")
    graph = tangled_graph(seed, nodes)
    return Graph.build(
        graph.name,
        graph.labels,
        graph.reads,
        graph.writer,
        [rng.choice(sizes) for _ in range(graph.k)],
        kind=graph.kind,
        after=graph.after.T,
        scratch=[rng.choice((0, 0, 0, 2)) for _ in range(graph.n)],
        moved=[rng.choice((-1, -1, 9, 0)) for _ in range(graph.n)],
    )


def chain(sizes, reads, kind=None):
    """Node i writes tensor i; tensor -1 - j is input j, of 4 bytes."""
    writer = list(range(len(sizes)))
    return Graph.build("chain", [f"n{i}" for i in writer], reads, writer, sizes, kind=kind)


@pytest.mark.parametrize("block", range(20))
def test_it_is_what_the_slow_twin_says(block):
    for seed in range(100 * block, 100 * block + 100):
        graph = small_graph(seed, 2 + seed % 11)
        rng = random.Random(seed)
        order = random_order(graph, rng)
        capacity = rng.choice(CAPACITIES)
        found = simulate_traffic(graph, order, capacity=capacity)
        assert (found.fetched.sum(), found.written_back.sum()) == oracle.traffic(graph, order, capacity), seed


def test_no_other_choice_fetches_less_and_none_moves_half_of_it():
    weighed = 0
    for seed in range(400):
        graph = small_graph(seed, 5, sizes=(0, 1, 1, 2))
        if graph.k > 7:
            continue
        order = random_order(graph, random.Random(seed))
        for capacity in (1, 2, 3):
            found = simulate_traffic(graph, order, capacity=capacity)
            fewest, least = oracle.least_traffic(graph, order, capacity)
            assert found.fetched.sum() == fewest, (seed, capacity)
            beyond, best = found.bytes - compulsory_bytes(graph), least - compulsory_bytes(graph)
            assert 0 <= best <= beyond <= 2 * best, (seed, capacity)
            weighed += beyond > 0
    assert weighed > 100


def test_more_memory_never_moves_more_and_enough_moves_what_every_order_does():
    for seed in range(300):
        graph = small_graph(seed, 12)
        order = random_order(graph, random.Random(seed))
        moved = [simulate_traffic(graph, order, capacity=capacity) for capacity in range(60)]
        for less, more in pairwise(moved):
            assert more.fetched.sum() <= less.fetched.sum()
            assert more.written_back.sum() <= less.written_back.sum()
        enough = int(graph.size.sum() + graph.scratch.sum())
        assert simulate_traffic(graph, order, capacity=enough).bytes == compulsory_bytes(graph) <= moved[-1].bytes


def test_by_hand():
    """Tensors of 4 bytes; 0 waits for node 3 while 1 and 2 are made."""
    graph = chain([4, 4, 4, 4], [[], [0], [1], [0, 2]], kind=[Kind.TEMPORARY] * 3 + [Kind.OUTPUT])
    traffic = simulate_traffic(graph, capacity=12)
    assert (traffic.fetched.tolist(), traffic.written_back.tolist()) == ([0, 0, 0, 0], [0, 0, 0, 4])
    traffic = simulate_traffic(graph, capacity=8)  # while node 2 runs there is no room for tensor 0
    assert (traffic.fetched.tolist(), traffic.written_back.tolist()) == ([0, 0, 0, 4], [0, 0, 0, 8])
    traffic = simulate_traffic(graph, capacity=10)  # for half of it
    assert (traffic.fetched.tolist(), traffic.written_back.tolist()) == ([0, 0, 0, 2], [0, 0, 0, 6])
    assert simulate_traffic(graph, capacity=0).bytes == 3 * 4 + 4 * 4 + 4
    assert traffic.compulsory_bytes == 4


def test_weights_are_fetched_and_never_written_back():
    graph = Graph.build("g", "ab", [[0], [0]], [-1, 0, 1], [10, 1, 1], kind=[Kind.WEIGHT, Kind.TEMPORARY, Kind.OUTPUT])
    assert simulate_traffic(graph, capacity=100).bytes == 11 == compulsory_bytes(graph)
    assert simulate_traffic(graph, capacity=5).bytes == 10 + 5 + 1  # half of the weight stays


def test_a_view_touches_nothing():
    reads, writer, size = [[], [0], [0]], [0, 2], [8, 8]
    plain = Graph.build("g", "abc", reads, writer, size)
    view = Graph.build("g", "abc", reads, writer, size, moved=[-1, 0, -1])
    assert simulate_traffic(plain, capacity=0).bytes == 8 + 8 + 8
    assert simulate_traffic(view, capacity=0).bytes == 8 + 8


def test_the_order_decides():
    """Two inputs, each used by two nodes: used in turn neither stays."""
    reads = [[0], [1], [0], [1]]
    graph = Graph.build("g", "abcd", reads, [-1, -1], [6, 6])
    assert simulate_traffic(graph, capacity=6).bytes == 24
    assert simulate_traffic(graph, [0, 2, 1, 3], capacity=6).bytes == 12 == compulsory_bytes(graph)


def test_what_is_refused():
    graph = chain([1, 1], [[], [0]])
    with pytest.raises(ValueError, match=r"'capacity' must not be negative \(got -1\)"):
        simulate_traffic(graph, capacity=-1)
    with pytest.raises(ValueError, match="node 'n1' must run after"):
        simulate_traffic(graph, [1, 0], capacity=1)


def test_no_nodes():
    graph = Graph.build("g", [], [], [], [])
    assert simulate_traffic(graph, capacity=1).bytes == 0
    assert np.array_equal(simulate_traffic(graph, capacity=1).order, program_order(graph))
