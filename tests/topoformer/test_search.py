"""Searching methods: the same answer for a step cap, a valid one whenever they end, proofs that can be checked."""

import re
import time
from dataclasses import replace

import pytest

import graphs
from graphs.bound import check_bound
from graphs.implied import Refutation
from graphs.synthetic import layered
from tests.interrupts import interrupted_after
from topoformer import schedule
from topoformer.schedulers import search
from topoformer.text import schedule_lines

SEARCHING = ("auto", "exact", "beam", "local_search")


@pytest.mark.parametrize("method", SEARCHING)
def test_a_step_cap_gives_the_same_answer_again(method):
    graph = layered(260, seed=31)
    one, two = (schedule(graph, method, seconds=300.0, seed=4, steps=60_000) for _ in range(2))
    assert one.order.tolist() == two.order.tolist()
    assert one.bound_bytes == two.bound_bytes
    assert [phase.name for phase in one.phases if phase.name != "compiling"] == [
        phase.name for phase in two.phases if phase.name != "compiling"
    ]


@pytest.mark.parametrize("method", ["auto", "local_search"])
def test_a_step_cap_gives_the_same_answer_on_any_number_of_cores(method, monkeypatch):
    for seed in (2, 3, 7):
        graph, found = layered(80, seed=seed), []
        for workers in (1, 2, 4):
            monkeypatch.setattr("topoformer.schedulers.search.WORKERS", workers)
            found.append(schedule(graph, method, seconds=300.0, steps=20_000))
        assert len({tuple(result.order.tolist()) for result in found}) == 1
        assert len({result.bound_bytes for result in found}) == 1


def test_more_steps_are_never_worse():
    graph = layered(300, seed=32)
    found = [schedule(graph, "auto", seconds=300.0, steps=steps) for steps in (1, 30_000, 300_000)]
    peaks, bounds = [f.cost.peak_bytes for f in found], [f.bound_bytes for f in found]
    assert peaks == sorted(peaks, reverse=True)
    assert bounds == sorted(bounds)


@pytest.mark.parametrize("seconds", [1e-6, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("method", SEARCHING)
def test_any_deadline_leaves_a_legal_order_and_a_valid_bound(method, seconds):
    graph = layered(400, seed=33)
    result = schedule(graph, method, seconds=seconds)
    graphs.check_order(graph, result.order)
    assert result.bound_bytes <= result.cost.peak_bytes <= result.program_cost.peak_bytes
    assert result.witness is None or check_bound(graph, result.witness)
    assert not result.interrupted


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3, 0.9])
def test_an_interrupt_at_any_moment_leaves_a_legal_order_and_a_valid_bound(delay):
    graph = layered(1200, seed=34)
    schedule(layered(60, seed=1))  # compiles
    with interrupted_after(delay):
        result = schedule(graph, seconds=300.0)
    assert result.interrupted
    graphs.check_order(graph, result.order)
    assert result.bound_bytes <= result.cost.peak_bytes <= result.program_cost.peak_bytes


def test_a_graph_that_no_single_cut_proves_is_proven_and_the_proof_holds():
    graph = layered(250, seed=100)
    cuts, auto = schedule(graph, "cuts"), schedule(graph, seconds=60)
    assert auto.proven_optimal
    assert cuts.bound_bytes < auto.bound_bytes
    assert isinstance(auto.witness, Refutation)
    assert auto.witness.bytes == auto.bound_bytes
    assert check_bound(graph, auto.witness)


def test_what_the_reductions_shrink_is_counted_and_shown():
    result = schedule(layered(250, seed=101), seconds=60)
    shown = schedule_lines(result)
    assert "precedences that cost nothing: " in shown
    left, of = (int(number.replace(",", "")) for number in re.search(r"order: ([\d,]+) of ([\d,]+)", shown).groups())
    assert 0 < left < of < 250 * 249 // 2
    assert "parts, the largest of" in shown


def test_an_interrupted_search_says_so():
    result = schedule(layered(30, seed=2))
    assert "interrupted" not in schedule_lines(result)
    assert "until interrupted" in schedule_lines(replace(result, interrupted=True))


@pytest.mark.parametrize("kernels", ["_compile_costs", "_compile_policies", "_compile_cuts", "_compile_beam"])
def test_compiling_takes_no_time_from_the_search(kernels, monkeypatch):
    """On a new machine it takes longer than many a search is given."""
    graph = layered(60, seed=4)
    schedule(graph, seconds=5.0)  # compiles
    monkeypatch.setattr(search, kernels, lambda: time.sleep(1.0))
    found = schedule(graph, seconds=0.9)
    assert found.proven_optimal
    assert any(phase.name == "compiling" and phase.seconds >= 1.0 for phase in found.phases)
