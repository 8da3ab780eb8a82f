"""A slow, obvious twin of the simulator: sets and dictionaries, straight from section 1 of the theory.

Shares no code with graphs/memory.py, nor with Graph's derived arrays: only the stored columns are read.
"""

from functools import lru_cache
from itertools import permutations

from graphs import Kind


@lru_cache(maxsize=8)
def reads_of(graph):
    """For each node the set of tensors that it reads."""
    ptr, idx = graph.reads.ptr.tolist(), graph.reads.idx.tolist()
    return [set(idx[ptr[v] : ptr[v + 1]]) for v in range(graph.n)]


@lru_cache(maxsize=8)
def writes_of(graph):
    """For each node the set of tensors that it allocates."""
    return [{t for t in range(graph.k) if graph.writer[t] == v} for v in range(graph.n)]


@lru_cache(maxsize=8)
def readers_of(graph):
    """For each tensor the set of nodes that read it."""
    reads = reads_of(graph)
    return [{v for v in range(graph.n) if t in reads[v]} for t in range(graph.k)]


@lru_cache(maxsize=8)
def preds_of(graph):
    """For each node the set of nodes that must run before it."""
    preds = [{int(graph.writer[t]) for t in row if graph.writer[t] >= 0} for row in reads_of(graph)]
    for before, node in zip(*graph.after.tolist(), strict=True):
        preds[node].add(before)
    return preds


def is_legal(graph, order):
    """Every node once, and after all that must run before it."""
    order, preds = list(order), preds_of(graph)
    return sorted(order) == list(range(graph.n)) and all(preds[v] <= set(order[:t]) for t, v in enumerate(order))


def legal_orders(graph):
    """All legal orders: for very small graphs."""
    return [order for order in permutations(range(graph.n)) if is_legal(graph, order)]


def live_tensors(graph, done):
    """Tensors that are counted once the nodes ``done`` have run: still to be read, or kept to the end."""
    alive = set()
    for t, readers in enumerate(readers_of(graph)):
        kind = Kind(graph.kind[t])
        there = kind == Kind.DONATED or (kind in (Kind.TEMPORARY, Kind.OUTPUT) and graph.writer[t] in done)
        if there and (kind == Kind.OUTPUT or readers - set(done)):
            alive.add(t)
    return alive


def tensors_during(graph, done, node):
    """Tensors that are counted while ``node`` runs, the nodes ``done`` having run before."""
    return live_tensors(graph, done) | writes_of(graph)[node]


def bytes_of(graph, tensors):
    return sum(int(graph.size[t]) for t in tensors)


def profile(graph, order):
    """(bytes while each step runs, bytes once it has ended)."""
    during, after, done = [], [], set()
    for node in order:
        during.append(bytes_of(graph, tensors_during(graph, done, node)) + int(graph.scratch[node]))
        done.add(node)
        after.append(bytes_of(graph, live_tensors(graph, done)))
    return during, after


def peak(graph, order):
    return max(profile(graph, order)[0], default=0)


def best_peak(graph):
    """Lowest peak of any legal order: a dynamic programme over all ideals, for n <= 10."""
    preds, everything = preds_of(graph), frozenset(range(graph.n))
    best = {frozenset(): 0}
    for _ in range(graph.n):
        larger = {}
        for done, so_far in best.items():
            for node in everything - done:
                if preds[node] <= done:
                    step = bytes_of(graph, tensors_during(graph, done, node)) + int(graph.scratch[node])
                    ideal, cost = done | {node}, max(so_far, step)
                    larger[ideal] = min(cost, larger.get(ideal, cost))
        best = larger
    return best[everything]
