import math
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import active_children, get_context

import numpy as np
import pytest

from bayesopt_perm import minimize
from bayesopt_perm.baselines import BASELINES, climb
from bayesopt_perm.problems import random_flow_shop
from bayesopt_perm.workers import process_pool
from tests.bayesopt_perm.workers import PROBLEM, DiesAlways, DiesOnce, hangs

OPTIONS = {"budget": 30, "batch_size": 4, "initial": 8, "seed": 5}


def told(result):
    return [(evaluation.order.tolist(), evaluation.value) for evaluation in result.history]


def test_the_result_says_what_was_found():
    result = minimize(PROBLEM, 9, **OPTIONS)
    assert result.stopped == "budget"
    assert len(result.history) == 30
    assert result.value == PROBLEM(result.order) == min(value for _, value in told(result)) == result.curve[-1]
    assert (np.diff(result.curve) <= 0).all()
    assert repr(result) == f"Result(value={result.value:g}, evaluations=30, stopped='budget')"


def test_an_executor_changes_nothing_but_who_evaluates():
    with ThreadPoolExecutor(3) as pool:
        found = minimize(lambda order: time.sleep(0.002 * order[0]) or PROBLEM(order), 9, executor=pool, **OPTIONS)
    assert sorted(told(found)) == sorted(told(minimize(PROBLEM, 9, **OPTIONS)))


def test_asynchronous_evaluations_never_wait_for_a_slow_one():
    def f(order):
        slow = not started
        started.append(1)
        while slow and len(started) < 20:
            time.sleep(0.002)
        return PROBLEM(order)

    started = []
    with ThreadPoolExecutor(3) as pool:
        result = minimize(f, 9, executor=pool, asynchronous=True, **OPTIONS)
    assert len(result.history) == 30 == len({tuple(order) for order, _ in told(result)})


def test_failures_of_every_kind_are_recorded_and_never_fatal():
    def f(order):
        if order[0] == 0:
            raise OSError("no device")
        return {1: math.nan, 2: -math.inf, 3: "fast", 4: None, 5: 10**400, 6: 1e200}.get(int(order[0]), PROBLEM(order))

    result = minimize(f, 9, **{**OPTIONS, "initial": 25})
    reasons = {int(evaluation.order[0]): evaluation.failure for evaluation in result.history}
    assert reasons[0] == "OSError: no device"
    assert reasons[1] == "the value is nan"
    assert reasons[2] == "the value is -inf"
    assert reasons[3] == "not a number: 'fast'"
    assert reasons[4] == "not a number: None"
    assert reasons[5].startswith("not a number: 1000")
    assert reasons[6] == "the value is 1e+200"
    assert {reason for first, reason in reasons.items() if first > 6} == {None}
    assert result.value >= 0
    everything = minimize(lambda order: 1 / 0, 9, **OPTIONS)
    assert math.isnan(everything.value)
    with pytest.raises(
        ValueError, match="no evaluation gave a value \\(the first: ZeroDivisionError: division by zero"
    ):
        _ = everything.order


def test_an_evaluation_that_takes_too_long_is_left():
    def f(order):
        if order[0] == 0:
            time.sleep(1.0)
        return PROBLEM(order)

    with ThreadPoolExecutor(8) as pool:
        result = minimize(f, 9, executor=pool, timeout=0.3, start=[range(9)], **OPTIONS)
    late = [evaluation for evaluation in result.history if evaluation.failure]
    assert {evaluation.failure for evaluation in late} <= {"no value within 0.3 seconds"}
    assert all(evaluation.order[0] == 0 for evaluation in late)
    assert late
    assert len(result.history) == 30


def test_each_limit_ends_the_search():
    assert minimize(PROBLEM, 9, **{**OPTIONS, "target": 1e9}).stopped == "target"
    start = time.monotonic()
    slow = minimize(lambda order: time.sleep(0.05) or PROBLEM(order), 9, seconds=0.3, **OPTIONS)
    assert slow.stopped == "seconds"
    assert len(slow.history) < 10
    with ThreadPoolExecutor(2) as pool:
        assert minimize(lambda o: time.sleep(0.5) or 1.0, 9, seconds=0.1, executor=pool, **OPTIONS).stopped == "seconds"
    assert time.monotonic() - start < 5
    small = minimize(lambda order: float(order[0]), 3, budget=50, batch_size=2, initial=2)
    assert (small.stopped, len(small.history), small.value) == ("every permutation was tried", 6, 0.0)


def test_an_interrupt_keeps_what_was_found_and_a_journal_goes_on(tmp_path):
    def f(order):
        seen.append(order)
        if len(seen) == 13:
            raise KeyboardInterrupt
        return PROBLEM(order)

    seen, counts = [], []
    options = {**OPTIONS, "journal": tmp_path / "j"}
    cut = minimize(f, 9, progress=lambda opt: counts.append(len(opt.history)), **options)
    assert (cut.stopped, len(cut.history), counts) == ("interrupted", 12, list(range(1, 13)))
    assert cut.value == min(value for _, value in told(cut))
    assert told(minimize(f, 9, **options)) == told(minimize(PROBLEM, 9, **OPTIONS))


def test_precedence_reaches_the_search():
    result = minimize(PROBLEM, 9, precedence=[(8, 0), (7, 0)], **OPTIONS)
    for order, _ in told(result):
        assert order.index(8) < order.index(0) > order.index(7)


def pool():
    return ProcessPoolExecutor(2, mp_context=get_context("forkserver"))


def test_what_a_killed_worker_held_is_evaluated_by_another(tmp_path):
    options = {**OPTIONS, "budget": 16, "initial": 12}
    result = minimize(DiesOnce(tmp_path), 9, executor=pool, **options)
    assert (tmp_path / "died").exists()
    assert sorted(told(result)) == sorted(told(minimize(PROBLEM, 9, **options)))


def test_an_order_that_no_worker_survives_is_a_failed_evaluation():
    """Those that were under way beside it are evaluated all the same."""
    options = {**OPTIONS, "budget": 16, "initial": 12, "start": [[3, 0, 1, 2, 4, 5, 6, 7, 8]]}
    result = minimize(DiesAlways(), 9, executor=pool, **options)
    assert len(result.history) == 16 == len({tuple(order) for order, _ in told(result)})
    lost = [evaluation for evaluation in result.history if evaluation.failure]
    assert lost
    assert all(evaluation.order[0] == 3 for evaluation in lost)
    assert lost[0].failure.startswith("its worker was lost 2 times: ")


def test_waiting_for_a_worker_is_not_being_late():
    with ThreadPoolExecutor(1) as one:
        slow = minimize(
            lambda o: time.sleep(0.2) or PROBLEM(o), 9, executor=one, timeout=0.5, **{**OPTIONS, "budget": 9}
        )
    assert [evaluation.failure for evaluation in slow.history] == [None] * 9


def test_workers_that_hang_are_replaced():
    options = {**OPTIONS, "budget": 12, "start": [range(9), [0, 2, 1, *range(3, 9)]]}
    result = minimize(hangs, 9, executor=partial(process_pool, 1), timeout=2.0, **options)
    late = [evaluation for evaluation in result.history if evaluation.failure]
    assert len(result.history) == 12
    assert len(late) >= 2
    assert {(int(e.order[0]), e.failure) for e in late} == {(0, "no value within 2 seconds")}
    for child in active_children():
        child.join(10)
        assert not child.is_alive()
    with ThreadPoolExecutor(1) as mine, pytest.raises(BrokenExecutor, match="every worker hangs"):
        minimize(lambda o: time.sleep(0.5) or 1.0, 9, executor=mine, timeout=0.1, **OPTIONS)


class BreaksOnce(ThreadPoolExecutor):
    made = 0

    def __init__(self):
        super().__init__(4)
        BreaksOnce.made += 1
        self.left = 2 if BreaksOnce.made == 1 else 1000

    def submit(self, fn, /, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise BrokenExecutor("gone")
        return super().submit(fn, *args, **kwargs)


def test_what_a_broken_executor_had_begun_is_not_lost():
    counted = []
    result = minimize(lambda o: counted.append(tuple(o)) or PROBLEM(o), 9, executor=BreaksOnce, **OPTIONS)
    assert BreaksOnce.made == 2
    assert len(result.history) == 30 == len({tuple(order) for order, _ in told(result)})
    assert sorted(told(result)) == sorted(told(minimize(PROBLEM, 9, **OPTIONS)))


def test_a_broken_executor_that_nobody_replaces_is_an_error(tmp_path):
    with pool() as broken, pytest.raises(BrokenProcessPool):
        minimize(DiesOnce(tmp_path), 9, executor=broken, **{**OPTIONS, "budget": 16, "initial": 12})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimize(PROBLEM), "'n', the number of items, is needed"),
        (lambda: minimize(PROBLEM, 9, budget=20), "'budget' is 20, less than the 30 initial evaluations"),
        (
            lambda: minimize(PROBLEM, 9, budget=1, initial=1, start=[range(9), [*range(8, -1, -1)]]),
            "'budget' is 1, less than the 2 initial evaluations",
        ),
        (
            lambda: minimize(PROBLEM, 9, timeout=1),
            "'timeout' needs an executor: an evaluation in this thread cannot be left",
        ),
        (
            lambda: minimize(lambda order: 7, 9, budget=40),
            "all 30 evaluations gave 7: there is nothing to learn from",
        ),
        (lambda: climb(PROBLEM, 9, budget=5, initial=6), "'initial' must be from 1 to the budget of 5 (got 6)"),
        (lambda: climb(PROBLEM, 9, move="turn"), "unknown move 'turn' (known: swap, adjacent, insert, reverse)"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_keeps_to_its_budget_its_seed_and_precedence(name):
    run = BASELINES[name]
    pairs = [(8, 0), (7, 0), (1, 2)]
    result = run(PROBLEM, 9, precedence=pairs, budget=120, initial=10, seed=3)
    assert len(result.history) == 120
    for order, value in told(result):
        assert value == PROBLEM(order)
        assert all(order.index(u) < order.index(v) for u, v in pairs)
    assert told(run(PROBLEM, 9, precedence=pairs, budget=120, initial=10, seed=3)) == told(result)
    assert told(run(PROBLEM, 9, budget=40, initial=10, seed=4)) != told(run(PROBLEM, 9, budget=40, initial=10, seed=5))
    given = [[8, 7, 1, 2, 3, 4, 5, 6, 0], [7, 8, 0, 1, 2, 3, 4, 5, 6]]
    begun = run(PROBLEM, 9, precedence=pairs, budget=30, initial=10, seed=3, start=given)
    assert [evaluation.order.tolist() for evaluation in begun.history[:2]] == given
    assert len(begun.history) == 30
    failing = run(lambda order: 1 / 0 if order[0] % 2 else PROBLEM(order), 9, budget=60, initial=10, seed=3)
    assert len(failing.history) == 60
    assert failing.order[0] % 2 == 0


@pytest.mark.parametrize("name", ["climb", "anneal", "evolve"])
def test_a_baseline_that_learns_beats_random_search(name):
    problem = random_flow_shop(20, 5, seed=873654221)
    found, random = (
        np.mean([BASELINES[method](problem, 20, budget=400, seed=seed).value for seed in range(5)])
        for method in (name, "random")
    )
    assert found < random - 20


@pytest.mark.parametrize("move", ["swap", "adjacent", "insert", "reverse"])
def test_a_climber_never_goes_up_and_takes_batches(move):
    result = climb(PROBLEM, 9, budget=100, batch_size=7, move=move, seed=1)
    assert len(result.history) == 100
    assert result.value <= result.curve[29]
