"""Inductor's own estimate of peak memory under its own order and under ours.

Three ways to compile: Inductor alone, with our pass over its fused kernels, and with both of our passes, that over the
program before fusion included. Graphs are compiled up to the order of their kernels and then run eagerly, so that
backward ones come about.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from bench.huggingface import MODELS
from graphs.models import ZOO
from graphs.units import format_bytes
from topoformer.pytorch.inductor import GraphPass
from topoformer.pytorch.inductor_nodes import NodePass, plan_of
from topoformer.pytorch.ordering import Search, boxed

NETWORKS = (
    "randwire_ws",
    "pnasnet",
    "unet_plus_plus",
    "hrnet",
    "bifpn",
    "moe",
    "transformer",
    "resnet18",
    "densenet",
    "tree_lstm",
)
HUGGING_FACE = ("GPT2", "T5", "Swin")


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--seconds", type=float, default=2.0, help="to search, for each graph and pass")
    parser.add_argument("--models", nargs="*", default=(*NETWORKS, *HUGGING_FACE), help="only these")


def table(seconds: float, models: Sequence[str]) -> Iterator[str]:
    """The benchmark's rows in Markdown, as they come."""
    yield (
        "| graph | kernels | Inductor | our pass over kernels | ratio | kernels with both passes | both passes | ratio "
        "| compiling, no code | our passes |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    search = Search(seconds=seconds)
    for name in models:
        for training in (False, True):
            yield from rows(name, training, search)


def rows(name: str, training: bool, search: Search) -> Iterator[str]:
    """The graphs of one model: one in inference, in training a forward and a backward graph."""
    alone, both = (compiled(name, training, search, program_too=too) for too in (False, True))
    for ours, theirs in zip(both.graphs, alone.graphs, strict=True):
        role = f"{name} {'backward' if theirs.backward else 'forward' if training else 'inference'}"
        yield (
            f"| {role} | {theirs.kernels} | {format_bytes(theirs.given_bytes)} | {format_bytes(theirs.bytes)} "
            f"| {theirs.bytes / theirs.given_bytes:.3f} | {ours.kernels} | {format_bytes(ours.bytes)} "
            f"| {ours.bytes / theirs.given_bytes:.3f} | {theirs.seconds:.1f} s | {ours.passes:.1f} s |"
        )


class Found(NamedTuple):
    """One graph of fused kernels."""

    backward: bool
    kernels: int
    given_bytes: int  # Inductor's estimate for the order that its own pass has chosen
    bytes: int  # and for that of our pass
    seconds: float  # to compile it to this point, our passes left out
    passes: float  # seconds of these


class _Reached(Exception):
    """What we came for is known: compile no further."""


@dataclass
class Compilation:
    """Runs the passes, notes what they find, and ends each graph's compilation there."""

    search: Search
    program_too: bool
    graphs: list[Found] = field(default_factory=list)
    began: float = 0.0
    spent: float = 0.0

    def backend(self, module: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        """For ``torch.compile``."""
        from torch._inductor.compile_fx import compile_fx

        patches: dict[str, Any] = {
            "fx_graph_cache": False,
            "reorder_for_compute_comm_overlap": True,
            "reorder_for_compute_comm_overlap_passes": [self.kernels],
        }
        if self.program_too:
            patches["post_grad_custom_post_pass"] = self.program
        called: Callable[..., Any] = compile_fx(module, inputs, self.inner, patches)
        return called

    def inner(self, module: fx.GraphModule, inputs: Sequence[Any], **options: Any) -> Any:
        """Inductor's compiler of one graph, except that the graph then runs as it came."""
        from torch._inductor.compile_fx import compile_fx_inner

        eager = boxed(copy.deepcopy(module))
        known = len(self.graphs)
        self.began, self.spent = time.perf_counter(), 0.0
        try:
            compile_fx_inner(module, inputs, **options)
        except Exception:
            if len(self.graphs) == known:
                raise
        return eager

    def program(self, graph: fx.Graph) -> None:
        """Our pass over the program."""
        with self._timed():
            GraphPass(self.search)(graph)

    def kernels(self, nodes: list[Any]) -> list[Any]:
        """Our pass over the fused kernels."""
        from torch._inductor.virtualized import V

        with self._timed():
            picked = NodePass(self.search)(nodes)
        seconds = time.perf_counter() - self.began - self.spent
        estimate = plan_of(nodes).estimate
        found = len(nodes), estimate(nodes), estimate(picked)
        self.graphs.append(Found(bool(V.graph.is_backward), *found, seconds, self.spent))
        raise _Reached

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.spent += time.perf_counter() - began


def compiled(name: str, training: bool, search: Search, *, program_too: bool) -> Compilation:
    """The model of that name compiled, and in training one step of it run."""
    result = Compilation(search, program_too)
    torch.manual_seed(0)
    model, args, kwargs = _model(name)
    torch._dynamo.reset()
    with torch.set_grad_enabled(training), torch._functorch.config.patch(enable_autograd_cache=False):
        out = torch.compile(model.train(training), backend=result.backend)(*args, **kwargs)
        if training:
            found = tree_leaves(out if isinstance(out, torch.Tensor | tuple | list) else out.to_tuple())
            sum(leaf.sum() for leaf in found if isinstance(leaf, torch.Tensor) and leaf.requires_grad).backward()
    return result


def _model(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    if name in ZOO:
        model, args = ZOO[name]()
        return model, args, {}
    import transformers

    options, kwargs = MODELS[name]
    config = getattr(transformers, f"{name}Config")(**options)
    return getattr(transformers, f"{name}Model")(config), (), kwargs
