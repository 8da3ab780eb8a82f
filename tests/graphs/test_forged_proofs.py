"""Proofs that somebody made up: none of them may be taken for one."""

import numpy as np
import pytest

from graphs import Graph, peak_bytes
from graphs.bound import check_bound
from graphs.cuts import CutNetwork, Witness, cut_witness
from graphs.implied import Refutation
from graphs.reductions import EARLY, LATE
from tests import oracle
from tests.strategies import random_graph

CHAIN = Graph.build("chain", "abc", [[], [0], [1]], [0, 1, 2], [5, 5, 5])  # 10 bytes


def refutation(claimed, pairs, at, rules, node):
    return Refutation(
        claimed, np.array(pairs, np.int32).reshape(-1, 2), np.array(at, np.int32), np.array(rules, np.int8), node
    )


@pytest.mark.parametrize(("rule", "node"), [(LATE, 0), (LATE, 1), (EARLY, 2)])
def test_no_node_runs_before_itself(rule, node):
    assert oracle.best_peak(CHAIN) == 10
    assert not check_bound(CHAIN, refutation(11, [[node, node]], [node], [rule], node))


def test_every_precedence_has_a_rule():
    assert not check_bound(CHAIN, refutation(10, [[0, 1]], [0], [], 0))


def test_a_cut_belongs_to_a_node_of_the_graph():
    for seed in range(200):
        graph = random_graph(seed, 7)
        for node in range(-graph.n, 0):
            cut = cut_witness(CutNetwork(graph), node)
            assert not check_bound(graph, cut), f"graph {seed}: node {node} for {cut.bytes} bytes"


def test_a_flow_does_not_wrap_around():
    """64 arcs of 2^58 leave a tensor that nothing flows to: 2^64 is 0 in 64 bits."""
    size, after_v, free = 1 << 58, 4, 60  # node 0 writes for readers behind node 1, and for readers anywhere
    reads = [[], [], *[[0]] * (after_v + free)]
    after = [(0, 1), *((1, 2 + i) for i in range(after_v))]
    graph = Graph.build("wraps", [f"n{i}" for i in range(len(reads))], reads, [0], [size], after=after)
    network, tensor = CutNetwork(graph), graph.n
    back = (network.head == 0) & (network.tail >= 2 + after_v)
    flow = np.where((network.tail == tensor) | back, size, 0)
    assert peak_bytes(graph) == size
    assert not check_bound(graph, Witness(4 * size, 1, np.zeros(graph.n, np.bool_), flow))
