"""Bayesian optimisation of orders whose cost is expensive: measured, or by a simulator of the caller's.

The search is that of :mod:`bayesopt_perm` over permutations as :mod:`topoformer.schedulers.reduced` makes them.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bayesopt_perm import Evaluation, PermutationSpace, minimize
from bayesopt_perm.evaluating import ConstantObjectiveError
from bayesopt_perm.workers import DaskExecutor, end, process_pool
from graphs import Graph, Order
from topoformer.schedulers.reduced import MOST_UNITS, ReducedSpace
from topoformer.schedulers.search import CHEAP

__all__ = [
    "POLICIES",
    "DaskExecutor",
    "NothingToSearchError",
    "Refinement",
    "Trial",
    "evaluate",
    "process_pool",
    "refine_order",
]

POLICIES = CHEAP[:-1]  # a random order is no start
INITIAL_SHARE, LEAST_INITIAL = 0.2, 8  # of the evaluations before the first model
MOST_MOVES = 3  # of units between the best start and an initial order
EVALUATIONS = 60


class NothingToSearchError(ValueError):
    """No node can be moved, or all orders cost the same."""


@dataclass(frozen=True)
class Trial:
    """An order that was evaluated."""

    order: Order
    value: float  # NaN where it failed
    failure: str | None


@dataclass(frozen=True)
class Refinement:
    """What a search over measured costs found."""

    order: Order  # int32[n] of the lowest value
    value: float
    start_value: float  # of the first start
    trials: tuple[Trial, ...]  # in the sequence in which they were told
    stopped: str  # "budget", "seconds", "interrupted", "every permutation was tried"
    units: int  # nodes whose sequence was searched


@dataclass(frozen=True, eq=False)
class _Evaluate:
    """From a permutation of units to its cost; travels to other processes with what it needs."""

    space: ReducedSpace
    cost: Callable[[Order], float]

    def __call__(self, permutation: Any) -> float:
        return float(self.cost(self.space.order_of(np.asarray(permutation))))


def refine_order(
    graph: Graph,
    cost: Callable[[Order], float],
    starts: Sequence[Order],
    *,
    evaluations: int = EVALUATIONS,
    batch_size: int = 4,
    seed: int = 0,
    seconds: float = math.inf,
    timeout: float = math.inf,
    executor: Executor | Callable[[], Executor] | None = None,
    journal: str | os.PathLike[str] | None = None,
    tag: str | None = None,
    units: int = MOST_UNITS,
    progress: Callable[[int, float], None] | None = None,
) -> Refinement:
    """The order of ``graph`` with the lowest ``cost`` among ``evaluations`` of them, the first of ``starts`` included.

    Args:
        cost: of an order, int32[n]; what raises, or is no finite number, is a failed evaluation, and avoided.
        starts: legal orders; the first is the one that the others are seen from.
        seconds: after which no more are asked for.
        timeout: of one evaluation, with an executor.
        executor: as :func:`bayesopt_perm.minimize` takes it; evaluations of a batch run at once.
        journal: a file from which an interrupted search goes on; it must be asked the same question.
        tag: what ``cost`` is, in any words: a journal with another tag, or of another graph, is refused.
        units: nodes, at most, whose sequence is searched.
        progress: is told after each evaluation how many there were, and the lowest value.

    Raises:
        NothingToSearchError: nothing can be moved, or all initial orders cost the same.
        ValueError: all evaluations fail, or an argument is out of range.
    """
    if evaluations < 2 or not starts:
        raise ValueError(f"two evaluations and a start are the least (got {evaluations} and {len(starts)})")
    space = ReducedSpace.around(graph, starts[0], units)
    count = len(space.units)
    if count < 2:
        raise NothingToSearchError(f"no node of '{graph.name}' can be moved")
    members = PermutationSpace(count, space.precedence)
    first = _initial(space, members, starts, evaluations, seed)

    def told(search: Any) -> None:
        if progress is not None:
            progress(len(search.history), search.best.value if search.best else math.nan)

    asked: dict[str, Any] = {"precedence": space.precedence, "budget": max(evaluations, len(first)), "seed": seed}
    asked |= {"batch_size": max(1, min(batch_size, members.count(at_most=batch_size))), "seconds": seconds}
    asked |= {"initial": max(2, len(first)), "start": first, "journal": journal, "progress": told}
    asked["tag"] = f"{tag or 'cost'} of {graph.fingerprint}"
    asked |= {"executor": executor, "timeout": timeout if executor is not None else math.inf}
    try:
        result = minimize(_Evaluate(space, cost), count, **asked)
    except ConstantObjectiveError as error:
        raise NothingToSearchError(str(error)) from None
    return _refinement(graph, space, result.history, result.stopped, starts[0])


def _refinement(
    graph: Graph, space: ReducedSpace, history: Sequence[Evaluation], stopped: str, start: Order
) -> Refinement:
    trials = tuple(Trial(space.order_of(one.order), one.value, one.failure) for one in history)
    good = [trial for trial in trials if trial.failure is None]
    if not good:
        reason = trials[0].failure if trials else "there was no time for one"
        raise ValueError(f"no order of '{graph.name}' could be evaluated: {reason}")
    best = min(good, key=lambda trial: trial.value)
    begun = next((trial.value for trial in trials if np.array_equal(trial.order, start)), math.nan)
    return Refinement(best.order, best.value, begun, trials, stopped, len(space.units))


def evaluate(
    cost: Callable[[Order], float],
    orders: Sequence[Order],
    executor: Executor | Callable[[], Executor] | None = None,
    timeout: float = math.inf,
) -> list[Trial]:
    """The ``cost`` of each of ``orders``, int32[n], one after the other; what fails has a reason instead."""
    if executor is None:
        return [_tried(order, partial(cost, order)) for order in orders]
    trials, workers = [], executor if isinstance(executor, Executor) else executor()
    limit = None if timeout == math.inf else timeout
    for order in orders:
        trial = _tried(order, partial(_in_worker, workers, cost, order, limit))
        trials.append(trial)
        if trial.failure is not None and not isinstance(executor, Executor):
            end(workers)  # it may hang, or be broken
            workers = executor()
    if not isinstance(executor, Executor):
        end(workers)
    return trials


def _in_worker(workers: Executor, cost: Callable[[Order], float], order: Order, limit: float | None) -> float:
    return workers.submit(cost, order).result(limit)


def _tried(order: Order, action: Callable[[], float]) -> Trial:
    try:
        value = float(action())
    except Exception as error:
        text = "no value within the time that it may take" if isinstance(error, TimeoutError) else str(error)
        return Trial(order, math.nan, f"{type(error).__name__}: {text}"[:500])
    fine = math.isfinite(value)
    return Trial(order, value if fine else math.nan, None if fine else f"the value is {value}")


def _initial(
    space: ReducedSpace, members: PermutationSpace, starts: Sequence[Order], evaluations: int, seed: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Permutations to begin with, int64[s, m]: the starts, then some a few moves from the first of them."""
    wanted = min(evaluations, max(LEAST_INITIAL, int(INITIAL_SHARE * evaluations)), members.count(at_most=evaluations))
    rng = np.random.default_rng([seed, 1])
    found: dict[bytes, Any] = {}
    for order in starts:
        row = space.permutation_of(order)
        found.setdefault(row.tobytes(), row)
    rows = list(found.values())[:wanted]
    known = {row.tobytes() for row in rows}
    for _ in range(20 * wanted):
        if len(rows) >= wanted:
            break
        row = rows[0]
        for _ in range(int(rng.integers(1, MOST_MOVES + 1))):
            near = members.neighbours(row, "insert", at_most=64, seed=rng)
            row = near[rng.integers(len(near))] if len(near) else row
        if row.tobytes() not in known:
            known.add(row.tobytes())
            rows.append(row)
    return np.array(rows, np.int64).reshape(len(rows), -1)
