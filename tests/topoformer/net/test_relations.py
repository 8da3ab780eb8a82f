"""The seven relations against networkx, and that nodes may be renumbered."""

import networkx as nx
import numpy as np
import pytest

from graphs.synthetic import layered
from tests.strategies import random_graph
from tests.topoformer.net.common import renumbered
from topoformer.net.features import FEATURES, canonical_ranks, features
from topoformer.net.relations import RELATIONS, SELF, ancestor_bits, pairs, relations

GRAPHS = [g for seed in range(30) if (g := random_graph(seed, max_nodes=14)).n] + [
    layered(70, seed=1),
    layered(130, seed=2),
]


def digraph(graph):
    found = nx.DiGraph()
    found.add_nodes_from(range(graph.n))
    found.add_edges_from(graph.edges.T.tolist())
    return found


@pytest.mark.parametrize("graph", GRAPHS)
def test_each_relation_is_what_its_name_says(graph):
    edges = digraph(graph)
    reduction = set(nx.transitive_reduction(edges).edges)
    closure = set(nx.transitive_closure(edges).edges)
    forward = [reduction, set(edges.edges) - reduction, closure - set(edges.edges)]
    both = [p for forward_pairs in forward for p in (forward_pairs, {(v, u) for u, v in forward_pairs})]
    every = {(u, v) for u in range(graph.n) for v in range(graph.n) if u != v}
    expected = [*both, every - set().union(*both)]
    found = [{(int(v), int(u)) for v, u in p.T} for p in pairs(relations(graph))]
    assert found == expected
    assert sum(map(len, found)) == graph.n * (graph.n - 1)  # a partition of all ordered pairs


def test_a_node_is_only_itself_to_itself():
    relation = relations(GRAPHS[-1])
    assert (relation.diagonal() == SELF).all()
    assert (relation == SELF).sum() == len(relation)
    assert len(RELATIONS) == SELF


@pytest.mark.parametrize("graph", GRAPHS)
def test_renumbered_nodes_keep_their_features_relations_and_ranks(graph):
    other, place = renumbered(graph, 3)
    np.testing.assert_allclose(features(other)[place], features(graph), atol=1e-6)
    assert (relations(other)[np.ix_(place, place)] == relations(graph)).all()
    assert (canonical_ranks(other)[place] == canonical_ranks(graph)).all()


def test_features_are_finite_and_of_their_own_scale():
    for graph in GRAPHS:
        found = features(graph)
        assert found.shape == (graph.n, len(FEATURES))
        assert np.isfinite(found).all()
        assert np.abs(found).max() <= 4.0


def test_live_bytes_of_the_earliest_and_the_latest_ideal():
    for graph in GRAPHS[:20]:
        bits = ancestor_bits(graph)
        before = [
            [u for u in range(graph.n) if bits[v, u >> 6] >> np.uint64(u & 63) & np.uint64(1)] for v in range(graph.n)
        ]
        after = [[w for w in range(graph.n) if v in before[w]] for v in range(graph.n)]
        early = [live(graph, set(before[v])) for v in range(graph.n)]
        late = [live(graph, set(range(graph.n)) - set(after[v]) - {v}) for v in range(graph.n)]
        highest = max(*early, *late, 1)
        found = features(graph)[:, [FEATURES.index("live if early"), FEATURES.index("live if late")]]
        np.testing.assert_allclose(found, np.stack([early, late], 1) / highest, atol=1e-6)


def live(graph, ideal):
    """Bytes of tensors that are there once ``ideal`` has run, from the definition."""
    total = 0
    for tensor in range(graph.k):
        kind, writer = int(graph.kind[tensor]), int(graph.writer[tensor])
        readers = set(graph.readers.row(tensor).tolist())
        there = writer in ideal or kind == 4
        total += int(graph.size[tensor]) * (there and (kind == 1 or bool(readers - ideal)))
    return total
