"""What all pictures share: their size, their colours in the light and in the dark, the numbers along an axis."""

import math
from collections.abc import Iterable
from html import escape

WIDTH, HEIGHT = 800, 380

# Opaque ground and a dark variant of its own: the picture is read in pages of any colour.
COLOURS = {  # class: light, dark
    "ground": ("#ffffff", "#14181f"),
    "ink": ("#1c2430", "#e6e9ef"),
    "faint": ("#5d6675", "#9aa4b5"),
    "grid": ("#e3e6ea", "#2b323d"),
    "before": ("#b4570a", "#f0a04b"),
    "after": ("#1f5fbf", "#6ea8fe"),
    "bound": ("#2e7d4f", "#6fcf97"),
}


def style() -> str:
    """The style sheet of an SVG of class ``topoformer``."""
    light = "".join(_rules(name, light) for name, (light, _) in COLOURS.items())
    dark = "".join(_rules(name, dark) for name, (_, dark) in COLOURS.items())
    return f"{light}@media(prefers-color-scheme:dark){{{dark}}}"


def _rules(name: str, colour: str) -> str:
    return f".topoformer .{name}{{fill:{colour}}}.topoformer .{name}-line{{stroke:{colour}}}"


def opening(title: str, subtitle: str) -> list[str]:
    """The parts that an SVG begins with: its ground, and two lines of text on it."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" class="topoformer" font-family="system-ui, sans-serif" font-size="12">',
        f"<style>{style()}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" class="ground"/>',
        f'<text x="20" y="28" font-size="16" font-weight="600" class="ink">{escape(title)}</text>',
        f'<text x="20" y="48" font-size="13" class="faint">{escape(subtitle)}</text>',
    ]


def ticks(top: float, parts: int, least: float) -> Iterable[float]:
    """Multiples from 0 to ``top`` of the largest 1, 2 or 5 times a power of ten that fits ``parts`` times."""
    wanted = max(top / parts, least)
    power = 10.0 ** math.floor(math.log10(wanted))
    step = max(power * factor for factor in (1, 2, 5) if power * factor <= wanted * (1 + 1e-9))
    return [step * i for i in range(int(top / step + 1e-9) + 1)]
