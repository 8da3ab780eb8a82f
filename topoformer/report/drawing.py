"""A schedule as a picture: live bytes over the steps, before and after, as SVG."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphs import program_order, simulate
from graphs.csr import Int64Array
from graphs.units import format_bytes
from topoformer.picture import opening, ticks
from topoformer.report.words import achieved, proven, same_order
from topoformer.result import Schedule
from topoformer.text import printable

LEFT, RIGHT, TOP, BOTTOM = 74, 640, 78, 332  # the plot; to the right of it stand the labels
HEADROOM = 1.06  # of the axis over the highest curve
COLUMNS = 500  # a curve of more steps shows the highest step of each column, so that no peak is lost
LABEL_HEIGHT = 36


def svg(result: Schedule) -> str:
    """Live bytes of every step under the program's order and the schedule's, their peaks, and the lower bound."""
    graph = result.graph
    before = simulate(graph, program_order(graph)).step_bytes
    after = result.profile.step_bytes
    top = max(int(before.max(initial=1)), int(after.max(initial=1)), result.bound_bytes)
    title = printable(f"{printable(graph.name, 36)}: {achieved(result)}", 100)
    curves = [_curve(before, top, "before")] if same_order(result) else []
    curves = curves or [_curve(before, top, "before"), _curve(after, top, "after")]
    parts = [
        *opening(title, proven(result)),
        *_axes(top, graph.n),
        *curves,
        *_levels(_marked(result, before, after), top, graph.n),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


class Level(NamedTuple):
    """A number of bytes that the picture points out."""

    bytes: int
    colour: str
    text: str
    step: int | None  # of the curve, where the level is a peak


def _marked(result: Schedule, before: Int64Array, after: Int64Array) -> list[Level]:
    """Peaks and bound; those that are one number are one level."""
    optimal = result.proven_optimal
    if not result.graph.n:
        return []
    levels = [Level(int(before.max()), "before", "program order", int(before.argmax()))]
    if same_order(result):
        levels = [levels[0]._replace(text="optimal as given" if optimal else "program order, kept")]
    else:
        levels.append(
            Level(int(after.max()), "after", "topoformer, optimal" if optimal else "topoformer", int(after.argmax()))
        )
    bound = Level(result.bound_bytes, "bound", "lower bound", None)
    return [bound._replace(text="") if optimal else bound, *levels]


def _x(step: float, steps: int) -> float:
    return LEFT + (RIGHT - LEFT) * step / max(steps, 1)


def _y(value: float, top: int) -> float:
    return BOTTOM - (BOTTOM - TOP) * value / (HEADROOM * top)


def _axes(top: int, steps: int) -> list[str]:
    parts = [f'<text x="{LEFT}" y="{TOP - 8}" class="faint">live memory in each step</text>']
    unit = 1 << min((top.bit_length() - 1) // 10 * 10, 40)
    for tick in ticks(top / unit, 3, 1 / unit):
        y = _y(tick * unit, top)
        label = f"{tick:g} {format_bytes(unit).split()[1]}" if tick else "0"
        parts.append(f'<path d="M{LEFT} {y:.1f}H{RIGHT}" class="grid-line"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" class="faint">{label}</text>')
    for tick in ticks(steps, 4, 1):
        x = _x(tick, steps)
        parts.append(f'<path d="M{x:.1f} {BOTTOM}v4" class="faint-line"/>')
        parts.append(f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle" class="faint">{tick:.0f}</text>')
    middle = (LEFT + RIGHT) / 2
    parts.append(f'<path d="M{LEFT} {BOTTOM}H{RIGHT}" class="faint-line"/>')
    parts.append(f'<text x="{middle:.0f}" y="{BOTTOM + 36}" text-anchor="middle" class="faint">step</text>')
    return parts


def _curve(step_bytes: Int64Array, top: int, colour: str) -> str:
    steps = len(step_bytes)
    if not steps:
        return ""
    edges = np.linspace(0, steps, min(steps, COLUMNS) + 1).astype(int)
    heights = np.maximum.reduceat(step_bytes, edges[:-1])
    path = f"M{LEFT} {BOTTOM}"
    for right, height in zip(edges[1:], heights, strict=True):
        path += f"V{_y(float(height), top):.1f}H{_x(float(right), steps):.1f}"
    return (  # open along the bottom: filled, but no line there
        f'<path d="{path}V{BOTTOM}" class="{colour} {colour}-line" fill-opacity="0.16" stroke-width="1.5" '
        f'stroke-linejoin="round"/>'
    )


def _levels(levels: Sequence[Level], top: int, steps: int) -> list[str]:
    parts = []
    for level in levels:
        y = _y(level.bytes, top)
        first, dashes = (LEFT, "7 4") if level.step is None else (_x(level.step + 0.5, steps), "1.5 3")
        parts.append(
            f'<path d="M{first:.1f} {y:.1f}H{RIGHT}" class="{level.colour}-line" stroke-width="1.5" '
            f'stroke-dasharray="{dashes}"/>'
        )
        if level.step is not None:
            parts.append(f'<circle cx="{first:.1f}" cy="{y:.1f}" r="4" class="{level.colour} ground-line"/>')
    return parts + _labels([level for level in levels if level.text], top)


def _labels(levels: Sequence[Level], top: int) -> list[str]:
    """A label beside the plot for each level, highest first, moved apart where levels are close."""
    parts = []
    highest_first = sorted(levels, key=lambda level: -level.bytes)
    lowest = BOTTOM - LABEL_HEIGHT * (len(levels) - 1)
    at = -math.inf
    for i, level in enumerate(highest_first):
        y = _y(level.bytes, top)
        at = min(max(y, at + LABEL_HEIGHT), lowest + LABEL_HEIGHT * i)
        x = RIGHT + 16
        parts.append(f'<path d="M{RIGHT} {y:.1f}L{x - 3} {at:.1f}" class="{level.colour}-line"/>')
        size = format_bytes(level.bytes)
        parts.append(
            f'<text x="{x}" y="{at:.1f}" font-size="14" font-weight="600" class="{level.colour}">{size}</text>'
        )
        parts.append(f'<text x="{x}" y="{at + 14:.1f}" class="{level.colour}">{level.text}</text>')
    return parts
