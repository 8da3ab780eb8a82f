"""Evaluations under way: who runs them, when they are late, and what becomes of those whose worker was lost."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any

from bayesopt_perm._kernels import Int64Array
from bayesopt_perm.optimizer import BayesOpt
from bayesopt_perm.workers import end

__all__ = ["ConstantObjectiveError", "Evaluations", "Objective"]

Objective = Callable[[Int64Array], float]
MOST_RESTARTS = 10  # executors lost in a row, no evaluation having ended, before the search gives up
MOST_LOST = 2  # times that an evaluation may lose its worker while no other is under way
LEAST_TOLD = 10  # evaluations, all of one value, that call an objective constant


class ConstantObjectiveError(ValueError):
    """The initial evaluations all gave the same value."""


class Here(Executor):
    """Runs what it is given at once, in this thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Evaluations:
    """The loop of ``minimize``: orders that wait, orders under way, and those that hang and are not waited for."""

    def __init__(
        self,
        f: Objective,
        optimizer: BayesOpt,
        executor: Executor | Callable[[], Executor] | None,
        deadline: float,
        timeout: float,
        progress: Callable[[BayesOpt], None] | None,
    ) -> None:
        self.f, self.optimizer, self.deadline, self.timeout = f, optimizer, deadline, timeout
        self.progress = progress
        self.make = executor if executor is not None and not isinstance(executor, Executor) else None
        self.executor: Executor = executor if isinstance(executor, Executor) else executor() if executor else Here()
        self.waiting: deque[Int64Array] = deque()
        self.under_way: dict[Future[Any], tuple[Int64Array, float]] = {}
        self.hanging: set[Future[Any]] = set()
        self.suspects: set[bytes] = set()  # one of them has cost a worker: each is evaluated alone
        self.lost: Counter[bytes] = Counter()
        self.restarts = 0

    def run(self, budget: int, target: float, asynchronous: bool) -> str:
        """Go on until one of the limits; which one."""
        optimizer = self.optimizer
        self.waiting.extend(optimizer.pending)  # what an interrupted search had asked for
        try:
            while True:
                if optimizer.best and optimizer.best.value <= target:
                    return "target"
                if len(optimizer.history) >= budget:
                    return "budget"
                if time.monotonic() >= self.deadline:
                    return "seconds"
                held = len(self.under_way) + len(self.waiting)
                free = min(optimizer.batch_size, budget - len(optimizer.history)) - held
                if free > 0 and (asynchronous or not held):
                    self.refuse_constant()
                    orders = optimizer.ask(free)
                    if not len(orders) and not held:
                        return "every permutation was tried"
                    self.waiting.extend(orders)
                self.submit()
                self.collect()
        except KeyboardInterrupt:
            return "interrupted"
        finally:
            for future in self.under_way:
                future.cancel()
            if self.make:
                self.abandon()

    def refuse_constant(self) -> None:
        """Raise rather than go on where the initial evaluations say that the order makes no difference."""
        values = {evaluation.value for evaluation in self.optimizer.history}
        count = len(self.optimizer.history)
        if len(values) == 1 and count >= max(self.optimizer.initial, LEAST_TOLD):
            raise ConstantObjectiveError(
                f"all {count} evaluations gave {values.pop():g}: there is nothing to learn from"
            )

    @property
    def capacity(self) -> float:
        """How many may be under way: no more than run at once, so that none is late for having waited its turn."""
        workers: int | None = getattr(self.executor, "_max_workers", None)
        free = math.inf if workers is None else workers - len(self.hanging)
        return min(free, 1) if self.suspects else free

    def submit(self) -> None:
        """Give waiting orders to workers, as many as there is room for."""
        self.hanging = {future for future in self.hanging if not future.done()}
        if self.capacity < 1:
            self.renew(BrokenExecutor("every worker hangs in an evaluation that took too long"))
        while self.waiting and len(self.under_way) < self.capacity:
            if isinstance(self.executor, Here) and time.monotonic() >= self.deadline:
                return
            order = self.waiting.popleft()
            try:
                future = self.executor.submit(self.f, order.copy())
            except BrokenExecutor as error:
                self.waiting.appendleft(order)
                self.renew(error)
                continue
            self.under_way[future] = (order, time.monotonic() + self.timeout)
            if isinstance(self.executor, Here):
                self.finish(future)

    def collect(self) -> None:
        """Wait until an evaluation ends or is late, and tell it."""
        if not self.under_way:
            return
        limit = min(self.deadline, *(late for _, late in self.under_way.values()), math.inf)
        pause = None if limit == math.inf else max(0.0, limit - time.monotonic())
        done, _ = wait(self.under_way, timeout=pause, return_when=FIRST_COMPLETED)
        for future in [future for future in self.under_way if future in done]:
            self.finish(future)
        now = time.monotonic()
        for future in [future for future, (_, late) in self.under_way.items() if late <= now and not future.done()]:
            order, _ = self.under_way.pop(future)
            if not future.cancel():
                self.hanging.add(future)
            self.tell(order, math.nan, f"no value within {self.timeout:g} seconds")

    def finish(self, future: Future[Any]) -> None:
        if future not in self.under_way:  # its executor broke, and it waits again
            return
        error = BrokenExecutor("the executor dropped an evaluation") if future.cancelled() else future.exception()
        if isinstance(error, BrokenExecutor):
            self.renew(error)
            return
        order, _ = self.under_way.pop(future)
        if type(error).__name__ == "KilledWorker" and self.lost[order.tobytes()] < MOST_LOST:  # of dask.distributed
            self.lost[order.tobytes()] += 1
            self.waiting.appendleft(order)
            return
        self.restarts = 0
        if error is not None:
            self.tell(order, math.nan, f"{type(error).__name__}: {error}"[:500])
            return
        try:
            value = float(future.result())
        except Exception:
            self.tell(order, math.nan, f"not a number: {future.result()!r}"[:500])
            return
        self.tell(order, value)

    def tell(self, order: Int64Array, value: float, failure: str | None = None) -> None:
        self.suspects.discard(order.tobytes())
        self.optimizer.tell(order, [value], [failure])
        if self.progress:
            self.progress(self.optimizer)

    def renew(self, error: BaseException) -> None:
        """Go on with a new executor; what the broken one held waits again, and fails where it was all that it held."""
        if self.make is None or self.restarts >= MOST_RESTARTS:
            raise error
        self.restarts += 1
        ended = [f for f in self.under_way if f.done() and not f.cancelled()]
        ended = [f for f in ended if not isinstance(f.exception(), BrokenExecutor)]
        kept = {future: self.under_way[future] for future in ended}
        held = [order for future, (order, _) in self.under_way.items() if future not in kept]
        self.under_way = kept
        self.abandon()
        self.executor = self.make()
        if len(held) == 1 and not self.hanging:
            self.lost[held[0].tobytes()] += 1
            if self.lost[held[0].tobytes()] >= MOST_LOST:
                self.tell(held.pop(), math.nan, f"its worker was lost {MOST_LOST} times: {error}"[:500])
        elif not self.hanging:
            self.suspects.update(order.tobytes() for order in held)
        self.hanging = set()
        self.waiting.extendleft(reversed(held))

    def abandon(self) -> None:
        """Let go of an executor that was made here; the workers of a process pool are ended, whatever they do."""
        end(self.executor)
