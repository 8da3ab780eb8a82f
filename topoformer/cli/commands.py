"""The commands: each takes its options and returns the exit code."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from graphs.errors import quoted, unknown_name
from topoformer.cli.options import UsageError
from topoformer.cli.outputs import (
    check_beside_data,
    check_outputs,
    check_suffix,
    check_targets,
    write_comparison,
    write_outputs,
)
from topoformer.cli.progress import busy, searching

if TYPE_CHECKING:
    from graphs import Graph
    from graphs.cost import Objective
    from topoformer.pytorch.verify import Verification
    from topoformer.scheduling import Schedule
    from topoformer.sources import Source

MOST_PLANNED = 5_000  # nodes of a schedule whose arena is planned without being asked for
MOST_NODES = 10_000_000  # of a generated graph: some 10 GB while it is made
DONE, CANNOT, USAGE, INTERRUPTED = 0, 1, 2, 130  # exit codes


def _schedule(options: argparse.Namespace) -> int:
    from topoformer import text

    if options.pareto is not None:
        from topoformer.cli.front import pareto

        return pareto(options)
    check_names([options.method])
    _check_refining(options)
    goal = objective_of(options)
    check_outputs(options)
    source, seconds = load(options)
    source = prepared(source, options)
    if options.cost == "measured":
        from topoformer.cli.measured import refined

        result = refined(source, options)
    else:
        result = search(source.graph, options.method, goal, options, options.memory_limit)
    if options.arena or result.graph.n <= MOST_PLANNED:
        with busy("placing tensors in an arena", options):
            _ = result.arena
    verification, code = _verified(source, result, options)
    answer = result.to_json() | ({"verification": verification.to_json()} if verification else {})
    write_outputs(source, result, answer, options)
    if options.json:
        print(json.dumps(answer))
    else:
        lines = [text.schedule_lines(result, load_seconds=seconds)]
        print("\n".join(lines + ([text.verification_lines(verification)] if verification else [])))
    return code


def prepared(source: "Source", options: argparse.Namespace) -> "Source":
    """``source`` as it is to be searched; complains now, not after the search, of what cannot be done with it."""
    from topoformer.sources import check_runnable, check_savable, with_measured_scratch, with_measured_seconds

    what = "a graph" if source.model is None else "an ONNX model"
    if options.save and not source.suffix:
        raise UsageError(f"--save needs a SOURCE that is a program or model ({quoted(options.source)} is {what})")
    if options.save:
        check_savable(source, options.save)
    check_beside_data(source, options)
    wanted = {"--measure-scratch": options.measure_scratch, "--verify": options.verify}
    wanted |= {"--measure-seconds": options.measure_seconds, "--cost measured": options.cost == "measured"}
    for option, value in wanted.items():
        if value and source.program is None:
            text = f"{option} needs a SOURCE that is a program, a .pt2 or a factory"
            raise UsageError(f"{text} ({quoted(options.source)} is {what})")
    if options.verify or options.cost == "measured":
        check_runnable(source, options.source)
    if options.measure_seconds:
        with busy("timing operators", options):
            source = with_measured_seconds(source)
    if not options.measure_scratch:
        return source
    with busy("measuring the workspaces of operators", options):
        return with_measured_scratch(source)


def _verified(source: "Source", result: "Schedule", options: argparse.Namespace) -> "tuple[Verification | None, int]":
    """What running the program shows, if that is wanted, and the exit code that goes with it."""
    from topoformer.sources import verified

    if not options.verify:
        return None, DONE
    try:
        with busy("running the program in both orders", options):
            verification = verified(source, result, with_scratch=options.measure_scratch)
    except KeyboardInterrupt:  # the order need not be lost
        print("interrupted: not verified", file=sys.stderr)
        return None, INTERRUPTED
    return verification, DONE if verification.holds else CANNOT


def _compare(options: argparse.Namespace) -> int:
    from topoformer import text
    from topoformer.scheduling import SCHEDULERS

    names = list(SCHEDULERS)
    if options.methods not in (None, "all"):
        names = [name.strip() for name in options.methods.split(",")]
    check_names(names)
    goal = objective_of(options)
    check_suffix("--report", options.report, ".html")
    check_targets(options, {"--report": options.report})
    source, _ = load(options)
    check_beside_data(source, options)
    results: list[Schedule] = []
    try:
        for name in names:
            results.append(search(source.graph, name, goal, options))
            if results[-1].interrupted:
                break
    except KeyboardInterrupt:
        if not results:
            raise
    if len(results) < len(names) or results[-1].interrupted:
        cut = f", {results[-1].method} before it was done" if results[-1].interrupted else ""
        print(f"interrupted: {len(results)} of {len(names)} methods{cut}", file=sys.stderr)
    if options.report:
        write_comparison(results, options.report)
    print(json.dumps(text.compare_rows(results)) if options.json else text.compare_lines(results))
    return DONE


def _generate(options: argparse.Namespace) -> int:
    from graphs import save
    from graphs.json_format import graph_to_json
    from graphs.synthetic import FAMILIES

    if options.family not in FAMILIES:
        raise UsageError(unknown_name("family", options.family, FAMILIES))
    if options.nodes > MOST_NODES:
        raise UsageError(f"--nodes must be at most {MOST_NODES} (got {options.nodes})")
    check_suffix("-o", options.output, ".json", ".json.gz")
    check_targets(options, {"-o": options.output})
    try:
        graph = FAMILIES[options.family](options.nodes, seed=options.seed)
    except ValueError as error:
        raise UsageError(f"{options.family}: {error}") from None
    if options.output:
        save(graph, options.output)
    else:
        print(json.dumps(graph_to_json(graph)))
    print(graph, file=sys.stderr)
    return DONE


def _methods(_: argparse.Namespace) -> int:
    from topoformer.scheduling import SCHEDULERS, USES, scheduler_named, summary

    print(f"{'method':17} {'minimises':9} what it is; every result is judged by the objective that was asked for")
    for name in SCHEDULERS:
        print(f"{name:17} {USES.get(name, '-'):9} {summary(scheduler_named(name))}")
    return DONE


def check_names(methods: Sequence[str]) -> None:
    from topoformer.scheduling import SCHEDULERS

    for name in methods:
        if name not in SCHEDULERS:
            raise UsageError(unknown_name("method", name, SCHEDULERS))


def _check_refining(options: argparse.Namespace) -> None:
    """Options of measured costs that would be passed over are an error."""
    if options.cost == "measured" and options.method != "bo":
        raise UsageError(f"--cost measured needs --method bo (got '{options.method}')")
    for name in ("evaluations", "workers", "timeout", "journal", "dask"):
        if getattr(options, name) is not None and options.cost != "measured":
            raise UsageError(f"--{name} goes with --method bo --cost measured")
    if options.cost == "measured" and options.objective not in ("memory", "arena", "latency"):
        raise UsageError(f"--cost measured knows memory, arena and latency (got '{options.objective}')")
    if options.cost == "measured" and options.memory_limit is not None:
        raise UsageError("--memory-limit does not go with --cost measured")


def objective_of(options: argparse.Namespace) -> "Objective":
    """What is minimised, on what device."""
    from graphs.cost import objective_named
    from topoformer.devices import device_of

    device = device_of(options.device, options.streams, options.on_chip)
    if getattr(options, "cost", "") == "measured":  # it is run on what there is
        return objective_named("memory", device)
    try:
        return objective_named(options.objective, device)
    except ValueError as error:
        hint = "; name one with --device" if str(error).endswith("needs a device") else ""
        raise UsageError(f"{error}{hint}") from None


def _dims(options: argparse.Namespace) -> dict[str, int]:
    dims: dict[str, int] = {}
    for name, size in options.dim:
        if dims.setdefault(name, size) != size:
            raise UsageError(f"--dim gives {quoted(name)} two sizes, {dims[name]} and {size}")
    return dims


def load(options: argparse.Namespace) -> "tuple[Source, float]":
    from topoformer.sources import load_source

    began = time.perf_counter()
    with busy(f"reading {options.source}", options):
        source = load_source(options.source, dims=_dims(options), aliases=options.aliases)
    return source, time.perf_counter() - began


def search(
    graph: "Graph", method: str, goal: "Objective", options: argparse.Namespace, memory_limit: int | None = None
) -> "Schedule":
    from topoformer.scheduling import schedule

    with searching(method, goal, options) as progress:
        return schedule(
            graph,
            method,
            seconds=options.seconds,
            seed=options.seed,
            objective=goal,
            steps=options.steps,
            memory_limit=memory_limit,
            progress=progress,
        )


def _check(options: argparse.Namespace) -> int:
    from topoformer.cli.check import run

    return run(options)


def _calibrate(options: argparse.Namespace) -> int:
    from topoformer.cli.calibrate import run

    return run(options)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "calibrate": _calibrate,
    "check": _check,
    "schedule": _schedule,
    "compare": _compare,
    "generate": _generate,
    "methods": _methods,
}
