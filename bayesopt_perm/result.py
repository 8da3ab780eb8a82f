"""What a search hands back: every evaluation, and the best of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bayesopt_perm._kernels import Float64Array, Int64Array

__all__ = ["Evaluation", "Result"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One order (int64[n]) and what came of it: a finite value, or NaN and the reason in ``failure``.

    Example:
        >>> from bayesopt_perm import minimize
        >>> def cost(order):
        ...     if order[0] == 2:
        ...         raise OSError("no device")
        ...     return order[0]
        >>> history = minimize(cost, 3, budget=6, initial=6).history  # all orders of three items
        >>> sorted({(evaluation.value, evaluation.failure) for evaluation in history if not evaluation.failure})
        [(0.0, None), (1.0, None)]
        >>> {evaluation.failure for evaluation in history if evaluation.order[0] == 2}
        {'OSError: no device'}
    """

    order: Int64Array
    value: float
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """The end of a search. ``history`` holds every evaluation as it came in; ``stopped`` says what ended the search.

    ``best`` is the evaluation with the lowest value, None where all failed.

    Example:
        >>> from bayesopt_perm import minimize
        >>> result = minimize(lambda order: abs(order[0] - 2) + order[3], 4, budget=24, initial=24)
        >>> result
        Result(value=0, evaluations=24, stopped='budget')
        >>> int(result.order[0]), int(result.order[3]), result.best.value, float(result.curve[-1])
        (2, 0, 0.0, 0.0)
    """

    history: Sequence[Evaluation]
    stopped: str
    best: Evaluation | None = field(init=False)

    def __post_init__(self) -> None:
        good = [evaluation for evaluation in self.history if not math.isnan(evaluation.value)]
        object.__setattr__(self, "best", min(good, key=lambda evaluation: evaluation.value, default=None))

    @property
    def order(self) -> Int64Array:
        """The best order found, int64[n].

        Raises:
            ValueError: if every evaluation failed.
        """
        if self.best is None:
            reason = next((e.failure for e in self.history if e.failure), "there was none")
            raise ValueError(f"no evaluation gave a value (the first: {reason})")
        return self.best.order

    @property
    def value(self) -> float:
        """The lowest value found; NaN if every evaluation failed."""
        return math.nan if self.best is None else self.best.value

    @property
    def curve(self) -> Float64Array:
        """Lowest value after each evaluation, float64[len(history)]; infinite before the first success."""
        values = np.array([evaluation.value for evaluation in self.history], np.float64)
        return np.minimum.accumulate(np.where(np.isnan(values), np.inf, values))

    def __repr__(self) -> str:
        return f"Result(value={self.value:g}, evaluations={len(self.history)}, stopped={self.stopped!r})"
