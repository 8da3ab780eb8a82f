"""From a program to the same program in a better order, ready to be called: what all doors have in common."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.fx.graph import _BoxedCodeGen

from graphs import Graph
from graphs.fx import apply_order, copied, from_fx
from graphs.fx_fingerprint import as_graph_of, program_fingerprint
from graphs.fx_reuse import reuse
from graphs.fx_split import split
from topoformer.cache import ScheduleCache
from topoformer.scheduling import Schedule, Scheduler, schedule, scheduler_named

Boxed = Callable[[list[Any]], Any]  # takes its arguments in a list, empties it, and so can free them


@dataclass(frozen=True)
class Search:
    """How to look for an order: arguments of :func:`topoformer.schedule` that the doors hand on."""

    method: str | Scheduler = "auto"
    seconds: float = 10.0
    seed: int = 0
    steps: int | None = None
    memory_limit: int | str | None = None
    rewrite: bool = False  # whether calls may be changed too, as :func:`rewritten` does
    # where an answer came from does not matter: searches that differ in this only are equal, and print alike
    cache: ScheduleCache | None = field(default=None, compare=False, repr=False)

    def check(self) -> None:
        """Raises ValueError or TypeError, as a search would, where an option is unknown or out of range."""
        if isinstance(self.method, str):
            scheduler_named(self.method)
        replace(self, method="program", cache=None).schedule(Graph.build("options", [], [], [], []))

    def schedule(self, graph: Graph) -> Schedule:
        """A schedule of ``graph``; raises what :func:`topoformer.schedule` does."""
        return schedule(
            graph,
            self.method,
            seconds=self.seconds,
            seed=self.seed,
            steps=self.steps,
            memory_limit=self.memory_limit,
            cache=self.cache,
        )


def uninterrupted(found: Schedule) -> Schedule:
    """``found``, for a search in the middle of a user's program.

    Raises:
        KeyboardInterrupt: the search ended early at one, which was meant for the program.
    """
    if found.interrupted:
        raise KeyboardInterrupt
    return found


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
        KeyboardInterrupt: the search was interrupted.
        MemoryLimitError: the search has a limit, and no order is known that keeps within it.
    """
    if search.rewrite:
        module = rewritten(module, weights=weights, donated=donated)
    graph = graph_of(module, search.cache, name=name, weights=weights, donated=donated)
    found = uninterrupted(search.schedule(graph))
    return Ordered(apply_order(module, found.order), found)


def rewritten(
    module: fx.GraphModule, *, weights: Collection[str] = (), donated: Collection[str] = ()
) -> fx.GraphModule:
    """A copy of ``module`` that computes the same, bit for bit, and can be ordered for a lower peak.

    Element-wise calls write into an argument that is done with, and the gradients of a convolution are computed one by
    one. A program with symbolic sizes is given back as it is: what is the same at some sizes may differ at others.

    Raises:
        UnsupportedOp: a call is not understood; names the node.
    """
    values = [node.meta.get("val") for node in module.graph.find_nodes(op="placeholder")]
    sizes = [size for value in values if isinstance(value, torch.Tensor) for size in (*value.shape, *value.stride())]
    if any(isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool) for size in (*values, *sizes)):
        return module
    copy = fx.GraphModule(module, copied(module.graph), type(module).__name__)
    copy.meta = dict(module.meta)
    split(copy.graph)
    return reuse(copy, weights=weights, donated=donated)


def graph_of(
    program: fx.GraphModule | ExportedProgram,
    cache: ScheduleCache | None = None,
    *,
    name: str | None = None,
    weights: Collection[str] = (),
    donated: Collection[str] = (),
) -> Graph:
    """What :func:`from_fx` gives, or where ``cache`` knows such a program the same graph, much sooner.

    Raises:
        UnsupportedOp: a call is not understood; names the node.
    """
    key = None if cache is None else program_fingerprint(program, weights=weights, donated=donated)
    if cache is None or key is None:
        return from_fx(program, name=name, weights=weights, donated=donated)
    known = cache.graph(key)
    graph = None if known is None else as_graph_of(program, known, name=name)
    if graph is None:
        graph = from_fx(program, name=name, weights=weights, donated=donated)
        cache.keep_graph(key, graph)
    return graph


def boxed(module: fx.GraphModule) -> Boxed:
    """``module``, which is changed, as a call with its arguments in a list: what it was given is freed after use.

    The list is emptied by the call. A plain call would keep all arguments, saved activations among them, to its end.
    """
    module.graph.set_codegen(_BoxedCodeGen())
    module.recompile()
    call: Boxed = module.forward
    call.__func__._boxed_call = True  # type: ignore[attr-defined]  # AOTAutograd asks for it
    return call
