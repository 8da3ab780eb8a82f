"""Bytes for people: the only place where they stop being integers."""


def format_bytes(count: int) -> str:
    """``count`` bytes with a binary unit: '0 B', '46.3 KiB', '12.25 MiB'."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.2f} {unit}"
