"""Peaks and seconds beside PyTorch Inductor's own memory pass, run in the same process on the same graphs."""

import argparse
import time
from collections.abc import Iterator, Sequence

from bench.rivals.inductor import inductor, missing
from graphs import Graph, check_order, peak_bytes
from graphs.cost import OBJECTIVES
from graphs.fx import from_fx
from graphs.models import ZOO
from graphs.synthetic import FAMILIES, layered
from graphs.units import format_bytes
from topoformer.pytorch import capture
from topoformer.scheduling import Schedule, schedule

COMPILING = "compiling"  # a phase that only a machine's first run has
LAYERED = (1_000, 10_000)


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--seconds", type=float, default=10.0, help="for our search of each graph")
    parser.add_argument("--graphs", nargs="*", default=(), help="only these")


def table(seconds: float, graphs: Sequence[str]) -> Iterator[str]:
    """The benchmark's rows in Markdown, as they come."""
    if reason := missing():
        raise SystemExit(f"Inductor's pass cannot be run: {reason}")
    schedule(layered(30, seed=1), seconds=seconds)  # compiles
    yield (
        "| graph | nodes | program | Inductor | seconds | ours | seconds | ratio | lower bound "
        "| our first answer | after | as good as Inductor after |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name, graph in named(graphs):
        yield row(name, graph, seconds)


def named(wanted: Sequence[str]) -> Iterator[tuple[str, Graph]]:
    """The networks of the zoo, a graph of each synthetic family, and two large layered ones."""
    for name, make in ZOO.items():
        if not wanted or name in wanted:
            yield name, from_fx(capture(*make()), name=name)
    for name, family in FAMILIES.items():
        if not wanted or name in wanted:
            yield name, family(300, seed=1)
    for nodes in LAYERED:
        name = f"layered_{nodes}"
        if not wanted or name in wanted:
            yield name, layered(nodes, seed=5)


def row(name: str, graph: Graph, seconds: float) -> str:
    """One graph: what both found, and when."""
    began = time.perf_counter()
    order = check_order(graph, inductor(graph, OBJECTIVES["memory"], seconds=seconds, seed=0))
    took = time.perf_counter() - began
    theirs = peak_bytes(graph, order)
    ours = schedule(graph, seconds=seconds)
    bound = "optimal" if ours.proven_optimal else format_bytes(ours.bound_bytes)
    first, after = answers(ours)[0]
    equal = next((f"{when:.2f} s" for peak, when in answers(ours) if peak <= theirs), "never")
    return (
        f"| {name} | {graph.n} | {format_bytes(ours.program_cost.peak_bytes)} "
        f"| {format_bytes(theirs)} | {took:.2f} | {format_bytes(ours.cost.peak_bytes)} | {ours.search_seconds:.2f} "
        f"| {ours.cost.peak_bytes / max(theirs, 1):.3f} | {bound} "
        f"| {format_bytes(first)} | {after:.2f} s | {equal} |"
    )


def answers(result: Schedule) -> list[tuple[int, float]]:
    """(peak in bytes, seconds since the search began) at the end of each of its phases."""
    found, now = [], 0.0
    for phase in result.phases:
        if phase.name != COMPILING:
            now += phase.seconds
            found.append((phase.peak_bytes, now))
    return found or [(result.cost.peak_bytes, result.search_seconds)]
