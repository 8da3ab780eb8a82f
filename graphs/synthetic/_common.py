"""What the families share: checks of arguments, random bytes, a graph from weighted nodes and edges."""

from collections.abc import Iterable

import numpy as np

from graphs.csr import Int32Array, Int64Array, csr_from_pairs
from graphs.errors import GraphError
from graphs.graph import Graph

KIB = 1024


def generator(nodes: int, minimum: int, seed: int) -> np.random.Generator:
    """The one random generator of a graph, once ``nodes`` and ``seed`` are known to be in range."""
    if nodes < minimum:
        raise GraphError(f"'nodes' must be at least {minimum} (got {nodes})")
    if seed < 0:
        raise GraphError(f"'seed' must not be negative (got {seed})")
    return np.random.default_rng(seed)


def random_bytes(rng: np.random.Generator, count: int) -> Int64Array:
    """Bytes of ``count`` tensors, int64[count]: log-uniform from 1 KiB to 1 MiB, in whole KiB."""
    return (2.0 ** rng.uniform(0, 10, count)).astype(np.int64) * KIB


def weighted_graph(
    name: str,
    size: Int64Array,
    before: Int32Array | Int64Array,
    node: Int32Array | Int64Array,
    *,
    labels: Iterable[str] | None = None,
    ops: Iterable[str] | None = None,
    kind: Int64Array | None = None,
) -> Graph:
    """A graph whose node i writes one tensor of ``size[i]`` bytes, read by its successors.

    Args:
        size: int64[n] bytes.
        before: int[m], the first node of each edge; may hold repeats.
        node: int[m], the second node of each edge.
    """
    n = len(size)
    names = map(str, range(n)) if labels is None else labels
    reads = csr_from_pairs(node, before, n)
    return Graph.build(name, names, reads, np.arange(n, dtype=np.int32), size, ops=ops, kind=kind)
