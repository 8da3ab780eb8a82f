"""What each part of the network and of its training is worth: small networks, equal steps, means over seeds.

Gaps are of layered validation graphs of 150 nodes to a beam of width 1,000; all is done on the CPU in some minutes.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from bench.encoders import encoders
from topoformer.net.data import TRAIN_SEEDS, VALID_SEEDS, Draw
from topoformer.net.labels import Label, label
from topoformer.net.model import Size, Topoformer
from topoformer.net.pool import Item, item
from topoformer.net.trainer import Recipe, Trainer
from topoformer.net.validate import beam_peak, validate

SEEDS = (0, 1)
LABELLED, VALID = 160, 24  # graphs
DRAWN, VALIDATED, WIDTH = Draw(60, 160), Draw(150, 150, layered_only=True), 100
RECIPE = Recipe(
    Size(3, 48, 8, 96), steps=400, samples=8, subset=2, micro_batches=2, graphs=8, pairs=10**6, imitation=0.5,
    warm_up=40, rate=2e-3, rate2=1e-3, average=0.98,
)  # fmt: skip
STAGES = {
    "imitation only": replace(RECIPE, imitation=2.0),
    "no imitation at all": replace(RECIPE, imitation=0.0, recall=0.0),
    "no self-labelling": replace(RECIPE, recall=0.0),
    "greedy baseline": replace(RECIPE, baseline="greedy", subset=1),
    "cost of one sample, not of the best of two": replace(RECIPE, subset=1),
    "no targets": replace(RECIPE, targets=0.0),
    "static decoder": replace(RECIPE, size=replace(RECIPE.size, decoder="static")),
}


def table() -> Iterator[str]:
    """The benchmark's rows, as they come."""
    torch.set_num_threads(1)
    labels = [label(TRAIN_SEEDS + 10_000_000 + i, DRAWN, WIDTH) for i in range(LABELLED)]
    graphs = [VALIDATED(VALID_SEEDS + 2000 + i) for i in range(VALID)]
    valid = [item(graph, 0, beam_peak(graph)) for graph in graphs]
    yield f"Gap in %, mean of {len(SEEDS)} runs and its standard error"
    yield ""
    yield "| variant | greedy | best of 64 |"
    yield "|---|---:|---:|"
    variants: dict[str, tuple[Recipe, Callable[[Size], nn.Module]]] = {}
    variants |= {name: (RECIPE, make) for name, make in encoders().items()}
    variants |= {name: (recipe, Topoformer) for name, recipe in STAGES.items()}
    for name, (recipe, make) in variants.items():
        runs = np.array([gaps(replace(recipe, seed=seed), make, labels, valid) for seed in SEEDS])
        error = runs.std(0, ddof=1) / len(runs) ** 0.5
        yield (
            f"| {name} | " + " | ".join(f"{m:+.2f} ± {e:.2f}" for m, e in zip(runs.mean(0), error, strict=True)) + " |"
        )


def gaps(recipe: Recipe, make: Callable[[Size], nn.Module], labels: list[Label], valid: list[Item]) -> list[float]:
    """Train one network from scratch: its gaps in %, greedy and best of 64."""
    pool = [item(DRAWN(x.seed), x.seed, x.peak_bytes, x.order) for x in labels]
    pool.sort(key=lambda x: (-x.n, x.seed))
    with ThreadPoolExecutor(1) as threads:
        trainer = Trainer(recipe, pool, torch.device("cpu"), threads, make)
        while trainer.step < recipe.steps:
            trainer.advance(trainer.step / recipe.steps)
        found = validate(trainer.outputs, {"valid": valid}, threads).table["valid"]
    return [100 * found["greedy"], 100 * found["best of 64"]]
