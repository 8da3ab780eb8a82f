"""The two exceptions of the project; both are also ValueError."""

import difflib
from collections.abc import Iterable, Sequence


class GraphError(ValueError):
    """A graph, an order or a graph file is not what it must be; the text names the node, tensor or file.

    Example:
        >>> from graphs import Graph, check_order
        >>> graph = Graph.build("g", ["a", "b"], reads=[[], [0]], writer=[0, 1], size=[4, 2])
        >>> check_order(graph, [1, 0])
        Traceback (most recent call last):
            ...
        graphs.errors.GraphError: order of graph 'g' is not legal: node 'b' must run after node 'a'
    """


class UnsupportedOp(ValueError):
    """A program contains an operator whose memory or ordering we do not understand; the text names it.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from graphs import UnsupportedOp, from_fx
        >>> try:
        ...     from_fx(make_fx(lambda x: x.nonzero())(torch.ones(2)))
        ... except UnsupportedOp as error:
        ...     print(error)
        node 'nonzero' (aten.nonzero.default) gives a size or number that only a run can tell
    """


def quoted(name: object, limit: int = 60) -> str:
    """``name`` in quotes for an error message: on one line and about ``limit`` characters, whatever it holds."""
    whole = str(name)
    text = repr(whole if len(whole) <= 2 * limit else whole[:limit] + whole[-limit:])  # escapes what is not printable
    return text if len(text) <= limit + 2 else f"{text[: limit * 2 // 3]}...{text[-limit // 3 :]}"


def cycle_text(names: Sequence[object]) -> str:
    """Text of an error about nodes that wait for each other in a circle."""
    shown = [quoted(name, 24) for name in names[:8]]
    return f"nodes form a cycle: {' -> '.join([*shown, shown[0] if len(names) <= 8 else f'... ({len(names)} nodes)'])}"


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Text of an error about an unknown name: the name, the nearest known one and the whole list."""
    choices = list(known)
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown {what} {quoted(name)}{hint} (known: {', '.join(choices)})"
