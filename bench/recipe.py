"""The recipe of the network, from scratch, in ten minutes on a CPU: is it better than what needs no training?

The same command as for the shipped weights, with a smaller network and fewer graphs.
"""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bench import learned
from graphs import Graph, peak_bytes
from graphs.synthetic import layered
from topoformer.net import train
from topoformer.net.stored import load_encoder
from topoformer.schedulers import list_scheduling as ls

MINUTES = 8.5  # of training; the rest of the ten makes labels and graphs
COMMAND = (
    "--label-count 400 --graphs 200 --ranges 60-150,150-300,300-500 --layers 3 --width 64 --graphs-a-batch 8 "
    "--pairs 1000000 --micro-batches 2 --samples 8 --subset 2 --imitation 0.2 --steps 1000000 --threads 1 --device cpu"
)
GRAPHS, NODES, RANDOM = 16, 300, 100


def table() -> Iterator[str]:
    """Train, then a row a method."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        train.main([*COMMAND.split(), "--labels", str(out / "labels.npz"), "--out", folder, "--minutes", str(MINUTES)])
        encoder = load_encoder(folder=out)
    yield f"trained in {(time.perf_counter() - began) / 60:.1f} minutes; {GRAPHS} layered graphs of {NODES} nodes"
    yield "| method | gap | ms |"
    yield "|---|---:|---:|"
    made = [layered(NODES, seed=learned.FIRST_SEED + i) for i in range(GRAPHS)]
    reference = learned.row("reference", partial(learned.unguided, width=learned.WIDE), made)
    scores = encoder.policy
    methods = {
        name: partial(learned.list_policy, p) for name, p in (("LPMF", ls.lpmf), ("BFS", ls.bfs), ("DFS", ls.dfs))
    }
    methods |= {f"best of {RANDOM} random": partial(best_random, RANDOM)}
    methods |= {"network, greedy": partial(learned.decoded, scores), "best of 64": partial(learned.sampled, scores, 64)}
    for name, method in methods.items():
        found = learned.row(name, method, made)
        yield f"| {name} | {found.gap(reference.peaks)} | {found.milliseconds} |"


def best_random(count: int, graph: Graph) -> "np.typing.NDArray[np.int32]":
    """The best of ``count`` random orders."""
    orders = (ls.random(graph, learned.MEMORY, seconds=1.0, seed=seed) for seed in range(count))
    return min(orders, key=partial(peak_bytes, graph))
