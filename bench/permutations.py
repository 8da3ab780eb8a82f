"""Bayesian optimisation over permutations beside hill climbers and other batch rules, on equal starts; resumable.

Experiments: ``law`` (the nine tasks of Oh et al. 2022: 30 + 800 evaluations in batches of 20), ``batches`` (three of
them in batches of 5 and 10), ``low`` (400 evaluations in batches of 5 on seven instances with published figures),
``rules`` (batch rules under one surrogate) and ``generated`` (needs no files). A line a run goes to ``--out``; a run
that has one is not repeated.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.permutation_runs import Run, search
from bench.permutation_tables import draw
from bench.permutation_tables import of as table_of
from bench.permutation_tasks import GENERATED, LAW, LOW_BUDGET, TASKS

CLIMBERS = ("climb swap", "climb insert", "climb reverse")
OTHERS = ("random", "anneal swap", "anneal insert", "anneal reverse", "evolve swap", "evolve insert", "evolve reverse")
RULES = ("law", "qei", "thompson", "dpp", "random", "top", "law-prior")
FEW = ("chr12a", "hel2", "bayg29")  # of each kind of problem one
SEEDS = range(7000, 7020)  # of what is reported; settings are tried on others
EXPERIMENTS = ("law", "batches", "low", "rules", "generated")


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--only", nargs="*", choices=EXPERIMENTS, default=list(EXPERIMENTS), help="these experiments")
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), help="these tasks")
    parser.add_argument("--data", type=Path, help="folder with qaplib/, flowshop/ and tsplib/")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="paired seeds of each row (default 20)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--out", type=Path, default=Path("permutations.jsonl"), help="a JSON line a run; resumed from")
    parser.add_argument("--curves", type=Path, help="draw curves against evaluations into this file (.svg, .png)")
    parser.add_argument("--dry", action="store_true", help="only print what the lines give so far")


def table(
    only: Sequence[str],
    tasks: Sequence[str] | None,
    data: Path | None,
    seeds: int,
    jobs: int,
    out: Path,
    curves: Path | None,
    dry: bool,
) -> Iterator[str]:
    """Run what has no line yet; then every experiment's table in Markdown."""
    names = {name: [task for task in TASKS_OF[name] if not tasks or task in tasks] for name in only}
    for missing in sorted({t for found in names.values() for t in found if TASKS[t].problem(data) is None}):
        yield f"not found under --data, left out: {TASKS[missing].file}"
        names = {name: [task for task in found if task != missing] for name, found in names.items()}
    runs = {name: [run for task in found for run in _runs(name, task, SEEDS[:seeds])] for name, found in names.items()}
    if not dry:
        yield from _carried_out([run for found in runs.values() for run in found], data, jobs, out)
    lines = {_key(line): line for line in _read(out)}
    for name, found in runs.items():
        yield ""
        yield from table_of(name, [lines[run.key] for run in found if run.key in lines])
    if curves:
        draw(curves, [lines[run.key] for run in runs.get("law", []) if run.key in lines])
        yield f"drawn: {curves}"


TASKS_OF = {"law": LAW, "batches": FEW, "low": LOW_BUDGET, "rules": FEW, "generated": GENERATED}


def _runs(experiment: str, task: str, seeds: Sequence[int]) -> Iterator[Run]:
    """Seeds are the outer loop: whatever is there when time runs out is paired."""
    for seed in seeds:
        if experiment == "law":
            yield Run(task, "bayes", 20, 830, seed)
            for method in (*CLIMBERS, *OTHERS):
                yield Run(task, method, 1, 830, seed)
        elif experiment == "batches":
            for batch in (5, 10):
                yield Run(task, "bayes", batch, 830, seed)
        elif experiment == "low":
            yield Run(task, "bayes", 5, 400, seed)
            for method in CLIMBERS:
                yield Run(task, method, 1, 400, seed)
        elif experiment == "rules":
            for rule in RULES:
                yield Run(task, f"bayes batch={rule}", 20, 430, seed)
        else:
            yield Run(task, "bayes", 10, 230, seed)
            for method in CLIMBERS:
                yield Run(task, method, 1, 230, seed)


def _carried_out(runs: Sequence[Run], data: Path | None, jobs: int, out: Path) -> Iterator[str]:
    done = {_key(line) for line in _read(out)}
    todo = sorted((run for run in dict.fromkeys(runs) if run.key not in done), key=lambda run: run.seed)
    if not todo:
        return
    yield f"{len(todo)} runs to do, {len(runs) - len(todo)} there"
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool, out.open("a") as lines:
        for future in as_completed([pool.submit(search, run, data) for run in todo]):
            lines.write(json.dumps(future.result()) + "\n")
            lines.flush()


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in ("task", "method", "batch", "budget", "seed"))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:  # what a kill in the middle of a write has left
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]
