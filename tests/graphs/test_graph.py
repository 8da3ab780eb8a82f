import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

from graphs import CSR, Graph, GraphError, Kind, UnsupportedOp, check_order, inverse, program_order
from graphs.csr import csr_from_rows
from graphs.errors import quoted, unknown_name
from tests import oracle
from tests.strategies import random_graph


def graph(reads=((0,), (1,), (1, 2)), writer=(-1, 0, 1, 2), size=(100, 4, 2, 1), **columns):
    """By default: input -> a -> b -> c, where c reads what a and b wrote."""
    labels = columns.pop("labels", [chr(ord("a") + i) for i in range(len(reads))])
    return Graph.build(columns.pop("name", "g"), labels, reads, writer, size, **columns)


def int32(*values):
    return np.array(values, np.int32)


def test_build_fills_in_what_is_not_given():
    g = graph()
    assert (g.n, g.k, g.labels, g.ops) == (3, 4, ("a", "b", "c"), ("", "", ""))
    assert g.kind.tolist() == [Kind.INPUT, Kind.TEMPORARY, Kind.TEMPORARY, Kind.TEMPORARY]
    assert g.after.shape == (2, 0)
    for column in (g.scratch, g.flops, g.seconds):
        assert column.tolist() == [0, 0, 0]
    assert (g.tensor_names, g.sources) == (("",) * 4, ("",) * 3)


def test_every_column_has_its_type():
    wanted = {"writer": "int32", "size": "int64", "kind": "int8", "after": "int32", "scratch": "int64"}
    for g in (graph(), graph([], [], []), graph(after=[(0, 2)], flops=[1, 2, 3])):
        for field, dtype in (wanted | {"flops": "float64", "seconds": "float64"}).items():
            assert getattr(g, field).dtype == dtype, field
        assert (g.reads.ptr.dtype, g.reads.idx.dtype) == ("int32", "int32")


def test_rows_and_pairs_are_sorted_and_repeats_dropped():
    g = graph(reads=[[0, 0], [1], [2, 1, 2, 1]], after=[(1, 2), (0, 2), (1, 2), (0, 1)])
    assert [g.reads.row(v).tolist() for v in range(3)] == [[0], [1], [1, 2]]
    assert g.after.T.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert g.fingerprint == graph(after=[(0, 1), (0, 2), (1, 2)]).fingerprint


@pytest.mark.parametrize("field", ["writer", "size", "kind", "after", "scratch", "flops", "seconds"])
def test_no_array_can_be_written_to(field):
    g = graph(after=[(0, 2)])
    with pytest.raises(ValueError, match="read-only"):
        getattr(g, field)[0] = 0


@pytest.mark.parametrize("name", ["reads", "writes", "readers", "preds", "succs"])
def test_no_rows_can_be_written_to(name):
    for array in getattr(graph(), name):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_field_cannot_be_assigned():
    with pytest.raises(FrozenInstanceError):
        graph().size = np.zeros(4, np.int64)


@pytest.mark.parametrize("lock", [False, True])
def test_later_writes_to_the_callers_arrays_do_not_show_through(lock):
    template = graph(after=[(0, 2)])
    names = [field.name for field in fields(Graph) if isinstance(getattr(template, field.name), np.ndarray)]
    mine = {name: getattr(template, name).copy() for name in names}
    given = {name: array[:] for name, array in mine.items()}
    ptr, idx = template.reads.ptr.copy(), template.reads.idx.copy()
    for array in given.values():
        array.flags.writeable = not lock  # a locked view says nothing about the array behind it
    g = replace(template, reads=CSR(ptr, idx), **given)
    for array in (*mine.values(), ptr, idx):
        array[...] = 1
    for name in names:
        assert np.array_equal(getattr(g, name), getattr(template, name)), name
    assert g.reads.idx.tolist() == template.reads.idx.tolist()
    assert g.fingerprint == template.fingerprint


def test_building_leaves_the_callers_arrays_writeable():
    size = np.array([100, 4, 2, 1], np.int64)
    graph(size=size)
    size[0] = 5


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_any_integer_array_that_fits_is_taken(dtype):
    assert graph(size=np.array([100, 4, 2, 1], dtype)).fingerprint == graph().fingerprint


def test_derived_rows_agree_with_the_definitions():
    for seed in range(200):
        g = random_graph(seed)
        preds = oracle.preds_of(g)
        succs = [{v for v in range(g.n) if u in preds[v]} for u in range(g.n)]
        for rows, wanted in (
            (g.reads, oracle.reads_of(g)), (g.writes, oracle.writes_of(g)), (g.readers, oracle.readers_of(g)),
            (g.preds, preds), (g.succs, succs),
        ):  # fmt: skip
            assert [rows.row(i).tolist() for i in range(len(rows.ptr) - 1)] == [sorted(row) for row in wanted]
        assert g.edges.T.tolist() == [[u, v] for v in range(g.n) for u in sorted(preds[v])]


def test_the_same_content_has_the_same_fingerprint():
    assert graph().fingerprint == graph().fingerprint
    assert len({random_graph(seed).fingerprint for seed in range(300) if random_graph(seed).n}) > 250


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["a", "b", "d"]},
        {"ops": ["add", "", ""]},
        {"ops": ["", "add", ""]},
        {"reads": [[0], [1], [2]]},
        {"reads": [[], [1], [1, 2]]},
        {"writer": [-1, 0, 0, 2]},
        {"size": [100, 4, 2, 0]},
        {"kind": [Kind.WEIGHT, 0, 0, 0]},
        {"kind": [Kind.DONATED, 0, 0, 0]},
        {"kind": [Kind.INPUT, 0, 0, Kind.OUTPUT]},
        {"after": [(0, 2)]},
        {"scratch": [0, 0, 1]},
        {"flops": [0, 0, 1]},
        {"seconds": [0, 0, 1]},
    ],
)
def test_what_matters_changes_the_fingerprint(change):
    assert graph(**change).fingerprint != graph().fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"tensor_names": ["x", "", "", ""]},
        {"types": ["f[2]", "", "", ""]},
        {"modules": ["a.b", "", ""]},
        {"sources": ["m.py:1", "", ""]},
        {"flops": [-0.0, 0, 0]},
    ],
)
def test_what_is_for_people_only_does_not_change_the_fingerprint(change):
    assert graph(**change).fingerprint == graph().fingerprint


def test_the_fingerprint_of_labels_does_not_depend_on_where_they_are_cut():
    assert graph(labels=["a", "bc", "d"]).fingerprint != graph(labels=["ab", "c", "d"]).fingerprint


def test_the_fingerprint_is_pinned():
    # A stored schedule names its graph by this value: if it changes, so must the format's version.
    g = graph(after=[(0, 2)], scratch=[0, 7, 0], flops=[1.5e9, 0, 0], seconds=[0, 0.25, 0], ops=["mm", "é", "\ud800"])
    assert g.fingerprint == "983a275e338a846e1412e4acb18b8bcd715bbb49bf3fb08a3e8f1ad12b2e945c"
    assert graph([], [], []).fingerprint == "23c7f40710bb3824a7e5879d2374b0100aa2fd8fde87315b39a25e20776f8400"


def test_the_fingerprint_is_the_same_in_another_process():
    code = "from tests.strategies import random_graph; print(random_graph(7).fingerprint)"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env={"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True, cwd=root())
    assert said.stdout.strip() == random_graph(7).fingerprint


def root():
    return __file__.rsplit("/tests/", 1)[0]


def test_repr_is_one_short_line():
    g = graph(kind=[Kind.INPUT, 0, 0, Kind.OUTPUT], after=[(0, 2)])
    assert repr(g) == (
        "<Graph 'g': 3 nodes, 4 tensors (2 temporary, 1 output, 1 input), 3 edges, writes 7 B, resident 100 B>"
    )
    assert repr(graph([], [], [])) == ("<Graph 'g': 0 nodes, 0 tensors (none), 0 edges, writes 0 B, resident 0 B>")
    assert "writes 2.00 MiB" in repr(graph(size=[0, 2**21, 0, 0]))
    assert len(repr(graph(name="\n" * 10**6))) < 200


def test_graphs_are_compared_and_hashed_as_objects():
    g = graph()
    assert g == g  # noqa: PLR0124
    assert g != graph()
    assert len({g, graph()}) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # names
        ({"name": 3}, "'name' must be a string (got int)"),
        ({"labels": ["a", "b", "b"]}, "two nodes are named 'b'"),
        ({"labels": ["a", 2, "c"]}, "'labels' must be a tuple of strings"),
        ({"ops": ["add"]}, "'ops' must have 3 entries (got 1)"),
        ({"ops": [1, 2, 3]}, "'ops' must be a tuple of strings"),
        ({"tensor_names": ["x"]}, "'tensor_names' must have 4 entries (got 1)"),
        ({"sources": [None] * 3}, "'sources' must be a tuple of strings"),
        # reads
        ({"reads": [[0], [4], [1]]}, "node 'b' reads tensor 4, but there are 4 tensors"),
        ({"reads": [[0], [-1], [1]]}, "node 'b' reads tensor -1, but there are 4 tensors"),
        ({"reads": [[0], [1.5], []]}, "'reads' must hold integers that fit int32 (got float64)"),
        ({"reads": [[0], [2**40], []]}, "'reads' holds 1099511627776, which does not fit int32"),
        ({"reads": [[0], [1]], "labels": "abc"}, "'reads' must be 3 rows in int32 arrays (got int32[3] pointers)"),
        ({"reads": [[0], [2], []], "writer": [-1, 0, -1, 2], "kind": [2, 0, 0, 0]},
         "tensor 2 is temporary but no node writes it, yet node 'b' reads it"),
        # writer and kind
        ({"writer": [-1, 0, 1, 3]}, "tensor 3 is written by node 3, but there are 3 nodes"),
        ({"writer": [-1, 0, 1, -2]}, "tensor 3 is written by node -2, but there are 3 nodes"),
        ({"writer": [-1, 0, 1, 2.0]}, "'writer' must hold integers that fit int32 (got float64)"),
        ({"writer": [-1, 0, 1, -1], "kind": [2, 0, 0, 1]}, "tensor 3 is output but no node writes it"),
        ({"kind": [2, 0, 0, 2]}, "tensor 3 is input but node 'c' writes it"),
        ({"kind": [2, 0, 0, 3]}, "tensor 3 is weight but node 'c' writes it"),
        ({"kind": [2, 0, 0, 4]}, "tensor 3 is donated but node 'c' writes it"),
        ({"kind": [2, 0, 0, 5]}, "tensor 3 has kind 5; kinds are 0 .. 4"),
        ({"kind": [2, 0, 0, -1]}, "tensor 3 has kind -1"),
        ({"kind": [2, 0, 0, 300]}, "'kind' holds 300, which does not fit int8"),
        ({"kind": [2, 0, 0]}, "'kind' must be int8[4] (got int8[3])"),
        # bytes
        ({"size": [1, 1, 1]}, "'size' must be int64[4] (got int64[3])"),
        ({"size": [1, 1, 1, -1]}, "tensor 3 has -1 bytes; bytes must not be negative"),
        ({"size": [1, 1, 1, 1.0]}, "'size' must hold integers that fit int64 (got float64)"),
        ({"size": [True] * 4}, "'size' must hold integers that fit int64 (got bool)"),
        ({"size": ["1"] * 4}, "'size' must hold integers that fit int64"),
        ({"size": [1, 1, 1, 2**63]}, "'size' must hold integers that fit int64"),
        ({"size": np.full(4, 2**63)}, "'size' holds 9223372036854775808, which does not fit int64"),
        ({"size": [1, 1, 1, 2**70]}, "'size' must hold integers that fit int64"),
        ({"size": [1, 1, 1, 2**62]}, "graph 'g' holds 4.61e+18 bytes in all; the most is 2**62"),
        ({"size": [1, [1, 2], 1, 1]}, "'size' must be a regular array of integers"),
        ({"scratch": [0, -5, 0]}, "node 'b' has -5 scratch bytes; bytes must not be negative"),
        ({"scratch": [0]}, "'scratch' must be int64[3] (got int64[1])"),
        ({"scratch": [2**61, 2**61, 0]}, "the most is 2**62"),
        # numbers
        ({"flops": [0, -1, 0]}, "node 'b': 'flops' must be finite and not negative (got -1.0)"),
        ({"flops": [0, float("nan"), 0]}, "node 'b': 'flops' must be finite and not negative (got nan)"),
        ({"seconds": [0, float("inf"), 0]}, "node 'b': 'seconds' must be finite and not negative (got inf)"),
        ({"seconds": [0, 0]}, "'seconds' must be float64[3] (got float64[2])"),
        ({"flops": ["1", "2", "3"]}, "'flops' must hold numbers"),
        ({"flops": [None, 0, 0]}, "'flops' must hold numbers (got object)"),
        ({"flops": [0, [1], 0]}, "'flops' must be a regular array of numbers"),
        # after
        ({"after": [(0, 3)]}, "node 'a' is ordered against node 3, but there are 3 nodes"),
        ({"after": [(3, 1)]}, "node 'b' is ordered against node 3, but there are 3 nodes"),
        ({"after": [(-1, 1)]}, "node 'b' is ordered against node -1, but there are 3 nodes"),
        ({"after": [(0, 1, 2)]}, "'after' must be pairs (u, v), int[c, 2] (got shape [1, 3])"),
        ({"after": [(0, 1, 1), (0, 2, 2)]}, "'after' must be pairs (u, v), int[c, 2] (got shape [2, 3])"),
        ({"after": [0, 1]}, "'after' must be pairs (u, v), int[c, 2] (got shape [2])"),
        ({"after": [(0, 1.5)]}, "'after' must hold integers that fit int32"),
        # order
        ({"after": [(2, 0)]}, "nodes form a cycle"),
        ({"after": [(1, 1)]}, "nodes form a cycle: 'b' -> 'b'"),
        ({"reads": [[1], [], []]}, "nodes form a cycle: 'a' -> 'a'"),
        ({"reads": [[2], [], []]},
         "program order is not legal: node 'a' must run after node 'b', which comes later"),
        ({"reads": [[], [], []], "after": [(2, 1)]},
         "program order is not legal: node 'b' must run after node 'c', which comes later"),
    ],
)  # fmt: skip
def test_a_graph_that_is_none_is_refused_by_name(change, message):
    with pytest.raises(GraphError) as error:
        graph(**change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cycle_is_told_in_full_and_a_long_one_in_part():
    def ring(count):
        return Graph.build("g", [f"n{i}" for i in range(count)], [[(i - 1) % count] for i in range(count)],
                           range(count), [1] * count)  # fmt: skip

    with pytest.raises(GraphError) as error:
        ring(3)
    assert str(error.value) == "nodes form a cycle: 'n2' -> 'n0' -> 'n1' -> 'n2'"
    with pytest.raises(GraphError) as error:
        ring(5000)
    assert str(error.value).endswith(" -> ... (5000 nodes)")
    assert len(str(error.value)) < 200


def test_a_cycle_far_from_the_first_violation_is_still_called_a_cycle():
    with pytest.raises(GraphError, match=r"cycle: '[cd]' -> '[cd]' -> "):
        graph(reads=[[1], [], [3], [2]], writer=[0, 1, 2, 3], size=[1] * 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [1, 2, 3, 4]}, "'size' must be int64[4] (got list)"),
        ({"size": np.zeros(4, np.int32)}, "'size' must be int64[4] (got int32[4])"),
        ({"size": np.zeros(4, ">i8")}, "'size' must be int64[4] (got >i8[4])"),
        ({"flops": np.zeros((3, 1))}, "'flops' must be float64[3] (got float64[3, 1])"),
        ({"after": int32(0, 2)}, "'after' must be int32[2, 2] (got int32[2])"),
        ({"after": int32(0)[0]}, "'after' must be int32"),
        ({"after": np.zeros((3, 2), np.int32)}, "'after' must be int32[2, 2] (got int32[3, 2])"),
        ({"labels": ["a", "b", "c"]}, "'labels' must be a tuple of strings"),
        ({"reads": CSR(int32(0, 1, 2), int32(0, 1))}, "'reads' must be 3 rows in int32 arrays (got int32[3] pointers)"),
        ({"reads": CSR(np.array([0, 0, 0, 0]), int32())}, "(got int64[4] pointers)"),
        ({"reads": CSR(int32(1, 1, 1, 1), int32(0))}, "row pointers that do not rise from 0"),
        ({"reads": CSR(int32(0, 2, 1, 2), int32(0, 1))}, "row pointers that do not rise from 0"),
        ({"reads": CSR(int32(0, 0, 0, 0), int32(0))}, "row pointers that do not rise from 0"),
        ({"reads": CSR(int32(0, 0, 0, 1), int32(9))}, "node 'c' reads tensor 9, but there are 4 tensors"),
    ],
)
def test_raw_arrays_of_the_wrong_shape_or_type_are_refused(change, message):
    with pytest.raises(GraphError) as error:
        replace(graph(), **change)
    assert message in str(error.value)


def test_rows_given_as_csr_are_taken():
    assert graph(reads=csr_from_rows([[0], [1], [2, 1]]), labels="abc").fingerprint == graph().fingerprint


def test_a_node_that_only_comes_after_itself_in_an_empty_graph_is_refused():
    with pytest.raises(GraphError, match="there are 0 nodes"):
        graph([], [], [], after=[(0, 0)])


def test_inverse_undoes_an_order():
    order = int32(2, 0, 3, 1)
    assert inverse(order).tolist() == [1, 3, 0, 2]
    assert inverse(inverse(order)).tolist() == order.tolist()
    assert program_order(graph()).tolist() == [0, 1, 2]
    assert program_order(graph()).dtype == np.int32


def test_errors_are_value_errors():
    assert issubclass(GraphError, ValueError)
    assert issubclass(UnsupportedOp, ValueError)


NASTY = ["a\nb", "\x1b[31mred\x00", "\u2028", "\ud800", "'; drop", '"', "x" * 10**6, "\U0010ffff" * 10**5, ""]


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_an_error_stays_one_short_printable_line_whatever_the_names(name):
    other = name + "2"
    with pytest.raises(GraphError) as twice:
        graph(name=name, labels=[name, name, "c"])
    with pytest.raises(GraphError) as cycle:
        graph(labels=[name, other, "c"], after=[(1, 0)])
    with pytest.raises(GraphError) as index:
        graph(labels=[name, other, "c"], reads=[[9], [], []])
    sound = graph(name=name, labels=[name, other, "c"])
    with pytest.raises(GraphError) as order:
        check_order(sound, [1, 0, 2])
    for error in (twice, cycle, index, order):
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 500


def test_quoted_shows_both_ends_of_a_long_name():
    assert quoted("conv") == "'conv'"
    assert quoted(3) == "'3'"
    assert quoted("it's") == '"it\'s"'
    long = quoted("block.0." + "x" * 1000 + ".conv")
    assert long.startswith("'block.0.xxx")
    assert "..." in long
    assert long.endswith("x.conv'")
    assert len(long) < 70
    assert len(quoted("y" * 60)) == 62


def test_an_unknown_name_gets_the_near_one_and_the_list():
    assert unknown_name("kind", "ouput", ["input", "output"]) == (
        "unknown kind 'ouput'; did you mean 'output'? (known: input, output)"
    )
    assert unknown_name("kind", "zzz", ["input", "output"]) == "unknown kind 'zzz' (known: input, output)"
