"""Seconds of whole programs by the model of one stream beside what they take: durations of operators are measured."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from scipy.stats import spearmanr
from torch.export import ExportedProgram

from graphs import Graph
from graphs.device import Device
from graphs.fx import from_fx
from graphs.io import write_atomic
from graphs.models import ZOO
from topoformer.pytorch import capture
from topoformer.pytorch.calibrate import Comparison, compare, keep_freed_memory, measure_device
from topoformer.pytorch.timing_cache import TimingCache

NUMBERS = (
    *("nodes", "calls", "calibration_seconds", "again_seconds", "measured_seconds", "wall_seconds"),
    *("predicted_seconds", "error", "roofline_seconds", "roofline_error"),
)


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--models", nargs="*", default=list(ZOO), choices=list(ZOO), help="only these")
    parser.add_argument("--repeats", type=int, default=1, help="times that all is measured anew; medians count")
    parser.add_argument("--system-memory", action="store_true", help="let freed memory go back to the system")
    parser.add_argument("--out", type=Path, help="write a line of JSON for each network and repeat")


def table(models: Sequence[str], repeats: int, out: Path | None, system_memory: bool = False) -> Iterator[str]:
    """The benchmark's rows in Markdown, as they come, and what they come to."""
    if repeats < 1:
        raise ValueError(f"'repeats' must be positive (got {repeats})")
    if not system_memory:
        keep_freed_memory()
    device = measure_device()
    yield f"{device.source}; {torch.get_num_threads()} threads"
    yield ""
    yield (
        "| network | nodes | calls timed | to time them | again | measured | with others' time | predicted | error "
        "| roofline | error |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    rows = []
    for name in models:
        program = capture(*ZOO[name]())
        graph = from_fx(program, name=name)
        results = [measure(program, graph, device) for _ in range(repeats)]
        rows += [(first | {"again_seconds": again, "repeat": i}) for i, (first, again) in enumerate(results)]
        if out is not None:
            write_atomic(out, "".join(json.dumps(row) + "\n" for row in rows).encode())
        yield row(name, rows[-repeats:])
    yield from summary(rows)


def measure(program: ExportedProgram, graph: Graph, device: Device) -> tuple[dict[str, Any], float]:
    """The numbers of one network with nothing known of its operators, and seconds that it takes with all known."""
    cache = TimingCache(None)
    first: Comparison = compare(program, graph, device, cache=cache)[1]
    again = compare(program, graph, device, cache=cache)[1].calibration_seconds
    return first.to_json(), again


def row(name: str, results: Sequence[dict[str, Any]]) -> str:
    """A row of Markdown: medians of the repeats."""
    middle = {key: median(result[key] for result in results) for key in NUMBERS}
    times = [
        f"{middle[key] * 1e3:.1f} ms"
        for key in ("measured_seconds", "wall_seconds", "predicted_seconds", "roofline_seconds")
    ]
    return (
        f"| {name} | {middle['nodes']:.0f} | {middle['calls']:.0f} | {middle['calibration_seconds']:.1f} s "
        f"| {middle['again_seconds']:.2f} s | {times[0]} | {times[1]} | {times[2]} | {middle['error']:+.1%} "
        f"| {times[3]} | {middle['roofline_error']:+.1%} |"
    )


def summary(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Errors and rank correlations over networks, a line for each repeat."""
    yield ""
    yield "| repeat | predicted: median error | largest | Spearman | roofline: median error | largest | Spearman |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for repeat in sorted({row["repeat"] for row in rows}):
        own = [row for row in rows if row["repeat"] == repeat]
        cells = []
        for error, seconds in (("error", "predicted_seconds"), ("roofline_error", "roofline_seconds")):
            errors = [abs(row[error]) for row in own]
            rank = spearmanr([row[seconds] for row in own], [row["measured_seconds"] for row in own]).statistic
            cells += [f"{median(errors):.1%}", f"{max(errors):.1%}", f"{rank:.3f}" if len(own) > 1 else "-"]
        yield f"| {repeat + 1} | {' | '.join(cells)} |"
    yield ""
    yield from _on_the_wall(rows)


def _on_the_wall(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The same errors against wall time."""
    quiet = [row for row in rows if row["quiet_seconds"] is not None]
    runs, alone = (sum(row[key] for row in rows) for key in ("runs", "quiet_runs"))
    if quiet:
        yield (
            f"Against wall time of runs that had the core to themselves, {alone} of {runs}, in {len(quiet)} of "
            f"{len(rows)} rows: {_agreement(quiet, 'quiet_seconds')}."
        )
    yield f"Against wall time of all runs, with that of other programs: {_agreement(rows, 'wall_seconds')}."


def _agreement(rows: Sequence[dict[str, Any]], measured: str) -> str:
    predicted, seconds = ([row[key] for row in rows] for key in ("predicted_seconds", measured))
    errors = [abs(one / other - 1) for one, other in zip(predicted, seconds, strict=True)]
    rank = f", Spearman {spearmanr(predicted, seconds).statistic:.3f}" if len(rows) > 1 else ""
    return f"median error {median(errors):.1%}, largest {max(errors):.1%}{rank}"
