"""Plots of result lines: performance profiles, anytime curves, growth with the graph."""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.reading import OURS, Row, methods_of, ratio
from bench.scaling import fitted, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (8.0, 4.2)  # inches
MOST = 2.0  # of a performance profile's axis: twice the best peak
COLOURS = (
    *("#1f5fbf", "#b4570a", "#2e7d4f", "#8a3ffc", "#a2191f", "#005d5d", "#9f1853", "#6f6f6f", "#b28600", "#009d9a"),
    *("#198038", "#570408", "#002d9c"),
)


def profile(rows: Sequence[Row]) -> str:
    """Share of graphs on which each method is within a factor of the best peak (Dolan & Moré, 2002), as SVG."""
    axes = _axes()
    for method, colour in zip(methods_of(rows), COLOURS, strict=False):
        factors = sorted(
            ratio(row.by_method[method]["peak_bytes"], row.best) if method in row.by_method else np.inf for row in rows
        )
        share = np.arange(1, len(rows) + 1) / len(rows)
        inside = [(factor, part) for factor, part in zip(factors, share, strict=True) if factor <= MOST]
        x, y = [1.0, *(f for f, _ in inside), MOST], [0.0, *(p for _, p in inside)]
        axes.step(x, [*y, y[-1]], where="post", color=colour, label=method, lw=2.2 if method == OURS else 1.2)
    axes.set(xlim=(1, MOST), ylim=(0, 1.02), xlabel="peak over the best known", ylabel="share of graphs within that")
    axes.legend(fontsize=7, ncols=2, loc="lower right")
    return _svg(axes)


def anytime(rows: Sequence[Row]) -> str:
    """Geometric means over all graphs, against seconds: our peak over the best known, and our bound over it, as SVG."""
    axes = _axes()
    lines = [(row, row.by_method[OURS]) for row in rows if row.by_method.get(OURS, {}).get("curve") and row.best]
    if not lines:
        return ""
    times = np.geomspace(1e-2, max(0.1, *(line["seconds"] for _, line in lines)), 200)
    for column, label, colour in ((1, "peak / best known", COLOURS[0]), (2, "lower bound / best known", COLOURS[2])):
        values = np.array([[_at(line["curve"], when, column, row) for when in times] for row, line in lines])
        axes.plot(times, np.exp(np.log(np.maximum(values, 1e-9)).mean(0)), color=colour, lw=1.8, label=label)
    axes.axhline(1.0, color="#9aa4b5", lw=0.8)
    axes.set(xscale="log", xlabel="seconds", ylabel=f"{OURS}, geometric mean of {len(lines)} graphs")
    axes.legend(fontsize=8)
    return _svg(axes)


def _at(curve: Sequence[Sequence[float]], when: float, column: int, row: Row) -> float:
    """What was known at a time, over the best peak; before the first point, the program's order and no bound."""
    known = [point for point in curve if point[0] <= when]
    value = known[-1][column] if known else (row.program if column == 1 else 0.0)
    return ratio(value, row.best)


def growth(lines: Sequence[dict[str, Any]]) -> str:
    """Seconds against nodes, with the fitted power laws, as SVG."""
    axes = _axes()
    for ((family, method), points), colour in zip(series(lines).items(), COLOURS * 2, strict=False):
        nodes, seconds, _ = zip(*points, strict=True)
        law = fitted(nodes, seconds)
        label = f"{family}, {method}" + (f": n^{law.exponent:.2f}" if law else "")
        axes.plot(nodes, seconds, "o-" if family == "layered" else "s--", color=colour, lw=1.2, ms=4, label=label)
    axes.set(xscale="log", yscale="log", xlabel="nodes", ylabel="seconds")
    axes.legend(fontsize=7)
    return _svg(axes)


def _axes() -> "Axes":
    from matplotlib.figure import Figure

    axes = Figure(figsize=SIZE, layout="constrained").add_subplot()
    axes.grid(alpha=0.3)
    return axes


def _svg(axes: "Axes") -> str:
    """The figure's SVG element alone, the same whenever it is drawn."""
    import matplotlib as mpl

    written = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "topoformer", "svg.fonttype": "none"}):
        axes.figure.savefig(written, format="svg", metadata={"Date": None})  # type: ignore[union-attr]
    return re.sub(r"^.*?(?=<svg)", "", written.getvalue(), flags=re.DOTALL)
