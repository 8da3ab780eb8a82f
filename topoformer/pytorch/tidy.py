"""Take out of a traced program what does nothing: autograd's detached twins, and calls that nobody uses."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from graphs.fx_operators import draws_random, has_side_effect, written_arguments

SAME = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)  # without autograd, their argument by another name


def tidy(graph: fx.Graph) -> None:
    """Remove calls from ``graph`` that neither its outputs, nor memory, nor a random stream depend on."""
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in SAME:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code(_must_stay)


def _must_stay(node: fx.Node) -> bool:
    if node.op != "call_function":
        return True
    target: Any = node.target
    if not isinstance(target, OpOverload):
        return not _is_plain_python(target)
    kwargs = dict(node.kwargs)
    return (
        target._schema.is_mutable
        or has_side_effect(target)
        or draws_random(target, node.args, kwargs)
        or any(_nodes(value) for value in written_arguments(target, node.args, kwargs))
    )


def _is_plain_python(target: Any) -> bool:
    return getattr(target, "__module__", "") in ("_operator", "operator", "math")


def _nodes(value: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found


def placeholders(graph: fx.Graph) -> Iterator[fx.Node]:
    """The arguments of ``graph``, in the order of its signature."""
    return iter(graph.find_nodes(op="placeholder"))
