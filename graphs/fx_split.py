"""Take calls apart that compute several things at once, so that each can run when it is best."""

import operator
from typing import Any

import torch
from torch import fx

CONVOLUTION = torch.ops.aten.convolution_backward.default
MASK = 10  # place among its arguments of the flags: gradient of the input, of the weight, of the bias


def split(graph: fx.Graph) -> None:
    """Let each ``convolution_backward`` in ``graph`` compute the input's gradient apart from the weight's and bias's.

    PyTorch's kernels compute them one after the other in any case, with the same bits. Apart, the weight's gradient can
    wait or be used up before there is memory for the input's, and their workspaces are not needed at once.
    """
    for node in graph.find_nodes(op="call_function", target=CONVOLUTION):
        mask = list(node.args[MASK])
        if mask[0] and any(mask[1:]) and all(_item(user) in (0, 1, 2) for user in node.users):
            with graph.inserting_before(node):
                halves = [_with_mask(graph, node, kept) for kept in ([True, False, False], [False, *mask[1:]])]
            for user in list(node.users):
                user.replace_input_with(node, halves[0 if _item(user) == 0 else 1])
            graph.erase_node(node)
    _next_to_their_calls(graph)


def _item(user: fx.Node) -> Any:
    return user.args[1] if user.target is operator.getitem else None


def _with_mask(graph: fx.Graph, node: fx.Node, mask: list[bool]) -> fx.Node:
    arguments = (*node.args[:MASK], mask, *node.args[MASK + 1 :])
    half = graph.call_function(CONVOLUTION, arguments, dict(node.kwargs))
    half.meta = {key: value for key, value in node.meta.items() if key not in ("val", "tensor_meta")}
    return half


def _next_to_their_calls(graph: fx.Graph) -> None:
    """A ``getitem`` that stands between two calls is moved behind the one that it unpacks."""
    for node in graph.find_nodes(op="call_function", target=CONVOLUTION):
        for user in reversed(list(node.users)):
            node.append(user)
