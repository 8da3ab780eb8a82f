"""Small graphs with every feature of the model, and legal orders of them: from a seed, or as hypothesis strategies."""

import random

import networkx as nx
from hypothesis import strategies as st

from graphs import Graph, Kind
from tests.oracle import preds_of

SIZES = (0, 0, 1, 2, 3, 5, 8, 8, 13, 100, 2**40)


def random_graph(seed, max_nodes=9):
    """A graph with views, several outputs a node, donated tensors, scratch, zero bytes and unread temporaries."""
    rng = random.Random(seed)
    n = rng.randint(0, max_nodes)
    kind = [rng.choice((Kind.INPUT, Kind.WEIGHT, Kind.DONATED)) for _ in range(rng.randint(0, 3))]
    writer = [-1] * len(kind)
    reads, after = [], []
    for v in range(n):
        reads.append([t for t in range(len(kind)) if rng.random() < 2 / (len(kind) + 1)])
        after += [(u, v) for u in range(v) if rng.random() < 0.1]
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):  # 0: a view or a node with side effects only
            kind.append(rng.choice((Kind.TEMPORARY, Kind.TEMPORARY, Kind.TEMPORARY, Kind.OUTPUT)))
            writer.append(v)
    shuffled = rng.sample(range(len(kind)), len(kind))  # tensors need not be numbered in program order
    place = {old: new for new, old in enumerate(shuffled)}
    return Graph.build(
        f"random-{seed}",
        [f"n{v}" for v in range(n)],
        [[place[t] for t in row] for row in reads],
        [writer[old] for old in shuffled],
        [rng.choice(SIZES) for _ in kind],
        ops=[rng.choice(("aten.mm.default", "aten.view.default", "")) for _ in range(n)],
        kind=[kind[old] for old in shuffled],
        after=after,
        scratch=[rng.choice((0, 0, 0, 4, 50)) for _ in range(n)],
        flops=[rng.choice((0.0, 1.5e9, 1e-3)) for _ in range(n)],
        seconds=[rng.choice((0.0, 0.25)) for _ in range(n)],
        moved=[rng.choice((-1, -1, 0, 7, 300)) for _ in range(n)],
        dtypes=[rng.choice(("", "float32", "bfloat16")) for _ in range(n)],
        tensor_names=[rng.choice(("", "x", "über")) for _ in kind],
        sources=[rng.choice(("", "model.py:12")) for _ in range(n)],
        types=[rng.choice(("", "float32[8, 64]")) for _ in kind],
        modules=[rng.choice(("", "layers.0")) for _ in range(n)],
    )


def random_order(graph, rng):
    """A legal order: again and again one of the nodes that are ready."""
    waiting = {v: set(graph.preds.row(v).tolist()) for v in range(graph.n)}
    order = []
    while waiting:
        v = rng.choice([v for v, before in waiting.items() if not before])
        del waiting[v]
        order.append(v)
        for before in waiting.values():
            before.discard(v)
    return order


def with_pairs(graph, pairs):
    """``graph`` with further precedences, its nodes renumbered so that it is in program order again."""
    arcs = nx.DiGraph()
    arcs.add_nodes_from(range(graph.n))
    arcs.add_edges_from((u, v) for v, before in enumerate(preds_of(graph)) for u in before)
    arcs.add_edges_from(pairs)
    rows = list(nx.topological_sort(arcs))
    new = {old: i for i, old in enumerate(rows)}
    return Graph.build(
        "with precedences",
        [graph.labels[v] for v in rows],
        [graph.reads.row(v).tolist() for v in rows],
        [new.get(int(w), -1) for w in graph.writer],
        graph.size,
        kind=graph.kind,
        after=[(new[u], new[v]) for u, v in [*zip(*graph.after.tolist(), strict=True), *pairs]],
        scratch=graph.scratch[rows],
    )


small_graphs = st.integers(0, 2**32 - 1).map(random_graph)


@st.composite
def graphs_with_orders(draw, max_nodes=9):
    """(graph, legal order)."""
    graph = random_graph(draw(st.integers(0, 2**32 - 1)), max_nodes)
    return graph, random_order(graph, random.Random(draw(st.integers(0, 2**32 - 1))))


def tangled_graph(seed, nodes, *, numbered_anew=False):
    """A graph of exactly ``nodes`` nodes, all kinds of tensors and small sizes: bounds are seldom met at once.

    With ``numbered_anew`` the same graph, its nodes numbered by another legal order.
    """
    rng = random.Random(f"tangled {seed} {nodes}")
    kind = [rng.choice((Kind.INPUT, Kind.WEIGHT, Kind.DONATED, Kind.DONATED)) for _ in range(rng.randint(0, 4))]
    writer = [-1] * len(kind)
    reads, after = [], []
    reach, outputs = rng.choice((3, 6, 12, nodes)), rng.choice((0.0, 0.05, 0.2))
    for v in range(nodes):
        near = [t for t in range(len(kind)) if writer[t] < 0 or v - writer[t] <= reach]
        reads.append(rng.sample(near, min(len(near), rng.choice((0, 1, 1, 2, 2, 3)))))
        after += [(u, v) for u in range(max(0, v - reach), v) if rng.random() < 0.04]
        for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3))):
            kind.append(Kind.OUTPUT if rng.random() < outputs else Kind.TEMPORARY)
            writer.append(v)
    size = [rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 20)) for _ in kind]
    scratch = [rng.choice((0, 0, 0, 0, 3, 10)) for _ in range(nodes)]
    labels = [f"n{v}" for v in range(nodes)]
    graph = Graph.build(f"tangled-{seed}", labels, reads, writer, size, kind=kind, after=after, scratch=scratch)
    if not numbered_anew:
        return graph
    order = random_order(graph, rng)
    place = {v: t for t, v in enumerate(order)} | {-1: -1}
    return Graph.build(
        f"{graph.name}-anew",
        [labels[v] for v in order],
        [reads[v] for v in order],
        [place[v] for v in writer],
        size,
        kind=kind,
        after=[(place[u], place[v]) for u, v in after],
        scratch=[scratch[v] for v in order],
    )
