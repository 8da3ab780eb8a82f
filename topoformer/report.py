"""A schedule as a picture: live bytes over the steps, before and after, as SVG or in a page of its own."""

from html import escape

import numpy as np

from graphs import program_order, simulate
from graphs.csr import Int64Array
from graphs.units import format_bytes
from topoformer.scheduling import Schedule
from topoformer.text import printable

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 52, 44
COLUMNS = 600  # a curve of more steps shows the highest step of each column
BEFORE, AFTER, BOUND = "#b0413e", "#2b6ca3", "#5a7d2a"


def svg(result: Schedule) -> str:
    """Live bytes of every step under the program's order and the schedule's, with the lower bound as a line."""
    graph = result.graph
    before = simulate(graph, program_order(graph)).step_bytes
    after = result.profile.step_bytes
    top = max(int(before.max(initial=1)), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(_sentence(result))}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" fill="#222">{escape(_sentence(result))}</text>',
        *_axes(top, graph.n),
        _area(before, top, BEFORE),
        _area(after, top, AFTER),
        _level(result.bound_bytes, top, BOUND, "6 4"),
        *_legend(result),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def html(result: Schedule) -> str:
    """A self-contained page: the sentence, the picture, and what is alive at the peak."""
    rows = "".join(
        f"<tr><td>{escape(printable(t.name))}</td><td class=n>{t.bytes:,}</td><td>{escape(t.kind)}</td>"
        f"<td>{escape(printable(t.op))}</td><td>{escape(printable(t.source, 120))}</td></tr>\n"
        for t in (result.profile.alive() if result.graph.n else [])
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(printable(result.graph.name))} - topoformer</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:15px system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}}
svg{{width:100%;height:auto}}table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:.25em .6em;border-bottom:1px solid #ccc;overflow-wrap:anywhere}}
.n{{text-align:right}}</style>
</head><body><h1>{escape(printable(result.graph.name))}</h1>
<p>{escape(_sentence(result))} {escape(_bound_sentence(result))}</p>
{svg(result)}<h2>Alive at the peak</h2>
<table><tr><th>tensor</th><th class=n>bytes</th><th>kind</th><th>operator</th><th>source</th></tr>
{rows}</table></body></html>
"""


def _sentence(result: Schedule) -> str:
    before, after = format_bytes(result.program_cost.peak_bytes), format_bytes(result.cost.peak_bytes)
    name = printable(result.graph.name)
    if result.cost == result.program_cost:
        return f"{name}: peak {before}, no better order found."
    return f"{name}: peak {before} before, {after} after ({result.ratio:.3f})."


def _bound_sentence(result: Schedule) -> str:
    if result.proven_optimal:
        return "Optimal: no order needs less."
    return f"No order needs less than {format_bytes(result.bound_bytes)}."


def _y(value: float, top: int) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / (1.05 * top))


def _axes(top: int, steps: int) -> list[str]:
    parts = []
    for quarter in range(5):
        y = _y(top * quarter / 4, top)
        label = format_bytes(top * quarter // 4)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{label}</text>')
    middle, low = (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12
    parts.append(f'<text x="{middle:.0f}" y="{low}" text-anchor="middle" fill="#444">step (of {steps})</text>')
    return parts


def _area(step_bytes: Int64Array, top: int, colour: str) -> str:
    if not len(step_bytes):
        return ""
    edges = np.linspace(0, len(step_bytes), min(len(step_bytes), COLUMNS) + 1).astype(int)
    heights = np.maximum.reduceat(step_bytes, edges[:-1])
    xs = LEFT + (WIDTH - LEFT - RIGHT) * edges / len(step_bytes)
    corners = [f"{xs[0]:.1f},{_y(0, top):.1f}"]
    for left, right, height in zip(xs[:-1], xs[1:], heights, strict=True):
        y = _y(float(height), top)
        corners += [f"{left:.1f},{y:.1f}", f"{right:.1f},{y:.1f}"]
    corners.append(f"{xs[-1]:.1f},{_y(0, top):.1f}")
    return f'<polygon points="{" ".join(corners)}" fill="{colour}" fill-opacity="0.18" stroke="{colour}"/>'


def _level(value: int, top: int, colour: str, dashes: str) -> str:
    y = _y(value, top)
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
        f'stroke-width="1.5" stroke-dasharray="{dashes}"/>'
    )


def _legend(result: Schedule) -> list[str]:
    entries = [(BEFORE, "program order"), (AFTER, f"topoformer ({result.method})"), (BOUND, "lower bound")]
    parts = []
    for i, (colour, label) in enumerate(entries):
        x = LEFT + 190 * i
        parts.append(f'<rect x="{x}" y="30" width="12" height="12" fill="{colour}" fill-opacity="0.6"/>')
        parts.append(f'<text x="{x + 18}" y="40" fill="#444">{escape(label)}</text>')
    return parts
