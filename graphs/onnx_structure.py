"""What an ONNX model is made of, and whether its nodes, names and scopes fit together.

This is looked at before anything of the onnx library that is written in C++ sees the model.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, TypeProto
from onnx.defs import onnx_opset_version

from graphs.errors import GraphError, UnsupportedOp, quoted
from graphs.onnx_schema import check_schema

STANDARD = ("", "ai.onnx")
VERSION_LIMIT = 1 << 31  # of the format and of operators; the library counts in 32 bits


def check_structure(model: ModelProto) -> None:
    """The model has a graph whose names are defined once and before they are read, in every scope.

    Raises:
        GraphError: it has not; one line that names the node or value.
        UnsupportedOp: an input, initializer or operator set that is not understood.
    """
    _check_text(model)
    versions = _check_header(model)
    _check_scope(model.graph, frozenset(), "graph", versions, top=True)


def label_of(node: NodeProto, index: int) -> str:
    """What to call ``node``, the ``index``-th of its graph, in an error message."""
    name = node.name or next((output for output in node.output if output), "") or f"{node.op_type}_{index}"
    return f"node {quoted(name)} ({quoted(operator(node))[1:-1]})"


def operator(node: NodeProto) -> str:
    """The operator's name: "Conv", or "com.microsoft.Gelu" where it is not one of ONNX's own."""
    return str(node.op_type) if node.domain in STANDARD else f"{node.domain}.{node.op_type}"


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The bodies that an If, a Loop or a Scan brings along."""
    found = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def values_read(node: NodeProto) -> list[str]:
    """The names that ``node`` reads in its own scope: its inputs and what its bodies, however deep, take from there."""
    read = dict.fromkeys(name for name in node.input if name)
    for body in subgraphs(node):
        read |= dict.fromkeys(_captured(body))
    return list(read)


def initializer_names(graph: GraphProto) -> list[str]:
    """The names of the dense and sparse initializers of ``graph``."""
    return [tensor.name for tensor in graph.initializer] + [t.values.name for t in graph.sparse_initializer]


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor in the model that holds data or says where they are: weights and attributes, in every scope."""
    stack: list[GraphProto | NodeProto] = [model.graph]
    stack.extend(node for function in model.functions for node in function.node)
    while stack:
        item = stack.pop()
        if isinstance(item, GraphProto):
            yield from item.initializer
            for sparse in item.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            stack.extend(item.node)
            continue
        for attribute in item.attribute:
            yield from _attribute_tensors(attribute)
        stack.extend(subgraphs(item))


def location_of(tensor: TensorProto) -> str:
    """The file that a tensor's external data lie in, relative to the folder of the model.

    Raises:
        GraphError: the tensor does not say.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if not entries.get("location"):
        raise GraphError(f"tensor {quoted(tensor.name)} has external data, but does not say in which file")
    return str(entries["location"])


def _attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for tensor in (*sparse, *attribute.sparse_tensors):
        yield from (tensor.values, tensor.indices)


def _check_text(model: ModelProto) -> None:
    """Texts are UTF-8: protobuf hands over others as bytes, or not at all."""
    stack: list[Any] = [model]
    while stack:
        message = stack.pop()
        if isinstance(message, TensorProto):  # its data are no text, and may be large
            texts = [message.name, *(text for entry in message.external_data for text in (entry.key, entry.value))]
            if not all(isinstance(text, str) for text in texts):
                raise GraphError("the name of a tensor is not UTF-8 text")
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                stack.extend(value if field.is_repeated else [value])
            elif field.type == field.TYPE_STRING:
                texts = value if field.is_repeated else [value]
                if not all(isinstance(text, str) for text in texts):
                    raise GraphError(
                        f"{quoted(field.name)} of a {message.DESCRIPTOR.name} in the model is not UTF-8 text"
                    )


def _check_header(model: ModelProto) -> dict[str, int]:
    """The version of each set of operators that the model uses."""
    if not model.HasField("graph"):
        raise GraphError("not an ONNX model: it holds no graph")
    if not 0 < model.ir_version < VERSION_LIMIT:
        raise GraphError(f"not an ONNX model: version {model.ir_version} of the format")
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain in STANDARD else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise GraphError(
                f"operator set {quoted(domain)} is asked for in versions {versions[domain]} and {entry.version}"
            )
    if bad := next((entry for entry in model.opset_import if not 0 < entry.version < VERSION_LIMIT), None):
        raise GraphError(f"operator set {quoted(bad.domain)} is asked for in version {bad.version}")
    if not 0 < versions.get("", 1) <= onnx_opset_version():
        known = f"the package 'onnx' that is installed knows 1 to {onnx_opset_version()}"
        raise UnsupportedOp(f"operator set version {versions['']} is not known: {known}")
    if "" not in versions and any(node.domain in STANDARD for node in model.graph.node):
        raise GraphError("the model does not say which version of ONNX's operators it uses")
    return versions


def _check_scope(
    graph: GraphProto, outer: frozenset[str], where: str, versions: Mapping[str, int], *, top: bool = False
) -> None:
    defined: set[str] = set()
    inputs = [value.name for value in graph.input]
    _define(defined, inputs, f"input of {where}")
    initializers = initializer_names(graph)
    _define(set(), initializers, f"initializer of {where}")
    defined.update(initializers)
    for sparse in graph.sparse_initializer:
        _check_sparse(sparse)
    for tensor in graph.initializer:
        _check_dims(tensor)
    if top:
        for value in graph.input:
            _check_input(value.name, value.type)
    writers = {output: i for i, node in enumerate(graph.node) for output in node.output if output}
    for i, node in enumerate(graph.node):
        label = label_of(node, i)
        _check_node(node, label, versions)
        for body in subgraphs(node):
            _check_scope(body, outer | defined, f"the body of {label}", versions)
        for name in (name for name in node.input if name):
            if name in defined or name in outer or name in writers:
                continue  # that its writer comes later, or waits for it, is for the graph of all nodes to say
            raise GraphError(f"{label} reads {quoted(name)}, which nothing in the model makes")
        _define(defined, (output for output in node.output if output), f"output of {label}")
    for value in graph.output:
        if value.name not in defined and value.name not in outer:
            raise GraphError(f"output {quoted(value.name)} of {where} is made by none of its nodes")


def _define(defined: set[str], names: Iterable[str], what: str) -> None:
    for name in names:
        if not name:
            raise GraphError(f"an {what} has no name")
        if name in defined:
            raise GraphError(f"value {quoted(name)}, {what}, is defined twice")
        defined.add(name)


def _check_node(node: NodeProto, label: str, versions: Mapping[str, int]) -> None:
    if not node.op_type:
        raise GraphError(f"{label} has no operator")
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            raise GraphError(f"{label} takes attribute {quoted(attribute.name)} from a function, but is in none")
        for tensor in _attribute_tensors(attribute):
            _check_dims(tensor)
    check_schema(node, label, versions)


def _check_dims(tensor: TensorProto) -> None:
    if bad := next((size for size in tensor.dims if size < 0), 0):
        raise GraphError(f"tensor {quoted(tensor.name)} has a negative size: {bad}")


def _check_sparse(sparse: SparseTensorProto) -> None:
    if bad := next((size for size in sparse.dims if size < 0), 0):
        raise GraphError(f"sparse tensor {quoted(sparse.values.name)} has a negative size: {bad}")


def _check_input(name: str, kind: TypeProto) -> None:
    which = kind.WhichOneof("value")
    if which != "tensor_type":
        what = "has no type" if which is None else f"is a {which.removesuffix('_type').replace('_', ' ')}"
        raise UnsupportedOp(f"input {quoted(name)} {what}: only tensors have a size that is known before a run")
    if not kind.tensor_type.HasField("shape"):
        raise UnsupportedOp(f"input {quoted(name)} has no shape, not even the number of its dimensions")
    for axis, dim in enumerate(kind.tensor_type.shape.dim):
        if dim.dim_value < 0:
            raise GraphError(f"input {quoted(name)} has a negative size: {dim.dim_value} in dimension {axis}")


def _captured(graph: GraphProto) -> dict[str, None]:
    """The names that ``graph`` reads and does not define itself, in the order of their first reading."""
    local = {value.name for value in graph.input} | set(initializer_names(graph))
    captured: dict[str, None] = {}
    for node in graph.node:
        captured |= dict.fromkeys(name for name in values_read(node) if name not in local)
        local.update(node.output)
    return captured | dict.fromkeys(value.name for value in graph.output if value.name not in local)
