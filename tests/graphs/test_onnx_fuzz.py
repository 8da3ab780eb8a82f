"""Damaged models are refused in one line, or are graphs whose orders can be written back."""

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphs import GraphError, UnsupportedOp
from graphs.onnx import ALIASES, apply_order, from_onnx, load_onnx, symbolic_dims
from tests.graphs.onnx_models import LIGHT_FOLDER, model, random_order

FUNCTION = '<domain: "custom", opset_import: ["": 20]> f (a) => (b) { c = Exp(a) b = Neg(c) }'
MODELS = [
    model("a = Exp(x) r = Reshape(a, minus) b = Relu(r) c = Softmax(b) y = Neg(c)", outputs="float[24] y"),
    model("s = Shape(x) g = Gather(s, zero) c = Concat <axis = 0> (g, minus) a = Exp(x) y = Reshape(a, c)",
          inputs="float[batch, 6] x", outputs="float[p, q] y"),
    model("k = Constant <value = float[1] {1.0}> () a = Add(x, k) s, t = Split <axis = 1, num_outputs = 2> (a) "
          "u = Concat <axis = 1> (t, s) v, w = TopK(u, k2) y = Slice(u, zero, k2)",
          values="<int64[1] k2 = {2}, int64[1] zero = {0}>", outputs="float[2, 6] y"),
    model("""a = Exp(x) d = If (c) <then_branch = t () => (float[4, 6] r) { r = Neg(a) },
             else_branch = e () => (float[4, 6] o) { o = Cos(x) }> y = Add(d, a)""", inputs="float[4, 6] x, bool c"),
    model("""y = Loop (n, c, x) <body = l (int64 i, bool k, float[4, 6] v) => (bool m, float[4, 6] f) {
             m = Identity(k) f = Mul(v, x) }>""", inputs="float[4, 6] x, bool c, int64 n"),
    model("a = custom.f(x) b = RandomNormalLike(a) y = custom.f(b)", more=FUNCTION),
    model("a = Conv(x, w) y = Relu(a)", inputs="float[1, 2, 5, 5] x", outputs="float[1, 3, 3, 3] y",
          weights={"w": [3, 2, 3, 3]}),
    onnx.load(LIGHT_FOLDER / "light_zfnet512.onnx"),
]  # fmt: skip
FILES = [proto.SerializeToString() for proto in MODELS]
NUMBERS = st.sampled_from([0, 1, -1, 2, 3, 7, 127, 1 << 31, (1 << 63) - 1, -(1 << 63), 1 << 40])
NAMES = st.sampled_from(["", "x", "y", "a", "zero", "Shape", "Reshape", "Loop", "Split", "NonZero", "custom", "axis"])
FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refusal(action):
    """What ``action`` gives, or the error with which it refuses."""
    try:
        return action()
    except (GraphError, UnsupportedOp) as error:
        return error


def holds(data, path, aliases):
    """The law: one line that names the file, or a graph that goes there and back."""
    path.write_bytes(data)
    proto = refusal(lambda: load_onnx(path))
    if isinstance(proto, ValueError):
        assert "\n" not in str(proto)
        assert path.name in str(proto)
        return
    dims = dict.fromkeys(symbolic_dims(proto), 4)
    graph = refusal(lambda: from_onnx(proto, dims=dims, aliases=aliases))
    if isinstance(graph, ValueError):
        assert "\n" not in str(graph)
        assert len(str(graph)) < 900
        return
    back = apply_order(proto, random_order(graph, len(data)))
    assert sorted(map(str, back.graph.node)) == sorted(map(str, proto.graph.node))
    assert from_onnx(back, dims=dims, aliases="none").n == graph.n


@FUZZ
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8),
    st.one_of(st.none(), st.integers(0, 1 << 20)),
    st.sampled_from(ALIASES),
)
def test_bytes_that_are_wrong(tmp_path, data, changes, length, aliases):
    damaged = bytearray(data)
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    holds(bytes(damaged if length is None else damaged[: length % len(damaged)]), tmp_path / "m.onnx", aliases)


def messages(message):
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                yield from messages(item)


def changed(message, data):
    """Give one field of ``message`` another value, drop it, or say it twice."""
    field = data.draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    if field.message_type is not None:
        if field.is_repeated and len(items := getattr(message, field.name)):
            i = data.draw(st.integers(0, len(items) - 1))
            twin = type(items[i])()
            twin.CopyFrom(items[i])
            del items[i]
            items.extend([twin] * data.draw(st.integers(0, 2)))
        else:
            message.ClearField(field.name)
        return
    kinds = {field.TYPE_STRING: NAMES, field.TYPE_BYTES: st.binary(max_size=16), field.TYPE_FLOAT: st.just(1.5)}
    values = [1, 7, 9] if field.type == field.TYPE_ENUM else NUMBERS
    value = data.draw(kinds.get(field.type, st.sampled_from(values) if isinstance(values, list) else values))
    try:
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    except ValueError:  # no such number in this field
        message.ClearField(field.name)


@FUZZ
@given(st.sampled_from(MODELS), st.integers(1, 4), st.data(), st.sampled_from(ALIASES))
def test_messages_that_are_wrong(tmp_path, proto, changes, data, aliases):
    damaged = onnx.ModelProto()
    damaged.CopyFrom(proto)
    for _ in range(changes):
        parts = [part for part in messages(damaged) if part.DESCRIPTOR.fields]
        changed(parts[data.draw(st.integers(0, len(parts) - 1))], data)
    holds(damaged.SerializeToString(), tmp_path / "m.onnx", aliases)


@pytest.mark.parametrize("proto", MODELS, ids=range(len(MODELS)))
@pytest.mark.parametrize("aliases", ALIASES)
def test_undamaged_models(tmp_path, proto, aliases):
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert from_onnx(path, dims=dict.fromkeys(symbolic_dims(proto), 4), aliases=aliases).n >= len(proto.graph.node)
    holds(proto.SerializeToString(), path, aliases)
