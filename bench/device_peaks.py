"""Predicted against real peaks: every program in several orders on a device, against what its allocator counted.

Three predictions: from the exact bytes of the storages, from sizes in the allocator's blocks, and from exact bytes
together with the workspaces that each call was seen to use in program order.
"""

import argparse
import dataclasses
import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.device_programs import Program, sources
from bench.device_runs import Bytes, Call, donated_bytes, in_blocks, run
from graphs import Graph, Order, peak_bytes, program_order, simulate
from graphs.cost import OBJECTIVES
from graphs.csr import Int64Array
from graphs.fx import from_fx
from topoformer.schedulers.list_scheduling import random
from topoformer.scheduling import schedule

RANDOM_ORDERS = 4


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--device", default="cuda", help="of torch; on 'cpu' storages are counted, not allocations")
    parser.add_argument("--out", type=Path, help="JSON file for all that was measured")
    parser.add_argument("--networks", nargs="*", default=(), help="only these")
    parser.add_argument("--seconds", type=float, default=4.0, help="for the search of each program's best order")


def table(device: str, out: Path | None, networks: Sequence[str], seconds: float) -> Iterator[str]:
    """The benchmark's rows in Markdown, as they come."""
    results = []
    yield from HEADER
    for name, make in sources(device).items():
        if networks and name not in networks:
            continue
        try:
            programs = make()
        except Exception as error:  # one network that does not trace on this version leaves the others to run
            yield f"| {name} | {type(error).__name__}: {str(error).splitlines()[0][:80]} |" + " |" * 8
            continue
        for program in programs:
            result = measure(program, seconds)
            results.append(result)
            yield from rows(result)
            if out:
                out.write_text(json.dumps({**environment(device), "programs": results}, indent=1) + "\n")
    yield from disagreements(results)


HEADER = (
    "| program | nodes | order | predicted | requested | workspace at the peak | requested less predicted "
    "with workspaces | the same in blocks | allocated | difference |",
    "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
)


def environment(device: str) -> dict[str, Any]:
    """On what it was measured."""
    there = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if there else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if there else None,
        "cudnn": torch.backends.cudnn.version() if there else None,
        "allocator": os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "default"),
    }


def measure(program: Program, seconds: float) -> dict[str, Any]:
    """Predictions and measurements of one program in all orders: the dictionary that goes into the JSON."""
    graph = from_fx(program.module, name=program.name, donated=program.donated)
    plan = orders(graph, seconds)
    own = plan["program"]
    run(program, graph, own, probe=False)  # libraries keep what they allocate when they are first used
    calls = {name: run(program, graph, order, probe=True).calls for name, order in plan.items()}
    spaces = workspaces(graph, own, calls["program"])
    models = {
        "predicted": graph,
        "in_blocks": with_sizes(graph, in_blocks(graph.size), None),
        "with_workspaces": with_sizes(graph, graph.size, spaces[:, 0]),
        "in_blocks_with_workspaces": with_sizes(graph, in_blocks(graph.size), spaces[:, 1]),
    }
    measured = []
    for name, order in plan.items():
        peak = run(program, graph, order, probe=False).peak
        predicted = {key: peak_bytes(model, order) for key, model in models.items()}
        at = simulate(models["with_workspaces"], order).peak_step
        busiest = calls[name][at]
        measured.append(
            {
                "order": name,
                **predicted,
                **peak._asdict(),
                "steps_that_differ": differing_steps(graph, order, calls[name]),
                "peak_node": busiest.node,
                "peak_op": graph.ops[order[at]],
                "peak_workspace": busiest.surplus.requested if busiest.surplus else 0,
            }
        )
    return {
        "program": program.name,
        "nodes": graph.n,
        "resident_bytes": graph.resident_bytes,
        "orders": measured,
        "storages_that_differ": other_storages(graph, own, calls["program"]),
        "workspaces": by_operator(graph, spaces),
    }


def orders(graph: Graph, seconds: float) -> dict[str, Order]:
    """The program's own order, random legal ones, and the best that is found."""
    drawn = {f"random {i}": random(graph, OBJECTIVES["memory"], seconds=1, seed=i) for i in range(RANDOM_ORDERS)}
    return {"program": program_order(graph), **drawn, "best": schedule(graph, seconds=seconds).order}


def with_sizes(graph: Graph, size: Int64Array, scratch: Int64Array | None) -> Graph:
    """``graph`` with other bytes, int64[k], and workspaces, int64[n]."""
    return dataclasses.replace(graph, size=size, scratch=graph.scratch if scratch is None else scratch)


def workspaces(graph: Graph, order: Order, calls: Sequence[Call]) -> Int64Array:
    """Bytes, int64[n, 2], by which each node's run went above what was there at its end: requested, allocated."""
    spaces = np.zeros((graph.n, 2), np.int64)
    for node, call in zip(order, calls, strict=True):
        spaces[node] = call.surplus or Bytes(0, 0)
    return spaces


def differing_steps(graph: Graph, order: Order, calls: Sequence[Call]) -> int:
    """At how many steps the storages alive are not those of the simulation."""
    simulated = simulate(graph, order).step_bytes - donated_bytes(graph).requested
    alive = np.array([call.alive for call in calls], np.int64)
    return int((simulated != alive).sum())


def other_storages(graph: Graph, order: Order, calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Calls whose results come with other storages than their stand-ins without data."""
    found = []
    for node, call in zip(order.tolist(), calls, strict=True):
        said = sorted(graph.size[graph.writes.row(node)].tolist())
        if said != call.new:
            found.append({"op": graph.ops[node], "node": graph.labels[node], "said": said, "real": call.new})
    return found


def by_operator(graph: Graph, spaces: Int64Array) -> dict[str, dict[str, int]]:
    """For each operator that uses workspaces: of how many calls, and the largest requested."""
    found: dict[str, dict[str, int]] = {}
    for op, count in zip(graph.ops, spaces[:, 0].tolist(), strict=True):
        entry = found.setdefault(op, {"calls": 0, "with_workspace": 0, "largest_bytes": 0})
        entry["calls"] += 1
        entry["with_workspace"] += count > 0
        entry["largest_bytes"] = max(entry["largest_bytes"], count)
    return {op: entry for op, entry in sorted(found.items()) if entry["with_workspace"]}


def rows(result: dict[str, Any]) -> Iterator[str]:
    """A row for the program's order, one for the random order that was predicted worst, and one for the best."""
    measured = result["orders"]
    drawn = [entry for entry in measured if entry["order"].startswith("random")]
    worst = max(drawn, key=lambda entry: abs(entry["requested"] - entry["predicted"]))
    for entry in (measured[0], worst, measured[-1]):
        space = f"{entry['peak_workspace']:,} {short(entry['peak_op'])}" if entry["peak_workspace"] else "0"
        blocks = entry["in_blocks_with_workspaces"]
        yield (
            f"| {result['program']} | {result['nodes']} | {entry['order']} "
            f"| {entry['predicted']:,} | {entry['requested']:,} | {space} "
            f"| {entry['requested'] - entry['with_workspaces']:,} "
            f"| {blocks:,} | {entry['allocated']:,} | {entry['allocated'] - blocks:,} |"
        )


def short(op: str) -> str:
    """``conv2d`` for ``aten.conv2d.default``."""
    return op.removeprefix("aten.").removesuffix(".default")


def disagreements(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the capture said of storages that a run contradicts, and the operators with workspaces."""
    yield ""
    for result in results:
        for entry in result["storages_that_differ"]:
            yield f"{result['program']}: {entry['node']} ({entry['op']}) said {entry['said']}, real {entry['real']}"
    largest: dict[str, int] = {}
    for result in results:
        for op, entry in result["workspaces"].items():
            largest[op] = max(largest.get(op, 0), entry["largest_bytes"])
    for op, count in sorted(largest.items(), key=lambda pair: -pair[1]):
        yield f"workspace of {op}: up to {count:,} bytes"
