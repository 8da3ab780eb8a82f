"""The loop around ask and tell: evaluates a function here or on an executor until something ends the search."""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesopt_perm._kernels import Int64Array
from bayesopt_perm.optimizer import BayesOpt
from bayesopt_perm.result import Result
from bayesopt_perm.space import PermutationSpace

__all__ = ["minimize"]

Objective = Callable[[Int64Array], float]
MOST_RESTARTS = 10  # executors lost in a row before the search gives up
LEAST_TOLD = 10  # evaluations, all of one value, that call an objective constant
MOST_LOST = 2  # times that an evaluation is submitted again after an executor gave it up with the workers that it lost


class _Here(Executor):
    """Runs what it is given at once, in this thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def minimize(
    f: Objective,
    n: int | None = None,
    *,
    precedence: Iterable[tuple[int, int]] | None = None,
    budget: int = 530,
    batch_size: int = 5,
    seed: int = 0,
    initial: int = 30,
    start: ArrayLike | None = None,
    seconds: float = math.inf,
    target: float = -math.inf,
    timeout: float = math.inf,
    executor: Executor | Callable[[], Executor] | None = None,
    asynchronous: bool = False,
    journal: str | os.PathLike[str] | None = None,
    progress: Callable[[BayesOpt], None] | None = None,
    **options: Any,
) -> Result:
    """The best order that ``budget`` evaluations of ``f`` find; ``f`` takes an order, int64[n], and returns a number.

    An evaluation that raises, or gives NaN or infinity, is recorded and avoided; it counts. The search ends after
    ``budget`` evaluations, ``seconds``, at a value of ``target`` (a proven bound, say) or below, or when every
    permutation was tried; Ctrl-C ends it too, and what was found by then is the result.

    Args:
        precedence: pairs (u, v), item u before item v.
        start: orders to begin with, int64[s, n]; random ones follow until there are ``initial``.
        timeout: seconds an evaluation may take; it then counts as failed. Needs an executor.
        executor: any ``concurrent.futures`` executor. ``dask.distributed``'s ``Client.get_executor(pure=False)`` is
            one, and its scheduler gives what a lost worker held to another. A function that makes executors lets the
            search go on when one breaks: what it held is submitted to a new one.
        asynchronous: ask for one more as soon as one is done, not a batch when a batch is. What is asked then depends
            on who is first.
        journal: a file to resume from, see :class:`~bayesopt_perm.optimizer.BayesOpt`.
        progress: called after every evaluation.
        options: further arguments of :class:`~bayesopt_perm.optimizer.BayesOpt`.

    Raises:
        ValueError: if an argument is out of range, or the initial evaluations (ten or more) all gave the same value.
        BrokenExecutor: if the executor breaks and ``executor`` is not a function that makes another.
    """
    space = _space(n, precedence, budget, initial, start)
    if timeout < math.inf and executor is None:
        raise ValueError("'timeout' needs an executor: an evaluation in this thread cannot be left")
    options |= {"batch_size": batch_size, "initial": initial, "start": start, "journal": journal}
    optimizer = BayesOpt(space, seed=seed, **options)
    try:
        loop = _Loop(f, optimizer, executor, time.monotonic() + seconds, timeout, progress)
        stopped = loop.run(budget, target, asynchronous)
        return Result(tuple(optimizer.history), stopped)
    finally:
        optimizer.close()


def _space(n: int | None, precedence: Any, budget: int, initial: int, start: ArrayLike | None) -> PermutationSpace:
    if n is None:
        raise ValueError("'n', the number of items, is needed")
    space = PermutationSpace(n, precedence)
    first = max(initial, 0 if start is None else len(space.check(start)))
    if budget < min(first, space.count(at_most=first)):
        raise ValueError(f"'budget' is {budget}, less than the {first} initial evaluations")
    return space


class _Loop:
    """Evaluations under way, and what becomes of them."""

    def __init__(
        self,
        f: Objective,
        optimizer: BayesOpt,
        executor: Executor | Callable[[], Executor] | None,
        deadline: float,
        timeout: float,
        progress: Callable[[BayesOpt], None] | None,
    ) -> None:
        self.progress = progress
        self.f, self.optimizer, self.deadline, self.timeout = f, optimizer, deadline, timeout
        self.make = executor if not isinstance(executor, Executor) else None
        self.executor: Executor = executor if isinstance(executor, Executor) else executor() if executor else _Here()
        self.under_way: dict[Future[Any], tuple[Int64Array, float]] = {}
        self.restarts = 0
        self.lost: Counter[bytes] = Counter()

    def run(self, budget: int, target: float, asynchronous: bool) -> str:
        """Go on until one of the limits; which one."""
        optimizer = self.optimizer
        try:
            self.submit(optimizer.pending)  # what an interrupted search had asked for
            while True:
                if optimizer.best and optimizer.best.value <= target:
                    return "target"
                if len(optimizer.history) >= budget:
                    return "budget"
                if time.monotonic() >= self.deadline:
                    return "seconds"
                free = min(optimizer.batch_size, budget - len(optimizer.history)) - len(self.under_way)
                if free > 0 and (asynchronous or not self.under_way):
                    self.refuse_constant()
                    orders = optimizer.ask(free)
                    if not len(orders) and not self.under_way:
                        return "every permutation was tried"
                    self.submit(orders)
                self.collect(FIRST_COMPLETED if asynchronous else ALL_COMPLETED)
        except KeyboardInterrupt:
            return "interrupted"
        finally:
            for future in self.under_way:
                future.cancel()
            if self.make:
                self.executor.shutdown(wait=False)

    def refuse_constant(self) -> None:
        """Raise rather than go on where the initial evaluations say that the order makes no difference."""
        values = {evaluation.value for evaluation in self.optimizer.history}
        count = len(self.optimizer.history)
        if len(values) == 1 and count >= max(self.optimizer.initial, LEAST_TOLD):
            raise ValueError(f"all {count} evaluations gave {values.pop():g}: there is nothing to learn from")

    def submit(self, orders: Int64Array) -> None:
        for index, order in enumerate(orders):
            if time.monotonic() >= self.deadline and isinstance(self.executor, _Here):
                return
            try:
                future = self.executor.submit(self.f, order.copy())
            except BrokenExecutor as error:
                self.renew(error, list(orders[index:]))
                return
            self.under_way[future] = (order, time.monotonic() + self.timeout)
            if isinstance(self.executor, _Here):
                self.finish(future)

    def collect(self, when: str) -> None:
        """Wait for one evaluation, or all, and tell each as it ends."""
        while self.under_way:
            limit = min(self.deadline, *(end for _, end in self.under_way.values()), math.inf)
            pause = None if limit == math.inf else max(0.0, limit - time.monotonic())
            done, _ = wait(self.under_way, timeout=pause, return_when=FIRST_COMPLETED)
            for future in [future for future in self.under_way if future in done]:
                self.finish(future)
            now = time.monotonic()
            for future in [future for future, (_, end) in self.under_way.items() if end <= now and not future.done()]:
                future.cancel()
                order, _ = self.under_way.pop(future)
                self.tell(order, math.nan, f"no value within {self.timeout:g} seconds")
            if now >= self.deadline or (when == FIRST_COMPLETED and done):
                return

    def finish(self, future: Future[Any]) -> None:
        if future not in self.under_way:
            return
        order, _ = self.under_way.pop(future)
        error = BrokenExecutor("the executor dropped an evaluation") if future.cancelled() else future.exception()
        if isinstance(error, BrokenExecutor):
            self.renew(error, [order, *(other for other, _ in self.under_way.values())])
            return
        self.restarts = 0
        if type(error).__name__ == "KilledWorker" and self.lost[order.tobytes()] < MOST_LOST:  # of dask.distributed
            self.lost[order.tobytes()] += 1
            self.submit(order[None])
            return
        if error is not None:
            self.tell(order, math.nan, f"{type(error).__name__}: {error}"[:500])
            return
        try:
            value = float(future.result())
        except (TypeError, ValueError):
            self.tell(order, math.nan, f"not a number: {future.result()!r}"[:500])
            return
        self.tell(order, value)

    def tell(self, order: Int64Array, value: float, failure: str | None = None) -> None:
        self.optimizer.tell(order, [value], [failure])
        if self.progress:
            self.progress(self.optimizer)

    def renew(self, error: BaseException, orders: list[Int64Array]) -> None:
        """Submit ``orders``, which a broken executor held, to a new one."""
        if self.make is None or self.restarts >= MOST_RESTARTS:
            raise error
        self.restarts += 1
        done = [f for f in self.under_way if f.done() and not f.cancelled() and not f.exception()]
        kept = {future: self.under_way[future] for future in done}
        orders = [order for order in orders if not any(order is other for other, _ in kept.values())]
        self.under_way = kept
        self.executor.shutdown(wait=False)
        self.executor = self.make()
        self.submit(np.array(orders, np.int64).reshape(-1, self.optimizer.space.n))
