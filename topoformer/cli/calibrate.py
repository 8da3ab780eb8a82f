"""The command that measures the machine at hand, and what the latency model says of programs beside what they take."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphs.errors import quoted
from graphs.units import format_seconds
from topoformer.cli.options import UsageError
from topoformer.cli.progress import busy, counting

if TYPE_CHECKING:
    from graphs.device import Device
    from topoformer.pytorch.calibrate import Comparison
    from topoformer.sources import Source

DONE, INTERRUPTED = 0, 130  # exit codes


def run(options: argparse.Namespace) -> int:
    """Measure and keep what has been measured; returns the exit code.

    Raises:
        UsageError: a SOURCE is no program, or the file cannot be one.
        ValueError, OSError: one line that says what cannot be done.
    """
    from graphs.io import write_atomic
    from topoformer.calibration import profile_path, save_profile

    _check_output(options.output)
    sources = [_program(name) for name in options.source]
    from topoformer.pytorch.calibrate import device_names, device_of, keep_freed_memory, measure_device
    from topoformer.sources import check_runnable

    for source, name in zip(sources, options.source, strict=True):
        check_runnable(source, name)
    keep_freed_memory()
    devices: dict[str, Device] = {}
    for name in device_names():
        with busy(f"measuring {name}", options):
            devices[name] = measure_device(name)
    if options.output:
        write_atomic(options.output, (json.dumps([*devices.values()][-1].to_json()) + "\n").encode())
    for device in devices.values():
        save_profile(device)
    results: list[Comparison] = []
    code = DONE
    try:
        for source in sources:
            results.append(_compared(source, devices[device_of(source.program)], options))
    except KeyboardInterrupt:  # what has been timed is kept
        print(f"interrupted: {len(results)} of {len(sources)} sources", file=sys.stderr)
        code = INTERRUPTED
    if options.json:
        measured = [device.to_json() for device in devices.values()]
        print(json.dumps({"devices": measured, "sources": [result.to_json() for result in results]}))
    else:
        lines = [line for device in devices.values() for line in device_lines(device)]
        print("\n".join([*lines, f"kept in {profile_path()}", *comparison_lines(results)]))
    return code


def _check_output(path: Path | None) -> None:
    """Say now that the file cannot be written, not when all has been measured."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"-o: {quoted(path)} is a directory")
    if not path.parent.is_dir():
        raise UsageError(f"-o: there is no directory {quoted(path.parent)} to write {quoted(path.name)} to")
    if not path.name.endswith(".json") and not (path.exists() and not path.is_file()):
        raise UsageError(f"-o takes a file that ends in .json (got {quoted(path.name)})")


def _program(name: str) -> "Source":
    from topoformer.sources import load_source

    source = load_source(name)
    if source.program is None:
        what = "a graph" if source.model is None else "an ONNX model"
        raise UsageError(f"calibrate takes programs, a .pt2 or a factory ({quoted(name)} is {what})")
    return source


def _compared(source: "Source", device: "Device", options: argparse.Namespace) -> "Comparison":
    from topoformer.pytorch.calibrate import compare
    from topoformer.sources import stdout_kept_for_results, with_measured_scratch

    name = source.graph.name
    with counting(f"{name}: timing operators", options) as progress:
        assert source.program is not None  # _program has seen to it
        with stdout_kept_for_results():
            result = compare(source.program, source.graph, device, budget_seconds=options.seconds, progress=progress)
    with busy(f"{name}: measuring workspaces of operators", options):
        with_measured_scratch(source)
    return result[1]


def device_lines(device: "Device") -> list[str]:
    """What a person wants to know of a measured device."""
    rows = [("copy", f"{device.bandwidth / 1e9:.1f} GB/s"), ("launch", format_seconds(device.launch_seconds))]
    rows += [(dtype, f"{rate / 1e9:.1f} Gflop/s") for dtype, rate in device.flops.items()]
    lines = [f"{device.name}: {device.source.removeprefix('measured: ')}"]
    return [*lines, *(f"  {name:10} {value:>16}" for name, value in rows)]


def comparison_lines(results: "Sequence[Comparison]") -> list[str]:
    """A table with a row a program; nothing where there is none."""
    from topoformer.text import printable

    if not results:
        return []
    lines = [f"{'':20} {'measured':>10} {'predicted':>10} {'error':>7} {'roofline':>9} {'timed':>6}"]
    for row in results:
        note = f"  {row.estimated_nodes} of {row.nodes} nodes estimated" if row.estimated_nodes else ""
        times = f"{format_seconds(row.measured_seconds):>10} {format_seconds(row.predicted_seconds):>10}"
        errors = f"{row.error:>+7.1%} {row.roofline_error:>+9.1%}"
        lines.append(f"{printable(row.name, 20):20} {times} {errors} {row.calls:>6}{note}")
    return lines
