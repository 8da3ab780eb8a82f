"""Peak memory before and after on the networks of ``graphs.models``, default sizes: one row a network."""

import time
from collections.abc import Iterator

from graphs.fx import from_fx
from graphs.models import ZOO
from graphs.units import format_bytes
from topoformer.pytorch import capture
from topoformer.scheduling import schedule

SECONDS = 10.0


def table() -> Iterator[str]:
    """The benchmark's rows in Markdown, as they come."""
    yield "| network | nodes | program order | topoformer | ratio | lower bound | capture | search |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, make in ZOO.items():
        began = time.perf_counter()
        graph = from_fx(capture(*make()), name=name)
        captured = time.perf_counter() - began
        result = schedule(graph, seconds=SECONDS)
        bound = "optimal" if result.proven_optimal else format_bytes(result.bound_bytes)
        yield (
            f"| {name} | {graph.n} | {format_bytes(result.program_cost.peak_bytes)} "
            f"| {format_bytes(result.cost.peak_bytes)} | {result.ratio:.3f} | {bound} "
            f"| {captured:.1f} s | {result.search_seconds:.2f} s |"
        )
