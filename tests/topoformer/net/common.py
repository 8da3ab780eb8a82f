"""What the tests of the network share."""

import numpy as np

from graphs import Graph
from graphs.csr import csr_from_pairs


def renumbered(graph, seed):
    """``graph`` with its nodes in another legal order, and where each of its nodes went, int[n]."""
    rng = np.random.default_rng(seed)
    waits, ready, order = graph.preds.lengths.copy(), [], []
    ready = [v for v in range(graph.n) if waits[v] == 0]
    while ready:
        order.append(ready.pop(int(rng.integers(len(ready)))))
        for w in graph.succs.row(order[-1]).tolist():
            waits[w] -= 1
            if waits[w] == 0:
                ready.append(w)
    place = np.empty(graph.n, np.int64)
    place[order] = np.arange(graph.n)
    return Graph.build(
        graph.name,
        [graph.labels[v] for v in order],
        csr_from_pairs(place[graph.reads.row_of], graph.reads.idx, graph.n),
        np.where(graph.writer >= 0, place[graph.writer], -1),
        graph.size,
        kind=graph.kind,
        after=place[graph.after].T,
        scratch=graph.scratch[order],
    ), place
