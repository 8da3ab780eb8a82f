"""What a node of an ONNX model computes and moves: the facts of the latency model, and where it comes from."""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from onnx import NodeProto
from onnx.helper import get_attribute_value

from graphs.onnx_types import Value

FRAME = re.compile(r'File "([^"]+)", line (\d+)')
FLOATING = re.compile(r"b?float\d|complex")
LOOKUPS = frozenset(["Gather", "GatherElements", "GatherND", "Slice"])  # read no more of a table than they give back
PRODUCTS = frozenset(["MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"])
CONVOLUTIONS = frozenset(["Conv", "ConvInteger", "QLinearConv", "FusedConv", "ConvTranspose"])


def flops(node: NodeProto, inputs: Sequence[Value], outputs: Sequence[Value]) -> float:
    """Floating point operations of a node: two for each multiplication of a product or convolution, else one a result.

    Bodies of an If, a Loop or a Scan, and recurrent operators, count as their results.
    """
    elements = sum(value.count for value in outputs)
    if node.op_type in PRODUCTS and inputs and inputs[0].shape:
        return 2.0 * elements * inputs[0].shape[-1]
    if node.op_type in ("Gemm", "FusedGemm") and inputs and len(inputs[0].shape) == 2:
        return 2.0 * elements * inputs[0].shape[0 if _attribute(node, "transA", 0) else 1]
    if node.op_type in CONVOLUTIONS and len(inputs) > 1:
        weight = inputs[3] if node.op_type == "QLinearConv" and len(inputs) > 3 else inputs[1]
        at = inputs[0].count if node.op_type == "ConvTranspose" else elements
        return 2.0 * at * math.prod(weight.shape[1:])
    return 0.0 if node.op_type in ("Shape", "Size") else float(elements)


def moved(node: NodeProto, inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """Bytes that a node reads and writes."""
    if node.op_type in ("Shape", "Size"):
        return sum(value.bytes for value in outputs)
    sizes = [value.bytes for value in inputs]
    written = sum(value.bytes for value in outputs)
    if node.op_type in LOOKUPS and sizes:
        sizes[0] = min(sizes[0], written)
    return sum(sizes) + written


def dtype(inputs: Sequence[Value], outputs: Sequence[Value]) -> str:
    """The type of number that a node computes in: the first floating one, else that of its first result."""
    floating = [value.dtype for value in (*inputs, *outputs) if FLOATING.match(value.dtype)]
    return next(iter([*floating, *(value.dtype for value in (*outputs, *inputs))]), "")


def source(properties: Mapping[str, str]) -> str:
    """The innermost line of the user's own code in the stack trace that PyTorch's exporter leaves, "model.py:12"."""
    frames = FRAME.findall(properties.get("pkg.torch.onnx.stack_trace", ""))
    own = [frame for frame in frames if "/torch/" not in frame[0]] or frames
    return f"{own[-1][0]}:{own[-1][1]}" if own else ""


def module(properties: Mapping[str, str]) -> str:
    """The module of the user's program that a node comes from, as PyTorch's exporter notes it: "layers.0.attention"."""
    text = properties.get("pkg.torch.onnx.name_scopes", "")
    try:
        scopes = ast.literal_eval(text) if len(text) < 10_000 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if not isinstance(scopes, list) or len(scopes) < 2 or not all(isinstance(scope, str) for scope in scopes):
        return ""
    return str(scopes[-2])  # the last one is the call itself


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else get_attribute_value(found)
