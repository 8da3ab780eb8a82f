import networkx as nx
import numpy as np
import pytest

from graphs import Graph, GraphError, Kind, from_networkx, simulate, to_networkx
from tests.strategies import random_graph


def weighted(*edges, **sizes):
    """A plain weighted DiGraph: weighted(("a", "b"), a=4, b=2)."""
    digraph = nx.DiGraph()
    digraph.add_nodes_from((node, {"bytes": size}) for node, size in sizes.items())
    digraph.add_edges_from(edges)
    return digraph


def refused(digraph, **options):
    with pytest.raises(GraphError) as error:
        from_networkx(digraph, **options)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500
    return str(error.value)


def test_a_graph_comes_back_from_networkx_as_it_was():
    for seed in range(200):
        g = random_graph(seed)
        back = from_networkx(to_networkx(g))
        assert back.fingerprint == g.fingerprint, seed
        for column in ("name", "tensor_names", "types", "modules", "sources"):
            assert getattr(back, column) == getattr(g, column)


def test_edges_tell_the_bytes_that_are_read_along_them():
    g = Graph.build("g", "abc", [[], [0, 1], [0]], [0, 0], [4, 8], after=[(1, 2)], ops=["split", "", ""])
    digraph = to_networkx(g)
    assert list(digraph.edges(data="bytes")) == [("a", "b", 12), ("a", "c", 4), ("b", "c", 0)]
    assert list(digraph) == ["a", "b", "c"]
    assert digraph.graph["name"] == "g"
    assert digraph.nodes["a"] == {"op": "split", "reads": [], "writes": [0, 1]}


def test_a_plain_graph_has_one_tensor_a_node():
    g = from_networkx(weighted(("a", "b"), ("a", "c"), ("b", "c"), a=4, b=2, c=1), name="tri")
    assert (g.name, g.labels) == ("tri", ("a", "b", "c"))
    assert [g.reads.row(v).tolist() for v in range(3)] == [[], [0], [0, 1]]
    assert (g.writer.tolist(), g.size.tolist(), g.kind.tolist()) == ([0, 1, 2], [4, 2, 1], [Kind.TEMPORARY] * 3)
    assert simulate(g).step_bytes.tolist() == [4, 6, 7]


def test_attributes_of_nodes_are_taken_over():
    digraph = weighted(a=4)
    digraph.nodes["a"].update(op="mm", kind="output", scratch_bytes=3, flops=2.0, seconds=0.5, source="m.py:1", x=None)
    g = from_networkx(digraph)
    assert (g.ops, g.kind.tolist(), g.scratch.tolist()) == (("mm",), [Kind.OUTPUT], [3])
    assert (g.flops.tolist(), g.seconds.tolist(), g.sources) == ([2.0], [0.5], ("m.py:1",))


def test_numpy_scalars_are_taken():
    digraph = weighted(("a", "b"), a=np.int32(4), b=np.uint8(2))
    digraph.nodes["a"].update(flops=np.float32(2), scratch_bytes=np.int64(3))
    digraph.edges["a", "b"]["bytes"] = np.int64(0)
    g = from_networkx(digraph)
    assert (g.size.tolist(), g.flops.tolist(), g.scratch.tolist()) == ([4, 2], [2.0, 0.0], [3, 0])
    assert g.after.T.tolist() == [[0, 1]]


def test_an_edge_of_no_bytes_orders_without_holding_memory():
    digraph = weighted(("a", "b"), ("a", "c"), a=4, b=2, c=1)
    digraph.edges["a", "c"]["bytes"] = 0
    g = from_networkx(digraph)
    assert [g.reads.row(v).tolist() for v in range(3)] == [[], [0], []]
    assert g.after.T.tolist() == [[0, 2]]


def test_another_attribute_may_hold_the_bytes():
    digraph = nx.DiGraph()
    digraph.add_node(0, out_cost=7)
    g = from_networkx(digraph, size="out_cost")
    assert (g.labels, g.size.tolist(), g.name) == (("0",), [7], "graph")


def test_the_name_is_the_argument_else_the_graphs_own():
    assert from_networkx(nx.DiGraph(name="own")).name == "own"
    assert from_networkx(nx.DiGraph(name="own"), name="mine").name == "mine"
    assert from_networkx(nx.DiGraph()).n == 0
    assert from_networkx(to_networkx(random_graph(3)), name="mine").name == "mine"


def test_the_program_order_is_the_order_of_insertion_where_that_is_legal():
    digraph = weighted(("b", "a"), b=1, a=1, c=1)
    assert from_networkx(digraph).labels == ("b", "a", "c")
    assert list(nx.topological_sort(digraph)) != ["b", "a", "c"]


def test_an_order_of_insertion_that_is_not_legal_is_replaced_by_a_topological_one():
    g = from_networkx(weighted(("b", "a"), ("c", "b"), a=1, b=2, c=3))
    assert g.labels == ("c", "b", "a")
    assert g.size.tolist() == [3, 2, 1]
    assert [g.reads.row(v).tolist() for v in range(3)] == [[], [0], [1]]


def test_a_cycle_is_named():
    assert refused(weighted(("a", "b"), ("b", "a"), a=1, b=1)) == "nodes form a cycle: 'a' -> 'b' -> 'a'"
    assert refused(weighted(("a", "a"), a=1)) == "nodes form a cycle: 'a' -> 'a'"
    ring = nx.cycle_graph(100, create_using=nx.DiGraph)
    nx.set_node_attributes(ring, 1, "bytes")
    assert refused(ring).endswith(" -> ... (100 nodes)")


@pytest.mark.parametrize("wrong", [nx.Graph(), nx.MultiGraph(), nx.MultiDiGraph(), {}, None])
def test_anything_but_a_simple_directed_graph_is_refused(wrong):
    assert refused(wrong) == f"'digraph' must be a networkx.DiGraph (got {type(wrong).__name__})"


def test_a_missing_size_is_named():
    digraph = weighted(a=1)
    digraph.add_node("b")
    assert refused(digraph) == "node 'b' has no attribute 'bytes'"
    assert refused(digraph, size="out_cost") == "node 'a' has no attribute 'out_cost'"


@pytest.mark.parametrize("size", [1.0, True, "1", None, -1, 2**63, [1], float("nan"), np.float64(1), np.bool_(True)])
def test_a_size_that_is_no_byte_count_is_refused(size):
    digraph = weighted(a=1, b=size)
    message = refused(digraph)
    assert message.startswith("node 'b': 'bytes' must be an integer from 0 to 2**63 - 1 (got ")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"kind": "input"}, "node 'b': 'kind' must be 'temporary' or 'output' (got 'input')"),
        ({"kind": 1}, "node 'b': 'kind' must be 'temporary' or 'output' (got '1')"),
        ({"kind": np.zeros(3)}, "node 'b': 'kind' must be 'temporary' or 'output'"),
        ({"flops": "many"}, "node 'b': 'flops' must be a finite number (got 'many')"),
        ({"flops": float("nan")}, "node 'b': 'flops' must be finite and not negative (got nan)"),
        ({"seconds": True}, "node 'b': 'seconds' must be a finite number (got True)"),
        ({"scratch_bytes": 1.5}, "node 'b': 'scratch_bytes' must be an integer from 0 to 2**63 - 1 (got 1.5)"),
        ({"op": 3}, "node 1: 'op' must be a string (got 3)"),
        ({"source": None}, "node 1: 'source' must be a string (got None)"),
    ],
)
def test_an_attribute_of_the_wrong_type_is_refused(attributes, message):
    digraph = weighted(a=1, b=1)
    digraph.nodes["b"].update(attributes)
    assert refused(digraph).startswith(message)


@pytest.mark.parametrize("count", ["0", None, True, np.zeros(2)])
def test_bytes_of_an_edge_that_are_no_number_are_refused(count):
    digraph = weighted(("a", "b"), a=1, b=1)
    digraph.edges["a", "b"]["bytes"] = count
    assert refused(digraph).startswith("edge 'a -> b': 'bytes' must be a finite number (got ")


def test_two_nodes_that_print_the_same_are_refused():
    digraph = nx.DiGraph()
    digraph.add_node(1, bytes=1)
    digraph.add_node("1", bytes=1)
    assert refused(digraph) == "two nodes are named '1'"


def chain():
    return to_networkx(Graph.build("g", "abc", [[], [0], [1]], [0, 1, 2], [4, 2, 1]))


def test_an_edge_added_to_a_graph_of_ours_is_not_lost_in_silence():
    digraph = chain()
    digraph.add_edge("a", "c")
    assert refused(digraph) == "edge 'a' -> 'c' is in the digraph only"
    digraph.remove_edge("a", "c")
    digraph.remove_edge("a", "b")
    assert refused(digraph) == "edge 'a' -> 'b' is in 'reads' and 'after', but not in the digraph"


def test_a_node_taken_from_a_graph_of_ours_is_refused():
    digraph = chain()
    digraph.remove_node("b")
    assert refused(digraph).startswith("tensor 1 is temporary but no node writes it")


def test_attributes_of_a_graph_of_ours_are_checked_as_in_a_file():
    digraph = chain()
    digraph.nodes["b"]["reads"] = [7]
    assert refused(digraph) == "node 'b': 'reads' names tensor 7, but there are 3"
    digraph.nodes["b"]["reads"] = [0]
    digraph.nodes["b"]["name"] = "other"  # the key of the node decides
    digraph.nodes["b"][5] = "a key that is no string"
    assert from_networkx(digraph).labels == ("a", "b", "c")
    digraph.graph["tensors"] = None
    assert refused(digraph) == "'tensors' must be a list (got None)"
