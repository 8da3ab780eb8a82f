"""The files that a command writes: what they may be called is checked before the search, which may be long."""

import argparse
import gzip
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs.errors import quoted
from topoformer.cli.options import UsageError

if TYPE_CHECKING:
    from topoformer.scheduling import Schedule
    from topoformer.sources import Source

DRAWN = (".png", ".pdf")  # by Matplotlib


def check_outputs(options: argparse.Namespace) -> None:
    """Say now what could not be written after the search; raises UsageError."""
    check_suffix("--save", options.save, ".pt2", ".onnx")
    check_suffix("--report", options.report, ".html", ".svg", *DRAWN)
    check_suffix("--trace", options.trace, ".json", ".json.gz")
    check_suffix("--arena", options.arena, ".json", ".h")
    targets = {"-o": options.output, "--save": options.save, "--report": options.report, "--arena": options.arena}
    check_targets(options, targets | {"--journal": options.journal, "--trace": options.trace})


def check_suffix(option: str, path: Path | None, *allowed: str) -> None:
    special = path is not None and path.exists() and not path.is_file()  # /dev/null; directories are told apart later
    if path and not special and not path.name.endswith(allowed):
        raise UsageError(f"{option} takes a file that ends in {' or '.join(allowed)} (got {quoted(path.name)})")
    if path and path.suffix in DRAWN and find_spec("matplotlib") is None:
        raise UsageError(f"{option} to a {path.suffix} needs matplotlib: pip install 'topoformer[plot]'")


def check_targets(options: argparse.Namespace, targets: "dict[str, Path | None]") -> None:
    """Say now that a file cannot be written, or is one that is read, not after the search."""
    source, device = getattr(options, "source", ""), getattr(options, "device", None)
    taken = {os.path.realpath(source): "SOURCE"}
    if (file := source.rpartition(":")[0]).endswith(".py"):  # of a factory
        taken[os.path.realpath(file)] = "SOURCE"
    if device is not None and os.path.exists(device):
        taken[os.path.realpath(device)] = "--device"
    for option, path in targets.items():
        if path is None:
            continue
        if path.is_dir():
            raise UsageError(f"{option}: {quoted(path)} is a directory")
        if not path.parent.is_dir():
            raise UsageError(f"{option}: there is no directory {quoted(path.parent)} to write {quoted(path.name)} to")
        real = os.path.realpath(path)
        if real in taken and (path.is_file() or not path.exists()):
            raise UsageError(f"{option} and {taken[real]} are the same file, {quoted(path)}")
        taken[real] = option


def check_beside_data(source: "Source", options: argparse.Namespace) -> None:
    """Say now that a file would take the place of an ONNX model's external data, or that these cannot be copied.

    Raises:
        UsageError: an option names such a file.
        GraphError: they cannot be copied beside the file of ``--save``.
    """
    if source.model is None or source.path is None:
        return
    from graphs.onnx_file import check_copies, external_paths

    data = {os.path.realpath(path) for path in external_paths(source.model, source.path)}
    for option in ("output", "save", "report", "trace", "arena", "journal"):
        path = getattr(options, option, None)
        if path is not None and os.path.realpath(path) in data:
            raise UsageError(f"{quoted(path)} holds weights of SOURCE, and would be overwritten")
    if getattr(options, "save", None):
        check_copies(source.model, source.path, options.save)


def write_outputs(source: "Source", result: "Schedule", answer: dict[str, Any], options: argparse.Namespace) -> None:
    """Write every file that was asked for, each whole or not at all."""
    from graphs.io import write_atomic
    from topoformer.sources import save_program

    if options.output:
        write_atomic(options.output, _packed(answer, options.output))
    if options.save:
        save_program(source, result.order, options.save)
    if options.arena:
        from graphs.arena_export import to_c_header, to_json

        header = options.arena.suffix == ".h"
        write_atomic(
            options.arena, (to_c_header(result.arena) if header else json.dumps(to_json(result.arena))).encode()
        )
    if options.report:
        from topoformer.report.files import write_report

        write_report(result, options.report)
    if options.trace:
        from topoformer.report.trace import trace

        write_atomic(options.trace, _packed(trace(result), options.trace))


def write_comparison(results: "Sequence[Schedule]", path: Path) -> None:
    """The page of the best of ``results``, with all of them compared."""
    from graphs.io import write_atomic
    from topoformer.report import Compared, html

    rows = [Compared.of(one) for one in results]
    best = min(results, key=lambda one: one.objective.key(one.cost))
    write_atomic(path, html(best, compared=rows).encode())


def _packed(data: dict[str, Any], path: Path) -> bytes:
    text = (json.dumps(data) + "\n").encode()
    return gzip.compress(text, mtime=0) if path.suffix == ".gz" else text
