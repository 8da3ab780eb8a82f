"""Random layered graphs of Gagrani et al., Neural Topological Ordering for Computation Graphs, NeurIPS 2022.

The rules are those of Appendix A, checked on four published instances (100 to 1,000 nodes): the blocks of all
117 pairs of neighbouring inner layers come out edge for edge.
"""

from math import ceil, floor, sqrt

import numpy as np

from graphs.csr import Int64Array
from graphs.errors import GraphError
from graphs.graph import Graph
from graphs.synthetic._common import generator, weighted_graph

MEANS = np.array([0.5, 1.0, 3.0, 5.0])  # of the mixture that sizes are drawn from, in units of 1,000 bytes
DEVIATIONS = np.array([0.5, 1.0, 1.0, 1.0])
WEIGHTS = np.array([0.3, 0.3, 0.3, 0.1])
SHIFT, LAST = 0.2, 0.999  # a skip edge lands up to a fifth of a layer further along than it starts
MOST_EDGES = 2**31 - 1  # row pointers are int32


def layered(
    nodes: int,
    *,
    seed: int = 0,
    width: float | None = None,
    rho_edge: float = 0.2,
    rho_skip: float = 0.14,
    sigma: float = 0.75,
) -> Graph:
    """Random layered graph with local edges between neighbouring layers and skip edges; O(nodes + edges).

    The family is that of Gagrani et al., Neural Topological Ordering for Computation Graphs, NeurIPS 2022, Appendix A.

    Node "0" is the source, the inner nodes follow layer by layer, the last node is the target; the program
    order is that order. Each node writes one temporary, read by its successors. Averages published for 40
    graphs: 244 edges and 18.8 layers at (nodes 100, width 0.27), 973 and 22 at (250, 0.43), 2,486 and 31.6 at
    (500, 0.36), 5,885 and 50.6 at (1,000, 0.31); these layers are the inner ones and two more, the source and
    the target.

    Args:
        nodes: nodes of the graph, at least 3: source and target are two of them.
        seed: of every random choice; the same arguments give the same graph.
        width: about (nodes in a layer) / (nodes in a layer + layers); in the open interval (0, 1).
            None draws it from [0.25, 0.5], the paper's range.
        rho_edge: share of the possible edges between neighbouring layers, in [0, 1]. Edges grow as this
            times the product of the two widths: pass a small one for large graphs.
        rho_skip: share of skip edges in all edges, in [0, 1).
        sigma: spread of the layers' widths around their mean, in [0, 1].

    Raises:
        GraphError: an argument out of range, or more edges than int32 can count.

    Example:
        >>> from graphs import layered
        >>> layered(100, seed=1, width=0.27)
        <Graph 'layered_n100_s1': 100 nodes, 100 tensors (100 temporary), 248 edges, writes 187.14 KiB, resident 0 B>
    """
    rng = generator(nodes, 3, seed)
    _check("rho_edge", rho_edge, 0 <= rho_edge <= 1, "in [0, 1]")
    _check("rho_skip", rho_skip, 0 <= rho_skip < 1, "in [0, 1)")
    _check("sigma", sigma, 0 <= sigma <= 1, "in [0, 1]")
    if width is None:
        width = float(rng.uniform(0.25, 0.5))
    _check("width", width, 0 < width < 1, "between 0 and 1")
    widths = _layer_widths(rng, nodes - 2, width, sigma)
    first = np.cumsum(widths) - widths  # first node of each layer
    size = _sizes(rng, nodes)
    before, after = _neighbour_edges(rng, widths, first, rho_edge)
    skip_before, skip_after = _skip_edges(rng, widths, first, round(len(before) * rho_skip / (1 - rho_skip)))
    edges = np.concatenate([before, skip_before]), np.concatenate([after, skip_after])
    return weighted_graph(f"layered_n{nodes}_s{seed}", size, *edges)


def _check(what: str, value: float, good: bool, allowed: str) -> None:
    if not good:
        raise GraphError(f"'{what}' must be {allowed} (got {value})")


def _layer_widths(rng: np.random.Generator, inner: int, width: float, sigma: float) -> Int64Array:
    """Nodes of each layer, int64[layers + 2]: source, inner ones (the last takes the rest), target."""
    mean = inner / ceil(sqrt(inner * (1 / width - 1)))
    least = max(ceil((1 - sigma) * mean), 1)
    most = max(floor((1 + sigma) * mean), least)  # narrow or very small graphs have no integer in the range
    drawn = rng.integers(least, most + 1, ceil(inner / least))
    full = int(np.searchsorted(np.cumsum(drawn), inner))  # layers before the last
    return np.concatenate([[1], drawn[:full], [inner - drawn[:full].sum()], [1]])


def _neighbour_edges(
    rng: np.random.Generator, widths: Int64Array, first: Int64Array, rho: float
) -> tuple[Int64Array, Int64Array]:
    pairs = list(zip(widths[:-1].tolist(), widths[1:].tolist(), strict=True))
    counts = [round(rho * a * b + (1 - rho) * max(a, b)) for a, b in pairs]
    if sum(counts) > MOST_EDGES:
        raise GraphError(f"'rho_edge' of {rho} gives {sum(counts)} edges; the most is {MOST_EDGES}")
    befores, afters = [], []
    for layer, ((a, b), count) in enumerate(zip(pairs, counts, strict=True)):
        larger, smaller = _blocks(rng, max(a, b), min(a, b), count)
        before, after = (larger, smaller) if a > b else (smaller, larger)  # a == b as published
        befores.append(before + first[layer])
        afters.append(after + first[layer + 1])
    return np.concatenate(befores), np.concatenate(afters)


def _blocks(rng: np.random.Generator, larger: int, smaller: int, count: int) -> tuple[Int64Array, Int64Array]:
    """``count`` edges: each node of the larger layer gets a block of nodes of the smaller one opposite to it.

    The blocks' lengths differ by at most one. As the larger layer is opposite to all of the smaller one, no
    node of either stays without an edge.
    """
    lengths = np.full(larger, count // larger)
    lengths[rng.permutation(larger)[: count % larger]] += 1
    opposite = np.rint(np.arange(larger) * (smaller - 1) / max(larger - 1, 1)).astype(np.int64)
    start = np.clip(opposite - (lengths - 1) // 2, 0, smaller - lengths)
    offset = np.arange(count) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(np.arange(larger), lengths), np.repeat(start, lengths) + offset


def _skip_edges(
    rng: np.random.Generator, widths: Int64Array, first: Int64Array, draws: int
) -> tuple[Int64Array, Int64Array]:
    """Edges from an inner layer to one at least two later, with repeats; none if there are under 3."""
    layers = len(widths) - 2
    if layers < 3:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    source = rng.integers(1, layers - 1, draws)
    target = rng.integers(source + 2, layers + 1)
    x = rng.random(draws)
    y = np.minimum(x + SHIFT * rng.random(draws), LAST)
    before = first[source] + (x * widths[source]).astype(np.int64)
    return before, first[target] + (y * widths[target]).astype(np.int64)


def _sizes(rng: np.random.Generator, nodes: int) -> Int64Array:
    """Bytes, int64[nodes], multiples of 10: a mixture of Gaussians, negative draws redrawn from their own."""
    component = rng.choice(len(WEIGHTS), nodes, p=WEIGHTS)
    size = rng.normal(MEANS[component], DEVIATIONS[component])
    while len(bad := np.flatnonzero(size < 0)):
        size[bad] = rng.normal(MEANS[component[bad]], DEVIATIONS[component[bad]])
    return np.rint(size * 100).astype(np.int64) * 10
