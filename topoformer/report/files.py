"""A schedule's report as a file: a page or a picture, by what the file's name ends in."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs.errors import quoted
from graphs.io import write_atomic
from topoformer.report.compared import Compared

if TYPE_CHECKING:
    from topoformer.scheduling import Schedule

DRAWN = (".png", ".pdf")  # by Matplotlib
SUFFIXES = (".html", ".svg", *DRAWN)


def write_report(result: "Schedule", path: str | os.PathLike[str]) -> None:
    """Write a page (``.html``) or a picture (``.svg``, ``.png``, ``.pdf``) of ``result``, whole or not at all.

    Raises:
        ValueError: the file's name ends in something else.
        ModuleNotFoundError: a ``.png`` or ``.pdf`` needs Matplotlib (``pip install 'topoformer[plot]'``).
        OSError: the file cannot be written.
    """
    target = Path(path)
    suffix = ".html" if target.exists() and not target.is_file() else target.suffix  # a pipe, /dev/null
    if suffix not in SUFFIXES:
        raise ValueError(f"a report's name ends in {', '.join(SUFFIXES)} (got {quoted(Path(path).name)})")
    write_atomic(path, _content(result, suffix))


def _content(result: "Schedule", suffix: str) -> bytes:
    if suffix in DRAWN:
        from topoformer.report.plot import picture

        return picture(result.plot(), suffix)
    from topoformer.report import html, svg

    if suffix == ".svg":
        return svg(result).encode()
    return html(result, compared=beside_list_policies(result)).encode()


def beside_list_policies(result: "Schedule") -> list[Compared]:
    """The order found beside those of list policies: what other schedulers do takes milliseconds to try."""
    from topoformer.scheduling import SCHEDULERS, scheduler_named

    graph = result.graph
    objective = result.objective
    rows = [Compared.of(result)]
    for name, where in SCHEDULERS.items():
        if ".list_scheduling:" in where and name != result.method:
            policy: Any = scheduler_named(name)
            began = time.perf_counter()
            order = policy(graph, objective, seconds=1.0, seed=result.seed)
            took = time.perf_counter() - began
            cost = objective.measure(graph, order)
            rows.append(Compared(name, cost.held_bytes, took, None if objective.is_memory else objective.value(cost)))
    return rows
