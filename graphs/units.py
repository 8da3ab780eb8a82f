"""Bytes and seconds for people: where numbers become text, and text becomes bytes."""

import re
from fractions import Fraction

from graphs.errors import quoted

UNITS = {"": 1, "b": 1}
for power, prefix in enumerate("kmgtp", 1):
    UNITS |= {f"{prefix}b": 1000**power, f"{prefix}ib": 1024**power}
SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
SIZE = re.compile(r"\s*([0-9]{1,40}(?:\.[0-9]{1,40})?)\s*([A-Za-z]*)\s*")


def format_bytes(count: int) -> str:
    """``count`` bytes with a binary unit: '0 B', '46.3 KiB', '12.25 MiB'."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.2f} {unit}"


def format_seconds(seconds: float) -> str:
    """``seconds`` with a unit: '1.25 s', '12.3 ms', '2.09 us', '470 ns'."""
    scale, unit = next((entry for entry in SECONDS if seconds >= entry[0]), SECONDS[-1])
    return f"{seconds / scale:.3g} {unit}"


def parse_bytes(text: str) -> int:
    """The bytes that a text such as '4GiB', '512 MB', '1.5 GiB' or '4096' says, a part of a byte left out.

    KiB, MiB, GiB, TiB and PiB are powers of 1024, KB, MB, GB, TB and PB powers of 1000; case does not matter.

    Raises:
        ValueError: the text is not a size.
    """
    match = SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is not a size: write a number and a unit, such as '4GiB', '512MB' or '4096'")
    number, unit = match.groups()
    if unit.lower() not in UNITS:
        raise ValueError(f"{quoted(text)} is not a size: the unit {quoted(unit)} is none of {', '.join(_shown())}")
    return int(Fraction(number) * UNITS[unit.lower()])


def _shown() -> list[str]:
    return [unit.upper().replace("I", "i") for unit in UNITS if unit]
