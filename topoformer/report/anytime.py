"""What a search knew as time went on: peak and bound after each of its phases, as SVG and as a table."""

import math
from collections.abc import Sequence
from html import escape

from graphs.units import format_bytes, format_seconds
from topoformer.outcome import Phase
from topoformer.picture import style, ticks
from topoformer.text import printable

WIDTH, HEIGHT = 800, 220
LEFT, RIGHT, TOP, BOTTOM = 90, 780, 14, 176
MARGIN = 0.12  # of the range of bytes, above and below


def table(phases: Sequence[Phase]) -> str:
    """A row a phase."""
    rows = "".join(
        f"<tr><th scope=row>{escape(printable(phase.name, 40))}</th><td class=n>{phase.seconds:.2f} s</td>"
        f"<td class=n>{format_bytes(phase.peak_bytes)}</td><td class=n>{format_bytes(phase.bound_bytes)}</td></tr>\n"
        for phase in phases
    )
    return (
        "<table><thead><tr><th scope=col>phase</th><th scope=col class=n>took</th>"
        "<th scope=col class=n>peak after it</th><th scope=col class=n>bound after it</th></tr></thead>\n"
        f"<tbody>{rows}</tbody></table>"
    )


def picture(phases: Sequence[Phase]) -> str:
    """Peak falling and bound rising over the seconds of the search; nothing where there is nothing to see."""
    total = sum(phase.seconds for phase in phases)
    sizes = [phase.peak_bytes for phase in phases] + [phase.bound_bytes for phase in phases if phase.bound_bytes]
    if total <= 0 or len(set(sizes)) < 2:
        return ""
    spread = max(sizes) - min(sizes)
    low, high = max(min(sizes) - MARGIN * spread, 0.0), max(sizes) + MARGIN * spread

    def y(size: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (min(max(size, low), high) - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="topoformer" '
        f'aria-label="Peak and lower bound over the {total:.2f} seconds of the search" font-size="12">',
        f"<style>{style()}</style>",
    ]
    for size, label in _round_sizes(low, high):
        parts.append(f'<path d="M{LEFT} {y(size):.1f}H{RIGHT}" class="grid-line"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(size) + 4:.1f}" text-anchor="end" class="faint">{label}</text>')
    parts.append(f'<path d="M{LEFT} {BOTTOM}H{RIGHT}" class="faint-line"/>')
    for tick in ticks(total, 5, total / 1e3):
        x, label = LEFT + (RIGHT - LEFT) * tick / total, format_seconds(tick) if tick else "0"
        parts.append(f'<path d="M{x:.1f} {BOTTOM}v4" class="faint-line"/>')
        parts.append(f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle" class="faint">{label}</text>')
    middle = (LEFT + RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{BOTTOM + 38}" text-anchor="middle" class="faint">time searched</text>')
    for colour, values in (
        ("bound", [phase.bound_bytes for phase in phases]),
        ("after", [phase.peak_bytes for phase in phases]),
    ):
        parts.append(_steps(phases, [y(value) for value in values], total, colour))
    return "\n".join([*parts, "</svg>"])


def _round_sizes(low: float, high: float) -> list[tuple[float, str]]:
    """Sizes from ``low`` to ``high`` that are round in their unit, with their names."""
    unit = 1 << min((int(high).bit_length() - 1) // 10 * 10, 40)
    name = format_bytes(unit).split()[1]
    step = list(ticks((high - low) / unit, 3, 1 / unit))[1]
    first, last = math.ceil(low / unit / step), math.floor(high / unit / step)
    return [(unit * step * i, f"{step * i:g} {name}" if i else "0") for i in range(first, last + 1)]


def _steps(phases: Sequence[Phase], heights: Sequence[float], total: float, colour: str) -> str:
    """A line that changes where a phase ends, each change marked."""
    path, marks, time = "", "", 0.0
    for phase, height in zip(phases, heights, strict=True):
        time += phase.seconds
        x = LEFT + (RIGHT - LEFT) * time / total
        path += f"H{x:.1f}V{height:.1f}" if path else f"M{x:.1f} {height:.1f}"
        marks += f'<circle cx="{x:.1f}" cy="{height:.1f}" r="3" class="{colour} ground-line"/>'
    dashes = ' stroke-dasharray="7 4"' if colour == "bound" else ""
    return f'<path d="{path}H{RIGHT}" class="{colour}-line" fill="none" stroke-width="2"{dashes}/>{marks}'
