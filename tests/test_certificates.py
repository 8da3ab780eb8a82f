"""Certificates hold: no bound of any method is above the optimum, and what is called optimal is.

Against brute force, against constraint programming, against optima known in closed form, and, where no optimum is
known, against each other: no method's bound is above any method's peak, whatever the time limit.
"""

import pytest

import graphs
from graphs.synthetic import FAMILIES, OPTIMUM
from tests import oracle
from tests.certificates import answers, by_brute_force, by_constraints, contradictions
from tests.oracle_cp_sat import lowest_peak
from tests.strategies import random_graph, tangled_graph
from topoformer.outcome import Outcome
from topoformer.scheduling import SCHEDULERS, schedule

METHODS = tuple(SCHEDULERS)
SHORT = (0.002, 0.02, 0.1)  # seconds


def test_the_two_oracles_agree():
    for seed in range(80):
        for graph in (random_graph(seed, 8), tangled_graph(seed, 3 + seed % 6)):
            optimum = oracle.best_peak(graph)
            assert lowest_peak(graph) == lowest_peak(graph, below=optimum) == optimum
            assert lowest_peak(graph, below=optimum + 1) == optimum


def test_a_graph_numbered_anew_is_the_same_graph():
    for seed in range(100):
        graph, anew = (tangled_graph(seed, 8, numbered_anew=again) for again in (False, True))
        assert oracle.best_peak(graph) == oracle.best_peak(anew)
        assert sorted(graph.labels) == sorted(anew.labels)


@pytest.mark.parametrize("part", range(4))
def test_against_brute_force(part):
    for seed in range(part, 200, 4):
        assert by_brute_force(seed) == [], f"graph of seed {seed}"


@pytest.mark.parametrize("part", range(4))
def test_against_constraint_programming(part):
    known = []
    for seed in range(part, 32, 4):
        found, solved = by_constraints(seed, seconds=2.0)
        assert found == [], f"graph of seed {seed}"
        known.append(solved)
    assert sum(known) > len(known) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_do_not_contradict_each_other(family):
    for seed, nodes in enumerate((50, 120)):
        graph = FAMILIES[family](nodes, seed=seed)
        best = OPTIMUM[family](graph) if family in OPTIMUM else None
        assert contradictions(graph, answers(graph, METHODS, seed, SHORT), best) == []


def test_numbering_does_not_contradict():
    """A bound of one graph holds for the other, as orders of one are orders of the other."""
    for seed in range(10):
        graph, anew = (tangled_graph(seed, 40 + 10 * seed, numbered_anew=again) for again in (False, True))
        both = [schedule(g, seconds=0.2, seed=seed) for g in (graph, anew)]
        assert max(s.bound_bytes for s in both) <= min(s.cost.peak_bytes for s in both)


@pytest.mark.parametrize("lie", ["bound", "order"])
def test_a_lie_is_found(lie):
    def liar(graph, objective, *, seconds, seed):
        truth = oracle.best_peak(graph)
        order = graphs.program_order(graph)
        return Outcome(order[::-1].copy(), 0) if lie == "order" else Outcome(order, truth + 1)

    graph = graphs.synthetic.tree(9, seed=3)
    found = contradictions(graph, answers(graph, ("auto", liar), seed=3), oracle.best_peak(graph))
    assert found
    assert all("liar" in text for text in found)
