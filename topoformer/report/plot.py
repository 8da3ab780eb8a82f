"""A schedule, or a Pareto front, as a Matplotlib figure: for notebooks, papers and CI."""

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs import program_order, simulate
from graphs.csr import Int64Array
from graphs.units import format_bytes, format_seconds
from topoformer.picture import COLOURS
from topoformer.report.words import achieved, proven, same_order
from topoformer.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from topoformer.front import Front
    from topoformer.scheduling import Schedule

COLUMNS = 4_000  # more steps than that are drawn as the highest of each column, so that no peak is lost
SIZE = (8.0, 4.0)  # inches
DOTS = 150  # an inch
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def plot(result: "Schedule", ax: "Axes | None" = None) -> "Axes":
    """Live bytes of each step before and after, both peaks, and the bound, drawn on ``ax`` or a figure of its own.

    Raises:
        ModuleNotFoundError: Matplotlib is not there.
    """
    axes = _own_axes() if ax is None else ax
    before = simulate(result.graph, program_order(result.graph)).step_bytes
    after = result.profile.step_bytes
    top = max(int(before.max(initial=1)), int(after.max(initial=1)), result.bound_bytes)
    power = min((top.bit_length() - 1) // 10, len(UNITS) - 1)
    curves = [(before, "before", "program order"), (after, "after", "topoformer")]
    for step_bytes, colour, label in curves[:1] if same_order(result) else curves:
        _draw_curve(axes, step_bytes, 1024.0**power, COLOURS[colour][0], label)
    if result.bound_bytes:
        label = f"lower bound, {format_bytes(result.bound_bytes)}"
        axes.axhline(result.bound_bytes / 1024.0**power, color=COLOURS["bound"][0], ls="--", lw=1.2, label=label)
    axes.set(xlabel="step", ylabel=f"live memory in each step [{UNITS[power]}]", xlim=(0, max(result.graph.n, 1)))
    axes.set_ylim(0, 1.08 * top / 1024.0**power)
    _title(axes, printable(f"{printable(result.graph.name, 36)}: {achieved(result)}", 100), proven(result))
    if result.graph.n:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=8, frameon=False)
    return axes


def plot_front(front: "Front", ax: "Axes | None" = None) -> "Axes":
    """The points of a front: bytes held along the bottom, seconds or bytes moved up the side, with both bounds.

    Raises:
        ModuleNotFoundError: Matplotlib is not there.
    """
    axes = _own_axes() if ax is None else ax
    speak = format_seconds if front.objective.name == "latency" else lambda value: format_bytes(int(value))
    for points, colour, label in (
        (front.points(), "after", "no order found beats these in both"),
        ([front.point(front.program)], "before", "program order"),
    ):
        sizes, values = zip(*points, strict=True)
        axes.plot(sizes, values, "o-", color=COLOURS[colour][0], drawstyle="steps-post", ms=5, lw=1.2, label=label)
    axes.axvline(front.bound_bytes, color=COLOURS["bound"][0], ls="--", lw=1.2, label="no order is below")
    axes.axhline(front.bound_value, color=COLOURS["bound"][0], ls="--", lw=1.2)
    axes.set(xlabel="memory held", ylabel=front.objective.name)
    axes.xaxis.set_major_formatter(lambda value, _: format_bytes(int(value)))
    axes.yaxis.set_major_formatter(lambda value, _: speak(value))
    axes.locator_params(axis="x", nbins=6)
    _title(axes, printable(f"{front.graph.name}: memory against {front.objective.name}", 100), "")
    axes.legend(loc="best", fontsize=8)
    return axes


def picture(drawn: "Axes", suffix: str) -> bytes:
    """The figure of ``drawn`` as the bytes of a ``.png`` or ``.pdf`` file; the same bytes whenever it is drawn."""
    figure: Figure = drawn.figure  # type: ignore[assignment]
    written = io.BytesIO()
    made: dict[str, Any] = {"CreationDate": None} if suffix == ".pdf" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may have letters that the font has not
        figure.savefig(written, format=suffix.removeprefix("."), dpi=DOTS, metadata=made)
    return written.getvalue()


def _own_axes() -> "Axes":
    """Axes of a figure that no window shows and no list of open figures keeps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    return figure.add_subplot()


def _title(axes: "Axes", text: str, below: str) -> None:
    """Two lines, in which no dollar sign begins a formula."""
    lines = [line.replace("$", r"\$") for line in (text, below) if line]
    axes.set_title("\n".join(lines), loc="left", fontsize=9)


def _draw_curve(axes: "Axes", step_bytes: Int64Array, unit: float, colour: str, label: str) -> None:
    steps = len(step_bytes)
    if not steps:
        return
    edges = np.linspace(0, steps, min(steps, COLUMNS) + 1).astype(np.int64)
    heights = np.maximum.reduceat(step_bytes, edges[:-1]) / unit
    peak, step = int(step_bytes.max()), int(step_bytes.argmax())
    axes.stairs(heights, edges, color=colour, lw=1.2, label=f"{label}, {format_bytes(peak)}")
    axes.stairs(heights, edges, color=colour, fill=True, alpha=0.15)
    axes.plot([step + 0.5], [peak / unit], "o", color=colour, ms=5, zorder=3)
