"""Every policy against a naive list scheduler that looks at all ready nodes at every step."""

import math
from itertools import permutations, product

import numpy as np
import pytest

import graphs
from graphs import Kind
from graphs.cost import OBJECTIVES
from graphs.synthetic import tree
from tests import oracle
from tests.strategies import random_graph
from topoformer.schedulers import list_scheduling as ls


def net_change(graph, done, node):
    return oracle.bytes_of(graph, oracle.live_tensors(graph, done | {node})) - oracle.bytes_of(
        graph, oracle.live_tensors(graph, done)
    )


def step_bytes(graph, node):
    return oracle.bytes_of(graph, oracle.writes_of(graph)[node]) + int(graph.scratch[node])


def naive(graph, key):
    """Order by ``key(done, node, arrival, live, highest)`` among all ready nodes, then by node."""
    preds, done, order, arrival = oracle.preds_of(graph), set(), [], {}
    donated = [t for t in range(graph.k) if graph.kind[t] == Kind.DONATED and oracle.readers_of(graph)[t]]
    live = highest = oracle.bytes_of(graph, donated)
    for _ in range(graph.n):
        ready = [v for v in range(graph.n) if v not in done and preds[v] <= done]
        for v in ready:
            arrival.setdefault(v, len(arrival))
        node = min(ready, key=lambda v: (key(done, v, arrival[v], live, highest), v))
        highest = max(highest, live + step_bytes(graph, node))
        live += net_change(graph, done, node)
        done.add(node)
        order.append(node)
    return order


def naive_post_order(graph):
    preds, order = oracle.preds_of(graph), []
    followed = set().union(*preds) if graph.n else set()

    def visit(node):
        if node not in order:
            for before in sorted(preds[node], key=lambda u: (-oracle.bytes_of(graph, oracle.writes_of(graph)[u]), u)):
                visit(before)
            if node not in order:
                order.append(node)

    for node in range(graph.n):
        if node not in followed:
            visit(node)
    return order


def liu_peaks(graph):
    """(peak of each node's cone as if it were a tree, bytes that stay of the node)."""
    preds, readers = oracle.preds_of(graph), oracle.readers_of(graph)
    stays = [{t for t in row if graph.kind[t] == Kind.OUTPUT or readers[t]} for row in oracle.writes_of(graph)]
    kept, peaks = [oracle.bytes_of(graph, row) for row in stays], []
    for v in range(graph.n):
        held, highest = 0, 0
        for u in sorted(sorted(preds[v]), key=lambda u: kept[u] - peaks[u]):
            highest = max(highest, held + peaks[u])
            held += kept[u]
        peaks.append(max(highest, held + step_bytes(graph, v)))
    return peaks, kept


def naive_liu(graph):
    preds, order = oracle.preds_of(graph), []
    peaks, kept = liu_peaks(graph)
    key = lambda u: (kept[u] - peaks[u], u)  # noqa: E731

    def visit(node):
        for before in sorted(preds[node] - set(order), key=key):
            if before not in order:
                visit(before)
        if node not in order:
            order.append(node)

    followed = set().union(*preds) if graph.n else set()
    for node in sorted(set(range(graph.n)) - followed, key=key):
        visit(node)
    return order


def path_length(graph, node):
    weight = [float(s) for s in graph.seconds] if graph.seconds.any() else [1.0] * graph.n
    later = [v for v in range(graph.n) if node in oracle.preds_of(graph)[v]]
    return weight[node] + max((path_length(graph, v) for v in later), default=0.0)


def placed_as(order):
    return lambda done, v, arrival, live, highest: order.index(v)


KEYS = {
    "program": lambda g: lambda done, v, arrival, live, highest: v,
    "bfs": lambda g: lambda done, v, arrival, live, highest: arrival,
    "net_change": lambda g: lambda done, v, arrival, live, highest: net_change(g, done, v),
    "smallest": lambda g: lambda done, v, arrival, live, highest: step_bytes(g, v),
    "lpmf": lambda g: (
        lambda done, v, arrival, live, highest: (
            max(live + step_bytes(g, v), highest),
            net_change(g, done, v),
        )
    ),
    "dfs": lambda g: placed_as(naive_post_order(g)),
    "liu": lambda g: placed_as(naive_liu(g)),
    "critical_path": lambda g: lambda done, v, arrival, live, highest: -path_length(g, v),
}


@pytest.mark.parametrize("name", KEYS)
def test_policy_is_its_key(name):
    for seed in range(300):
        graph = random_graph(seed, 12)
        order = getattr(ls, name)(graph, OBJECTIVES["memory"], seconds=1, seed=0)
        assert order.tolist() == naive(graph, KEYS[name](graph)), f"graph of seed {seed}"


def test_random_is_seeded_and_reaches_every_order():
    graph = graphs.Graph.build("v", "abcd", [[], [0], [0], [1, 2]], [0, 1, 2, 3], [1] * 4)
    orders = {tuple(ls.random(graph, OBJECTIVES["memory"], seconds=1, seed=s).tolist()) for s in range(30)}
    assert orders == {tuple(order) for order in oracle.legal_orders(graph)}
    assert (
        ls.random(graph, OBJECTIVES["memory"], seconds=1, seed=5).tolist()
        == ls.random(graph, OBJECTIVES["memory"], seconds=1, seed=5).tolist()
    )


def test_keys_of_any_numeric_type_compare_as_they_are():
    graph = graphs.Graph.build("flat", "abc", [[], [], []], [0, 1, 2], [1] * 3)
    assert ls.list_schedule(graph, np.array([0.5, -math.inf, 0.25])).tolist() == [1, 2, 0]
    assert ls.list_schedule(graph, np.array([3, 2**63, 1], np.uint64)).tolist() == [2, 0, 1]
    for bad in (np.array([1, 2]), np.array([1.0, math.nan, 2.0]), np.array(["a", "b", "c"])):
        with pytest.raises(ValueError, match="'keys' must be 3 numbers"):
            ls.list_schedule(graph, bad)


def test_a_deep_chain_needs_no_recursion():
    n = 200_000
    graph = graphs.Graph.build(
        "chain", [str(i) for i in range(n)], [[i - 1] if i else [] for i in range(n)], range(n), [1] * n
    )
    for name in KEYS:
        assert getattr(ls, name)(graph, OBJECTIVES["memory"], seconds=1, seed=0).tolist() == list(range(n))


def test_the_order_of_liu_is_the_best_post_order_of_a_tree():
    for seed in range(40):
        graph = tree(9, seed=7600 + seed)
        found = graphs.peak_bytes(graph, ls.liu(graph, OBJECTIVES["memory"], seconds=1, seed=0))
        assert found == min(oracle.peak(graph, order) for order in post_orders(graph, graph.n - 1))


def post_orders(graph, root):
    """All depth-first post-orders of the subtree below ``root``."""
    found = []
    for children in permutations(oracle.preds_of(graph)[root]):
        for parts in product(*(post_orders(graph, child) for child in children)):
            found.append([node for part in parts for node in part] + [root])
    return found
