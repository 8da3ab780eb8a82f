"""Orders to imitate: found by beams, made in processes, kept in one compressed file."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from graphs import Graph, Order, peak_bytes
from graphs.bound import footprint_bound
from graphs.csr import Int32Array, Int64Array
from topoformer.net.data import Draw
from topoformer.schedulers.beam import UNLIMITED, run_beam
from topoformer.schedulers.problem import whole

MIX = (  # of every ten seeds: how many, what is drawn, and how wide the beam is
    (4, Draw(60, 250), 300),
    (4, Draw(250, 520), 160),
    (1, Draw(350, 520, layered_only=True), 160),
    (1, Draw(520, 1000), 96),
)
BUDGETS = 4  # tries to get below what the beam found, each with a limit on the step
SHARE = 0.3  # of the way from the best peak to the bound that a try asks for


@dataclass(frozen=True)
class Label:
    """A good order of the graph that ``draw`` makes of ``seed``."""

    seed: int
    low: int  # the draw's range of sizes
    high: int
    peak_bytes: int
    order: Order  # int32[n]


def best_order(graph: Graph, width: int) -> Order:
    """Order of the best of a beam and a few beams under tighter and tighter budgets, int32[n]."""
    problem, stop, floor = whole(graph), np.zeros(1, np.int8), footprint_bound(graph)
    found = run_beam(problem, width, floor=floor, limit=UNLIMITED, stop=stop)
    assert found.nodes is not None
    order, peak, low, complete = found.nodes, found.peak_bytes, floor, found.complete
    for _ in range(BUDGETS):
        if complete or peak <= low:
            break
        budget = max(low, peak - 1 - int(SHARE * (peak - low)))
        found = run_beam(problem, width, floor=budget, limit=budget, stop=stop)
        if found.nodes is None:
            low = budget + 1
        else:
            order, peak = found.nodes, peak_bytes(graph, found.nodes)
    return order


def label(seed: int, draw: Draw, width: int) -> Label:
    """The label of one seed."""
    graph = draw(seed)
    order = best_order(graph, width)
    return Label(seed, draw.low, draw.high, peak_bytes(graph, order), order)


def mixed(seed: int, traced: str) -> tuple[Draw, int]:
    """(distribution, width of the beam) for a seed; ``traced`` is the folder of traced graphs, "" for none."""
    place = seed % sum(count for count, _, _ in MIX)
    for count, draw, width in MIX:
        if place < count:
            return replace(draw, traced=traced), width
        place -= count
    raise AssertionError("every place is in the mix")


def labels(seeds: Iterable[int], traced: str, processes: int) -> Iterator[Label]:
    """Labels of ``seeds`` in their order, each of its own draw and width, from several processes."""
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(partial(_label, traced=traced), seeds, chunksize=4)


def _label(seed: int, traced: str) -> Label:
    return label(seed, *mixed(seed, traced))


def save_labels(path: Path, found: list[Label]) -> None:
    """Write labels to one compressed ``.npz`` file."""
    table = np.array([(x.seed, x.low, x.high, x.peak_bytes, len(x.order)) for x in found], np.int64).reshape(-1, 5)
    orders = np.concatenate([x.order for x in found] or [np.empty(0, np.int32)])
    np.savez_compressed(path, table=table, orders=orders)


def load_labels(path: Path) -> list[Label]:
    """Read what :func:`save_labels` wrote."""
    with np.load(path) as data:
        table: Int64Array = data["table"]
        orders: Int32Array = data["orders"]
    ends = np.cumsum(table[:, 4])
    return [
        Label(seed, low, high, peak, orders[end - length : end])
        for (seed, low, high, peak, length), end in zip(table.tolist(), ends.tolist(), strict=True)
    ]
