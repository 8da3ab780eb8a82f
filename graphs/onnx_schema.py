"""Whether a node has the inputs, outputs and attributes that its operator must have.

The onnx library's shape inference takes these for granted: without them it may read memory that is not its own.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto
from onnx.defs import OpSchema, SchemaError, get_schema

from graphs.errors import GraphError, quoted

TERM = rb"[A-Za-z ]*(?:\.\.\.[A-Za-z ]*)?"
EQUATION = re.compile(TERM + rb"(?:," + TERM + rb")*(?:->" + TERM + rb")?")  # of an Einsum
REQUIRED = OpSchema.FormalParameterOption.Single
SIZES_LIMIT = 1 << 16  # entries of an input that lists sizes, axes or places: the library looks at each
# Operators whose inputs, but for the first, are such lists.
LISTS = frozenset(
    [
        "Slice",
        "Reshape",
        "Expand",
        "Tile",
        "Pad",
        "Resize",
        "Upsample",
        "Squeeze",
        "Unsqueeze",
        "Split",
        "CenterCropPad",
    ]
    + [
        f"Reduce{name}"
        for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    ]
)


def check_schema(node: NodeProto, label: str, versions: Mapping[str, int]) -> None:
    """Compare ``node`` with its operator in the versions that the model asks for; operators that are not known pass.

    Raises:
        GraphError: they do not fit; names the node by ``label``.
    """
    domain = "" if node.domain == "ai.onnx" else node.domain
    schema = _schema(node.op_type, versions.get(domain, 1), domain)
    if schema is None:
        return
    for what, count, least, most in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            raise GraphError(f"{label} has {count} {what}, but its operator has {least} to {most}")
    for name, parameter in zip(node.input, schema.inputs, strict=False):
        if not name and parameter.option == REQUIRED:
            raise GraphError(f"{label} has no input {quoted(parameter.name)}")
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, wanted in schema.attributes.items():
        if name not in given and wanted.required:
            raise GraphError(f"{label} has no attribute {quoted(name)}")
        if name in given and given[name].type != wanted.type:
            kind = AttributeProto.AttributeType.Name(given[name].type)
            raise GraphError(f"{label} has attribute {quoted(name)} of type {kind} instead of {str(wanted.type)[9:]}")
    if node.op_type == "Split" and "num_outputs" in given and given["num_outputs"].i != len(node.output):
        raise GraphError(f"{label} has {len(node.output)} outputs, but 'num_outputs' says {given['num_outputs'].i}")
    if node.op_type == "Einsum" and not EQUATION.fullmatch(equation := given["equation"].s):
        raise GraphError(f"{label} has the equation {quoted(equation)}, which is none")  # the library reads on forever


def check_lists(graph: GraphProto) -> None:
    """Sizes, axes and places are listed in tensors of sensible length, as far as ``graph`` tells.

    Raises:
        GraphError: they are not; names the value.
    """
    length = {tensor.name: max(tensor.dims, default=1) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        kind = value.type.tensor_type
        if kind.elem_type in (TensorProto.INT32, TensorProto.INT64):
            length.setdefault(value.name, max((dim.dim_value for dim in kind.shape.dim), default=1))
    for node in graph.node:
        if node.op_type == "Constant":
            length |= {node.output[0]: max((size for item in node.attribute for size in item.t.dims), default=1)}
        names = node.input if node.op_type == "ConstantOfShape" else node.input[1:] if node.op_type in LISTS else ()
        if (name := next((name for name in names if length.get(name, 0) > SIZES_LIMIT), None)) is not None:
            raise GraphError(f"value {quoted(name)}, which {node.op_type} reads as a list, has {length[name]} entries")


@lru_cache(maxsize=1024)
def _schema(op: str, version: int, domain: str) -> OpSchema | None:
    try:
        return get_schema(op, version, domain)
    except SchemaError:
        return None
