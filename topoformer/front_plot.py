"""A Pareto front as a picture: memory along the bottom, latency or traffic up the side."""

from graphs.units import format_bytes, format_seconds
from topoformer.front import Front
from topoformer.picture import opening, ticks
from topoformer.text import count, printable

LEFT, RIGHT, TOP, BOTTOM = 92, 770, 78, 322
HEADROOM = 1.06


def svg(front: Front) -> str:
    """The points of ``front``, what lies above and to the right of them, the program's own order, and both bounds."""
    points, program = front.points(), front.point(front.program)
    most_bytes = max(size for size, _ in [*points, program]) * HEADROOM or 1.0
    most = max(value for _, value in [*points, program]) * HEADROOM or 1.0
    speak = format_seconds if front.objective.name == "latency" else _bytes
    device = front.objective.device
    where = f" on {device.name}, {count(device.streams, 'stream')}" if device else ""
    title = printable(f"{printable(front.graph.name, 36)}: memory against {front.objective.name}{where}", 100)

    def x(size: float) -> float:
        return LEFT + (RIGHT - LEFT) * size / most_bytes

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * value / most

    path = f"M{x(points[0][0]):.1f} {TOP}" + "".join(f"V{y(v):.1f}H{x(b):.1f}" for b, v in _corners(points))
    parts = opening(
        title, "blue: orders that no other one found beats in both; orange: the program's own; green: no order is below"
    )
    for tick in ticks(most, 4, most / 1e6):
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{RIGHT}" class="grid-line"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end" class="faint">{speak(tick)}</text>')
    for tick in ticks(most_bytes, 5, 1):
        parts.append(f'<path d="M{x(tick):.1f} {BOTTOM}v4" class="faint-line"/>')
        label = format_bytes(int(tick))
        parts.append(f'<text x="{x(tick):.1f}" y="{BOTTOM + 18}" text-anchor="middle" class="faint">{label}</text>')
    parts += [
        f'<path d="M{x(front.bound_bytes):.1f} {TOP}V{BOTTOM}" class="bound-line" stroke-dasharray="7 4"/>',
        f'<path d="M{LEFT} {y(front.bound_value):.1f}H{RIGHT}" class="bound-line" stroke-dasharray="7 4"/>',
        f'<path d="M{LEFT} {BOTTOM}H{RIGHT}" class="faint-line"/>',
        f'<text x="{(LEFT + RIGHT) / 2:.0f}" y="{BOTTOM + 38}" text-anchor="middle" class="faint">memory held</text>',
        f'<path d="{path}H{RIGHT}" class="after-line" fill="none" stroke-width="1.5"/>',
    ]
    for (size, value), colour in [*((point, "after") for point in points), (program, "before")]:
        tip = f"{format_bytes(size)}, {speak(value)}"
        parts.append(
            f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="5" class="{colour} ground-line">'
            f"<title>{tip}</title></circle>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _corners(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Where the front steps down: at each point, up to the memory of the next one."""
    nexts = [size for size, _ in points[1:]] + [points[-1][0]]
    return [(size, value) for (_, value), size in zip(points, nexts, strict=True)]


def _bytes(count_: float) -> str:
    return format_bytes(int(count_))
