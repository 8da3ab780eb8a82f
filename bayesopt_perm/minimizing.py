"""A function minimised: ask, evaluate, tell, until something ends the search."""

import math
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import closing
from typing import Any

from numpy.typing import ArrayLike

from bayesopt_perm.evaluating import Evaluations, Objective
from bayesopt_perm.optimizer import BayesOpt
from bayesopt_perm.result import Result
from bayesopt_perm.space import PermutationSpace

__all__ = ["minimize"]


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
        n: number of items.
        precedence: pairs (u, v), item u before item v.
        batch_size, seed, initial: as for :class:`~bayesopt_perm.optimizer.BayesOpt`, as are further ``options``.
        start: orders to begin with, int64[s, n]; random ones follow until there are ``initial``.
        timeout: seconds an evaluation may take from when it is given to a worker; it then counts as failed, and where
            ``executor`` is a function, workers that all hang are replaced.
        executor: any ``concurrent.futures`` executor. ``dask.distributed``'s ``Client.get_executor(pure=False)`` is
            one, and its scheduler gives what a lost worker held to another. A function that makes executors lets the
            search go on when one breaks: what it held is evaluated by a new one, and fails if that breaks too.
        asynchronous: ask for one more as soon as one is done, not a batch when a batch is. What is asked then depends
            on who is first.
        journal: a file to resume from, see :class:`~bayesopt_perm.optimizer.BayesOpt`.
        progress: called after every evaluation.

    Raises:
        ValueError: if an argument is out of range, or the initial evaluations (ten or more) all gave the same value.
        BrokenExecutor: if the executor breaks and ``executor`` is not a function that makes another.

    Example:
        >>> from bayesopt_perm import minimize
        >>> result = minimize(lambda order: abs(order - [1, 2, 0, 3]).sum(), 4, initial=10, budget=24, target=0)
        >>> result.order.tolist(), result.value, result.stopped
        ([1, 2, 0, 3], 0.0, 'target')
    """
    space = _space(n, precedence, budget, initial, start)
    if timeout < math.inf and executor is None:
        raise ValueError("'timeout' needs an executor: an evaluation in this thread cannot be left")
    options |= {"batch_size": batch_size, "initial": initial, "start": start, "journal": journal}
    optimizer = BayesOpt(space, seed=seed, **options)
    with closing(optimizer):
        loop = Evaluations(f, optimizer, executor, time.monotonic() + seconds, timeout, progress)
        stopped = loop.run(budget, target, asynchronous)
        return Result(tuple(optimizer.history), stopped)


def _space(n: int | None, precedence: Any, budget: int, initial: int, start: ArrayLike | None) -> PermutationSpace:
    if n is None:
        raise ValueError("'n', the number of items, is needed")
    space = PermutationSpace(n, precedence)
    first = max(initial, 0 if start is None else len(space.check(start)))
    if budget < min(first, space.count(at_most=first)):
        raise ValueError(f"'budget' is {budget}, less than the {first} initial evaluations")
    return space
