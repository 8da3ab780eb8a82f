"""Functions that a model brings along, put in the place of their calls."""

from collections.abc import Iterable

from onnx import ModelProto, NodeProto
from onnx.inliner import inline_local_functions

from graphs.errors import GraphError, cycle_text, quoted
from graphs.onnx_structure import STANDARD, subgraphs

NODE_LIMIT = 1 << 20  # nodes after inlining: functions that call functions twice grow without end

Key = tuple[str, str]


def inlined(model: ModelProto) -> ModelProto:
    """``model``, which is used up, with the nodes of its functions in the place of their calls.

    Raises:
        GraphError: functions that call each other in a circle, grow too large, or do not fit their calls.
    """
    functions = {(function.domain, function.name) for function in model.functions}
    _check_growth(model)
    weights = list(model.graph.initializer)
    del model.graph.initializer[:]
    for weight in weights:  # names and sizes only: the library copies what it is given several times
        model.graph.initializer.add(name=weight.name, dims=weight.dims, data_type=weight.data_type)
    try:
        result = inline_local_functions(model)
    except Exception as error:  # whatever a broken model makes the library do
        raise GraphError(f"its functions cannot be inlined ({first_line(error)})") from None
    if left := next((node for node in _all_nodes(result.graph.node) if _key(node) in functions), None):
        raise GraphError(
            f"function {quoted(left.op_type)} cannot be inlined: it needs another version of the operators"
        )
    del result.graph.initializer[:], result.functions[:]
    result.graph.initializer.extend(weights)
    return result


def first_line(error: BaseException) -> str:
    """What a library said, as one line of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = "".join(char if char.isprintable() else "?" for char in lines[0][:200]) if lines else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check_growth(model: ModelProto) -> None:
    """Count the nodes that inlining makes, functions that others call first.

    Raises:
        GraphError: there is no such order, or the nodes are too many.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    size: dict[Key, int] = {}
    path: list[Key] = []
    todo: list[Key] = list(functions)
    while todo:
        key = todo[-1]
        nodes = list(_all_nodes(functions[key].node))
        called = [_key(node) for node in nodes if _key(node) in functions]
        if key not in size and (missing := [other for other in called if other not in size]):
            path.append(key)
            if circle := next((other for other in missing if other in path), None):
                raise GraphError(
                    f"its functions cannot be inlined: {cycle_text([n for _, n in path[path.index(circle) :]])}"
                )
            todo.extend(missing)
            continue
        size[key] = len(nodes) + sum(size[other] for other in called)
        todo.pop()
        if path and path[-1] == key:
            path.pop()
    calls = [_key(node) for node in _all_nodes(model.graph.node)]
    if (total := sum(size.get(key, 1) for key in calls)) > NODE_LIMIT:
        raise GraphError(f"its functions inline to {total} nodes; the most is {NODE_LIMIT}")


def _all_nodes(nodes: Iterable[NodeProto]) -> list[NodeProto]:
    """``nodes`` and those of their bodies."""
    found = list(nodes)
    for node in found:  # grows meanwhile
        found.extend(inner for body in subgraphs(node) for inner in body.node)
    return found


def _key(node: NodeProto) -> Key:
    return ("" if node.domain in STANDARD else node.domain, node.op_type)
