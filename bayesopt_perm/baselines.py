"""Simple searches with the interface of ``minimize``: what a Bayesian method has to beat.

Each begins with the orders of ``start`` and random ones up to ``initial``, and goes on from the best of them.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesopt_perm._kernels import Int64Array
from bayesopt_perm.result import Evaluation, Result
from bayesopt_perm.space import MOVES, PermutationSpace

__all__ = ["BASELINES", "anneal", "climb", "evolve", "random_search"]

Objective = Callable[[Int64Array], float]
POPULATION, TOURNAMENT = 20, 3
MANY, SOME = 64, 32  # of more items than this not all neighbours are made to draw one of them
HOTTEST, COLDEST = 0.5, 0.005  # temperatures as shares of the spread of the initial values


class _Run:
    """Counts, records and forgives evaluations; a failed one is worth infinity."""

    def __init__(
        self, f: Objective, n: int, precedence: Any, budget: int, initial: int, seed: int, start: ArrayLike | None
    ) -> None:
        self.space = PermutationSpace(n, precedence)
        if not 1 <= initial <= budget:
            raise ValueError(f"'initial' must be from 1 to the budget of {budget} (got {initial})")
        self.f, self.budget = f, budget
        self.rng = np.random.default_rng(seed)
        self.history: list[Evaluation] = []
        given = self.space.check(start if start is not None else np.empty((0, n), np.int64))[:budget]
        drawn = self.space.sample(max(0, initial - len(given)), self.rng)
        self.start = np.concatenate([given, drawn])
        self.start_values = [self(order) for order in self.start]
        best = int(np.argmin(self.start_values))
        self.order, self.value = self.start[best], self.start_values[best]

    @property
    def left(self) -> int:
        return self.budget - len(self.history)

    def __call__(self, order: Int64Array) -> float:
        failure = None
        try:
            value = float(self.f(order.copy()))
        except Exception as error:
            value, failure = math.nan, f"{type(error).__name__}: {error}"[:500]
        if not math.isfinite(value):
            failure, value = failure or f"the value is {value}", math.nan
        self.history.append(Evaluation(order, value, failure))
        return value if failure is None else math.inf

    def neighbour(self, order: Int64Array, move: str) -> Int64Array:
        """A random neighbour; ``order`` itself where precedence leaves none."""
        found = self.space.neighbours(order, move, SOME, self.rng) if self.space.n > MANY else order[:0]
        if not len(found):
            found = self.space.neighbours(order, move)
        chosen: Int64Array = found[self.rng.integers(len(found))] if len(found) else order
        return chosen

    def result(self) -> Result:
        return Result(tuple(self.history), "budget")


def _checked(move: str) -> str:
    if move not in MOVES:
        raise ValueError(f"unknown move '{move}' (known: {', '.join(MOVES)})")
    return move


def random_search(
    f: Objective,
    n: int,
    *,
    precedence: Iterable[tuple[int, int]] | None = None,
    budget: int = 530,
    initial: int = 30,
    seed: int = 0,
    start: ArrayLike | None = None,
) -> Result:
    """The best of ``budget`` random members."""
    run = _Run(f, n, precedence, budget, initial, seed, start)
    for order in run.space.sample(run.left, run.rng):
        run(order)
    return run.result()


def climb(
    f: Objective,
    n: int,
    *,
    precedence: Iterable[tuple[int, int]] | None = None,
    budget: int = 530,
    batch_size: int = 1,
    initial: int = 30,
    seed: int = 0,
    start: ArrayLike | None = None,
    move: str = "swap",
) -> Result:
    """The (1 + batch_size) hill climber from the best of the ``initial`` members.

    It moves to the best of ``batch_size`` random neighbours if that is not worse.
    """
    _checked(move)
    run = _Run(f, n, precedence, budget, initial, seed, start)
    while run.left:
        orders = [run.neighbour(run.order, move) for _ in range(min(batch_size, run.left))]
        values = [run(order) for order in orders]
        best = int(np.argmin(values))
        if values[best] <= run.value:
            run.order, run.value = orders[best], values[best]
    return run.result()


def anneal(
    f: Objective,
    n: int,
    *,
    precedence: Iterable[tuple[int, int]] | None = None,
    budget: int = 530,
    initial: int = 30,
    seed: int = 0,
    start: ArrayLike | None = None,
    move: str = "swap",
) -> Result:
    """Simulated annealing with a geometric temperature, in proportion to the spread of the initial values."""
    _checked(move)
    run = _Run(f, n, precedence, budget, initial, seed, start)
    finite = [value for value in run.start_values if value < math.inf]
    spread = float(np.std(finite)) if len(finite) > 1 else 0.0
    steps = max(1, run.left - 1)
    for step in range(run.left):
        temperature = spread * HOTTEST * (COLDEST / HOTTEST) ** (step / steps)
        order = run.neighbour(run.order, move)
        value = run(order)
        worse = value - run.value
        if value < math.inf and (worse <= 0 or run.rng.random() < math.exp(-worse / max(temperature, 1e-300))):
            run.order, run.value = order, value
    return run.result()


def evolve(
    f: Objective,
    n: int,
    *,
    precedence: Iterable[tuple[int, int]] | None = None,
    budget: int = 530,
    initial: int = 30,
    seed: int = 0,
    start: ArrayLike | None = None,
    move: str = "swap",
) -> Result:
    """A steady-state genetic algorithm: tournaments, a crossover that keeps precedence, one mutation a child.

    The child takes at each place the next item, not taken yet, of one of its parents by turns of a coin: a linear
    extension if both are (Bierwirth, Mattfeld and Kopfer 1996). It replaces the worst if it is better.
    """
    _checked(move)
    run = _Run(f, n, precedence, budget, initial, seed, start)
    ranked = np.argsort(run.start_values, kind="stable")[:POPULATION]
    people = [(run.start_values[index], run.start[index]) for index in ranked]
    while run.left:
        parents = [_winner(people, run.rng) for _ in range(2)]
        child = run.neighbour(_crossed(parents, run.rng), move)
        value = run(child)
        worst = max(range(len(people)), key=lambda index: people[index][0])
        if value < people[worst][0] and not any(np.array_equal(child, other) for _, other in people):
            people[worst] = (value, child)
    return run.result()


def _winner(people: Sequence[tuple[float, Int64Array]], rng: np.random.Generator) -> Int64Array:
    drawn = rng.integers(len(people), size=TOURNAMENT)
    best: Int64Array = min((people[index] for index in drawn), key=lambda one: one[0])[1]
    return best


def _crossed(parents: Sequence[Int64Array], rng: np.random.Generator) -> Int64Array:
    sources = [iter(parent.tolist()) for parent in parents]
    taken: set[int] = set()
    child = []
    for coin in rng.integers(2, size=len(parents[0])):
        item = next(item for item in sources[coin] if item not in taken)
        taken.add(item)
        child.append(item)
    return np.array(child, np.int64)


BASELINES: dict[str, Callable[..., Result]] = {
    "random": random_search,
    "climb": climb,
    "anneal": anneal,
    "evolve": evolve,
}
