"""Schedules as lines of text for a terminal."""

import os
from collections.abc import Sequence
from typing import Any

from graphs.units import format_bytes
from topoformer.scheduling import Schedule

SHOWN_AT_PEAK = 5


def printable(name: str, width: int = 60) -> str:
    """``name`` without control characters, on one line, at most ``width`` characters."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name[: width + 1])
    return shown if len(shown) <= width else f"{shown[: width - 3]}..."


def schedule_lines(result: Schedule, *, load_seconds: float | None = None) -> str:
    """What a person wants to know of a schedule: peaks, ratio, bound, time, and what is alive at the peak."""
    graph = result.graph
    loaded = "" if load_seconds is None else f", reading {load_seconds:.2f} s"
    rows = [
        ("program peak", format_bytes(result.program_cost.peak_bytes), ""),
        ("new peak", format_bytes(result.cost.peak_bytes), f"{result.ratio:.3f} of the program's"),
        ("lower bound", format_bytes(result.bound_bytes), _verdict(result)),
        ("resident", format_bytes(result.cost.resident_bytes), "weights and inputs, whatever the order"),
    ]
    lines = [f"{printable(graph.name)}: {graph.n} nodes, {graph.k} tensors"]
    lines += [f"  {name:13} {size:>12}  {remark}".rstrip() for name, size, remark in rows]
    lines += [f"  {'method':13} {result.method}, searching {result.search_seconds:.2f} s{loaded}"]
    return "\n".join(lines + _peak_lines(result))


def _verdict(result: Schedule) -> str:
    if result.proven_optimal and result.cost == result.program_cost:
        return "the given order is already optimal"
    if result.proven_optimal:
        return "optimal: no order needs less"
    return f"no order is below it; the new peak is {result.gap:.1%} above"


def _peak_lines(result: Schedule) -> list[str]:
    if not result.graph.n:
        return []
    alive = result.profile.alive()
    step = result.profile.peak_step
    label = printable(result.graph.labels[result.order[step]], 40)
    lines = [f"alive at the peak, step {step} of {result.graph.n} ({label}):"]
    for tensor in alive[:SHOWN_AT_PEAK]:
        where = f"  {printable(_near(tensor.source), 80)}" if tensor.source else ""
        lines.append(
            f"  {printable(tensor.name, 30):30} {format_bytes(tensor.bytes):>12}  {printable(tensor.op, 40)}{where}"
        )
    if rest := alive[SHOWN_AT_PEAK:]:
        lines.append(f"  {f'and {len(rest)} more':30} {format_bytes(sum(tensor.bytes for tensor in rest)):>12}")
    return lines


def _near(source: str) -> str:
    """A place in the source as seen from the working directory."""
    return source.removeprefix(os.getcwd() + os.sep)


def compare_row(result: Schedule) -> dict[str, Any]:
    """One method's numbers: what its own order costs, also where the program's is better."""
    before = result.program_cost.peak_bytes
    own = result.method_cost.peak_bytes
    return {
        "method": result.method,
        "peak_bytes": own,
        "ratio": own / before if before else 1.0,
        "bound_bytes": result.bound_bytes,
        "proven_optimal": own == result.bound_bytes,
        "search_seconds": result.search_seconds,
    }


def compare_lines(results: Sequence[Schedule]) -> str:
    """A table with a row a method; the lowest peak is marked."""
    graph = results[0].graph
    lines = [f"{printable(graph.name)}: {graph.n} nodes, lower bound {format_bytes(results[0].bound_bytes)}"]
    lines += [f"  {'method':14} {'peak':>12} {'of program':>11} {'above bound':>12} {'seconds':>8}"]
    rows = [compare_row(result) for result in results]
    lowest = min(row["peak_bytes"] for row in rows)
    for row in rows:
        bound = row["bound_bytes"]
        above = f"{row['peak_bytes'] / bound - 1:.1%}" if bound else "-"
        mark = " *" if row["peak_bytes"] == lowest else ""
        lines.append(
            f"  {row['method']:14} {format_bytes(row['peak_bytes']):>12} {row['ratio']:>11.3f} "
            f"{'optimal' if row['proven_optimal'] else above:>12} {row['search_seconds']:>8.3f}{mark}"
        )
    return "\n".join(lines)
