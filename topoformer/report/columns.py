"""Steps as the columns of a chart, as many as a page can hold."""

from typing import NamedTuple

import numpy as np

from graphs.csr import Int64Array

MOST_STEPS = 40_000


class Columns(NamedTuple):
    """Steps as columns of a chart: one each, or several where there are too many."""

    edges: Int64Array  # int64[columns + 1] first step of each, and the number of steps
    step: Int64Array  # int64[columns] the one that stands for them: where most is alive
    bytes: Int64Array


def columns_of(step_bytes: Int64Array) -> Columns:
    """``step_bytes`` (int64[n]) as at most ``MOST_STEPS`` columns; O(n)."""
    steps = len(step_bytes)
    count = min(steps, MOST_STEPS)
    edges = np.linspace(0, steps, count + 1).astype(np.int64) if steps else np.zeros(1, np.int64)
    if not steps:
        return Columns(edges, np.zeros(0, np.int64), step_bytes)
    highest = np.maximum.reduceat(step_bytes, edges[:-1])
    reached = np.flatnonzero(step_bytes == np.repeat(highest, np.diff(edges)))
    return Columns(edges, reached[np.searchsorted(reached, edges[:-1])], highest)
