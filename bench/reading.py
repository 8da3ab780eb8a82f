"""What result lines say, as numbers: ratios, wins, shares proven, how soon; nothing here is typed by hand."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from bench.rivals import RIVALS
from graphs.units import format_bytes

Line = dict[str, Any]
OURS = "auto"
NEAR = 1.01  # of the best peak known: when a method has come that close counts as soon


class Row(NamedTuple):
    """One graph, with the line of each method that has a peak."""

    graph: str
    nodes: int
    program: int  # bytes
    best: int  # lowest peak of any method, in bytes
    bound: int  # highest bound of any method
    by_method: dict[str, Line]


class Score(NamedTuple):
    """One method over the graphs of a suite on which it and all that it is compared with have run."""

    method: str
    graphs: int
    to_program: float  # geometric means of peak over ...
    to_best: float
    to_bound: float
    wins: int  # of ours against it
    ties: int
    losses: int
    proven: float  # share of graphs on which its own bound meets its peak
    seconds: float  # median of a run
    soon: float  # median seconds to within 1 % of the best peak, inf where it is not reached


def rows_of(lines: Sequence[Line]) -> list[Row]:
    """The lines by graph; bounds and best peaks are those of all methods together."""
    by_graph: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_graph[line["graph"]].append(line)
    rows = []
    for graph, found in by_graph.items():
        valid = {line["method"]: line for line in found if "peak_bytes" in line}
        if not valid:
            continue
        one = next(iter(valid.values()))
        best = min(line["peak_bytes"] for line in valid.values())
        bound = max(line["bound_bytes"] for line in valid.values())
        rows.append(Row(graph, one["nodes"], one["program_peak_bytes"], best, bound, valid))
    return sorted(rows, key=lambda row: row.nodes)


def methods_of(rows: Sequence[Row]) -> list[str]:
    """All methods that have a line: ours first, then by their names as listed."""
    found = {method for row in rows for method in row.by_method}
    listed = [OURS, *sorted(found - {OURS} - set(RIVALS)), *RIVALS]
    return [method for method in listed if method in found]


def score(rows: Sequence[Row], method: str) -> Score:
    """How ``method`` did on the graphs that it has a peak for."""
    there = [row for row in rows if method in row.by_method]
    peaks = [row.by_method[method]["peak_bytes"] for row in there]
    pairs = [
        (row.by_method[OURS]["peak_bytes"], peak)
        for row, peak in zip(there, peaks, strict=True)
        if OURS in row.by_method
    ]
    own = [row.by_method[method] for row in there]
    return Score(
        method,
        len(there),
        geometric([ratio(peak, row.program) for row, peak in zip(there, peaks, strict=True)]),
        geometric([ratio(peak, row.best) for row, peak in zip(there, peaks, strict=True)]),
        geometric([ratio(peak, row.bound) for row, peak in zip(there, peaks, strict=True) if row.bound]),
        sum(ours < theirs for ours, theirs in pairs),
        sum(ours == theirs for ours, theirs in pairs),
        sum(ours > theirs for ours, theirs in pairs),
        sum(line["bound_bytes"] >= line["peak_bytes"] for line in own) / max(len(own), 1),
        median([line["seconds"] for line in own] or [math.nan]),
        median([seconds_to(row.by_method[method], NEAR * row.best) for row in there] or [math.nan]),
    )


def seconds_to(line: Line, peak: float) -> float:
    """When a run had an order of at most ``peak`` bytes; inf if never."""
    if line["peak_bytes"] > peak:
        return math.inf
    return next((when for when, value, _ in line["curve"] if value <= peak), float(line["seconds"]))


def ratio(peak: float, to: float) -> float:
    """One over the other; 1 where both are 0."""
    return peak / to if to else 1.0 if not peak else math.inf


def geometric(values: Sequence[float]) -> float:
    """The geometric mean; nan of none."""
    return float(np.exp(np.mean(np.log(values)))) if values else math.nan


# ---------------------------------------------------------------- as text


def tables(suite: str, lines: Sequence[Line]) -> Iterator[str]:
    """The suite's tables in Markdown: a row a method, a row a graph, and what is missing."""
    rows = rows_of(lines)
    yield from score_table(rows)
    yield ""
    yield from graph_table(rows)
    yield from remarks(lines, rows)
    if suite == "scale":
        from bench.scaling import scaling_table

        yield from scaling_table(lines)


def score_table(rows: Sequence[Row]) -> Iterator[str]:
    """A row a method: geometric means of peaks, ours against it, seconds."""
    yield (
        "| method | graphs | peak / program order | / best known | / lower bound | `auto` better, equal, worse "
        "| proven | median seconds | to within 1 % of best |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for found in (score(rows, method) for method in methods_of(rows)):
        against = "" if found.method == OURS else f"{found.wins}, {found.ties}, {found.losses}"
        yield (
            f"| {found.method} | {found.graphs} | {found.to_program:.4f} | {found.to_best:.4f} "
            f"| {found.to_bound:.4f} | {against} | {found.proven:.0%} | {found.seconds:.2f} | {_seconds(found.soon)} |"
        )


def graph_table(rows: Sequence[Row]) -> Iterator[str]:
    """A row a graph: peaks over the best known one."""
    methods = methods_of(rows)
    yield f"| graph | nodes | program | best known | lower bound | {' | '.join(methods)} |"
    yield "|---|---:|---:|---:|---:|" + "---:|" * len(methods)
    for row in rows:
        proven = "optimal" if row.bound >= row.best else format_bytes(row.bound)
        cells = [
            f"{ratio(row.by_method[method]['peak_bytes'], row.best):.4f}" if method in row.by_method else ""
            for method in methods
        ]
        sizes = f"{format_bytes(row.program)} | {format_bytes(row.best)} | {proven}"
        yield f"| {row.graph} | {row.nodes:,} | {sizes} | {' | '.join(cells)} |"


def remarks(lines: Sequence[Line], rows: Sequence[Row]) -> Iterator[str]:
    """What could not be run, what did not hold, and which graphs a rival is better at."""
    notes: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        if "note" in line:
            text = re.sub(r" \(got [\d,]+\)", "", line["note"])
            notes[f"{line['method']}: {text}"].add(line["graph"])
    if notes:
        yield ""
    for text, graphs in sorted(notes.items()):
        yield f"- not run, {text} ({len(graphs)} graphs)"
    wrong = [f"{line['graph']}, {line['method']}" for line in lines if line.get("verified") is False]
    if wrong:
        yield f"- NOT VERIFIED: {'; '.join(wrong)}"
    unproven = [f"{line['graph']}, {line['method']}" for line in lines if line.get("bound_checked") is False]
    if unproven:
        yield f"- PROOF DOES NOT HOLD: {'; '.join(unproven)}"
    better = [row for row in rows if OURS in row.by_method and row.by_method[OURS]["peak_bytes"] > row.best]
    for row in better:
        winners = [name for name, line in row.by_method.items() if line["peak_bytes"] == row.best]
        yield f"- `auto` is not the best on {row.graph}: {', '.join(winners)}"


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.2f}"
