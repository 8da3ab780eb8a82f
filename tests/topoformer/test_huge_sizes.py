"""Sizes up to the most that a graph may hold, 2^62 bytes in all."""

import pytest

from graphs import Graph
from tests import oracle
from tests.strategies import tangled_graph
from topoformer import schedule


def scaled(graph, shift):
    after = [*zip(*graph.after.tolist(), strict=True)]
    size, scratch = graph.size << shift, graph.scratch << shift
    return Graph.build(graph.name, graph.labels, graph.reads, graph.writer, size, kind=graph.kind, after=after, scratch=scratch)  # fmt: skip # noqa: E501


@pytest.mark.parametrize("method", ["auto", "exact"])
def test_scaled_graphs_have_scaled_answers(method):
    for seed in range(40):
        graph = tangled_graph(40_000 + seed, 5 + seed % 6)
        total = int(graph.size.sum() + graph.scratch.sum())
        if not total:
            continue
        for shift in (40, 61 - total.bit_length(), 62 - total.bit_length()):
            optimum = oracle.best_peak(graph) << shift
            result = schedule(scaled(graph, shift), method, seconds=20, steps=3000)
            assert result.bound_bytes <= optimum <= result.cost.peak_bytes, f"graph {seed} << {shift}"
