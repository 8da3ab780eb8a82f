"""Which values of an ONNX model share memory when it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnx import GraphProto, NodeProto

from graphs.onnx_structure import STANDARD
from graphs.onnx_types import Value, element_bits

ALIASES = ("onnxruntime", "views", "none")
# Both lists as ONNX Runtime's CPU kernels declare them; tests/graphs/test_onnx_runtime.py measures each.
VIEWS = frozenset(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"])
IN_PLACE = frozenset([
    "Cast", "CastLike", "Celu", "Clip", "Elu", "HardSigmoid", "LeakyRelu", "LogSoftmax", "Relu",
    "ScatterElements", "Selu", "Shrink", "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh", "ThresholdedRelu",
    "Trilu",
])  # fmt: skip
LOOKED_AT = 1 << 12  # nodes in search of one reader that must have run before


@dataclass
class Sharing:
    """``storage[value]`` is the value whose memory ``value`` lies in: itself, where it has memory of its own."""

    storage: dict[str, str]
    writer: dict[str, int]  # node that makes a value
    viewed: set[int] = field(default_factory=set)  # nodes that only look at memory in another way
    held: set[str] = field(default_factory=set)  # values that nobody reads and that are kept nevertheless


def share(
    graph: GraphProto, reads: Sequence[Sequence[str]], values: Mapping[str, Value], plain: frozenset[str], aliases: str
) -> Sharing:
    """Who shares memory with whom, in whatever order the nodes run.

    ``"none"``: every value has its own memory. ``"views"``: what reshapes shares memory with its input.
    ``"onnxruntime"``: as ONNX Runtime does on a CPU: also, elementwise operators write over their input where no other
    node can read that later, if input and output have as many bytes in every element, and the runtime knows their
    sizes when it loads the model. It takes the memory of neither inputs nor weights for that, outputs of the model
    always have memory of their own, and what nobody reads is kept to the end.

    Args:
        reads: the names that each node reads.
        plain: values whose size the runtime knows beforehand.
    """
    sharing = Sharing({name: name for name in values}, writers(graph))
    if aliases != "none":
        _share_views(graph, sharing)
    if aliases == "onnxruntime":
        _write_over(graph, reads, values, plain, sharing)
        sharing.held = set(sharing.writer).difference(*reads)
    return sharing


def writers(graph: GraphProto) -> dict[str, int]:
    """The node that makes each value; of Constant nodes none, as a runtime makes theirs when it loads the model."""
    made = ((i, node) for i, node in enumerate(graph.node) if not is_constant(node))
    return {output: i for i, node in made for output in node.output if output}


def is_constant(node: NodeProto) -> bool:
    """Whether ``node`` is one of ONNX's Constant nodes."""
    return node.op_type == "Constant" and node.domain in STANDARD


def _share_views(graph: GraphProto, sharing: Sharing) -> None:
    kept = {value.name for value in graph.output}
    for i, node in enumerate(graph.node):
        if node.domain in STANDARD and node.op_type in VIEWS and node.input and node.output:
            source, output = node.input[0], node.output[0]
            if source and output and output not in kept:
                sharing.storage[output] = sharing.storage[source]
                sharing.viewed.add(i)


def _write_over(
    graph: GraphProto,
    reads: Sequence[Sequence[str]],
    values: Mapping[str, Value],
    plain: frozenset[str],
    sharing: Sharing,
) -> None:
    kept = {value.name for value in graph.output}
    readers: dict[str, set[int]] = {}
    members: dict[str, list[str]] = {}
    for name, root in sharing.storage.items():
        members.setdefault(root, []).append(name)
    for i, names in enumerate(reads):
        for name in names:
            readers.setdefault(sharing.storage[name], set()).add(i)
    before = _predecessors(reads, sharing.writer)
    for i, node in enumerate(graph.node):
        if node.domain not in STANDARD or node.op_type not in IN_PLACE or not node.input or not node.output:
            continue
        source, output = node.input[0], node.output[0]
        if not source or not output or output in kept or not {source, output} <= plain:
            continue
        root = sharing.storage[source]
        if root not in sharing.writer or not kept.isdisjoint(members[root]) or list(node.input).count(source) > 1:
            continue
        if not _same_places(values[source], values[output]):
            continue
        if _all_before(before, readers[root] - {i}, i):
            fresh = members.pop(output)
            members[root].extend(fresh)
            readers[root] |= readers.pop(output, set())
            sharing.storage |= dict.fromkeys(fresh, root)


def _same_places(source: Value, output: Value) -> bool:
    return source.shape == output.shape and element_bits(source.element) == element_bits(output.element)


def _predecessors(reads: Sequence[Sequence[str]], writer: Mapping[str, int]) -> list[list[int]]:
    return [sorted({writer[name] for name in names if name in writer}) for names in reads]


def _all_before(before: Sequence[Sequence[int]], nodes: set[int], last: int) -> bool:
    """Whether ``last`` must run after all of ``nodes`` in any order; False too where that takes long to find out."""
    waiting = set(nodes)
    if not waiting:
        return True
    first = min(waiting)
    if max(waiting) > last:
        return False
    stack, seen = [last], {last}
    while stack:
        for u in before[stack.pop()]:
            if u >= first and u not in seen:
                seen.add(u)
                stack.append(u)
                waiting.discard(u)
        if not waiting or len(seen) > LOOKED_AT:
            break
    return not waiting
