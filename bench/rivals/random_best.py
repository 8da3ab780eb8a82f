"""The best of many random orders: the yardstick that learned orderings are compared with in the literature."""

import time

from graphs import Graph, Order, peak_bytes
from graphs.cost import Objective
from topoformer.schedulers.list_scheduling import random

DRAWS = 1_000_000  # at most


def random_best(graph: Graph, objective: Objective, *, seconds: float, seed: int, draws: int = DRAWS) -> Order:
    """The order of lowest peak among random ones, int32[n]; each runs a random one of the nodes that are ready.

    The draws are those of ``seed``, ``seed`` + 1, ...: at most ``draws`` of them, and at least one, while ``seconds``
    last. The result is the same on any machine that has the time for all of them.
    """
    deadline = time.perf_counter() + seconds
    best = random(graph, objective, seconds=seconds, seed=seed)
    lowest = peak_bytes(graph, best)
    for draw in range(1, draws):
        if time.perf_counter() >= deadline:
            break
        order = random(graph, objective, seconds=seconds, seed=seed + draw)
        peak = peak_bytes(graph, order)
        if peak < lowest:
            best, lowest = order, peak
    return best


def missing() -> str:
    """Never anything: it is made of the package's own parts."""
    return ""
