"""Implied precedences: no order within the budget breaks one, refutations are true, and their proofs can be checked."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

import graphs
from graphs.bound import check_bound
from graphs.implied import Implied
from graphs.synthetic import layered
from tests import oracle
from tests.strategies import random_graph, with_pairs

GO_ON = np.zeros(1, np.int8)


def best_peak_with(graph, first, second):
    """Lowest peak of any order that runs ``first`` before ``second``; None if there is none."""
    try:
        return oracle.best_peak(with_pairs(graph, [(first, second)]))
    except nx.NetworkXUnfeasible:
        return None


def test_what_the_optimum_implies_holds_in_every_optimal_order():
    checked = 0
    for seed in range(250):
        graph = random_graph(20_000 + seed, 8)
        optimum = oracle.best_peak(graph)
        implied = Implied(graph, reduced=False)
        assert implied.tighten(optimum, stop=GO_ON) is None, f"graph {seed} can be run in {optimum} bytes"
        for first, second in implied.pairs.tolist():
            reversed_peak = best_peak_with(graph, second, first)
            assert reversed_peak is None or reversed_peak > optimum, f"graph {seed}: {first} before {second}"
            checked += reversed_peak is not None
    assert checked > 100, checked


def test_refutations_are_true_and_proven():
    proven = 0
    for seed in range(400):
        graph = random_graph(30_000 + seed)
        optimum = oracle.best_peak(graph)
        implied, budget = Implied(graph), optimum + 3
        while budget >= 0:  # down to 0, so that precedences of higher budgets take part in the proofs of lower ones
            proof = implied.tighten(budget, stop=GO_ON)
            if proof is not None:
                assert budget < optimum, f"graph {seed} can be run in {optimum} bytes"
                assert proof.bytes == budget + 1
                assert check_bound(graph, proof)
                proven += 1
                break
            budget = budget - 1 if budget >= optimum else budget // 2 - (budget < 2)
    assert proven > 300


def test_a_good_order_saves_flows_and_changes_nothing_else():
    graph = layered(200, seed=11)
    order = min(graphs_orders(graph), key=lambda o: graphs.peak_bytes(graph, o))
    budget = graphs.peak_bytes(graph, order)
    without, with_it = Implied(graph), Implied(graph)
    with_it.learn(order)
    assert without.tighten(budget, stop=GO_ON) is None
    assert with_it.tighten(budget, stop=GO_ON) is None
    assert {*map(tuple, closure(graph, without))} == {*map(tuple, closure(graph, with_it))}
    assert with_it.flows < without.flows


def graphs_orders(graph):
    from topoformer import schedule

    return [schedule(graph, method).order for method in ("lpmf", "net_change", "dfs")]


def closure(graph, implied):
    arcs = nx.DiGraph(implied.pairs.tolist())
    arcs.add_edges_from(zip(graph.preds.idx.tolist(), graph.preds.row_of.tolist(), strict=True))
    return nx.transitive_closure_dag(arcs).edges


def test_raises_the_bound_of_a_layered_graph_above_every_cut():
    graph = layered(100, seed=3)
    from topoformer import schedule

    best = schedule(graph, seconds=20)
    assert best.proven_optimal
    proof = Implied(graph).tighten(best.cost.peak_bytes - 1, stop=GO_ON)
    if proof is not None:
        assert check_bound(graph, proof)


def test_a_false_refutation_is_found_out():
    graph, proof = next(
        (graph, proof)
        for seed in range(1000)
        for graph in [random_graph(40_000 + seed)]
        for proof in [Implied(graph, reduced=False).tighten(oracle.best_peak(graph) - 1, stop=GO_ON)]
        if proof is not None and len(proof.pairs)
    )
    assert check_bound(graph, proof)
    assert not check_bound(graph, replace(proof, bytes=oracle.best_peak(graph) + 1))
    assert not check_bound(graph, replace(proof, at=np.full_like(proof.at, graph.n + 1)))
    assert not check_bound(graph, replace(proof, at=proof.at[:-1]))
    assert not check_bound(graph, replace(proof, pairs=np.full_like(proof.pairs, graph.n)))


def test_budgets_only_fall():
    implied = Implied(random_graph(7))
    implied.tighten(1000, stop=GO_ON)
    with pytest.raises(ValueError, match=r"'budget' must not rise \(got 1,001 after 1,000\)"):
        implied.tighten(1001, stop=GO_ON)


def test_a_copy_goes_on_by_itself():
    graph = layered(80, seed=5)
    implied = Implied(graph)
    implied.tighten(graphs.peak_bytes(graph), stop=GO_ON)
    before = implied.pairs.copy()
    implied.copy().tighten(graphs.peak_bytes(graph) // 2, stop=GO_ON)
    assert np.array_equal(before, implied.pairs)


def test_stops_when_told():
    graph = layered(200, seed=5)
    implied = Implied(graph)
    assert implied.tighten(1, stop=np.ones(1, np.int8)) is None
    assert implied.flows == 0
