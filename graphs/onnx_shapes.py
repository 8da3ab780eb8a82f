"""The type and size of every value of an ONNX model, its symbolic dimensions put to numbers."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.shape_inference import infer_shapes

from graphs.errors import GraphError, UnsupportedOp, quoted
from graphs.onnx_file import external_integers
from graphs.onnx_fold import Folding
from graphs.onnx_functions import first_line
from graphs.onnx_schema import check_lists
from graphs.onnx_structure import STANDARD, label_of, operator, subgraphs
from graphs.onnx_types import Value, checked, model_inputs, put_dims, value_of

SMALL = 1 << 10  # elements of a tensor whose content may be a shape
HIDDEN = "topoformer.hidden"  # a set of operators that nobody knows
DATA_DEPENDENT = frozenset(["NonZero", "NonMaxSuppression", "Unique", "Compress", "StringSplit", "ImageDecoder"])


@dataclass(frozen=True)
class Values:
    """What is known of a model's values by their names.

    ``plain`` are those whose size follows from types alone, as a runtime finds it when it loads the model: it reuses
    no memory for what it does not know the size of.
    """

    of: Mapping[str, Value]
    plain: frozenset[str]


def infer_values(model: ModelProto, dims: Mapping[str, int], folder: Path | None) -> Values:
    """The tensors of ``model``, which is not changed; sizes that are computed are computed, where that takes no data.

    Args:
        dims: a size for each of the model's symbolic dimensions.
        folder: where its external data lie: integers of up to 1,024 elements are read, as they may be shapes.

    Raises:
        UnsupportedOp: the size of a value depends on data, or its operator is not known; names the node.
        GraphError: sizes that contradict each other, negative or too large.
    """
    lean = _lean(model, folder)
    put_dims(lean, dims)
    check_lists(lean.graph)
    known = _initial(model)
    known |= _described(_inferred(lean, believe=False), known)
    plain = set(known)
    folding = Folding(lean, known, plain)
    if _some_unknown(lean, known):
        folding.run()
    if _some_unknown(lean, known):  # what the file says of them may be old: it counts where nothing else tells
        said = _described(_inferred(lean, believe=True), known)
        known |= said
        plain |= said.keys()
        folding.run()
    if bad := next((value.name for value in model_inputs(model.graph) if value.name not in known), None):
        raise UnsupportedOp(f"input {quoted(bad)} does not say of what type its elements are")
    for i, node in enumerate(model.graph.node):
        for output in node.output:
            if output and output not in known:
                reason = folding.reasons.get(output)
                raise UnsupportedOp(_unknown(node, i, output) + (f" ({reason})" if reason else ""))
    return Values(known, frozenset(plain))


def _some_unknown(model: ModelProto, known: Mapping[str, Value]) -> bool:
    return any(output and output not in known for node in model.graph.node for output in node.output)


def _inferred(lean: ModelProto, *, believe: bool) -> GraphProto:
    """The graph with what the library finds out, from the sizes that the file gives to inner values or without them.

    Raises:
        GraphError: sizes that contradict each other.
    """
    hidden, nested = _without_ranges(lean)
    if not believe:
        del hidden.graph.value_info[:]
        for value in hidden.graph.output:
            if value.type.WhichOneof("value") == "tensor_type":
                value.type.tensor_type.ClearField("shape")
    try:
        return infer_shapes(hidden, strict_mode=False, data_prop=not nested).graph
    except Exception as error:  # whatever a broken model makes the library do
        raise GraphError(f"its sizes contradict each other ({first_line(error)})") from None


def _without_ranges(lean: ModelProto) -> tuple[ModelProto, bool]:
    """A copy in which the library does not know Range nodes, and whether there are some in bodies all the same.

    It writes down all the numbers of a Range that it can, two thousand million just as well as two. What a Range makes
    is found out later, without that.
    """
    hidden = ModelProto()
    hidden.CopyFrom(lean)
    hidden.opset_import.add(domain=HIDDEN, version=1)
    for node in hidden.graph.node:
        if node.op_type == "Range" and node.domain in STANDARD:
            node.domain = HIDDEN
    bodies = [body for node in hidden.graph.node for body in subgraphs(node)]
    for body in bodies:  # grows meanwhile
        bodies.extend(inner for node in body.node for inner in subgraphs(node))
    return hidden, any(node.op_type == "Range" for body in bodies for node in body.node)


def _initial(model: ModelProto) -> dict[str, Value]:
    graph = model.graph
    known = {tensor.name: checked(tensor.name, tensor.data_type, tensor.dims) for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:  # a runtime unpacks them when it loads the model
        known[sparse.values.name] = checked(sparse.values.name, sparse.values.data_type, sparse.dims)
    return known


def _described(graph: GraphProto, known: Mapping[str, Value]) -> dict[str, Value]:
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.name not in known and (described := value_of(value.name, value.type)) is not None:
            found[value.name] = described
    return found


def _unknown(node: NodeProto, index: int, output: str) -> str:
    label = label_of(node, index)
    if node.domain not in (*STANDARD, "ai.onnx.ml"):
        text = f"operator {quoted(operator(node))} is not known"
        return f"{label}: {text}, and 'value_info' gives no size for its output {quoted(output)}"
    if node.op_type in DATA_DEPENDENT:
        return f"{label}: the size of its output {quoted(output)} depends on the data"
    return f"{label}: the size of its output {quoted(output)} is not known before a run"


def _lean(model: ModelProto, folder: Path | None) -> ModelProto:
    """A copy of ``model`` for finding sizes: of large tensors it has only type and shape."""
    lean = ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import)  # of 3, weights are inputs
    lean.graph.name = model.graph.name
    _copy_graph(model.graph, lean.graph, folder)
    for sparse in model.graph.sparse_initializer:
        _bare(lean.graph.initializer.add(), sparse.values, sparse.dims)
    return lean


def _copy_graph(graph: GraphProto, lean: GraphProto, folder: Path | None) -> None:
    lean.name = graph.name
    lean.input.extend(graph.input)
    lean.output.extend(graph.output)
    lean.value_info.extend(graph.value_info)
    for tensor in graph.initializer:
        _copy_tensor(tensor, lean.initializer.add(), folder)
    for node in graph.node:
        copy = lean.node.add()
        if not (subgraphs(node) or any(_count(attribute.t) > SMALL for attribute in node.attribute)):
            copy.CopyFrom(node)
            for attribute in copy.attribute:
                if attribute.name == "equation":  # the library never gets past a space in one
                    attribute.s = attribute.s.replace(b" ", b"")
            if node.op_type == "STFT" and not any(attribute.name == "onesided" for attribute in node.attribute):
                copy.attribute.add(name="onesided", type=AttributeProto.INT, i=1)  # the library forgets the default
            continue
        copy.input.extend(node.input)
        copy.output.extend(node.output)
        copy.name, copy.op_type, copy.domain = node.name, node.op_type, node.domain
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inner = copy.attribute.add(name=attribute.name, type=attribute.type)
                _copy_graph(attribute.g, inner.g, folder)
            elif _count(attribute.t) > SMALL:
                inner = copy.attribute.add(name=attribute.name, type=attribute.type)
                _copy_tensor(attribute.t, inner.t, folder)
            else:
                copy.attribute.add().CopyFrom(attribute)


def _copy_tensor(tensor: TensorProto, copy: TensorProto, folder: Path | None) -> None:
    if _count(tensor) > SMALL or tensor.data_location == TensorProto.EXTERNAL:
        _bare(copy, tensor, tensor.dims)
        if _count(tensor) <= SMALL and folder is not None and (data := external_integers(tensor, folder)):
            copy.data_location = TensorProto.DEFAULT
            copy.raw_data = data
    else:
        copy.CopyFrom(tensor)


def _count(tensor: TensorProto) -> int:
    return math.prod(tensor.dims)


def _bare(copy: TensorProto, tensor: TensorProto, dims: Iterable[int]) -> None:
    """Make ``copy`` a tensor of the type of ``tensor`` whose data are somewhere else."""
    copy.name, copy.data_type, copy.data_location = tensor.name, tensor.data_type, TensorProto.EXTERNAL
    copy.dims.extend(dims)
