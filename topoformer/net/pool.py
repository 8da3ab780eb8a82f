"""Training graphs in memory, encoded once: drawn in processes, sorted by size, each with the best order known."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import IO

import numpy as np

from graphs import Graph, Order
from graphs.csr import CSR
from topoformer.net.data import Draw
from topoformer.net.decode import Instance, floor_of, instance
from topoformer.net.features import Features, features
from topoformer.net.relations import Relations, ancestor_bits

NONE = 0  # peak of a graph of which no order is known


@dataclass
class Item:
    """One graph as training needs it; ``best_*`` change as better orders are found."""

    seed: int
    inst: Instance
    features: Features
    preds: CSR
    floor: int  # bytes: a bound on the peak
    best_peak: int = NONE
    best_order: Order | None = None
    _relation: list[Relations] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.features)

    @property
    def relation(self) -> Relations:
        """uint8[n, n], made when first asked for: it is most of an item's bytes."""
        from topoformer.net import _encode_kernels as kernels

        if not self._relation:
            bits = kernels.ancestors(*self.preds)
            self._relation.append(kernels.relation_ids(*self.preds, bits))
        return self._relation[0]

    def learn(self, peak: int, order: Order) -> None:
        """Keep ``order`` if it is better than what is known."""
        if self.best_peak == NONE or peak < self.best_peak:
            self.best_peak, self.best_order = peak, order.copy()


def item(graph: Graph, seed: int = 0, peak: int = NONE, order: Order | None = None) -> Item:
    """``graph`` encoded."""
    bits = ancestor_bits(graph)
    preds = CSR(*(np.array(a) for a in graph.preds))
    return Item(seed, instance(graph), features(graph, bits), preds, floor_of(graph), peak, order)


Task = tuple[int, Draw, int, "Order | None"]  # seed, its distribution, a known order's peak and the order


def _drawn(task: Task) -> Item:
    seed, draw, peak, order = task
    return item(draw(seed), seed, peak, order)


def items(tasks: Iterable[Task], processes: int) -> list[Item]:
    """The items of ``tasks`` by falling size, made in so many processes (0: in this one)."""
    todo = list(tasks)
    if processes:
        made = [_drawn(task) for task in todo[:1]]  # so that the kernels are compiled once and not in every process
        with ProcessPoolExecutor(processes, mp_context=get_context("fork" if hasattr(os, "fork") else "spawn")) as pool:
            made += pool.map(_drawn, todo[1:], chunksize=16)
    else:
        made = [_drawn(task) for task in todo]
    return sorted(made, key=lambda x: (-x.n, x.seed))


def tasks(seeds: Iterable[int], draw: Draw) -> list[Task]:
    """Tasks for graphs of which no order is known."""
    return list(map(partial(_task, draw), seeds))


def _task(draw: Draw, seed: int) -> Task:
    return seed, draw, NONE, None


def slices(pool: Sequence[Item], pairs: int, most: int, rng: np.random.Generator) -> Sequence[Item]:
    """Neighbours in size from a random place of ``pool``: at most ``most`` of them and ``pairs`` pairs of nodes."""
    first = int(rng.integers(len(pool)))
    count = min(most, max(1, pairs // pool[first].n ** 2))
    first = min(first, max(len(pool) - count, 0))
    return pool[first : first + count]


def save_known(pool: Sequence[Item], file: IO[bytes]) -> None:
    """Write the best peak and order known of each graph."""
    table = np.array([(x.best_peak, 0 if x.best_order is None else x.n) for x in pool], np.int64)
    orders = [x.best_order for x in pool if x.best_order is not None]
    np.savez_compressed(file, table=table, orders=np.concatenate(orders or [np.empty(0, np.int32)]).astype(np.uint16))


def load_known(pool: Sequence[Item], path: Path) -> None:
    """Put what :func:`save_known` wrote of the same pool back in place."""
    with np.load(path) as data:
        table, orders = data["table"], data["orders"].astype(np.int32)
    ends = np.cumsum(table[:, 1])
    for x, peak, length, end in zip(pool, *table.T.tolist(), ends.tolist(), strict=True):
        x.best_peak, x.best_order = peak, orders[end - length : end] if length else None
