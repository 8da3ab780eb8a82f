"""What each part of the network and of its training is worth: small networks, equal steps, means over seeds.

Gaps are of layered validation graphs of 150 nodes to a beam of width 1,000; all is done on the CPU. Each run adds a
line to ``--out``, and those that are there already are not made again: Ctrl-C and the same command go on.
"""

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.encoders import Variant, encoders
from topoformer.net.data import TRAIN_SEEDS, VALID_SEEDS, Draw
from topoformer.net.geometric import widened
from topoformer.net.labels import Label, label
from topoformer.net.model import Size, Topoformer
from topoformer.net.pool import Item, item
from topoformer.net.trainer import Recipe, Trainer
from topoformer.net.validate import beam_peak, validate

RUNS = Path(__file__).parent / "results" / "ablation.jsonl"
LABELLED, VALID = 200, 32  # graphs
DRAWN, VALIDATED, WIDTH = Draw(60, 160), Draw(150, 150, layered_only=True), 100
RECIPE = Recipe(
    Size(3, 48, 8, 96), steps=600, samples=8, subset=2, micro_batches=2, graphs=8, pairs=10**6, imitation=0.5,
    warm_up=40, rate=2e-3, rate2=1e-3, average=0.985,
)  # fmt: skip
STAGES = {
    "imitation only": replace(RECIPE, imitation=2.0),
    "imitation and self-labelling": replace(RECIPE, reinforcement=0.0, recall=1.0),
    "imitation and REINFORCE": replace(RECIPE, recall=0.0),
    "REINFORCE only": replace(RECIPE, imitation=0.0, recall=0.0),
    "static decoder": replace(RECIPE, size=replace(RECIPE.size, decoder="static")),
    "greedy baseline": replace(RECIPE, baseline="greedy", subset=1),
    "cost of one sample, not of the best of two": replace(RECIPE, subset=1),
    "no targets": replace(RECIPE, targets=0.0),
}
LAST = ("edges only", "GIN on the edges", "greedy baseline", "cost of one sample, not of the best of two", "no targets")
METHODS = ("greedy", "best of 64")


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default 3)")
    parser.add_argument("--out", type=Path, default=RUNS, help="JSON lines, one a run, that are read and added to")
    parser.add_argument("--table", action="store_true", help="only the table of the runs that there are")


def table(seeds: int, out: Path, table: bool) -> Iterator[str]:
    """Make the runs that are missing, all variants with one seed before the next one, some last; then the rows."""
    if not table:
        _make_missing(seeds, out)
    found: dict[str, list[list[float]]] = {}
    for line in _lines(out):
        found.setdefault(line["variant"], []).append([line[method] for method in METHODS])
    yield "| variant | runs | " + " | ".join(METHODS) + " |"
    yield "|---|---:|" + "---:|" * len(METHODS)
    for name in variants():
        if name in found:
            runs = np.array(found[name])
            cells = [f"{mean:+.2f}" for mean in runs.mean(0)]
            if len(runs) > 1:
                errors = runs.std(0, ddof=1) / len(runs) ** 0.5
                cells = [f"{cell} ± {error:.2f}" for cell, error in zip(cells, errors, strict=True)]
            yield f"| {name} | {len(runs)} | {' | '.join(cells)} |"


def variants() -> dict[str, tuple[Recipe, Variant]]:
    """Training and encoder of each row, by its name."""
    found = {name: (RECIPE, variant) for name, variant in encoders().items()}
    return found | {name: (recipe, Variant(Topoformer)) for name, recipe in STAGES.items()}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _make_missing(seeds: int, out: Path) -> None:
    torch.set_num_threads(1)
    done = {(line["variant"], line["seed"]) for line in _lines(out)}
    todo = [(name, seed) for seed in range(seeds) for name in variants() if (name, seed) not in done]
    todo.sort(key=lambda run: run[0] in LAST)
    if not todo:
        return
    labels = [label(TRAIN_SEEDS + 10_000_000 + i, DRAWN, WIDTH) for i in range(LABELLED)]
    graphs = [VALIDATED(VALID_SEEDS + 2000 + i) for i in range(VALID)]
    valid = [item(graph, 0, beam_peak(graph)) for graph in graphs]
    for name, seed in todo:
        recipe, variant = variants()[name]
        began = time.perf_counter()
        found = gaps(replace(recipe, seed=seed), variant, labels, valid)
        line = {"variant": name, "seed": seed, **found, "seconds": round(time.perf_counter() - began, 1)}
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")


def gaps(recipe: Recipe, variant: Variant, labels: list[Label], valid: list[Item]) -> dict[str, float]:
    """Train one network from scratch: its gaps in %, by method."""
    pool = [item(DRAWN(x.seed), x.seed, x.peak_bytes, x.order) for x in labels]
    pool.sort(key=lambda x: (-x.n, x.seed))
    if variant.encoding:
        pool, valid = [widened(x) for x in pool], [widened(x) for x in valid]
    with ThreadPoolExecutor(1) as threads:
        trainer = Trainer(recipe, pool, torch.device("cpu"), threads, variant.make)
        while trainer.step < recipe.steps:
            trainer.advance(trainer.step / recipe.steps)
        found = validate(trainer.outputs, {"valid": valid}, threads).table["valid"]
    return {method: round(100 * found[method], 4) for method in METHODS}
