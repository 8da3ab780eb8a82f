"""Schedules as lines of text for a terminal."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphs.cost import Objective
from graphs.device import Device
from graphs.latency import latency_bound, order_matters
from graphs.traffic import compulsory_bytes
from graphs.units import format_bytes, format_seconds
from topoformer.outcome import Phase
from topoformer.scheduling import Schedule

if TYPE_CHECKING:
    from topoformer.front import Front
    from topoformer.pytorch.verify import Measured, Verification

SHOWN_AT_PEAK = 5


def printable(name: str, width: int = 60) -> str:
    """``name`` without control characters, on one line, at most ``width`` characters."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name[: width + 1])
    return shown if len(shown) <= width else f"{shown[: width - 3]}..."


def schedule_lines(result: Schedule, *, load_seconds: float | None = None) -> str:
    """What a person wants to know of a schedule: peaks, ratio, bound, time, and what is alive at the peak."""
    graph = result.graph
    loaded = "" if load_seconds is None else f"; reading took {load_seconds:.2f} s"
    rows = [
        ("program peak", format_bytes(result.program_cost.peak_bytes), ""),
        ("new peak", format_bytes(result.cost.peak_bytes), f"{result.ratio:.3f} of the program's"),
        ("lower bound", format_bytes(result.bound_bytes), _verdict(result)),
        ("resident", format_bytes(result.cost.resident_bytes), "weights and inputs, whatever the order"),
    ]
    rows += cost_rows(result)
    lines = [f"{printable(graph.name)}: {count(graph.n, 'node')}, {count(graph.k, 'tensor')}"]
    lines += [f"  {name:13} {size:>12}  {remark}".rstrip() for name, size, remark in rows]
    stopped = " until interrupted" if result.interrupted else ", found before" if result.cached else ""
    lines += [f"  {'method':13} {result.method}, {result.search_seconds:.2f} s{stopped}{loaded}"]
    narrowed = [f"  {part}" for part in ("narrowed", *result.narrowed.split("; "))] if result.narrowed else []
    narrowed[1:] = [f"  {line}" for line in narrowed[1:]]
    return "\n".join(lines + _phase_lines(result.phases) + narrowed + _peak_lines(result))


def cost_rows(result: Schedule) -> list[tuple[str, str, str]]:
    """(what, how much, remark) of what was measured beside memory: latency, traffic, arena, all streams together."""
    cost, before, device = result.cost, result.program_cost, result.objective.device
    rows = []
    if cost.latency_seconds is not None and device is not None:
        rows.append(("latency", format_seconds(cost.latency_seconds), _latency_remark(result, device)))
    if cost.traffic_bytes is not None and device is not None:
        floor = compulsory_bytes(result.graph)
        remark = (
            f"{_part(cost.traffic_bytes, before.traffic_bytes)} with {format_bytes(device.on_chip_bytes)} on the chip"
        )
        rows.append(
            ("traffic", format_bytes(cost.traffic_bytes), f"{remark}; no order moves less than {format_bytes(floor)}")
        )
    if cost.custom is not None:
        part = _part(cost.custom, before.custom)
        rows.append((printable(result.objective.name, 16), value_text(result.objective, cost.custom), part))
    if cost.concurrent_peak_bytes is not None:
        remark = f"{_part(cost.concurrent_peak_bytes, before.concurrent_peak_bytes)}, alive on all streams together"
        rows.append(("held at once", format_bytes(cost.concurrent_peak_bytes), remark))
    if cost.arena_bytes is not None:
        rows.append(("arena", format_bytes(cost.arena_bytes), _part(cost.arena_bytes, before.arena_bytes)))
    elif "arena" in result.__dict__:  # it has been planned
        rows.append(("arena", format_bytes(result.arena.arena_bytes), _arena_remark(result)))
    return rows


def _arena_remark(result: Schedule) -> str:
    arena, peak = result.arena, result.cost.peak_bytes
    where = f"all tensors at fixed offsets, multiples of {arena.alignment}"
    if arena.proven:
        return f"{where}; no smaller one exists"
    return f"{where}; {arena.arena_bytes / peak - 1:.1%} above the peak" if peak else where


def _latency_remark(result: Schedule, device: Device) -> str:
    where = f"on {printable(device.name, 40)}, {count(device.streams, 'stream')}"
    if not order_matters(result.graph, device):
        return f"{where}: every order takes the same time"
    part = _part(result.cost.latency_seconds, result.program_cost.latency_seconds)
    return f"{part} {where}; no order takes less than {format_seconds(latency_bound(result.graph, device))}"


def _whole_bytes(size: float) -> str:
    return format_bytes(int(size))


def _part(now: float | None, before: float | None) -> str:
    return f"{now / before:.3f} of the program's" if now is not None and before else "as the program's"


def verification_lines(verification: "Verification") -> str:
    """What was measured when the program was run in both orders, beside what was predicted."""
    orders = (("program order", verification.program), ("new order", verification.new))
    lines = ["run for real:", f"  {'':13} {'storages':>12} {'allocated':>12}"]
    for name, measured in orders:
        sizes = (measured.storage_bytes, measured.allocated_bytes)
        lines.append(f"  {name:13} {' '.join(f'{format_bytes(size):>12}' for size in sizes)}  {_as_said(measured)}")
    outputs = "equal bit for bit" if verification.outputs_equal else "NOT equal"
    return "\n".join([*lines, f"  {'outputs':13} {outputs}"])


def _as_said(measured: "Measured") -> str:
    """Rounded, two numbers may look the same: what is not as predicted is said to the byte."""
    rows = [("storages", measured.predicted_storage_bytes, measured.storage_bytes)]
    if measured.predicted_allocated_bytes is not None:
        rows.append(("allocated", measured.predicted_allocated_bytes, measured.allocated_bytes))
    wrong = [
        f"{name} NOT as predicted: {real:,} bytes, predicted {said:,}" for name, said, real in rows if real != said
    ]
    return "; ".join(wrong) or f"{' and '.join(name for name, _, _ in rows)} as predicted"


def schedule_line(result: Schedule) -> str:
    """Nodes, peak before and after, lower bound, method and seconds in one line, for a log."""
    before, after, bound = (
        format_bytes(size) for size in (result.program_cost.peak_bytes, result.cost.peak_bytes, result.bound_bytes)
    )
    proof = "optimal" if result.proven_optimal else f"bound {bound}"
    return (
        f"{result.graph.name}: {count(result.graph.n, 'node')}, peak {before} -> {after}, {proof}, "
        f"{result.method}, {result.search_seconds:.2f} s{', from the cache' if result.cached else ''}"
    )


def count(number: int, what: str) -> str:
    """'1 node', '1,482 tensors'."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _phase_lines(phases: Sequence[Phase]) -> list[str]:
    """What was known after each phase; a number that a phase did not change is not said again."""
    if not phases:
        return []
    lines = [f"  {'phase':16} {'peak':>12} {'bound':>12} {'seconds':>9}"]
    peak = bound = -1
    for phase in phases:
        new_peak = format_bytes(phase.peak_bytes) if phase.peak_bytes != peak else "-"
        new_bound = format_bytes(phase.bound_bytes) if phase.bound_bytes != bound else "-"
        peak, bound = phase.peak_bytes, phase.bound_bytes
        lines.append(f"    {printable(phase.name, 14):14} {new_peak:>12} {new_bound:>12} {phase.seconds:>9.2f}")
    return lines


def _verdict(result: Schedule) -> str:
    if result.proven_optimal and result.cost == result.program_cost:
        return "the given order is already optimal"
    if result.proven_optimal:
        return "optimal: no order needs less"
    if not result.bound_bytes:
        return "nothing is proven about other orders"
    above = "less than 0.1%" if result.gap < 0.001 else f"{result.gap:.1%}"
    return f"no order needs less; the new peak is {above} above it"


def _peak_lines(result: Schedule) -> list[str]:
    if not result.graph.n:
        return []
    alive = result.profile.alive()
    step = result.profile.peak_step
    label = printable(result.graph.labels[result.order[step]], 40)
    lines = [f"alive at the peak, in step {step + 1} of {result.graph.n} ({label}):"]
    for tensor in alive[:SHOWN_AT_PEAK]:
        name, size = printable(tensor.name, 30), format_bytes(tensor.bytes)
        lines.append(f"  {name:30} {size:>12}  {printable(tensor.op, 40):26} {place(tensor.source)}".rstrip())
    if rest := alive[SHOWN_AT_PEAK:]:
        lines.append(f"  {f'and {len(rest)} more':30} {format_bytes(sum(tensor.bytes for tensor in rest)):>12}")
    if scratch := int(result.graph.scratch[result.order[step]]):
        lines.append(f"  {'scratch of the step':30} {format_bytes(scratch):>12}")
    return lines


def place(source: str, width: int = 80) -> str:
    """A place in the source as seen from the working directory; its end, where the line number is, is kept."""
    shown = source.removeprefix(os.getcwd() + os.sep)
    return printable(shown if len(shown) <= width else f"...{shown[3 - width :]}", width)


def compare_rows(results: Sequence[Schedule]) -> list[dict[str, Any]]:
    """Each method's numbers: what its own order costs, also where the program's is better.

    All are held to the highest bound that any of them has proven.
    """
    bound = max(result.bound_bytes for result in results)
    rows = []
    for result in results:
        before, own = result.program_cost.peak_bytes, result.method_cost.peak_bytes
        row = {"method": result.method, "peak_bytes": own, "ratio": own / before if before else 1.0}
        row |= {"bound_bytes": bound, "proven_optimal": own == bound, "search_seconds": result.search_seconds}
        if not result.objective.is_memory:
            value, program = (result.objective.value(cost) for cost in (result.method_cost, result.program_cost))
            row |= {
                "objective": result.objective.name,
                "value": value,
                "value_ratio": value / program if program else 1.0,
            }
            row["held_bytes"] = result.method_cost.held_bytes
        rows.append(row)
    return rows


def compare_lines(results: Sequence[Schedule]) -> str:
    """A table with a row a method; the lowest peak is marked."""
    if not results[0].objective.is_memory:
        return _compare_values(results)
    graph, rows = results[0].graph, compare_rows(results)
    bound, lowest = rows[0]["bound_bytes"], min(row["peak_bytes"] for row in rows)
    lines = [f"{printable(graph.name)}: {count(graph.n, 'node')}, lower bound {format_bytes(bound)}"]
    lines += [f"  {'method':14} {'peak':>12} {'of program':>11} {'above bound':>12} {'seconds':>8}"]
    for row in rows:
        own = row["peak_bytes"]
        above = "optimal" if own == bound else f"{own / bound - 1:.1%}" if bound else "-"
        lines.append(
            f"  {row['method']:14} {format_bytes(own):>12} {row['ratio']:>11.3f} {above:>12} "
            f"{row['search_seconds']:>8.2f}{' *' if own == lowest else ''}"
        )
    return "\n".join([*lines, "  * lowest peak"])


def _compare_values(results: Sequence[Schedule]) -> str:
    """The same for other objectives than memory: what was minimised, and what is held."""
    graph, objective, rows = results[0].graph, results[0].objective, compare_rows(results)
    best = min(objective.key(result.method_cost) for result in results)
    lines = [f"{printable(graph.name)}: {count(graph.n, 'node')}, {printable(objective.name, 40)}"]
    lines += [f"  {'method':17} {'value':>12} {'of program':>11} {'held':>12} {'seconds':>8}"]
    for result, row in zip(results, rows, strict=True):
        mark = " *" if objective.key(result.method_cost) == best else ""
        lines.append(
            f"  {result.method:17} {value_text(objective, row['value']):>12} {row['value_ratio']:>11.3f} "
            f"{format_bytes(row['held_bytes']):>12} {row['search_seconds']:>8.2f}{mark}"
        )
    return "\n".join([*lines, "  * best by the objective"])


def value_text(objective: Objective, value: float) -> str:
    """What was minimised, in its unit."""
    names = list(objective.weights) if objective.custom is None else []
    unit = objective.unit
    if len(names) == 1:
        unit = "seconds" if names[0] == "latency" else "bytes"
    return {"bytes": _whole_bytes, "seconds": format_seconds}.get(unit, "{:,.6g}".format)(value)


def pareto_lines(front: "Front") -> str:
    """A table with a row a point of a Pareto front, the program's own order before them."""
    latency = front.objective.name == "latency"
    speak: Callable[[float], str] = format_seconds if latency else lambda value: format_bytes(int(value))
    size, value = front.point(front.program)
    lines = [f"{printable(front.graph.name)}: {count(front.graph.n, 'node')}, memory against {front.objective.name}"]
    lines += [f"  {'':14} {'held':>12} {'of program':>11} {front.objective.name:>12} {'of program':>11}"]
    rows = [("program", size, value), *(("", held, cost) for held, cost in front.points())]
    for name, held, cost in rows:
        parts = (held / size if size else 1.0, cost / value if value else 1.0)
        lines.append(f"  {name:14} {format_bytes(held):>12} {parts[0]:>11.3f} {speak(cost):>12} {parts[1]:>11.3f}")
    lines.append(
        f"  {'no order below':14} {format_bytes(front.bound_bytes):>12} {'':11} {speak(front.bound_value):>12}"
    )
    stopped = "interrupted after" if front.interrupted else "searched for"
    return "\n".join([*lines, f"  {stopped} {front.search_seconds:.2f} s"])
