"""Our orders in what PyTorch Inductor compiles: ``torch.compile(model, options=topoformer.inductor_options())``.

Inductor can be told an order in two places. In the program that it is about to compile (:class:`GraphPass`) the order
decides what it fuses and which buffers it works on in place. The order of the fused kernels
(:class:`~topoformer.pytorch.inductor_nodes.NodePass`) is what runs.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import fx
from torch._inductor.custom_graph_pass import CustomGraphPass

from graphs.errors import UnsupportedOp
from topoformer.pytorch.inductor_nodes import NodePass, program_name, source_digest
from topoformer.pytorch.ordering import Search, ordered
from topoformer.scheduling import Scheduler
from topoformer.text import schedule_line

LOG = logging.getLogger("topoformer")
# Arguments with these names an Inductor program never frees: torch._inductor.utils.is_nonfreeable_buffers.
KEPT = ("primals_", "arg", "tangents", "fwd_rng_state", "bwd_rng_state")
WORTHWHILE = 0.01  # by which part the peak must fall: Inductor may fuse less in another order


@dataclass(frozen=True)
class GraphPass(CustomGraphPass):
    """For ``torch._inductor.config.post_grad_custom_post_pass``; made by :func:`inductor_pass`."""

    search: Search

    def __call__(self, graph: fx.Graph) -> None:
        """Reorder the calls of ``graph``, which must belong to a module, in place.

        The order stays where another would lower the peak by less than 1 %: that is not worth what Inductor may then
        fuse less. It also stays where a call is not understood, and a warning names the call.
        """
        try:
            if graph.owning_module is None:
                raise UnsupportedOp("it belongs to no module")
            donated = [n.name for n in graph.nodes if n.op == "placeholder" and not n.name.startswith(KEPT)]
            with _alone():
                found = ordered(graph.owning_module, self.search, name=program_name(), donated=donated)
        except Exception as error:
            known = isinstance(error, UnsupportedOp)
            if not known and callable(self.search.method):
                raise  # the user's own method
            LOG.warning("the program %s stays in its order: %s", program_name(), error, exc_info=not known)
            return
        little = found.schedule.ratio > 1 - WORTHWHILE
        kept = ", too little to change the order" if little and found.schedule.ratio < 1 else ""
        LOG.info("the program %s%s", schedule_line(found.schedule), kept)
        if little:
            return
        node_of = {node.name: node for node in graph.nodes}
        end = graph.output_node()
        for node in found.module.graph.nodes:
            if node.op != "output":
                end.prepend(node_of[node.name])
        graph.lint()

    def uuid(self) -> str | None:
        """What Inductor's cache of compiled graphs knows this pass by: a hash of its options and of our source.

        ``None``, and with it no caching at all, where the method is a function: nothing tells what that does.
        """
        if callable(self.search.method):
            return None
        return sha256(f"{self.search!r} {source_digest()}".encode()).hexdigest()

    def __deepcopy__(self, memo: dict[int, Any]) -> "GraphPass":
        return self


def inductor_pass(
    *, method: str | Scheduler = "auto", seconds: float = 2.0, seed: int = 0, steps: int | None = None
) -> GraphPass:
    """A pass that puts the program that Inductor is about to compile into an order that needs less memory.

    Set it as ``torch._inductor.config.post_grad_custom_post_pass``, or use :func:`inductor_options`, which sets this
    pass and the one that orders the fused kernels.

    Args:
        method, seed, steps: as for :func:`topoformer.schedule`.
        seconds: to search in each graph, of which a model with a backward pass has two.

    Raises:
        ValueError: there is no method of that name, or a value is out of range.

    Example:
        What Inductor does with the pass, by hand; one branch is summed up before the other begins:

        >>> import torch
        >>> from topoformer import capture, inductor_pass
        >>> class Branches(torch.nn.Module):
        ...     def forward(self, x):
        ...         first, second = x.repeat(100), x.repeat(100) + 1
        ...         return first.sum() + second.sum()
        >>> graph = capture(Branches(), torch.ones(4)).graph_module.graph
        >>> inductor_pass(seconds=1)(graph)
        >>> [node.name for node in graph.nodes]
        ['x', 'repeat', 'sum_1', 'repeat_1', 'add', 'sum_2', 'add_1', 'output']
    """
    return GraphPass(_search(method, seconds, seed, steps))


def inductor_options(
    *, method: str | Scheduler = "auto", seconds: float = 2.0, seed: int = 0, steps: int | None = None
) -> dict[str, Any]:
    """Options for ``torch.compile`` under which Inductor runs programs in orders that need less memory.

    ``torch.compile(model, options=topoformer.inductor_options())``; with options of your own,
    ``options={**topoformer.inductor_options(), "max_autotune": True}``; in place of a mode,
    ``options={**torch._inductor.list_mode_options("reduce-overhead"), **topoformer.inductor_options()}``.

    The program is ordered before Inductor fuses it, and the fused kernels after Inductor's own memory pass, whose order
    is kept unless ours is better by Inductor's own estimate. Passes that are set in ``torch._inductor.config`` already
    run before ours. Inductor's memory pass is recursive and fails on chains of some 2,000 kernels: switch it off there,
    ``"reorder_for_peak_memory": False``; ours does not need it.

    The second pass does not run where ``deterministic`` is set, nor in torch 2.10 without a process group. The option
    that switches it on, ``reorder_for_compute_comm_overlap``, makes Inductor keep paddings by nothing, as copies.

    Args:
        method, seed, steps: as for :func:`topoformer.schedule`.
        seconds: to search, for each graph and each of the two passes.

    Raises:
        ValueError: there is no method of that name, or a value is out of range; or one pass is set already in a torch
            before 2.13, which takes no second.

    Example:
        >>> import torch
        >>> from topoformer import inductor_options
        >>> model = torch.compile(torch.nn.Linear(2, 2), options=inductor_options(seconds=1))  # compiled when called
        >>> sorted(inductor_options(method="lpmf"))[0]
        'post_grad_custom_post_pass'
    """
    from torch._inductor import config

    search = _search(method, seconds, seed, steps)
    given = config.post_grad_custom_post_pass
    options: dict[str, Any] = {"post_grad_custom_post_pass": _behind(given, GraphPass(search))}
    if torch.__version__ < (2, 11) and not torch.distributed.is_initialized():
        LOG.warning(
            "torch %s orders no kernels without a process group: our pass over them is left out", torch.__version__
        )
        return options
    running = config.reorder_for_compute_comm_overlap_passes if config.reorder_for_compute_comm_overlap else []
    others = [each for each in running if not isinstance(each, NodePass)]
    return options | {
        "reorder_for_compute_comm_overlap": True,
        "reorder_for_compute_comm_overlap_passes": [*others, NodePass(search)],
    }


def _search(method: str | Scheduler, seconds: float, seed: int, steps: int | None) -> Search:
    search = Search(method, seconds, seed, steps)
    search.check()
    return search


def _behind(given: Any, ours: GraphPass) -> Any:
    """``ours`` after the passes that the user has set."""
    passes = list(given) if isinstance(given, list | tuple) else [given] if given is not None else []
    others = [each for each in passes if not isinstance(each, GraphPass)]
    if others and torch.__version__ < (2, 13):
        raise ValueError(f"torch {torch.__version__} takes one 'post_grad_custom_post_pass' and has {others[0]!r}")
    return [*others, ours] if others else ours


@contextmanager
def _alone() -> Iterator[None]:
    """Without the modes under which Inductor compiles: they would act on every operator that a capture runs."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily(), torch.no_grad(), torch._C._DisableAutocast():
        yield
