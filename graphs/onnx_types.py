"""Types and sizes of an ONNX model's values: elements of some bits in some dimensions, symbolic ones put to numbers."""

import ast
import math
import operator
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, TensorProto, TypeProto, ValueInfoProto

from graphs.errors import GraphError, UnsupportedOp, quoted, unknown_name
from graphs.onnx_structure import initializer_names, subgraphs

LARGEST = 1 << 62  # bytes of one tensor: above it sums no longer fit 64 bits
DIM_LIMIT = 1 << 48
BITS = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8, "COMPLEX64": 64, "COMPLEX128": 128, "BFLOAT16": 16}
BITS |= {f"{sign}INT{bits}": bits for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)} | {"FLOAT16": 16}
LONG_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}
ARITHMETIC: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A tensor: the number of its element type in TensorProto.DataType, and its dimensions."""

    element: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> str:
        """Name of the element type: "float32"."""
        return element_name(self.element)

    @property
    def bytes(self) -> int:
        """Bytes of the elements, packed where they are smaller than a byte."""
        return -(-self.count * element_bits(self.element) // 8)

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def element_name(element: int) -> str:
    """The element type as people write it: "float32", "bfloat16", "int4"."""
    name = str(TensorProto.DataType.Name(element))
    return LONG_NAMES.get(name, name.lower())


def element_bits(element: int) -> int:
    """Bits of an element; 0 for strings, whose size only a run can tell."""
    name = TensorProto.DataType.Name(element)
    return 8 if name.startswith("FLOAT8") else 4 if name.startswith("FLOAT4") else BITS.get(name, 0)


def value_of(name: str, kind: TypeProto) -> Value | None:
    """The tensor that ``kind`` describes; None where its type or a dimension is not known.

    Raises:
        UnsupportedOp: no tensor, or one of strings; names the value.
        GraphError: more bytes than 64 bits count.
    """
    which = kind.WhichOneof("value")
    if which is None:
        return None
    if which != "tensor_type":
        what = which.removesuffix("_type").replace("_", " ")
        raise UnsupportedOp(f"value {quoted(name)} is a {what}: only tensors have a size that is known before a run")
    tensor = kind.tensor_type
    if tensor.elem_type == TensorProto.UNDEFINED or not tensor.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    return None if min(sizes, default=0) < 0 else checked(name, tensor.elem_type, sizes)


def checked(name: str, element: int, shape: Iterable[int]) -> Value:
    """The tensor ``name`` of that element type and shape; raises as :func:`value_of` does."""
    if element not in TensorProto.DataType.values() or element == TensorProto.UNDEFINED:
        raise UnsupportedOp(f"value {quoted(name)} has elements of type {element}, which is not known")
    value = Value(element, tuple(shape))
    if element_bits(element) == 0:
        raise UnsupportedOp(f"value {quoted(name)} holds elements of type {value.dtype}, whose size is not known")
    if value.bytes > LARGEST:
        raise GraphError(f"value {quoted(name)} has {value.bytes:.3g} bytes; the most is 2**62")
    return value


def type_of(value: Value) -> TypeProto:
    """``value`` as the onnx library describes it."""
    kind = TypeProto()
    kind.tensor_type.elem_type = value.element
    kind.tensor_type.shape.SetInParent()
    for size in value.shape:
        kind.tensor_type.shape.dim.add(dim_value=size)
    return kind


def model_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """The inputs of ``graph`` that are not initializers."""
    weights = set(initializer_names(graph))
    return [value for value in graph.input if value.name not in weights]


def symbolic_dims(model: ModelProto) -> tuple[str, ...]:
    """Names of the sizes that the inputs of ``model`` leave open, in the order of their first use.

    Of a size such as "past + 1" these are the names in it. A size without a name is called after the input and the
    dimension, "x[0]".

    Example:
        >>> from onnx.parser import parse_model
        >>> header = '<ir_version: 10, opset_import: ["": 20]>'
        >>> symbolic_dims(parse_model(header + "f (float[batch, 3] x) => (float[batch, 3] y) { y = Relu(x) }"))
        ('batch',)
    """
    found: dict[str, None] = {}
    for value in model_inputs(model.graph):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                text = dim.dim_param or f"{value.name}[{axis}]"
                found |= dict.fromkeys(_names_in(text) or [text])
    return tuple(found)


def put_dims(model: ModelProto, dims: Mapping[str, int]) -> None:
    """Replace symbolic sizes in ``model`` by numbers, and forget those of inner values that follow from none.

    Raises:
        GraphError: a size that no number was given for, a name that is none of the model's, or no size.
    """
    whole = _whole_texts(model)
    known = tuple(
        name for name in symbolic_dims(model) if not any(name in _names_in(text) for text in whole if text in dims)
    )
    for name, size in dims.items():
        if name not in (*known, *whole):
            raise GraphError(unknown_name("symbolic dimension", name, known or ["none: all sizes are given"]))
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < DIM_LIMIT:
            raise GraphError(f"dimension {quoted(name)} must be an integer of 0 to 2**48 - 1 (got {size!r})")
    if missing := [name for name in known if name not in dims]:
        how = " ".join("--dim " + shlex.quote(f"{name}=8") for name in missing[:4])
        raise GraphError(
            f"the model has symbolic dimensions {', '.join(quoted(name) for name in known)}: "
            f"give a size to {'each' if len(missing) == len(known) else ', '.join(map(quoted, missing))} ({how})"
        )
    for value in model_inputs(model.graph):
        _fix(value.name, value.type, dims, required=True)
    stack = [model.graph]
    while stack:
        graph = stack.pop()
        inner = graph.input if graph is not model.graph else ()
        for value in (*inner, *graph.value_info, *graph.output):
            _fix(value.name, value.type, dims, required=False)
        stack.extend(body for node in graph.node for body in subgraphs(node))


def _whole_texts(model: ModelProto) -> set[str]:
    """Sizes of inputs as they are written, such as "batch-size": a name, though it reads as arithmetic too."""
    dims = (dim for value in model_inputs(model.graph) for dim in value.type.tensor_type.shape.dim)
    return {dim.dim_param for dim in dims if dim.dim_param and not dim.HasField("dim_value")}


def _fix(name: str, kind: TypeProto, dims: Mapping[str, int], *, required: bool) -> None:
    if kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.HasField("shape"):
        return
    for axis, dim in enumerate(kind.tensor_type.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            continue
        text = dim.dim_param or f"{name}[{axis}]"
        size = _evaluated(text, dims)
        dim.Clear()
        if size is not None and 0 <= size < DIM_LIMIT:
            dim.dim_value = size
        elif required:
            raise GraphError(f"size {quoted(text)} of input {quoted(name)} comes to {size}")


def _parsed(text: str) -> ast.expr | None:
    """``text`` as arithmetic on names and integers, or None if it is not."""
    if len(text) > 200:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            continue
        if not isinstance(node, (ast.BinOp, ast.Name, ast.Load, *ARITHMETIC)):
            return None
    return tree


def _names_in(text: str) -> list[str]:
    tree = _parsed(text)
    return [] if tree is None else [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]


def _evaluated(text: str, dims: Mapping[str, int]) -> int | None:
    """The number that ``text`` stands for, None where a name in it has none."""
    if text in dims:
        return dims[text]
    tree = _parsed(text)
    try:
        return None if tree is None else _computed(tree, dims)
    except (KeyError, ZeroDivisionError):
        return None


def _computed(tree: ast.expr, dims: Mapping[str, int]) -> int:
    if isinstance(tree, ast.BinOp):
        return ARITHMETIC[type(tree.op)](_computed(tree.left, dims), _computed(tree.right, dims))
    if isinstance(tree, ast.Name):
        return dims[tree.id]
    assert isinstance(tree, ast.Constant)
    return int(str(tree.value))
