"""``topoformer check``: an exit code that says whether a program still fits into the memory that it is meant to."""

import argparse
import json
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from graphs.errors import GraphError, quoted
from graphs.json_format import read_count
from graphs.units import format_bytes
from topoformer.cli.commands import CANNOT, DONE, INTERRUPTED, check_names, load, search
from topoformer.cli.options import UsageError
from topoformer.cli.outputs import check_beside_data, check_suffix, check_targets

if TYPE_CHECKING:
    from graphs import Graph
    from topoformer.scheduling import Schedule


class Limit(NamedTuple):
    """Bytes that a peak may have, and why."""

    bytes: int
    reason: str


def run(options: argparse.Namespace) -> int:
    """Search for an order, or take the program's own, and hold its peak to the limits; returns the exit code.

    Raises:
        UsageError: there is nothing to hold it to.
        GraphError, OSError: the SOURCE or the baseline cannot be read.
    """
    from graphs.io import write_atomic

    if options.max_peak is None and options.baseline is None:
        raise UsageError("check needs --max-peak SIZE, --baseline FILE or both")
    check_names([options.method])
    check_suffix("-o", options.output, ".json")
    check_targets(options, {"-o": options.output})
    limits = [] if options.max_peak is None else [Limit(options.max_peak, "--max-peak")]
    before = {} if options.baseline is None else _read(options.baseline)
    if options.baseline is not None:
        limits.append(_of_baseline(before, options))
    source, _ = load(options)
    check_beside_data(source, options)
    result = _best_known(source.graph, before, options)
    broken = [limit for limit in limits if result.cost.peak_bytes > limit.bytes]
    if result.interrupted and broken:
        print("interrupted: whether it is within the limits is not known", file=sys.stderr)
        return INTERRUPTED
    if options.output and not (broken and _same_file(options.output, options.baseline)):
        write_atomic(options.output, (json.dumps(result.to_json()) + "\n").encode())
    if broken:
        print(f"topoformer: {_line(result, min(broken), within=False)}", file=sys.stderr)
    with suppress(BrokenPipeError):  # what counts is the exit code
        if options.json:
            print(json.dumps(_answer(result, limits, broken)), flush=True)
        elif not broken:
            print(_line(result, min(limits), within=True), flush=True)
    return CANNOT if broken else DONE


def _same_file(one: Path, other: Path | None) -> bool:
    """A baseline that was exceeded stays: in its place the next run would find nothing wrong."""
    return other is not None and one.resolve() == other.resolve()


def _best_known(graph: "Graph", before: dict[str, Any], options: argparse.Namespace) -> "Schedule":
    """The program's own order, or the better of what is found now and what the baseline has for the same graph."""
    from graphs.cost import objective_named
    from topoformer.scheduling import schedule

    method = "program" if options.program_order else options.method
    result = search(graph, method, objective_named("memory", None), options)
    if options.program_order or before.get("graph_sha256") != graph.fingerprint:
        return result

    def baseline(*_: object, **__: object) -> Any:
        return before.get("order")

    try:
        known = schedule(graph, baseline, seconds=options.seconds)
    except GraphError as error:
        raise GraphError(f"--baseline {quoted(options.baseline, 200)}: {error}") from None
    return result if result.cost.peak_bytes <= known.cost.peak_bytes else known


def _read(path: Path) -> dict[str, Any]:
    from graphs.io import read_json

    try:
        data: dict[str, Any] = read_json(path)
        if data.get("format") != "topoformer.schedule" or data.get("version") != 1:
            raise GraphError("not a schedule of version 1, as 'schedule -o' and 'check -o' write it")
        if "objective" in data:
            raise GraphError(f"a schedule for {quoted(str(data['objective']))}, not for the least memory")
        for key in ("program_peak_bytes", "peak_bytes"):
            read_count(data, key, "schedule", "")
    except GraphError as error:
        raise GraphError(f"--baseline {quoted(path, 200)}: {error}") from None
    return data


def _of_baseline(before: dict[str, Any], options: argparse.Namespace) -> Limit:
    """The peak of an earlier schedule, and what it may have grown by."""
    peak: int = before["program_peak_bytes" if options.program_order else "peak_bytes"]
    grown = f", {options.tolerance:g} % more allowed" if options.tolerance else ""
    text = f"the {format_bytes(peak)} of {quoted(options.baseline.name)}{grown}"
    return Limit(peak + int(peak * Fraction(str(options.tolerance)) / 100), text)


def _line(result: "Schedule", limit: Limit, *, within: bool) -> str:
    """The verdict, and where it is not met, what to look at: what is largest at the peak."""
    from topoformer.text import place, printable

    peak, bound = result.cost.peak_bytes, result.bound_bytes
    text = f"{printable(result.graph.name)}: peak {format_bytes(peak)}"
    size = f" {format_bytes(limit.bytes)}" if limit.reason == "--max-peak" else ""
    if within:
        return f"{text} is within {limit.reason}{size}"
    text += f" exceeds {limit.reason}{size}"
    text += f" by {_part(peak / limit.bytes - 1)}" if limit.bytes else ""
    least = "no order needs less" if result.proven_optimal else f"no order needs less than {format_bytes(bound)}"
    largest = next(iter(result.profile.alive()), None)
    if largest is None:
        return f"{text}; {least}"
    where = f" at {place(largest.source)}" if largest.source else ""
    name = f"{quoted(largest.name)} ({format_bytes(largest.bytes)}){where}"
    return f"{text}; {least}; largest at the peak: {name}"


def _part(above: float) -> str:
    return "less than 0.1%" if above < 0.001 else f"{above:.1%}"


def _answer(result: "Schedule", limits: list[Limit], broken: list[Limit]) -> dict[str, object]:
    rows = [{"bytes": limit.bytes, "reason": limit.reason, "met": limit not in broken} for limit in limits]
    known = result.to_json()
    del known["order"]
    return {"ok": not broken, "limits": rows, "schedule": known}
