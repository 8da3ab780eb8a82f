"""The permutation benchmark's tables and curves, worked out from its lines."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.permutation_tasks import TASKS

Lines = Sequence[dict[str, Any]]
TITLES = {
    "law": "30 + 800 evaluations, batches of 20 (the baselines one at a time)",
    "batches": "30 + 800 evaluations in smaller batches",
    "low": "30 + 370 evaluations in batches of 5 (the climbers one at a time)",
    "rules": "Batch rules under one surrogate: 30 + 400 evaluations in batches of 20",
    "generated": "Generated instances: 30 + 200 evaluations in batches of 10 (the climbers one at a time)",
}


def of(experiment: str, lines: Lines) -> Iterator[str]:
    """The table of an experiment in Markdown: mean best and its standard error, over the seeds that there are."""
    by_task: dict[str, dict[tuple[str, int], Lines]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        by_task[line["task"]][line["method"], line["batch"]].append(line)  # type: ignore[attr-defined]
    yield f"## {TITLES[experiment]}"
    yield ""
    if experiment in ("rules", "batches"):
        yield from _side_by_side(by_task, experiment)
    else:
        yield from _against_baselines(by_task, experiment)


def _against_baselines(by_task: Mapping[str, Mapping[tuple[str, int], Lines]], experiment: str) -> Iterator[str]:
    figures = {"law": ("published", "published climber"), "low": ("best published",)}.get(experiment, ())
    columns = ("task", *figures, "best climber", "best other", "**bayesopt_perm**", "better / equal / worse", "seeds")
    yield f"| {' | '.join((*columns, 'optimum', 'kernel', 'round, s'))} |"
    yield "|---|" + "---:|" * (len(columns) + 2)
    for name, methods in by_task.items():
        task = TASKS[name]
        ours = next((lines for (method, _), lines in methods.items() if method.startswith("bayes")), None)
        if not ours:
            continue
        given = {"law": (task.published, task.climber), "low": (task.low_budget,)}.get(experiment, ())
        climbers, others = (
            _lowest({key: lines for key, lines in methods.items() if key[0].startswith(words)})
            for words in (("climb",), ("random", "anneal", "evolve"))
        )
        kernels = [line["kernel"] for line in ours]
        cells = [
            name,
            *("" if value is None else f"{value:,.10g}" for value in given),
            climbers[0],
            others[0],
            f"**{_mean(ours)}**",
            _compared(ours, climbers[1]),
            str(len(ours)),
            "" if task.optimum is None else f"{task.optimum:,.10g}",
            max(set(kernels), key=kernels.count),
            f"{median(line['round_seconds']['median'] for line in ours):.2f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _side_by_side(by_task: Mapping[str, Mapping[tuple[str, int], Lines]], experiment: str) -> Iterator[str]:
    keys = list(dict.fromkeys(key for methods in by_task.values() for key in methods))
    said = [f"batch {batch}" if experiment == "batches" else method.rpartition("=")[2] for method, batch in keys]
    yield f"| task | {' | '.join(said)} | seeds |"
    yield "|---|" + "---:|" * (len(keys) + 1)
    for name, methods in by_task.items():
        cells = [_mean(methods[key]) if key in methods else "" for key in keys]
        yield f"| {name} | {' | '.join(cells)} | {min(map(len, methods.values()))} |"
    if experiment == "rules":
        ranks = _mean_ranks(by_task, keys)
        yield f"| mean rank | {' | '.join(f'{rank:.2f}' for rank in ranks)} | |"


def _mean_ranks(by_task: Mapping[str, Mapping[tuple[str, int], Lines]], keys: Sequence[tuple[str, int]]) -> Any:
    """Of each method among all, on one task and seed; equal values share a rank."""
    ranks = []
    for methods in by_task.values():
        seeds = set.intersection(*({line["seed"] for line in methods.get(key, ())} for key in keys))
        for seed in seeds:
            best = np.array([next(line["best"] for line in methods[key] if line["seed"] == seed) for key in keys])
            ranks.append((best[None] < best[:, None]).sum(1) + ((best[None] == best[:, None]).sum(1) + 1) / 2)
    return np.mean(ranks, axis=0) if ranks else np.full(len(keys), np.nan)


def _mean(lines: Lines) -> str:
    best = np.array([line["best"] for line in lines])
    error = f" ± {best.std(ddof=1) / np.sqrt(len(best)):,.3g}" if len(best) > 1 else ""
    return f"{best.mean():,.1f}{error}"


def _lowest(methods: Mapping[tuple[str, int], Lines]) -> tuple[str, Lines]:
    """The method with the lowest mean, as text and its lines."""
    if not methods:
        return "", []
    name, lines = min(methods.items(), key=lambda item: np.mean([line["best"] for line in item[1]]))
    return f"{_mean(lines)} ({name[0].removeprefix('climb ')})", lines


def _compared(ours: Lines, theirs: Lines) -> str:
    """Seeds on which ours is better, equal, worse."""
    other = {line["seed"]: line["best"] for line in theirs}
    pairs = [(line["best"], other[line["seed"]]) for line in ours if line["seed"] in other]
    return " / ".join(str(sum(test)) for test in zip(*((a < b, a == b, a > b) for a, b in pairs), strict=True))


def draw(target: Path, lines: Lines) -> None:
    """Mean best against evaluations, a panel a task, with a band of one standard error."""
    from matplotlib.figure import Figure

    from bench.permutation_runs import EVERY

    tasks = list(dict.fromkeys(line["task"] for line in lines))
    columns = min(3, max(1, len(tasks)))
    rows = max(1, -(-len(tasks) // columns))
    figure = Figure(figsize=(3.4 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(panels.flat, tasks, strict=False):
        for method in dict.fromkeys(line["method"] for line in lines):
            curves = [line["curve"] for line in lines if (line["task"], line["method"]) == (name, method)]
            if not curves or method.startswith(("anneal", "evolve")):
                continue
            length = min(map(len, curves))
            values = np.array([curve[:length] for curve in curves])
            at = EVERY * np.arange(1, length + 1)
            mean, error = values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values))
            axes.plot(at, mean, linewidth=1.8 if method.startswith("bayes") else 0.9, label=method)
            axes.fill_between(at, mean - error, mean + error, alpha=0.2)
        for value, style in ((TASKS[name].published, ":"), (TASKS[name].optimum, "-")):
            if value is not None:
                axes.axhline(value, color="black", linewidth=0.7, linestyle=style)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in list(panels.flat)[len(tasks) :]:
        axes.set_visible(False)
    panels.flat[0].legend(fontsize=6)
    figure.supxlabel("evaluations (solid line: optimum or best known; dotted: published mean)", fontsize=8)
    figure.supylabel("mean best", fontsize=8)
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
