"""``torch.compile(model, backend="topoformer")``: AOTAutograd's graphs, each run in an order that needs less memory.

The graphs are those of PyTorch's backend ``aot_eager`` and run as there, operator by operator; only the order of their
calls is ours. The same numbers come out, and no graph's peak is above that of ``aot_eager``'s order.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike
from typing import Any

import torch
from torch import fx

from graphs import Graph, Kind, peak_bytes
from graphs.errors import UnsupportedOp, unknown_name
from graphs.fx import apply_order
from graphs.fx_inputs import storage_key
from topoformer.cache import ScheduleCache
from topoformer.outcome import Outcome
from topoformer.pytorch.ordering import Boxed, Search, boxed, graph_of, rewritten, uninterrupted
from topoformer.scheduling import MemoryLimitError, Schedule, Scheduler
from topoformer.text import schedule_line

LOG = logging.getLogger("topoformer")
SECONDS = 5.0  # for the search of each graph: a model has several, and someone waits
OPTIONS = [field.name for field in fields(Search)]


def topoformer(
    module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """The function behind ``torch.compile(model, backend="topoformer", options={"seconds": 2})``.

    Each graph, forward, backward and inference, is captured, ordered, and run in exactly that order. The logger
    ``topoformer`` says at level INFO what was found, a line a graph. A graph with a call that is not understood runs
    as ``aot_eager`` would run it, after one warning that names the node.

    Where sizes are dynamic they count at their hints, the sizes at hand when the graph was captured: the order computes
    the same at all sizes, and its peak is known to be no worse at those. Saved activations that nobody else has are
    freed as they are used, as ``aot_eager`` does; what the caller may or may not let go of meanwhile, as the gradients
    that come in, counts as there to the end, and the order is no worse where it is let go of.

    Args:
        module: what dynamo captured.
        example_inputs: fake tensors and sizes for it.
        mode: must be left out: the modes of ``torch.compile`` are Inductor's.
        options: ``method``, ``seconds`` (5 by default), ``seed``, ``steps`` and ``memory_limit``, each for every graph
            by itself and as for :func:`topoformer.schedule`; and ``cache``: whether what was found is kept on disk for
            the next process, which is so by default, a folder to keep it in, or a
            :class:`~topoformer.cache.ScheduleCache`. With ``rewrite`` the programs are changed too where their sizes
            are fixed: element-wise operators write into arguments that are done with, the gradients of a convolution
            are computed one by one. Results stay equal bit for bit, peaks get lower, compiling takes longer.

    Raises:
        ValueError, TypeError: an option or mode is unknown, its value out of range or of another type.
        MemoryLimitError: no order of a graph is known that keeps within ``memory_limit``.
    """
    search = _search(mode, options or {})
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition

    compilers = _Compilers(search)
    backend = aot_autograd(
        fw_compiler=compilers.forward,
        bw_compiler=compilers.backward,
        inference_compiler=compilers.inference,
        partition_fn=min_cut_rematerialization_partition,
        keep_inference_input_mutations=True,
    )
    compiled: Callable[..., Any] = backend(module, example_inputs)
    return compiled


def _search(mode: str | None, options: Mapping[str, Any]) -> Search:
    if mode is not None:
        raise ValueError(f"'mode' is for Inductor (got {mode!r}); backend 'topoformer' takes 'options'")
    if unknown := next((name for name in options if name not in OPTIONS), None):
        raise ValueError(unknown_name("option", unknown, OPTIONS))
    search = Search(**{"seconds": SECONDS, **options, "cache": _cache(options.get("cache", True))})
    search.check()
    return search


def _cache(option: Any) -> ScheduleCache | None:
    """What the option says: on or off, a folder, or a cache."""
    if isinstance(option, bool | None):
        return ScheduleCache() if option else None
    if isinstance(option, str | PathLike):
        return ScheduleCache(option)
    if not isinstance(option, ScheduleCache):
        raise TypeError(f"option 'cache' must be True, False, a folder or a ScheduleCache (got {option!r})")
    return option


class _Compilers:
    """What AOTAutograd calls with the graphs that it has made of one of dynamo's."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._lasting: list[torch.Tensor] = []  # parameters and buffers: there before and after every graph

    def inference(self, module: fx.GraphModule, _: Sequence[Any]) -> Boxed:
        return self._compiled(module, "inference", _nothing_freed)

    def forward(self, module: fx.GraphModule, _: Sequence[Any]) -> Boxed:
        given = _placeholders(module)
        indices = getattr(_aot_facts(), "static_input_indices", None) or ()
        self._lasting = _tensors(given[i] for i in indices if i < len(given))
        return self._compiled(module, "forward", _nothing_freed)

    def backward(self, module: fx.GraphModule, _: Sequence[Any]) -> Boxed:
        return self._compiled(module, "backward", self._freed_in_backward)

    def _freed_in_backward(self, module: fx.GraphModule) -> tuple[set[str], set[str]]:
        """Names of the arguments that go as they are used, and of those that go if the caller has let go of them.

        AOTAutograd keeps no activation that it has saved from its backward graph, and knows which of them nobody else
        can have. Autograd does not keep the gradients that come in either, but whoever calls ``backward`` may. What
        another graph has made stays while its caller, or a variable of the user's, has it.
        """
        given = _placeholders(module)
        donated = getattr(_aot_facts(), "bw_donated_idxs", None) or ()
        stays = _memory([*self._lasting, *_tensors(module.graph.output_node().all_input_nodes)])
        maybe = {node.name for node in given if _memory(_tensors([node])) - stays}
        return {given[i].name for i in donated if i < len(given)}, maybe

    def _compiled(
        self, module: fx.GraphModule, role: str, freed: Callable[[fx.GraphModule], tuple[set[str], set[str]]]
    ) -> Boxed:
        """``module`` as a boxed call in a better order; as it is where that cannot be."""
        from torch._subclasses.fake_tensor import unset_fake_temporarily

        name = _name(role)
        try:
            donated, maybe = freed(module)
            with unset_fake_temporarily():  # a capture has a mode of its own, and is not kept where it is not alone
                if self._search.rewrite:
                    module = rewritten(module, donated=donated)
                graph = graph_of(module, self._search.cache, name=name, donated=donated)
            found = _found(graph, self._search, maybe)
            better = apply_order(module, found.order)
        except MemoryLimitError:
            raise
        except Exception as error:
            known = isinstance(error, UnsupportedOp)
            if not known and not isinstance(self._search.method, str):
                raise  # the user's own method
            LOG.warning("%s runs in the order it came in: %s", name, error, exc_info=not known)
            return _call(module)
        LOG.info("%s", schedule_line(uninterrupted(found)), extra={"schedule": found})
        return _call(better)


def _call(module: fx.GraphModule) -> Boxed:
    """``module`` as a boxed call, or where PyTorch asks for one that it can write to a file, as such."""
    from torch._dynamo.backends import debugging
    from torch._functorch import config

    call = boxed(module)
    stored = getattr(debugging, "AOTEagerOutputCode", None)
    if stored and (getattr(config, "bundled_autograd_cache", False) or getattr(config, "force_autograd_cache", False)):
        call = stored(gm=module)
        call._boxed_call = True
    return call


def _nothing_freed(_: fx.GraphModule) -> tuple[set[str], set[str]]:
    """Whoever calls a forward graph has its arguments until it returns."""
    return set(), set()


def _found(graph: Graph, search: Search, maybe: Collection[str]) -> Schedule:
    """A schedule that is no worse than the program's order, whether the caller lets go of its inputs or not.

    Args:
        maybe: inputs that the caller may free during the call; those that are resident in ``graph`` matter.

    Raises:
        MemoryLimitError: no order is known that keeps within the search's limit.
    """
    first = search.schedule(graph)
    freed = _with_freed(graph, maybe)
    if peak_bytes(freed, first.order) <= peak_bytes(freed):
        return first
    second = replace(search, memory_limit=None).schedule(freed)
    try:
        both = replace(search, method=_found_before(first, second)).schedule(graph)
    except MemoryLimitError:
        return first  # which keeps within the limit
    return replace(both, search_seconds=first.search_seconds + second.search_seconds)


def _found_before(first: Schedule, second: Schedule) -> Scheduler:
    """A method with the order of the ``second`` search, and the name and the bound of the ``first``."""

    def method(*_: Any, **__: Any) -> Outcome:
        interrupted = first.interrupted or second.interrupted
        return Outcome(second.order, first.bound_bytes, first.witness, first.phases, interrupted)

    method.__name__ = first.method
    return method


def _with_freed(graph: Graph, maybe: Collection[str]) -> Graph:
    """``graph`` if its caller holds none of the inputs ``maybe``."""
    kind = graph.kind.copy()
    for tensor, name in enumerate(graph.tensor_names):
        if kind[tensor] == Kind.INPUT and name in maybe and len(graph.readers.row(tensor)):
            kind[tensor] = Kind.DONATED
    return replace(graph, kind=kind)


def _name(role: str) -> str:
    """The graph's name in PyTorch's own logs: "model__0_forward_1 [0/0]", the numbers being dynamo's compile id."""
    try:
        from torch._functorch.aot_autograd import get_aot_graph_name
        from torch._guards import CompileContext

        return f"{get_aot_graph_name()} [{CompileContext.current_compile_id()}]"
    except (ImportError, AttributeError):
        return role


def _aot_facts() -> Any:
    """What AOTAutograd knows of the graphs it is having compiled, or None."""
    from torch._guards import TracingContext

    context = TracingContext.try_get()
    return None if context is None else context.fw_metadata


def _placeholders(module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def _tensors(nodes: Iterable[fx.Node]) -> list[torch.Tensor]:
    return [value for node in nodes if isinstance(value := node.meta.get("val"), torch.Tensor)]


def _memory(tensors: Iterable[torch.Tensor]) -> set[int]:
    """Storages, by key; sparse tensors and other wrappers have none."""
    return {storage_key(tensor) for tensor in tensors if torch._C._has_storage(tensor)}
