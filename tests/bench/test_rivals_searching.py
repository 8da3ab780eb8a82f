"""Rivals that search: random orders, the genetic algorithm and CP-SAT find what they can, and more in more time."""

from statistics import mean

import numpy as np
import pytest

from bench.rivals.cp_sat import solve
from bench.rivals.genetic import Settings, evolve
from bench.rivals.random_best import random_best
from graphs import Graph, check_order, peak_bytes
from graphs.cost import OBJECTIVES
from graphs.synthetic import layered, tree
from tests import oracle
from tests.strategies import random_graph
from topoformer.schedulers.list_scheduling import list_schedule, random
from topoformer.scheduling import schedule

MEMORY = OBJECTIVES["memory"]
LAYERED = layered(60, seed=7400)


def test_random_best_is_the_best_of_its_draws():
    draws = [peak_bytes(LAYERED, random(LAYERED, MEMORY, seconds=1, seed=seed)) for seed in range(5, 45)]
    best = random_best(LAYERED, MEMORY, seconds=60, seed=5, draws=40)
    assert peak_bytes(LAYERED, best) == min(draws) < mean(draws)
    assert np.array_equal(best, random_best(LAYERED, MEMORY, seconds=60, seed=5, draws=40))


def test_one_draw_is_made_in_any_time():
    assert oracle.is_legal(LAYERED, random_best(LAYERED, MEMORY, seconds=1e-9, seed=0).tolist())
    graph = layered(500, seed=7400)
    found = evolve(graph, seconds=1e-9, seed=0)
    assert oracle.is_legal(graph, found.order.tolist())
    assert 0 < found.decoded < Settings().population


def test_the_genetic_algorithm_knows_its_peaks():
    for seed in range(200):
        graph = random_graph(seed)
        found = evolve(graph, seconds=60, seed=seed, settings=Settings(population=8, generations=3))
        assert oracle.peak(graph, found.order.tolist()) == found.peak_bytes


def test_keys_are_decoded_as_list_scheduling_does():
    from bench.rivals.genetic import _Decoder

    decoder, rng = _Decoder(LAYERED), np.random.default_rng(3)
    for _ in range(20):
        key = rng.random(LAYERED.n, np.float32)
        assert np.array_equal(decoder.order(key), list_schedule(LAYERED, key))


def test_the_genetic_algorithm_improves_with_time_and_beats_random_orders():
    draws = [peak_bytes(LAYERED, random(LAYERED, MEMORY, seconds=1, seed=seed)) for seed in range(300)]
    peaks = [
        evolve(LAYERED, seconds=60, seed=1, settings=Settings(generations=count)).peak_bytes for count in (1, 10, 200)
    ]
    assert peaks[2] < peaks[1] < peaks[0] < mean(draws)
    assert peaks[2] < min(draws)


def test_the_genetic_algorithm_is_the_same_for_the_same_seed():
    first, again = (evolve(LAYERED, seconds=60, seed=4, settings=Settings(generations=20)) for _ in range(2))
    assert np.array_equal(first.order, again.order)
    assert first.decoded == again.decoded == 300 + 19 * 240


@pytest.mark.parametrize("seed", range(40))
def test_cp_sat_finds_the_lowest_peak(seed):
    graph = random_graph(seed)
    found = solve(graph, seconds=20, seed=0)
    assert found.optimal
    assert oracle.peak(graph, found.order.tolist()) == found.bound == oracle.best_peak(graph)


@pytest.mark.parametrize("make", [layered, tree])
def test_cp_sat_agrees_with_our_proof(make):
    graph = make(30, seed=7400)
    found, ours = solve(graph, seconds=30, seed=0), schedule(graph, seconds=5)
    assert found.optimal
    assert ours.proven_optimal
    assert peak_bytes(graph, check_order(graph, found.order)) == found.bound == ours.cost.peak_bytes


def test_cp_sat_has_a_bound_where_time_is_up():
    graph = layered(150, seed=7400)
    found = solve(graph, seconds=1.0, seed=0)
    assert not found.optimal
    assert 0 < found.bound < peak_bytes(graph, check_order(graph, found.order)) <= peak_bytes(graph)


def test_cp_sat_counts_in_the_unit_of_the_bytes():
    graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], range(5), [10_000, 10_000, 1_000, 1_000, 100])
    assert solve(graph, seconds=10, seed=0).bound == 12_000
