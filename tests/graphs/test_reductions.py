"""Precedences that cost nothing: the graph with all of them has the same least peak, and every rule takes part."""

from collections import Counter

import numpy as np

from graphs import Graph
from graphs.implied import Implied
from graphs.reductions import EARLY, LATE, TWIN, holds, twins
from tests import oracle
from tests.strategies import random_graph, with_pairs

GO_ON = np.zeros(1, np.int8)
RULES = (LATE, EARLY, TWIN)


def test_the_least_peak_stays():
    used = Counter()
    for seed in range(800):
        graph = random_graph(60_000 + seed)
        implied = Implied(graph)
        used.update({rule: implied.count(rule) for rule in RULES})
        narrowed = with_pairs(graph, list(map(tuple, implied.pairs.tolist())))
        assert oracle.best_peak(narrowed) == oracle.best_peak(graph), f"graph {seed}"
    assert used[LATE] > 100, used
    assert used[EARLY] > 100, used
    assert used[TWIN] > 5, used


def test_together_with_what_a_budget_implies_the_least_peak_stays():
    for seed in range(400):
        graph = random_graph(70_000 + seed)
        optimum = oracle.best_peak(graph)
        implied = Implied(graph)
        assert implied.tighten(optimum, stop=GO_ON) is None
        narrowed = with_pairs(graph, list(map(tuple, implied.pairs.tolist())))
        assert oracle.best_peak(narrowed) == optimum, f"graph {seed}"


def test_each_rule_can_be_checked_by_its_definition():
    for seed in range(200):
        graph = random_graph(80_000 + seed)
        implied = Implied(graph)
        reached = np.zeros((graph.n, graph.n), np.bool_)
        for u, v in zip(graph.preds.idx, graph.preds.row_of, strict=True):
            reached[u, v] = True
        for (first, second), rule in zip(implied.pairs, implied._rules, strict=False):
            reached = closed(reached)
            assert holds(graph, reached, first, second, rule), f"graph {seed}: {first} before {second}"
            reached[first, second] = True


def closed(reached):
    for _ in range(len(reached).bit_length()):
        reached = reached | (reached.astype(int) @ reached.astype(int) > 0)
    return reached


def test_a_source_waits_for_its_reader():
    reads = [[], [0], [], [1, 2], [3]]  # 2 allocates only, for 3: it need not run before 1 does
    graph = Graph.build("late", "abcde", reads, [0, 1, 2, 3, 4], [5, 5, 1, 5, 5])
    implied = Implied(graph)
    assert [1, 2] in implied.pairs.tolist()
    assert implied.count(LATE) == 1


def test_twins_keep_the_order_of_the_program():
    graph = Graph.build("twins", "abcd", [[], [0], [0], [1, 2]], [0, 1, 2, 3], [8, 3, 3, 1])
    assert twins(graph).tolist() == [[1, 2]]
    other = Graph.build("no twins", "abcd", [[], [0], [0], [1, 2]], [0, 1, 2, 3], [8, 3, 4, 1])
    assert twins(other).tolist() == []
