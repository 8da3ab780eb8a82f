"""What a search hands back: every evaluation, and the best of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bayesopt_perm._kernels import Float64Array, Int64Array

__all__ = ["Evaluation", "Result"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One order (int64[n]) and what came of it: a finite value, or NaN and the reason in ``failure``."""

    order: Int64Array
    value: float
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """The end of a search. ``history`` holds every evaluation as it came in; ``stopped`` says what ended the search."""

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
