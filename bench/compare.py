"""``python -m bench compare A B``: two result files, run by run: ratios of peaks, bounds and seconds of B over A."""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.grid import read
from bench.one_run import key_of
from bench.reading import geometric, ratio

SHOWN = 20  # runs with other peaks


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("first", type=Path, metavar="A", help="a result file (.jsonl)")
    parser.add_argument("second", type=Path, metavar="B", help="another one, of the same suite")


def table(first: Path, second: Path) -> Iterator[str]:
    """A row a method over the runs that both files have, and the runs whose peaks or bounds are not the same."""
    for path in (first, second):
        if not path.is_file():
            raise SystemExit(f"there is no file {str(path)!r}")
    one, other = ({key_of(line): line for line in read(path) if "peak_bytes" in line} for path in (first, second))
    both = [(one[key], other[key]) for key in one if key in other]
    alone = [len(lines) - len(both) for lines in (one, other)]
    yield f"{len(both)} runs in both, {alone[0]} in the first only, {alone[1]} in the second only"
    if not both:
        return
    yield ""
    yield "| method | runs | peak, B / A | lower, equal, higher | bound, B / A | seconds, B / A (median) |"
    yield "|---|---:|---:|---:|---:|---:|"
    by_method: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for pair in both:
        by_method[pair[0]["method"]].append(pair)
    for method, pairs in by_method.items():
        yield _row(method, pairs)
    yield from _changed(both)


def _row(method: str, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    peaks = [ratio(b["peak_bytes"], a["peak_bytes"]) for a, b in pairs]
    bounds = [ratio(b["bound_bytes"], a["bound_bytes"]) for a, b in pairs if a["bound_bytes"] and b["bound_bytes"]]
    seconds = [ratio(b["seconds"], a["seconds"]) for a, b in pairs if a["seconds"]]
    counts = (sum(p < 1 for p in peaks), sum(p == 1 for p in peaks), sum(p > 1 for p in peaks))
    bound = f"{geometric(bounds):.4f}" if bounds else ""
    took = f"{median(seconds):.2f}" if seconds else ""
    lower = f"{counts[0]}, {counts[1]}, {counts[2]}"
    return f"| {method} | {len(pairs)} | {geometric(peaks):.4f} | {lower} | {bound} | {took} |"


def _changed(both: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Iterator[str]:
    changed = [(a, b) for a, b in both if (a["peak_bytes"], a["bound_bytes"]) != (b["peak_bytes"], b["bound_bytes"])]
    changed.sort(key=lambda pair: -abs(math.log(max(ratio(pair[1]["peak_bytes"], pair[0]["peak_bytes"]), 1e-9))))
    for a, b in changed[:SHOWN]:
        peaks = f"peak {a['peak_bytes']:,} -> {b['peak_bytes']:,}"
        yield f"- {a['graph']}, {a['method']}: {peaks}, bound {a['bound_bytes']:,} -> {b['bound_bytes']:,}"
    if len(changed) > SHOWN:
        yield f"- and {len(changed) - SHOWN} more"
