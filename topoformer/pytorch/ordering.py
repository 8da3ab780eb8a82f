"""From a program to the same program in a better order, ready to be called: what all doors have in common."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import fx
from torch.fx.graph import _BoxedCodeGen

from graphs import Order
from graphs.fx import apply_order, from_fx
from topoformer.scheduling import Schedule, Scheduler, schedule

Boxed = Callable[[list[Any]], Any]  # takes its arguments in a list, empties it, and so can free them


@dataclass(frozen=True)
class Search:
    """How to look for an order: arguments of :func:`topoformer.schedule` that the doors hand on."""

    method: str | Scheduler = "auto"
    seconds: float = 10.0
    seed: int = 0
    steps: int | None = None


class Ordered(NamedTuple):
    """A program in the order of its schedule."""

    module: fx.GraphModule
    schedule: Schedule


def ordered(
    module: fx.GraphModule,
    search: Search,
    *,
    name: str | None = None,
    weights: Collection[str] = (),
    donated: Collection[str] = (),
) -> Ordered:
    """``module`` in an order that needs less memory; ``name``, ``weights`` and ``donated`` as for :func:`from_fx`.

    Raises:
        UnsupportedOp: a call is not understood; names the node.
    """
    graph = from_fx(module, name=name, weights=weights, donated=donated)
    found = schedule(graph, search.method, seconds=search.seconds, seed=search.seed, steps=search.steps)
    return Ordered(apply_order(module, found.order), found)


def in_order(module: fx.GraphModule, order: Order) -> Boxed:
    """``module`` in ``order``, as a boxed call."""
    return boxed(apply_order(module, order))


def boxed(module: fx.GraphModule) -> Boxed:
    """``module``, which is changed, as a call with its arguments in a list: what it was given is freed after use.

    The list is emptied by the call. A plain call would keep all arguments, saved activations among them, to its end.
    """
    module.graph.set_codegen(_BoxedCodeGen())
    module.recompile()
    call: Boxed = module.forward
    call.__func__._boxed_call = True  # type: ignore[attr-defined]  # AOTAutograd asks for it
    return call
