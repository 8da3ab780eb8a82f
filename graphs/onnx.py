"""ONNX models as graphs, and graphs' orders as ONNX models.

:func:`from_onnx` is the way in, :func:`apply_order` the way back; :func:`load_onnx` and :func:`save_onnx` are the two
doors to files. A node of the graph is a node of the model's main graph, in the model's order.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto

from graphs import onnx_work as work
from graphs.errors import GraphError, UnsupportedOp, quoted, unknown_name
from graphs.graph import Graph, Kind, check_order
from graphs.onnx_aliases import ALIASES, Sharing, is_constant, share
from graphs.onnx_file import load_onnx, naming, save_onnx
from graphs.onnx_shapes import infer_values
from graphs.onnx_structure import check_structure, initializer_names, operator, subgraphs, values_read
from graphs.onnx_types import Value, model_inputs, symbolic_dims

__all__ = ["ALIASES", "apply_order", "from_onnx", "load_onnx", "naming", "save_onnx", "symbolic_dims"]

RANDOM = frozenset(
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"]
)


def from_onnx(
    model: ModelProto | str | os.PathLike[str],
    *,
    dims: Mapping[str, int] | None = None,
    aliases: str = "onnxruntime",
    name: str | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Graph:
    """The graph of an ONNX model, or of the one in a file.

    A node of the model is a node of the graph, an If, a Loop or a Scan with all that its bodies read from outside.
    Initializers are weights, also those that are inputs; what Constant nodes give is a weight too, because runtimes
    make it once, when they load the model: the node allocates nothing. Weights that nothing reads do not count.
    Operators that draw random numbers without a seed of their own keep their order. What a kernel, or the body of an
    If, a Loop or a Scan, allocates for itself is not seen.

    Args:
        model: not changed. One with functions of its own must be inlined before, as :func:`load_onnx` does.
        dims: a size for each symbolic dimension: ``{"batch": 8}``; :func:`symbolic_dims` tells them.
        aliases: who shares memory: ``"onnxruntime"``, ``"views"`` or ``"none"``, as :func:`graphs.onnx_aliases.share`
            says.
        name: of the graph; by default the file's or the model's.
        folder: where a ModelProto's external data lie, of which only small integers are read: they may be shapes.

    Raises:
        UnsupportedOp: a size depends on data, an operator is not known, or a value is no tensor; names the node.
        GraphError: a dimension is missing or not known, the nodes form a cycle, names do not fit together; one line.
        OSError: the file cannot be read.

    Example:
        >>> from onnx.parser import parse_model
        >>> from graphs import from_onnx
        >>> header = '<ir_version: 10, opset_import: ["": 20]>'
        >>> text = "(float[batch, 3] x) => (float[batch, 3] y) { a = Exp(x) b = Relu(a) y = Neg(b) }"
        >>> from_onnx(parse_model(header + "small" + text), dims={"batch": 8})
        <Graph 'small': 3 nodes, 3 tensors (1 temporary, 1 output, 1 input), 3 edges, writes 192 B, resident 96 B>
    """
    if aliases not in ALIASES:
        raise GraphError(unknown_name("aliases", aliases, ALIASES))
    if not isinstance(model, ModelProto):
        path = Path(model)
        loaded = load_onnx(path)
        with naming(path):
            title = path.stem if name is None else name
            return from_onnx(loaded, dims=dims, aliases=aliases, name=title, folder=path.parent)
    check_structure(model)
    if model.functions:
        raise UnsupportedOp(f"function {quoted(model.functions[0].name)} is not inlined: load the model with load_onnx")
    title = name if name is not None else model.graph.name or "graph"
    reads = [values_read(node) for node in model.graph.node]
    _order_only(model.graph, reads, title)
    values = infer_values(model, dims or {}, None if folder is None else Path(folder))
    sharing = share(model.graph, reads, values.of, values.plain, aliases)
    return _built(model.graph, reads, values.of, sharing, title)


def apply_order(model: ModelProto, order: npt.ArrayLike) -> ModelProto:
    """A copy of ``model`` whose main graph has its nodes in ``order``; nothing else is changed.

    ONNX Runtime keeps this order with ``SessionOptions.execution_order = ExecutionOrder.PRIORITY_BASED`` and
    ``graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL``, but for Shape and Size nodes, which it runs
    as early as it can.

    Args:
        model: the one that :func:`from_onnx` was given, or that :func:`load_onnx` returned for its file.
        order: int[n], a legal order of that graph's nodes: :func:`graphs.check_order` tells.

    Raises:
        GraphError: not a permutation of the model's nodes, or a value would be read before it is made.

    Example:
        >>> from onnx.parser import parse_model
        >>> header = '<ir_version: 10, opset_import: ["": 20]>'
        >>> text = "(float[8] x) => (float[8] y) { a = Exp(x) b = Neg(x) y = Add(a, b) }"
        >>> [node.op_type for node in apply_order(parse_model(header + "small" + text), [1, 0, 2]).graph.node]
        ['Neg', 'Exp', 'Add']
    """
    check_structure(model)
    reads = [values_read(node) for node in model.graph.node]
    legal = check_order(_order_only(model.graph, reads, model.graph.name or "graph"), order)
    result = ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(model.graph.node[i] for i in legal.tolist())
    return result


def _order_only(graph: GraphProto, reads: Sequence[Sequence[str]], name: str) -> Graph:
    """The nodes of ``graph`` and what must run before what, without sizes: tells what is wrong with their order.

    Raises:
        GraphError: a cycle, or a node that stands before one that it reads from; names them.
    """
    writer = {output: i for i, node in enumerate(graph.node) for output in node.output if output}
    index = {value: i for i, value in enumerate(writer)}
    rows = [[index[value] for value in row if value in index] for row in reads]
    labels = _labels(graph)
    return Graph.build(name, labels, rows, list(writer.values()), [0] * len(index), after=_random_chain(graph))


def _built(
    graph: GraphProto, reads: Sequence[Sequence[str]], values: Mapping[str, Value], sharing: Sharing, name: str
) -> Graph:
    tensors = _tensors(graph, reads, sharing)
    index = {tensor: i for i, tensor in enumerate(tensors)}
    nodes = list(graph.node)
    inputs = [[values[value] for value in row] for row in reads]
    outputs = [[values[value] for value in node.output if value] for node in nodes]
    looking = [i in sharing.viewed or is_constant(node) for i, node in enumerate(nodes)]
    properties = [{entry.key: entry.value for entry in node.metadata_props} for node in nodes]
    return Graph.build(
        name=name,
        labels=_labels(graph),
        ops=[operator(node) for node in nodes],
        reads=[sorted({index[sharing.storage[value]] for value in row}) for row in reads],
        writer=[sharing.writer.get(tensor, -1) for tensor in tensors],
        size=[values[tensor].bytes for tensor in tensors],
        kind=list(tensors.values()),
        after=sorted({*_through_views(graph, reads, sharing), *_random_chain(graph)}),
        flops=[0.0 if looking[i] else work.flops(node, inputs[i], outputs[i]) for i, node in enumerate(nodes)],
        moved=[0 if looking[i] else work.moved(node, inputs[i], outputs[i]) for i, node in enumerate(nodes)],
        dtypes=[work.dtype(inputs[i], outputs[i]) for i in range(len(nodes))],
        tensor_names=list(tensors),
        types=[str(values[tensor]) for tensor in tensors],
        sources=[work.source(entries) for entries in properties],
        modules=[work.module(entries) for entries in properties],
    )


def _tensors(graph: GraphProto, reads: Sequence[Sequence[str]], sharing: Sharing) -> dict[str, Kind]:
    """The values that have memory of their own, and what ends their lives."""
    kept = {value.name for value in graph.output}
    used = {sharing.storage[value] for row in reads for value in row} | kept
    tensors = {value.name: Kind.INPUT for value in model_inputs(graph)}
    constants = [output for node in graph.node if is_constant(node) for output in node.output if output]
    tensors |= {value: Kind.WEIGHT for value in (*initializer_names(graph), *constants) if value in used}
    kept |= sharing.held
    for value in sharing.writer:
        if sharing.storage[value] == value:
            tensors[value] = Kind.OUTPUT if value in kept else Kind.TEMPORARY
    return tensors


def _through_views(graph: GraphProto, reads: Sequence[Sequence[str]], sharing: Sharing) -> Iterator[tuple[int, int]]:
    """Who reads memory through another node than the one that allocated it must run after that node."""
    made = {output: i for i, node in enumerate(graph.node) for output in node.output if output}
    for i, row in enumerate(reads):
        for value in row:
            if value in made and made[value] != sharing.writer.get(sharing.storage[value]):
                yield made[value], i


def _random_chain(graph: GraphProto) -> list[tuple[int, int]]:
    drawing = [i for i, node in enumerate(graph.node) if _draws(node)]
    return list(pairwise(drawing))


def _draws(node: NodeProto) -> bool:
    """Whether ``node`` takes numbers from the random stream that it shares with others."""
    seeded = any(attribute.name == "seed" for attribute in node.attribute)
    if node.op_type in RANDOM or (node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]):
        return not seeded
    return any(_draws(inner) for body in subgraphs(node) for inner in body.node)


def _labels(graph: GraphProto) -> list[str]:
    """A name for each node, no two alike: its own where no other has it, else that of its first output."""
    count: dict[str, int] = {}
    for node in graph.node:
        count[node.name] = count.get(node.name, 0) + 1
    taken = {name for name, times in count.items() if name and times == 1}
    labels = []
    for i, node in enumerate(graph.node):
        label = node.name
        if label not in taken:
            label = next((output for output in node.output if output), f"{node.op_type}_{i}")
            while label in taken:
                label += "_"
            taken.add(label)
        labels.append(label)
    return labels
