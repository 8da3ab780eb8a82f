"""The benchmark of our passes inside Inductor: a row a graph, and no order that Inductor finds worse than its own."""

from bench.inductor_hooks import compiled, rows
from topoformer.pytorch.ordering import Search

SEARCH = Search(seconds=60.0, steps=20_000)


def test_a_training_step_has_two_graphs() -> None:
    found = compiled("transformer", True, SEARCH, program_too=False).graphs
    assert [graph.backward for graph in found] == [False, True]
    assert all(graph.kernels > 50 for graph in found)
    assert found[0].bytes <= found[0].given_bytes
    assert found[1].bytes < found[1].given_bytes


def test_a_row_a_graph() -> None:
    [line] = rows("transformer", False, SEARCH)
    assert line.startswith("| transformer inference | ")
    assert line.count("|") == 11
