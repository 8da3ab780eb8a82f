"""A schedule as a picture: live bytes over the steps, before and after, as SVG or in a page of its own."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from graphs import program_order, simulate
from graphs.csr import Int64Array
from graphs.units import format_bytes
from topoformer.picture import opening, ticks
from topoformer.scheduling import Schedule
from topoformer.text import cost_rows, count, place, printable

LEFT, RIGHT, TOP, BOTTOM = 74, 640, 78, 332  # the plot; to the right of it stand the labels
HEADROOM = 1.06  # of the axis over the highest curve
COLUMNS = 500  # a curve of more steps shows the highest step of each column, so that no peak is lost
LABEL_HEIGHT = 36
ROWS = 200  # of the page's table

PAGE_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;background:#fff;color:#1c2430}
h1,dd,td,th{overflow-wrap:anywhere}
h1{font-size:1.5em;margin-bottom:0}
.lead{font-size:1.15em;margin-top:.4em}
svg{display:block;width:100%;height:auto;margin:1.5em 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2em 1.5em;margin:0}
dt,.note{color:#5d6675}
dd{margin:0}
table{border-collapse:collapse;width:100%;font-size:.9em}
td,th{text-align:left;vertical-align:top;padding:.3em .7em;border-bottom:1px solid #e3e6ea}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#e6e9ef}dt,.note{color:#9aa4b5}td,th{border-color:#2b323d}}
"""


def html(result: Schedule) -> str:
    """A self-contained page: a sentence of what was achieved, the picture, the numbers, what is alive at the peak."""
    name = escape(printable(result.graph.name))
    facts = "".join(f"<dt>{what}</dt><dd>{escape(value)}</dd>\n" for what, value in _facts(result))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{name} - topoformer</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>{PAGE_STYLE}</style>
</head><body>
<h1>{name}</h1>
<p class="lead">{escape(_achieved(result))} {escape(_proven(result))}</p>
{svg(result)}
<dl>
{facts}</dl>
{_alive_table(result)}
</body></html>
"""


def svg(result: Schedule) -> str:
    """Live bytes of every step under the program's order and the schedule's, their peaks, and the lower bound."""
    graph = result.graph
    before = simulate(graph, program_order(graph)).step_bytes
    after = result.profile.step_bytes
    top = max(int(before.max(initial=1)), int(after.max(initial=1)), result.bound_bytes)
    title = printable(f"{printable(graph.name, 36)}: {_achieved(result)}", 100)
    curves = [_curve(before, top, "before")] if _same(result) else []
    curves = curves or [_curve(before, top, "before"), _curve(after, top, "after")]
    parts = [
        *opening(title, _proven(result)),
        *_axes(top, graph.n),
        *curves,
        *_levels(_marked(result, before, after), top, graph.n),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _same(result: Schedule) -> bool:
    return bool(np.array_equal(result.order, program_order(result.graph)))


def _achieved(result: Schedule) -> str:
    before, after = result.program_cost.peak_bytes, result.cost.peak_bytes
    peak = f"peak memory stays at {format_bytes(after)}."
    if before != after:
        way, part = ("falls", "less") if after < before else ("rises", "more")
        change = f"{abs(1 - result.ratio):.1%} {part}"
        peak = f"peak memory {way} from {format_bytes(before)} to {format_bytes(after)}, {change}."
    if result.objective.is_memory:
        return peak
    return f"{result.objective.name} is {result.value_ratio:.3f} of the program's; {peak}"


def _proven(result: Schedule) -> str:
    if result.proven_optimal:
        return "Proven optimal: no order of these operators needs less."
    if not result.bound_bytes:
        return "Nothing is proven about other orders."
    return f"No order of these operators can need less than {format_bytes(result.bound_bytes)}."


def _facts(result: Schedule) -> list[tuple[str, str]]:
    both = [result.program_cost.peak_bytes, result.cost.peak_bytes, result.bound_bytes, result.cost.resident_bytes]
    before, after, bound, resident = (f"{format_bytes(size)} ({size:,} bytes)" for size in both)
    return [
        ("Peak in program order", before),
        ("Peak in the new order", f"{after}, {result.ratio:.3f} of the program's"),
        ("Lower bound", bound),
        ("Resident", f"{resident}: weights and inputs, whatever the order, not in the peaks"),
        *((name.capitalize(), f"{size}, {remark}") for name, size, remark in cost_rows(result)),
        ("Graph", f"{count(result.graph.n, 'node')}, {count(result.graph.k, 'tensor')}"),
        ("Found by", f"{printable(result.method)}, seed {result.seed}, in {result.search_seconds:.2f} s"),
        ("Graph's sha256", result.graph.fingerprint),
    ]


def _alive_table(result: Schedule) -> str:
    if not result.graph.n:
        return ""
    alive, step = result.profile.alive(), result.profile.peak_step
    label = escape(printable(result.graph.labels[result.order[step]]))
    rows = "".join(
        f"<tr><td>{escape(printable(t.name))}</td><td class=n>{t.bytes:,}</td><td>{escape(t.kind)}</td>"
        f"<td>{escape(printable(t.op))}</td><td>{escape(place(t.source, 120))}</td></tr>\n"
        for t in alive[:ROWS]
    )
    rest = [(f"and {len(alive) - ROWS} more", sum(t.bytes for t in alive[ROWS:]))] if alive[ROWS:] else []
    if scratch := int(result.graph.scratch[result.order[step]]):
        rest.append(("scratch of the step", scratch))
    rows += "".join(
        f"<tr class=note><td>{what}</td><td class=n>{size:,}</td><td colspan=3></td></tr>" for what, size in rest
    )
    return f"""<h2>What is in memory at the peak</h2>
<p>In step {step + 1} of {result.graph.n} of the new order, while <b>{label}</b> runs.</p>
<table><tr><th>tensor</th><th class=n>bytes</th><th>kind</th><th>written by</th><th>source</th></tr>
{rows}</table>"""


# ---------------------------------------------------------------- the parts of the picture


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
    if _same(result):
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
