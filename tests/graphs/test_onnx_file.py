"""``.onnx`` files: whatever they hold, and the files of weights beside them."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from graphs import GraphError, UnsupportedOp, onnx_file, peak_bytes
from graphs.onnx import apply_order, from_onnx, load_onnx, save_onnx
from tests.graphs.onnx_models import LIGHT_FOLDER, model

ROOT = Path(__file__).parents[2]
FUNCTIONS = """
<domain: "custom", opset_import: ["": 20, "custom": 1]> f (a) => (b) { c = Exp(a) d = custom.g(c) b = Mul(c, d) }
<domain: "custom", opset_import: ["": 20]> g (a) => (b) { b = Neg(a) }"""


def external(location="weights.bin", offset=0, shape=(4, 6), kind=TensorProto.FLOAT, name="w"):
    tensor = TensorProto(name=name, dims=shape, data_type=kind, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def written(folder, *tensors, body="a = Add(x, w) y = Neg(a)", **options):
    proto = model(body, **options)
    proto.graph.initializer.extend(tensors)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def refused(path, text, kind=(GraphError, UnsupportedOp), action=load_onnx):
    with pytest.raises(kind) as caught:
        action(path)
    assert text in str(caught.value), str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_loaded_is_what_is_in_the_file(tmp_path):
    path = LIGHT_FOLDER / "light_squeezenet.onnx"
    assert load_onnx(path).SerializeToString(deterministic=True) == onnx.load(path).SerializeToString(
        deterministic=True
    )
    save_onnx(load_onnx(path), tmp_path / "copy.onnx")
    assert onnx.load(tmp_path / "copy.onnx") == onnx.load(path)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text\n" * 9, "not an ONNX model"),
        (os.urandom(1 << 16), "not an ONNX model"),
        (b"\0" * 100, "not an ONNX model"),
        (b"\x08\x0a", "holds no graph"),
        (model("y = Neg(x)").SerializeToString()[:-3], "not an ONNX model, or not the whole of one"),
        (b"\x3a\x00", "version 0 of the format"),
    ],
)
def test_files_that_are_no_models(tmp_path, data, text):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    refused(path, text)


def test_a_file_of_more_entries_than_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "MESSAGE_LIMIT", 1 << 16)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x0a\x3a\x80\x80\x80\x04" + b"\x0a\x00" * (1 << 22))  # a graph of empty nodes
    refused(path, "not an ONNX model that fits memory: more than 65536 entries")


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(IsADirectoryError):
        load_onnx(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "not a regular file")
    refused(Path("/dev/zero"), "not a regular file")
    huge = tmp_path / "huge.onnx"
    with open(huge, "wb") as file:
        file.truncate(3 << 30)
    refused(huge, "more than the 2 GiB")


def test_names_that_are_no_text(tmp_path):
    path = written(tmp_path, body="aaaa = Neg(x) y = Neg(aaaa)")
    path.write_bytes(path.read_bytes().replace(b"aaaa", b"a\xff\xfea"))
    refused(path, "of a NodeProto in the model is not UTF-8 text")


def test_functions_are_inlined_where_the_model_is_loaded(tmp_path):
    path = written(tmp_path, body="a = custom.f(x) y = custom.f(a)", more=FUNCTIONS)
    proto = load_onnx(path)
    assert [node.op_type for node in proto.graph.node] == ["Exp", "Neg", "Mul"] * 2
    graph = from_onnx(path)
    assert graph.ops == ("Exp", "Neg", "Mul") * 2
    save_onnx(apply_order(proto, range(graph.n)), tmp_path / "again.onnx")
    assert load_onnx(tmp_path / "again.onnx") == proto
    x = np.zeros((4, 6), np.float32)
    (y,) = ReferenceEvaluator(onnx.load(tmp_path / "again.onnx")).run(None, {"x": x})
    assert np.allclose(y, -(np.exp(-1) ** 2))


def test_weights_of_a_model_with_functions_stay(tmp_path):
    path = written(tmp_path, external(), body="a = custom.f(x) y = Add(a, w)", more=FUNCTIONS)
    assert load_onnx(path).graph.initializer[-1] == external()


@pytest.mark.parametrize(
    ("functions", "text"),
    [
        ("f (a) => (b) { b = custom.f(a) }", "nodes form a cycle: 'f' -> 'f'"),
        ("f (a) => (b) { b = custom.g(a) } g (a) => (b) { b = custom.f(a) }", "nodes form a cycle"),
        (
            "f (a) => (b) { b = custom.f0(a) }"
            + "".join(f" f{i} (a) => (b) {{ c = custom.f{i + 1}(a) b = custom.f{i + 1}(c) }}" for i in range(40))
            + " f40 (a) => (b) { b = Neg(a) }",
            "nodes; the most is",
        ),
    ],
)
def test_functions_that_never_end(tmp_path, functions, text):
    header = '<domain: "custom", opset_import: ["": 20, "custom": 1]> '
    more = " ".join(header + part + "}" for part in functions.split("}") if part.strip())
    refused(written(tmp_path, body="y = custom.f(x)", more=more), text)


def test_external_data_are_never_read(tmp_path):
    """A model of 24 GB of weights, in a file that is sparse, in less memory than one of its tensors takes."""
    layers = 6
    with open(tmp_path / "weights.bin", "wb") as file:
        file.truncate(layers << 32)
    tensors = [external(offset=i << 32, shape=(1 << 15, 1 << 15), name=f"w{i}") for i in range(layers)]
    body = "a0 = Exp(x) " + " ".join(f"a{i + 1} = MatMul(a{i}, w{i})" for i in range(layers)) + f" y = Neg(a{layers})"
    written(tmp_path, *tensors, body=body, inputs="float[1, 32768] x", outputs="float[1, 32768] y")
    script = """
        from graphs.onnx import apply_order, from_onnx, load_onnx, save_onnx
        model = load_onnx("model.onnx")
        graph = from_onnx("model.onnx")
        save_onnx(apply_order(model, range(graph.n)), "again.onnx", source="model.onnx")
        print(graph.resident_bytes, open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    resident, kilobytes = map(int, answer.stdout.split())
    assert resident == (layers << 32) + (4 << 15)
    assert kilobytes < 400_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.onnx", "model.onnx", "weights.bin"]


def test_external_shapes_are_read(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8 + np.array([6, 4], "<i8").tobytes())
    shape = external(offset=8, shape=(2,), kind=TensorProto.INT64, name="s")
    path = written(tmp_path, shape, body="y = Reshape(x, s)", outputs="float[p, q] y")
    assert from_onnx(path).types[-1] == "float32[6, 4]"
    (tmp_path / "weights.bin").write_bytes(b"\0" * 23)
    refused(path, "its external data are not all there", action=from_onnx)
    (tmp_path / "weights.bin").unlink()
    refused(path, "there is no such file", action=from_onnx)


def test_external_data_go_along_to_another_folder(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "deep", there):
        folder.mkdir(parents=True)
    data = os.urandom(4096)
    (here / "deep/weights.bin").write_bytes(data)
    path = written(here, external("deep/weights.bin"))
    ordered = apply_order(load_onnx(path), [0, 1])
    save_onnx(ordered, here / "ordered.onnx", source=path)
    assert sorted(p.name for p in here.rglob("*")) == ["deep", "model.onnx", "ordered.onnx", "weights.bin"]
    for _ in range(2):  # the second time the same file is there already
        save_onnx(ordered, there / "ordered.onnx", source=path)
        assert (there / "deep/weights.bin").read_bytes() == data
    assert onnx.load(there / "ordered.onnx").graph.initializer[-1].raw_data == data
    assert peak_bytes(from_onnx(there / "ordered.onnx")) == peak_bytes(from_onnx(path))
    (there / "deep/weights.bin").write_bytes(b"of another model" * 256)
    refused(
        there / "ordered.onnx", "would overwrite another file", action=lambda to: save_onnx(ordered, to, source=path)
    )
    assert (there / "deep/weights.bin").read_bytes() == b"of another model" * 256
    refused(
        there / "new.onnx", "'source', the file of the model, must be given", action=lambda to: save_onnx(ordered, to)
    )
    assert not (there / "new.onnx").exists()


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "deep/../../secret.bin", "link.bin", "a\0b", "no"]
)
def test_external_data_outside_the_folder_are_left_alone(tmp_path, location):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"secret" * 100)
    (here / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = written(here, external(location, shape=(2,), kind=TensorProto.INT64))
    proto = load_onnx(path)
    with pytest.raises(GraphError, match=r"not lie in the folder|there is no such file"):
        save_onnx(proto, there / "model.onnx", source=path)
    with pytest.raises(GraphError, match=r"not lie in the folder|there is no such file"):
        from_onnx(path)
    assert list(there.iterdir()) == []


def test_external_data_are_not_written_through_links(tmp_path):
    here, there, outside = tmp_path / "here", tmp_path / "there", tmp_path / "outside"
    for folder in (here / "deep", there, outside):
        folder.mkdir(parents=True)
    (here / "deep/weights.bin").write_bytes(b"x" * 96)
    (there / "deep").symlink_to(outside)
    path = written(here, external("deep/weights.bin"))
    with pytest.raises(GraphError, match="would be written outside"):
        save_onnx(load_onnx(path), there / "model.onnx", source=path)
    path = written(here, external("model.onnx"))
    with pytest.raises(GraphError, match="would be overwritten by the model"):
        save_onnx(load_onnx(path), path, source=path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_onnx(model("y = Neg(x)"), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_deep_chain_and_a_wide_fan_take_seconds(tmp_path):
    wide = (
        " ".join(f"a{i} = Relu(a0)" for i in range(1, 1500)) + f" s = Sum({', '.join(f'a{i}' for i in range(1, 1500))})"
    )
    chain = " ".join(f"b{i + 1} = Relu(b{i})" for i in range(3000))
    proto = model(f"a0 = Exp(x) {wide} b0 = Neg(s) {chain} y = Neg(b3000)")
    began = time.perf_counter()
    graph = from_onnx(proto)
    assert (graph.n, graph.k) == (4503, 1504)
    assert time.perf_counter() - began < 10


def test_metadata_of_the_file_survive_the_way(tmp_path):
    proto = model("a = Exp(x) b = Neg(x) y = Add(a, b)")
    helper.set_model_props(proto, {"author": "me"})
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    save_onnx(apply_order(load_onnx(path), [1, 0, 2]), path, source=path)
    assert {entry.key: entry.value for entry in load_onnx(path).metadata_props} == {"author": "me"}
    assert load_onnx(path).opset_import == proto.opset_import
