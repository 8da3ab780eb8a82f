"""Graphs x methods x seeds: what has no line yet is run, and every line is kept as it comes."""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.cases import Case, cases
from bench.one_run import Run, keep_graph, key_of, measure, path_of, warm_up
from bench.rivals import RIVALS
from bench.workers import Result, on_dask, on_processes
from graphs.errors import unknown_name
from topoformer.cli.progress import moving
from topoformer.scheduling import SCHEDULERS

OURS = ("auto", "topoformer")
LIST = ("lpmf", "dfs", "liu", "bfs")  # what costs milliseconds
FAST = ("inductor", "xla", "xla_gpu", "onnxruntime", "onnxruntime_priority", "networkx")
SLOW = ("random_best", "genetic", "cp_sat")
METHODS = {
    "quick": ("auto", "topoformer", "lpmf", "inductor", "networkx", "random_best"),
    "scale": ("auto", "cuts", "lpmf", "liu", "inductor", "networkx"),
}
SECONDS = {"quick": 2.0, "scale": 60.0}
STEPS = {"quick": 20_000}  # so that two machines find the same
SEEDS = {"quick": 2, "layered": 4, "irregular": 3}
GRACE = 240.0  # seconds beyond a run's own, and four times these, after which its process is hung


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    known = [*SCHEDULERS, *RIVALS]
    parser.add_argument("--methods", metavar="A,B", help=f"with commas between: {', '.join(known)}")
    parser.add_argument("--graphs", nargs="*", metavar="NAME", help="only these graphs of the suite")
    parser.add_argument("--seconds", type=float, metavar="S", help="for each run (default 10; quick 2, scale 60)")
    parser.add_argument("--steps", type=int, metavar="N", help="for each run at most: the same on any machine")
    parser.add_argument("--seeds", type=int, metavar="N", help="graphs of each random family (default 1 to 4)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of published graphs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON line a run (default SUITE.jsonl)")
    parser.add_argument("--resume", action="store_true", help="go on with FILE: what it has is not run again")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with tables and plots")
    parser.add_argument("--keep-graphs", type=Path, metavar="DIR", help="where traced graphs are kept between calls")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--dask", metavar="ADDRESS", help="run on a Dask cluster, as tcp://host:8786")


def table(suite: str, **asked: Any) -> Iterator[str]:
    """Run what is missing; then the suite's tables, worked out from the lines."""
    from bench.reading import tables

    asked = _checked(suite, asked)
    out: Path = asked["out"]
    if out.exists() and not asked["resume"]:
        raise SystemExit(f"{out} is there: --resume goes on with it, --out names another file")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked["keep_graphs"] or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        runs = _runs(suite, asked, folder)
        yield from carried_out(runs, out, jobs=asked["jobs"], dask=asked["dask"], fresh=suite == "scale")
    wanted = {run.key for run in runs}
    lines = [line for line in read(out) if key_of(line) in wanted]
    yield ""
    yield from tables(suite, lines)
    if asked["report"]:
        from bench.page import write

        write(asked["report"], suite, lines)


def _checked(suite: str, asked: dict[str, Any]) -> dict[str, Any]:
    methods = asked["methods"].split(",") if asked["methods"] else METHODS.get(suite, (*OURS, *LIST, *FAST, *SLOW))
    for name in methods:
        if name not in SCHEDULERS and name not in RIVALS:
            raise SystemExit(unknown_name("method", name, [*SCHEDULERS, *RIVALS]))
    for name, least in (("seconds", 0.0), ("steps", 1), ("seeds", 1), ("jobs", 1)):
        if asked[name] is not None and not asked[name] >= least:
            raise SystemExit(f"--{name} must be at least {least} (got {asked[name]})")
    defaults = {
        "seconds": SECONDS.get(suite, 10.0),
        "steps": STEPS.get(suite),
        "seeds": SEEDS.get(suite, 1),
        "out": Path(f"{suite}.jsonl"),
    }
    return asked | {"methods": tuple(methods)} | {k: v for k, v in defaults.items() if asked[k] is None}


def _runs(suite: str, asked: dict[str, Any], folder: Path) -> list[Run]:
    """Every method on every graph; graphs are the outer loop, so that what is there when time runs out is whole."""
    found = cases(suite, asked["seeds"], asked["data"])
    names = [case.name for case in found]
    for name in asked["graphs"] or ():
        if name not in names:
            raise SystemExit(unknown_name("graph", name, names))
    chosen = [case for case in found if not asked["graphs"] or case.name in asked["graphs"]]
    rest = (asked["seconds"], asked["steps"], folder)
    return [Run(case, method, 0, *rest) for case in chosen for method in asked["methods"]]


def carried_out(runs: Sequence[Run], out: Path, *, jobs: int, dask: str | None, fresh: bool) -> Iterator[str]:
    """Run what has no line in ``out``; yields what is worth saying meanwhile."""
    done = {key_of(line) for line in read(out)}
    todo = [run for run in dict.fromkeys(runs) if run.key not in done]
    if not todo:
        return
    yield f"{len(todo)} runs to do, {len(runs) - len(todo)} there"
    torch.set_num_threads(1)
    first = partial(warm_up, tuple(dict.fromkeys(run.method for run in todo)))
    if dask:
        results = on_dask(measure, todo, address=dask)
    else:
        failures = _made(todo, jobs)
        yield from (f"FAILED: making {name}: {reason}" for name, reason in failures.items())
        todo = [run for run in todo if run.case.name not in failures]
        results = on_processes(measure, todo, jobs=jobs, first=first, timeout=_timeout, fresh=fresh)
    with out.open("a", encoding="utf-8") as lines:
        for result in _watched(results, len(todo), lambda run: f"{run.case.name}, {run.method}"):
            if result.failure:
                yield f"FAILED: {result.task.case.name}, {result.task.method}: {result.failure}"
                continue
            lines.write(json.dumps(result.value) + "\n")
            lines.flush()


def _made(todo: Sequence[Run], jobs: int) -> dict[str, str]:
    """Make the graphs, so that no run waits for a trace; returns which could not be made, and why."""
    missing = {run.case.name: run.case for run in todo if not path_of(run.case, run.folder).exists()}
    make = partial(keep_graph, folder=todo[0].folder)
    results: Iterator[Result[Case]] = on_processes(
        make, list(missing.values()), jobs=jobs, first=_nothing, timeout=lambda _: 3600.0
    )
    watched = _watched(results, len(missing), lambda case: f"making {case.name}")
    return {result.task.name: result.failure for result in watched if result.failure}


def _nothing() -> None:
    """Before graphs are made there is nothing to do."""


def _timeout(run: Run) -> float:
    return GRACE + 4 * run.seconds


def _watched(results: Iterator[Result[Any]], total: int, say: Callable[[Any], str]) -> Iterator[Result[Any]]:
    """The results; on a terminal, how many there are meanwhile."""
    last = ""
    for number in range(total):
        with moving(lambda: f"{number} of {total}{last}"):  # noqa: B023
            result = next(results)
        last = f", the last: {say(result.task)}"
        yield result


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a result file; what a kill in the middle of a write has left is cut off."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]
