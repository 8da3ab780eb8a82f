"""What :mod:`graphs.onnx` says of memory against what ONNX Runtime asks the system for, to the byte."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphs
from graphs.onnx import apply_order, from_onnx, load_onnx
from graphs.onnx_aliases import IN_PLACE, VIEWS
from tests.graphs.onnx_models import LIGHT_FOLDER, inputs_for, model, random_order

pytest.importorskip("onnxruntime")
if sys.platform != "linux" or not shutil.which("cc"):
    pytest.skip("needs Linux and a C compiler to watch allocations", allow_module_level=True)

ROOT = Path(__file__).parents[2]
BYTES = 4 * 64 * 64
CONSTANTS = f"""<float one = {{1.0}}, int64[1] zero = {{0}}, int64[1] minus = {{-1}}, int64[2] shape = {{64, 64}},
    int64[1] many = {{999}}, int64[1, 1] index = {{0}}, float[1, 1] update = {{2.0}}, int64[2] ones = {{1, 1}},
    int64[4] pads = {{0, 0, 0, 0}}, bool[1] yes = {{1}}, int64 axis = {{0}},
    float[64] scale = {{{", ".join(["1.0"] * 64)}}}>"""
# How each operator is called; most are called on one value.
CALLS = {
    "Reshape": "b = Reshape(a, minus)", "Unsqueeze": "b = Unsqueeze(a, zero)", "CastLike": "b = CastLike(a, x)",
    "Cast": "b = Cast <to = 6> (a)", "ScatterElements": "b = ScatterElements(a, index, update)",
}  # fmt: skip
# Operators that give a value as large as theirs, yet take memory of their own.
OWN_MEMORY = {
    **{op: f"b = {op}(a)" for op in ("Abs", "Neg", "Exp", "Sqrt", "Erf", "Floor", "Hardmax", "Gelu")},
    **{op: f"b = {op}(a, one)" for op in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "PRelu")},
    "Transpose": "b = Transpose(a)", "Expand": "b = Expand(a, shape)", "Concat": "b = Concat <axis = 0> (a)",
    "Slice": "b = Slice(a, zero, many)", "Tile": "b = Tile(a, ones)", "Pad": "b = Pad(a, pads)",
    "Where": "b = Where(yes, a, one)", "CumSum": "b = CumSum(a, axis)", "MatMul": "b = MatMul(a, x)",
    "LayerNormalization": "b = LayerNormalization(a, scale)",
    "Split": "b = Split <num_outputs = 1> (a)", "ReduceSum": "b = ReduceSum <noop_with_empty_axes = 1> (a)",
}  # fmt: skip
MAX = "ReduceMax <keepdims = 0>"
# Models whose memory hangs on who reads what, and when.
CASES = {
    "one after the other": f"a = Exp(x) b = Relu(a) c = Tanh(b) y = {MAX}(c)",
    "read by another later": f"a = Exp(x) b = Relu(a) c = Add(a, b) y = {MAX}(c)",
    "last of two readers": f"a = Exp(x) p = {MAX}(a) t = Add(a, p) b = Relu(a) c = Add(b, t) y = {MAX}(c)",
    "residual": f"a = Exp(x) b = Softmax(a) d = Neg(b) c = Mul(b, d) e = Relu(c) y = {MAX}(e)",
    "reader that must be before": f"a = Exp(x) p = {MAX}(a) k = ScatterElements(a, index, u) y = {MAX}(k)".replace(
        "k =", "u = Reshape(p, ones) k ="
    ),
    "view of a view": f"a = Exp(x) v = Reshape(a, minus) w = Identity(v) b = Relu(w) y = {MAX}(b)",
    "base of a view is read later": f"a = Exp(x) v = Reshape(a, minus) b = Relu(v) p = {MAX}(b) q = {MAX}(a) "
    "y = Add(p, q)",
    "other view is read later": f"a = Exp(x) v = Reshape(a, minus) w = Identity(a) b = Relu(v) p = {MAX}(b) "
    f"q = {MAX}(w) y = Add(p, q)",
    "the input": f"b = Relu(x) y = {MAX}(b)",
    "a view of the input": f"v = Identity(x) b = Relu(v) y = {MAX}(b)",
    "other bytes": f"a = Exp(x) b = Cast <to = 11> (a) c = {MAX}(b) y = Cast <to = 1> (c)",
    "a constant": f"k = Constant <value = float[1] {{1.0}}> () a = Add(x, k) b = Relu(a) y = {MAX}(b)",
    "nobody reads it": f"a = Exp(x) b = Neg(x) y = {MAX}(b)",
    "nothing is held for later": f"a = Exp(x) p = {MAX}(a) h = Exp(x) w = Concat <axis = 0> (h, h, h, h) q = {MAX}(w) "
    f"c = Exp(x) r = {MAX}(c) s = Add(p, q) y = Add(s, r)",
    "a branch": f"""a = Exp(x) c = Relu(a) p = {MAX}(c) both = Cast <to = 9> (p)
        d = If (both) <then_branch = t () => (float[64, 64] z) {{ z = Neg(c) }},
                      else_branch = e () => (float[64, 64] w) {{ w = Exp(c) }}> y = {MAX}(d)""",
    "a computed shape": f"s = Shape(x) n = Div(s, ones) v = Reshape(x, n) a = Exp(v) b = Relu(a) y = {MAX}(b)",
}  # fmt: skip
OUTPUTS = {
    "relu of an output": (f"a = Exp(x) b = Relu(a) y = {MAX}(b)", "float[64, 64] a, float y"),
    "relu to an output": ("a = Exp(x) y = Relu(a)", "float[64, 64] y"),
    "view to an output": ("a = Exp(x) y = Reshape(a, minus)", "float[4096] y"),
    "view of an output": (f"a = Exp(x) b = Reshape(a, minus) c = Relu(b) y = {MAX}(c)", "float[64, 64] a, float y"),
    "view of the input to an output": ("y = Identity(x)", "float[64, 64] y"),
}


def aligned_peak(graph, order=None):
    """The peak where every tensor takes a multiple of 64 bytes, as in ONNX Runtime."""
    return graphs.peak_bytes(replace(graph, size=-(-graph.size // 64) * 64), order)


def small(body, outputs="float y"):
    return model(body, inputs="float[64, 64] x", outputs=outputs, values=CONSTANTS)


@pytest.fixture(scope="module")
def allocated(tmp_path_factory):
    """A function from ModelProtos to the most bytes that ONNX Runtime has allocated while it ran each."""
    folder = tmp_path_factory.mktemp("allocations")
    library = folder / "allocations.so"
    source = Path(__file__).with_name("onnx_allocations.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"], check=True)

    def measure(protos):
        tasks = []
        for i, proto in enumerate(protos):
            onnx.save(proto, folder / f"{i}.onnx")
            np.savez(folder / f"{i}.npz", **inputs_for(proto))
            tasks.append([str(folder / f"{i}.onnx"), str(folder / f"{i}.npz")])
        answer = subprocess.run(
            [sys.executable, "-m", "tests.graphs.onnx_allocations", library],
            input=json.dumps(tasks), stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, timeout=300,
            env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return json.loads(answer.stdout)

    return measure


def test_each_operator_shares_memory_or_does_not_as_the_lists_say(allocated):
    calls = {op: CALLS.get(op, f"b = {op}(a)") for op in sorted(VIEWS | IN_PLACE)} | OWN_MEMORY
    outputs = {op: "int32 y" if op == "Cast" else "float y" for op in calls}
    protos = {op: small(f"a = Exp(x) {call} y = {MAX}(b)", outputs[op]) for op, call in calls.items()}
    once = dict(zip(protos, allocated(list(protos.values())), strict=True))
    assert {op for op, count in once.items() if count < 1.5 * BYTES} == VIEWS | IN_PLACE
    graphs_of = {op: from_onnx(proto) for op, proto in protos.items()}
    assert {op for op, graph in graphs_of.items() if graphs.peak_bytes(graph) < 1.5 * BYTES} == VIEWS | IN_PLACE


def test_the_peak_is_what_is_allocated(allocated):
    protos = {name: small(body) for name, body in CASES.items()}
    protos |= {name: small(body, outputs) for name, (body, outputs) in OUTPUTS.items()}
    real = dict(zip(protos, allocated(list(protos.values())), strict=True))
    assert {name: aligned_peak(from_onnx(proto)) for name, proto in protos.items()} == real


def test_the_peaks_of_real_networks_in_any_order(allocated):
    """Kernels that unfold images or pack matrices take some memory more, for themselves."""
    for name, most in (("light_squeezenet", 1.0), ("light_shufflenet", 1.02), ("light_inception_v2", 1.02)):
        proto = load_onnx(LIGHT_FOLDER / f"{name}.onnx")
        graph = from_onnx(proto)
        orders = [np.arange(graph.n, dtype=np.int32), random_order(graph, 3)]
        simulated = [aligned_peak(graph, order) for order in orders]
        real = allocated([apply_order(proto, order) for order in orders])
        assert all(peak <= true <= most * peak for peak, true in zip(simulated, real, strict=True)), (
            name,
            simulated,
            real,
        )
