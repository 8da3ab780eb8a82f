import copy
import gzip
import json
import os
import shutil
import stat
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import graphs.io
from graphs import Graph, GraphError, Kind, load, save
from graphs.io import read_json, write_atomic
from graphs.json_format import graph_from_json, graph_to_json
from tests.strategies import random_graph


def diamond():
    """input -> a -> (b, view of a) -> c, as a dictionary of graph JSON."""
    return {
        "format": "topoformer.graph",
        "version": 1,
        "name": "diamond",
        "nodes": [
            {"name": "a", "reads": [0], "writes": [1]},
            {"name": "b", "reads": [1], "writes": [2]},
            {"name": "view", "reads": [], "writes": [], "after": [0]},
            {"name": "c", "reads": [1, 2], "writes": [3], "after": [2]},
        ],
        "tensors": [{"bytes": 10, "kind": "input"}, {"bytes": 4}, {"bytes": 2}, {"bytes": 1, "kind": "output"}],
    }


def changed(*path_and_value):
    """The diamond with the value at a path replaced: changed("nodes", 0, "reads", [9])."""
    *path, key, value = path_and_value
    data = diamond()
    spot = data
    for step in path:
        spot = spot[step]
    spot[key] = value
    return data


def write(tmp_path, content, name="g.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def refused(path):
    """The text of the error about a file, without the file's name; checks that it is one short line."""
    with pytest.raises(GraphError) as error:
        load(path)
    text = str(error.value)
    assert text.isprintable()
    assert len(text) < 500
    head, _, message = text.partition("': ")
    assert head.endswith(os.path.basename(path)[-20:])
    return message


def same(one, other):
    people = ("name", "tensor_names", "types", "modules", "sources")
    return one.fingerprint == other.fingerprint and all(getattr(one, f) == getattr(other, f) for f in people)


# Round trip


@pytest.mark.parametrize("name", ["g.json", "g.json.gz"])
def test_a_graph_comes_back_from_a_file_as_it_was(tmp_path, name):
    for seed in range(60):
        g = random_graph(seed)
        save(g, tmp_path / name)
        assert same(load(tmp_path / name), g), seed
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b" if name.endswith("gz") else b'{"format"')


def test_every_random_graph_comes_back_from_its_dictionary():
    for seed in range(500):
        g = random_graph(seed)
        assert same(graph_from_json(json.loads(json.dumps(graph_to_json(g)))), g), seed


def test_awkward_names_and_numbers_come_back(tmp_path):
    g = Graph.build("\n", ["", "é\x00", "\u2028", "\ud800"], [[], [0], [], []], [0, 1], [2**61, 0],
                    flops=[1e308, 5e-324, 0.1, -0.0], ops=["\\", '"', "", ""])  # fmt: skip
    save(g, tmp_path / "g.json")
    assert same(load(tmp_path / "g.json"), g)


def test_the_same_graph_makes_the_same_bytes(tmp_path):
    for name in ("g.json", "g.json.gz"):
        save(random_graph(3), tmp_path / name)
        first = (tmp_path / name).read_bytes()
        save(random_graph(3), tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
    assert first[4:8] == bytes(4)  # gzip's time of writing


def test_the_file_says_what_the_format_says():
    g = graph_from_json(diamond())
    assert g.labels == ("a", "b", "view", "c")
    assert [g.reads.row(v).tolist() for v in range(4)] == [[0], [1], [], [1, 2]]
    assert g.writer.tolist() == [-1, 0, 1, 3]
    assert g.kind.tolist() == [Kind.INPUT, Kind.TEMPORARY, Kind.TEMPORARY, Kind.OUTPUT]
    assert g.after.T.tolist() == [[0, 2], [2, 3]]
    assert g.size.tolist() == [10, 4, 2, 1]


def test_keys_that_say_nothing_are_left_out():
    data = graph_to_json(graph_from_json(diamond()))
    assert list(data) == ["format", "version", "name", "nodes", "tensors"]
    assert [list(node) for node in data["nodes"]] == [["name", "op", "reads", "writes"]] * 2 + [
        ["name", "op", "reads", "writes", "after"]
    ] * 2
    assert data["tensors"][1] == {"bytes": 4, "kind": "temporary"}


def test_keys_that_say_something_are_written():
    g = Graph.build("g", ["a"], [[]], [0], [1], scratch=[5], flops=[2], seconds=[0.5], sources=["m.py:1"],
                    tensor_names=["x"], ops=["mm"])  # fmt: skip
    assert graph_to_json(g)["nodes"] == [
        {"name": "a", "op": "mm", "reads": [], "writes": [0], "scratch_bytes": 5, "flops": 2.0, "seconds": 0.5,
         "source": "m.py:1"}
    ]  # fmt: skip
    assert graph_to_json(g)["tensors"] == [{"bytes": 1, "kind": "temporary", "name": "x"}]


def test_everything_but_reads_and_writes_may_be_left_out_of_a_node():
    data = diamond()
    for node in data["nodes"]:
        del node["name"]
    del data["name"]
    g = graph_from_json(data)
    assert g.labels == ("node_0", "node_1", "node_2", "node_3")
    assert g.name == "graph"


# Files


def test_a_packed_file_is_known_by_its_content(tmp_path):
    packed = gzip.compress(json.dumps(diamond()).encode())
    assert load(write(tmp_path, packed, "g.json")).n == 4
    assert load(write(tmp_path, diamond(), "g.json.gz")).n == 4
    assert load(str(tmp_path / "g.json")).n == 4


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b" \n\r\t", b"\xef\xbb\xbf\n"])
def test_a_byte_order_mark_and_white_space_may_come_first(tmp_path, prefix):
    text = json.dumps(diamond(), indent=1).replace("\n", "\r\n").encode()
    assert load(write(tmp_path, prefix + text + b"\n")).n == 4
    assert load(write(tmp_path, gzip.compress(prefix + text))).n == 4


def test_a_missing_file_and_a_directory_are_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.json")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(IsADirectoryError):
        save(random_graph(1), tmp_path)
    with pytest.raises(FileNotFoundError):
        save(random_graph(1), tmp_path / "none" / "g.json")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_can_be_read_and_written(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for content in (json.dumps(diamond()).encode(), gzip.compress(json.dumps(diamond()).encode())):
        writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
        writer.start()
        assert load(pipe).n == 4
        writer.join(10)
    said = []
    reader = threading.Thread(target=lambda: said.append(pipe.read_bytes()), daemon=True)
    reader.start()
    save(graph_from_json(diamond()), pipe)
    reader.join(10)
    assert json.loads(said[0])["name"] == "diamond"
    assert stat.S_ISFIFO(pipe.stat().st_mode)  # as /dev/null must stay what it is


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_bytes(b"old")
    link.symlink_to(real)
    save(graph_from_json(diamond()), link)
    assert link.is_symlink()
    assert load(real).n == 4


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    save(random_graph(1), tmp_path / "g.json")
    assert (tmp_path / "g.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = write(tmp_path, b"old")
    path.chmod(0o600)
    save(random_graph(1), path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("module", "where"), [(os, "replace"), (Path, "write_bytes"), (shutil, "copymode")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, module, where):
    path = write(tmp_path, b"old")

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, where, fail)
    with pytest.raises(OSError, match="No space"):
        save(random_graph(1), path)
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["g.json"]
    assert path.read_bytes() == b"old"


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write(tmp_path, b"old")

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["g.json"]
    assert path.read_bytes() == b"old"


# Files that are no graph


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a graph: the file is empty"),
        (gzip.compress(b""), "not a graph: the file is empty"),
        (b" \n", "not a graph: the file does not begin with '{'"),
        (b"[]", "not a graph: the file does not begin with '{'"),
        (b"null", "not a graph: the file does not begin with '{'"),
        (b"\x80\x04\x95", "not a graph: the file does not begin with '{'"),
        ("{}".encode("utf-16"), "not a graph: the file does not begin with '{'"),
        (b"PK\x03\x04", "not a graph: the file does not begin with '{'"),
        (b"{", "not valid JSON (Expecting property name"),
        (b"{} {}", "not valid JSON (Extra data"),
        (b'{"a": 1,}', "not valid JSON ("),
        (b"{'a': 1}", "not valid JSON (Expecting property name"),
        (b'{"a": "\n"}', "not valid JSON (Invalid control character"),
        (b'{"a": "\xff"}', "not UTF-8 text (invalid start byte at byte 7)"),
        (b'{"a": "\xc3', "not UTF-8 text (unexpected end of data at byte 7)"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8 text (invalid continuation byte at byte 7)"),
        (b'{"a": "\0"}', "not a graph: the file holds zero bytes"),
        (b'{"a": NaN}', "not valid JSON (NaN is not a number that JSON knows)"),
        (b'{"a": Infinity}', "not valid JSON (Infinity is not a number that JSON knows)"),
        (b'{"a": -Infinity}', "not valid JSON (-Infinity is not a number that JSON knows)"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON (Exceeds the limit"),
        (b'{"a": ' * 100_000, "not a graph: the JSON nests too deep"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not a graph: the JSON nests too deep"),
        (b"{}", "not a graph: 'format' must be 'topoformer.graph' (got None)"),
        (b'{"format": "topoformer.schedule"}', "not a graph: 'format' must be 'topoformer.graph' (got 'topoformer.sch"),
        (b"\x1f\x8b", "not a whole gzip file (Compressed file ended"),
        (b"\x1f\x8b\x07\x00\x00\x00\x00\x00\x00\x00", "not a whole gzip file (Unknown compression method)"),
        (gzip.compress(b"{}" * 100)[:-9], "not a whole gzip file (Compressed file ended"),
        (gzip.compress(b"{}" * 100)[:-8] + b"\0" * 8, "not a whole gzip file (CRC check failed"),
        (gzip.compress(b'{"a": 1}') + b"junk", "not a whole gzip file (Not a gzipped file (b'ju'))"),
        (gzip.compress(b"{}")[:10] + b"\xff" * 20, "not a whole gzip file (Error -3"),
        (gzip.compress(gzip.compress(b"{}")), "not a graph: the file does not begin with '{'"),
    ],
    ids=range(32),
)
def test_a_file_that_is_no_graph_is_refused(tmp_path, content, message):
    assert refused(write(tmp_path, content)).startswith(message)


def sparse(tmp_path, head):
    path = write(tmp_path, head)
    os.truncate(path, (1 << 30) - 1)
    return path


def packed(tmp_path, head, filler):
    """A gzip file of 1 GiB unpacked: many members of one and the same filler."""
    return write(tmp_path, gzip.compress(head) + gzip.compress(filler * (1 << 24)) * 64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: sparse(folder, b""), "not a graph: the file does not begin with '{'"),
        (lambda folder: sparse(folder, b"{"), "not a graph: the file holds zero bytes"),
        (lambda folder: sparse(folder, b" " * (1 << 21)), "not a graph: the file does not begin with '{'"),
        (lambda folder: packed(folder, b"", b"\0"), "not a graph: the file does not begin with '{'"),
        (lambda folder: packed(folder, b"{", b" "), "more than "),
        (lambda folder: packed(folder, b'{"name": "', b"x"), "more than "),
    ],
    ids=["zeros", "brace and zeros", "spaces and zeros", "packed zeros", "packed spaces", "packed text"],
)
def test_a_huge_file_costs_little_time_and_memory(tmp_path, make, message):
    path = make(tmp_path)
    start = time.perf_counter()
    tracemalloc.start()
    try:
        assert refused(path).startswith(message)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 200e6
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("n", [10, 10_000])
def test_a_regular_graph_packs_too_little_to_be_taken_for_a_bomb(tmp_path, monkeypatch, n):
    monkeypatch.setattr(graphs.io, "PACKED_LIMIT", 0)
    g = Graph.build("chain", [f"n{i}" for i in range(n)], [[]] + [[i] for i in range(n - 1)], range(n), [4] * n)
    save(g, tmp_path / "g.json.gz")
    assert load(tmp_path / "g.json.gz").fingerprint == g.fingerprint


def test_read_json_leaves_the_files_name_to_its_caller(tmp_path):
    assert read_json(write(tmp_path, b'{"a": [1, 2.5, "x"]}')) == {"a": [1, 2.5, "x"]}
    with pytest.raises(GraphError, match=r"^not a graph: the file is empty$"):
        read_json(write(tmp_path, b""))


# Graphs that are none

HUGE = 10**4000
DEEP = json.loads("[" * 500 + "]" * 500)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # what the format refuses
        (changed("version", 2), "'version' must be 1 (got 2)"),
        (changed("nodes", 1, "reads", [4]), "node 'b': 'reads' names tensor 4, but there are 4"),
        (changed("nodes", 1, "reads", [-1]), "node 'b': 'reads' names tensor -1, but there are 4"),
        (changed("nodes", 1, "writes", [4]), "node 'b': 'writes' names tensor 4, but there are 4"),
        (changed("nodes", 1, "after", [4]), "node 'b': 'after' names node 4, but there are 4"),
        (changed("nodes", 1, "writes", [2, 1]), "tensor 1 has two writers, node 'a' and node 'b'"),
        (changed("nodes", 1, "writes", [2, 2]), "tensor 2 has two writers, node 'b' and node 'b'"),
        (changed("nodes", 1, "writes", []), "tensor 2 is temporary but no node writes it, yet node 'c' reads it"),
        (changed("nodes", 3, "writes", []), "tensor 3 is output but no node writes it"),
        (changed("tensors", 1, "kind", "weight"), "tensor 1 is weight but node 'a' writes it"),
        (changed("nodes", 0, "after", [3]), "nodes form a cycle: "),
        (changed("nodes", 0, "reads", [1]), "nodes form a cycle: 'a' -> 'a'"),
        (changed("nodes", 1, "after", [2]), "program order is not legal: node 'b' must run after node 'view'"),
        (changed("tensors", 1, "bytes", -1), "tensor 1: 'bytes' must be an integer from 0 to 2**63 - 1 (got -1)"),
        (changed("tensors", 1, "bytes", 4.0), "tensor 1: 'bytes' must be an integer from 0 to 2**63 - 1 (got 4.0)"),
        (changed("nodes", 3, "name", "a"), "two nodes are named 'a'"),
        (changed("nodes", 1, "flops", float("nan")), "not valid JSON (NaN is not"),
        # the head
        (changed("version", True), "'version' must be 1 (got True)"),
        (changed("version", 1.0), "'version' must be 1 (got 1.0)"),
        (changed("version", "1"), "'version' must be 1 (got '1')"),
        (changed("version", HUGE), "'version' must be 1 (got an integer of 13288 bits)"),
        (changed("format", "Topoformer.Graph"), "not a graph: 'format' must be 'topoformer.graph' (got 'Topof"),
        (changed("format", ["topoformer.graph"]), "not a graph: 'format' must be 'topoformer.graph' (got list)"),
        (changed("name", None), "graph 0: 'name' must be a string (got None)"),
        (changed("nodes", {}), "'nodes' must be a list (got dict)"),
        (changed("tensors", None), "'tensors' must be a list (got None)"),
        (changed("nodes", 1, []), "node 1 must be an object (got list)"),
        (changed("tensors", 2, 3), "tensor 2 must be an object (got 3)"),
        # indices
        (changed("nodes", 1, "reads", [True]), "node 'b': 'reads' must hold integers (got True)"),
        (changed("nodes", 1, "reads", [1.0]), "node 'b': 'reads' must hold integers (got 1.0)"),
        (changed("nodes", 1, "reads", ["1"]), "node 'b': 'reads' must hold integers (got '1')"),
        (changed("nodes", 1, "reads", [None]), "node 'b': 'reads' must hold integers (got None)"),
        (changed("nodes", 1, "reads", [DEEP]), "node 'b': 'reads' must hold integers (got list)"),
        (changed("nodes", 1, "reads", 1), "node 'b': 'reads' must be a list (got 1)"),
        (changed("nodes", 1, "reads", None), "node 'b': 'reads' must be a list (got None)"),
        (changed("nodes", 1, "writes", {"0": 1}), "node 'b': 'writes' must be a list (got dict)"),
        (changed("nodes", 1, "after", "0"), "node 'b': 'after' must be a list (got '0')"),
        (changed("nodes", 1, "after", [False]), "node 'b': 'after' must hold integers (got False)"),
        (changed("nodes", 1, "reads", [HUGE]), "node 'b': 'reads' names tensor an integer of 13288 bits, but"),
        (changed("nodes", 1, "after", [2**32]), "node 'b': 'after' names node 4294967296, but there are 4"),
        # bytes
        (changed("tensors", 1, "bytes", True), "tensor 1: 'bytes' must be an integer from 0 to 2**63 - 1 (got True)"),
        (changed("tensors", 1, "bytes", "4"), "tensor 1: 'bytes' must be an integer from 0 to 2**63 - 1 (got '4')"),
        (changed("tensors", 1, "bytes", None), "tensor 1: 'bytes' must be an integer from 0 to 2**63 - 1 (got None)"),
        (changed("tensors", 1, {}), "tensor 1: 'bytes' must be an integer from 0 to 2**63 - 1 (got None)"),
        (changed("tensors", 1, "bytes", HUGE), "tensor 1: 'bytes' must be an integer from 0 to 2**63 - 1 (got an int"),
        (changed("tensors", 1, "bytes", 2**63), "tensor 1: 'bytes' must be an integer from 0 to 2**63 - 1 (got an int"),
        (changed("tensors", 1, "bytes", 2**63 - 1), "graph 'diamond' holds 9.22e+18 bytes in all; the most is 2**62"),
        (changed("nodes", 1, "scratch_bytes", -1), "node 'b': 'scratch_bytes' must be an integer from 0 to 2**63 - 1"),
        (changed("nodes", 1, "scratch_bytes", 0.5), "node 'b': 'scratch_bytes' must be an integer from 0 to 2**63"),
        # numbers
        (changed("nodes", 1, "flops", -1), "node 'b': 'flops' must be finite and not negative (got -1.0)"),
        (changed("nodes", 1, "flops", False), "node 'b': 'flops' must be a finite number (got False)"),
        (changed("nodes", 1, "flops", "1e9"), "node 'b': 'flops' must be a finite number (got '1e9')"),
        (changed("nodes", 1, "seconds", None), "node 'b': 'seconds' must be a finite number (got None)"),
        (changed("nodes", 1, "seconds", HUGE), "node 'b': 'seconds' must be a finite number (got an integer of"),
        # names and kinds
        (changed("nodes", 1, "name", 3), "node 1: 'name' must be a string (got 3)"),
        (changed("nodes", 1, "op", None), "node 1: 'op' must be a string (got None)"),
        (changed("nodes", 1, "source", 12), "node 1: 'source' must be a string (got 12)"),
        (changed("tensors", 1, "name", []), "tensor 1: 'name' must be a string (got list)"),
        (changed("tensors", 1, "kind", 0), "tensor 1: 'kind' must be a string (got 0)"),
        (changed("tensors", 1, "kind", None), "tensor 1: 'kind' must be a string (got None)"),
        (changed("tensors", 1, "kind", DEEP), "tensor 1: 'kind' must be a string (got list)"),
        (changed("tensors", 1, "kind", "Temporary"), "tensor 1: unknown kind 'Temporary'; did you mean 'temporary'? ("),
        (changed("tensors", 1, "kind", "x"), "tensor 1: unknown kind 'x' (known: temporary, output, input, w"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_graph_that_is_none_is_refused_by_name(tmp_path, data, message):
    assert refused(write(tmp_path, data)).startswith(message)
    assert refused(write(tmp_path, gzip.compress(json.dumps(data).encode()))).startswith(message)


def test_a_number_too_large_for_a_float_is_refused(tmp_path):
    text = json.dumps(changed("nodes", 1, "flops", 7)).replace('"flops": 7', '"flops": 1e999')
    message = refused(write(tmp_path, text.encode()))
    assert message == "node 'b': 'flops' must be finite and not negative (got inf)"


@pytest.mark.parametrize("key", ["reads", "writes"])
def test_reads_and_writes_may_not_be_left_out(tmp_path, key):
    data = diamond()
    del data["nodes"][2][key]
    assert refused(write(tmp_path, data)) == f"node 'view': '{key}' must be a list (got None)"


@pytest.mark.parametrize(
    ("part", "key", "meant"),
    [("nodes", "read", "reads"), ("nodes", "scratch_byte", "scratch_bytes"), ("nodes", "flop", "flops"),
     ("nodes", "afters", "after"), ("tensors", "byte", "bytes"), ("tensors", "kinds", "kind")],
)  # fmt: skip
def test_a_key_that_is_nearly_a_known_one_is_taken_for_a_slip(tmp_path, part, key, meant):
    message = refused(write(tmp_path, changed(part, 1, key, [])))
    assert message.startswith(f"unknown {part[:-1]} key '{key}'; did you mean '{meant}'? (known: ")


def test_a_foreign_key_is_passed_over(tmp_path):
    data = diamond()
    wanted = graph_from_json(copy.deepcopy(data)).fingerprint
    data["x-tool"] = {"version": 3}
    data["nodes"][1] |= {"x-device": "gpu", "": 0, "k" * 10_000: None}
    data["tensors"][1]["dtype"] = "float32"
    assert load(write(tmp_path, data)).fingerprint == wanted


NASTY = ["line\nbreak\r\x00\x1b[2J", "\u2028\u202e", "x" * 100_000, "\U0010ffff" * 10_000, "'\"" * 50, "\ud800"]


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_an_error_stays_one_short_line_whatever_the_file_holds(tmp_path, name):
    other = f"{name}!"
    for data in (
        changed("nodes", 1, "name", name) | {"name": name} | {"version": name},
        changed("format", name),
        changed("tensors", 1, "kind", name),
        changed("tensors", 1, "bytes", name),
        changed("nodes", 1, {"name": name, "reads": [9], "writes": []}),
        changed("nodes", 1, {"name": name, "reads": [name], "writes": []}),
        changed("nodes", 1, {"name": name, "reads": [], "writes": [1]}),
        changed("nodes", 1, {"name": name, "reads": [], "writes": [2], "after": [2]}),
        changed("nodes", 1, {"name": name, "reads": [], "writes": [2], "after": [3]}),
        changed("nodes", 1, {"name": name, "reads": [], "writes": [2], "flops": name}),
        changed("nodes", 1, {"name": name, "reads": [], "writes": [2], "scratch_bytes": name}),
        changed("nodes", [{"name": name, "reads": [], "writes": [], "after": [1]},
                          {"name": other, "reads": [], "writes": [], "after": [0]}]) | {"tensors": []},
        changed("nodes", 1, "read" + name, []) | {"nodes": [{"name": name}, {"name": name}]},
        changed("tensors", 1, "bytes", 2**62) | {"name": name},
    ):  # fmt: skip
        refused(write(tmp_path, data))


def test_the_files_own_name_cannot_break_the_line(tmp_path):
    folder = tmp_path / ("d" * 200) / ("e" * 200)
    folder.mkdir(parents=True)
    for name in ("new\nline.json", "\x1b[2J.json", "f" * 250):
        path = folder / name
        path.write_bytes(b"")
        with pytest.raises(GraphError) as error:
            load(path)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 500


def test_a_dictionary_may_hold_what_json_cannot():
    with pytest.raises(GraphError, match="node 'b': 'flops' must be finite"):
        graph_from_json(changed("nodes", 1, "flops", float("inf")))
    with pytest.raises(GraphError, match=r"'reads' must hold integers \(got int64\)"):
        graph_from_json(changed("nodes", 1, "reads", [np.int64(1)]))
    assert graph_from_json(changed("nodes", 1, 5, "a key that is no string")).n == 4
