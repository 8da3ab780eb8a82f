"""Traffic, latency on several streams, arenas and measured costs: our orders beside the program's own, and bounds.

``traffic``: bytes on and off the chip; ``streams``: seconds on several streams, free and within the memory that the
program's order holds; ``arena``: offsets for the schedules of the zoo beside their peaks; ``refine``: costs that are
measured, beside what the best order by simulation measures.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from graphs import Graph, from_fx
from graphs.arena import check_plan, plan
from graphs.device import DEVICES
from graphs.latency import latency_bound
from graphs.models import ZOO
from graphs.traffic import compulsory_bytes
from graphs.units import format_bytes, format_seconds
from topoformer import capture, refine, schedule

NPU, MCU, GPU = DEVICES["npu-8mb"], DEVICES["cortex-m7"], DEVICES["h100-sxm"]
TRAFFIC: tuple[tuple[str, dict[str, int], Any], ...] = (  # networks, their arguments, devices
    *((name, {"seed": 5, "batch": 8}, NPU) for name in ("nasnet_a", "pnasnet", "darts", "amoebanet")),
    ("randwire_ws", {"seed": 5, "resolution": 448}, NPU),
    ("randwire_ws", {"seed": 5, "batch": 8}, NPU),
    ("unet_plus_plus", {"seed": 5}, NPU),
    *((name, {"seed": 5}, MCU) for name in ("nasnet_a", "randwire_ws", "darts", "hrnet")),
)
STREAMS = ("randwire_ws", "randwire_er", "nasnet_a", "pnasnet", "hrnet", "inception", "unet_plus_plus", "moe", "lstm")
REFINED: tuple[tuple[str, dict[str, int], str], ...] = (
    ("unet_plus_plus", {"seed": 5}, "heap"),
    ("unet_plus_plus", {"seed": 5}, "peak"),
    ("pnasnet", {"seed": 5}, "heap"),
    ("resnet18", {"seed": 5, "batch": 2}, "heap"),
    ("randwire_er", {"seed": 5}, "heap"),
    ("moe", {"seed": 5}, "heap"),
)
PARTS = ("traffic", "streams", "arena", "refine")


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), help="these tables")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each search (default 10)")
    parser.add_argument("--seed", type=int, default=7100, help="of each search (default 7100)")
    parser.add_argument("--evaluations", type=int, default=60, help="of each measured cost (default 60)")
    parser.add_argument("--out", type=Path, help="append a JSON line a row")


def table(only: Sequence[str], seconds: float, seed: int, evaluations: int, out: Path | None) -> Iterator[str]:
    """The tables in Markdown, a row as soon as it is known."""
    makers = {
        "traffic": lambda: _traffic(seconds, seed),
        "streams": lambda: _streams(seconds, seed),
        "arena": lambda: _arenas(seconds, seed),
        "refine": lambda: _refined(seconds, seed, evaluations),
    }
    for part in only:
        yield ""
        for item in makers[part]():
            if isinstance(item, str):
                yield item
                continue
            row, line = item
            yield f"| {' | '.join(row)} |"
            if out is not None:
                with out.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"table": part, "seconds": seconds, "seed": seed, **line}) + "\n")


Row = tuple[list[str], dict[str, Any]]


def _head(title: str, *columns: str) -> str:
    return f"## {title}\n\n| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}"


def _named(name: str, arguments: dict[str, int]) -> str:
    return ", ".join([name, *(f"{key} {value}" for key, value in arguments.items() if key != "seed")])


@cache
def _graph(name: str, *arguments: tuple[str, int]) -> Graph:
    return from_fx(capture(*ZOO[name](**dict(arguments))), name=name)


def _traffic(seconds: float, seed: int) -> Iterator[str | Row]:
    columns = ("network", "on chip", "program order", "least memory", "ours", "ratio", "compulsory", "memory")
    yield _head("Bytes on and off the chip", *columns)
    for name, arguments, device in TRAFFIC:
        graph = _graph(name, *arguments.items())
        asked: dict[str, Any] = {"seconds": seconds, "seed": seed}
        found = schedule(graph, objective="traffic", device=device, **asked)
        memory = schedule(graph, **asked)
        least = found.objective.measure(graph, memory.order).traffic_bytes or 0
        ours, before = found.cost.traffic_bytes or 0, found.program_cost.traffic_bytes or 0
        numbers = (before, least, ours)
        floor = compulsory_bytes(graph)
        yield (
            [
                _named(name, arguments),
                format_bytes(device.on_chip_bytes),
                *map(format_bytes, numbers),
                f"{ours / before:.3f}",
                f"{floor / before:.3f}",
                f"{found.ratio:.3f}",
            ],
            {"network": name, "arguments": arguments, "device": device.name, "program": before, "memory": least,
             "ours": ours, "compulsory": floor, "peak_ratio": found.ratio},
        )  # fmt: skip


def _streams(seconds: float, seed: int) -> Iterator[str | Row]:
    columns = ("network", "streams", "program order", "free", "held", "within the program's", "held", "bound")
    yield _head("Latency on an H100's streams, and bytes held at once, parts of those of the program order", *columns)
    for name in STREAMS:
        graph = _graph(name, ("seed", 5))
        for count in (2, 4):
            device = replace(GPU, streams=count)
            asked: dict[str, Any] = {"objective": "latency", "device": device, "seconds": seconds, "seed": seed}
            free = schedule(graph, **asked)
            before, size = free.program_cost.latency_seconds or 1.0, free.program_cost.held_bytes
            capped = schedule(graph, memory_limit=graph.resident_bytes + size, **asked)
            floor = latency_bound(graph, device)
            parts = [(one.value_ratio, one.cost.held_bytes / size) for one in (free, capped)]
            cells = [f"{part:.3f}" for pair in parts for part in pair]
            yield (
                [name, str(count), format_seconds(before), *cells, f"{floor / before:.3f}"],
                {"network": name, "streams": count, "program_seconds": before, "program_bytes": size,
                 "free": parts[0], "within": parts[1], "bound": floor / before},
            )  # fmt: skip


def _arenas(seconds: float, seed: int) -> Iterator[str | Row]:
    yield _head("Arenas of the schedules", "network", "peak", "arena", "arena / peak", "aligned to 64", "seconds")
    for name in ZOO:
        found = schedule(_graph(name, ("seed", 5)), seconds=seconds, seed=seed)
        began = time.perf_counter()
        exact, aligned = (plan(found.graph, found.order, alignment=a, seconds=seconds, seed=seed) for a in (1, 64))
        took, peak = time.perf_counter() - began, found.cost.peak_bytes
        for one in (exact, aligned):
            check_plan(one)
        ratios = (exact.arena_bytes / peak, aligned.arena_bytes / peak)
        cells = [format_bytes(peak), format_bytes(exact.arena_bytes), *(f"{ratio:.5f}" for ratio in ratios)]
        yield (
            [name, *cells, f"{took:.2f}"],
            {"network": name, "peak": peak, "arena": exact.arena_bytes, "aligned": aligned.arena_bytes},
        )


def _refined(seconds: float, seed: int, evaluations: int) -> Iterator[str | Row]:
    columns = ("network", "measured", "program order", "best by simulation", "refined", "ratio", "failed", "minutes")
    yield _head(f"Measured costs, {evaluations} evaluations", *columns)
    for name, arguments, cost in REFINED:
        module, inputs = ZOO[name](**arguments)
        began = time.perf_counter()
        asked: dict[str, Any] = {"seconds": seconds, "seed": seed, "evaluations": evaluations, "workers": 0}
        found = refine(module, inputs, cost=cost, **asked)
        took = (time.perf_counter() - began) / 60
        failed = sum(trial.failure is not None for trial in found.trials)
        numbers = (found.program_value, found.start_value, found.value)
        yield (
            [
                _named(name, arguments),
                cost,
                *(format_bytes(int(number)) for number in numbers),
                f"{found.value / found.start_value:.3f}",
                str(failed),
                f"{took:.1f}",
            ],
            {"network": name, "arguments": arguments, "cost": cost, "program": numbers[0], "start": numbers[1],
             "refined": numbers[2], "evaluations": len(found.trials)},
        )  # fmt: skip
