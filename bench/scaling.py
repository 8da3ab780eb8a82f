"""How time and memory grow with the graph: exponents of power laws, fitted to the lines of the scale suite."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

FIRST = "auto"  # method whose first answer is looked at beside its end
MIN_SECONDS = 1e-3  # below that it is the clock that is measured
MIN_BYTES = 1 << 20  # and pages that the allocator had


class Law(NamedTuple):
    """seconds (or bytes) = factor * nodes ** exponent."""

    exponent: float
    factor: float
    points: int


def fitted(nodes: Sequence[float], values: Sequence[float]) -> Law | None:
    """The power law of least squares in logarithms; None for fewer than three points."""
    x, y = np.log(np.asarray(nodes, float)), np.log(np.asarray(values, float))
    if len(set(nodes)) < 3:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return Law(float(slope), float(np.exp(intercept)), len(x))


def series(lines: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[int, float, int]]]:
    """(nodes, seconds, bytes of memory beyond the graph's) of each family and method, and of our first answer."""
    found: dict[tuple[str, str], list[tuple[int, float, int]]] = defaultdict(list)
    for line in lines:
        if "peak_bytes" not in line:
            continue
        family = re.sub(r"_\d+_\d+$", "", line["graph"])
        memory = max(line["peak_rss_bytes"] - line["before_rss_bytes"], MIN_BYTES)
        point = (line["nodes"], max(line["seconds"], MIN_SECONDS), memory)
        found[family, line["method"]].append(point)
        if line["method"] == FIRST and line["curve"]:
            first = max(line["curve"][0][0], MIN_SECONDS)
            found[family, f"{FIRST}, first answer"].append((line["nodes"], first, 0))
    return {key: sorted(points) for key, points in found.items()}


def scaling_table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A row a family and method: seconds at each size, and the exponents of time and memory."""
    yield ""
    yield "| family | method | seconds by nodes | time grows as | memory grows as |"
    yield "|---|---|---|---:|---:|"
    for (family, method), points in series(lines).items():
        nodes, seconds, memory = zip(*points, strict=True)
        large = [(count, size) for count, size in zip(nodes, memory, strict=True) if size > MIN_BYTES]
        laws = [fitted(nodes, seconds), fitted(*zip(*large, strict=True)) if large else None]
        cells = ["" if law is None else f"n^{law.exponent:.2f}" for law in laws]
        said = ", ".join(f"{count:,}: {took:.3g}" for count, took, _ in points)
        yield f"| {family} | {method} | {said} | {' | '.join(cells)} |"
