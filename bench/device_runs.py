"""Run a program on a device in a given order, and see what the allocator was asked for, call by call."""

import gc
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx
from torch.fx.graph import _BoxedCodeGen
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from bench.device_programs import Program, twins
from graphs import Graph, Kind, Order
from graphs.csr import Int64Array
from graphs.fx import apply_order
from graphs.memory import memory_model

BLOCK = 512  # bytes: the CUDA caching allocator hands out multiples


class Bytes(NamedTuple):
    """What an allocator has handed out: as it was asked for, and as its own blocks count."""

    requested: int
    allocated: int

    def minus(self, other: "Bytes") -> "Bytes":
        """The difference, number by number."""
        return Bytes(self.requested - other.requested, self.allocated - other.allocated)


class Allocator:
    """The CUDA caching allocator's own counts: kept on the host, exact whatever the device is still doing."""

    def now(self) -> Bytes:
        """Handed out and not given back."""
        return self._read("current")

    def peak(self) -> Bytes:
        """The most since :meth:`restart`."""
        return self._read("peak")

    def restart(self) -> None:
        """Forget what the peak was."""
        torch.cuda.reset_peak_memory_stats()

    def settle(self) -> None:
        """Give back whatever is cached, so that runs start alike."""
        gc.collect()
        torch.cuda.empty_cache()

    def _read(self, which: str) -> Bytes:
        stats = torch.cuda.memory_stats()
        return Bytes(*(stats.get(f"{what}_bytes.all.{which}", 0) for what in ("requested", "allocated")))


@dataclass
class Call:
    """What one call of the program did to memory."""

    node: str
    new: list[int]  # bytes of the storages that its result brings with it
    alive: int  # bytes of the storages there when it returns, its arguments included, less those there at the start
    after: Bytes | None = None  # handed out when it returns, less what was at the start; None without an allocator
    surplus: Bytes | None = None  # by how much the peak while it ran is above that: its workspaces


@dataclass
class Run:
    """What one run took at its peak, above what was there at the start; donated inputs are counted in it."""

    peak: Bytes
    calls: list[Call] = field(default_factory=list)


def run(program: Program, graph: Graph, order: Order, *, probe: bool) -> Run:
    """Run ``program`` in ``order`` on copies of its inputs; with ``probe`` every call is looked at.

    Without an accelerator calls are always looked at, and the peak is that of the storages seen.
    """
    runnable = apply_order(program.module, order)
    inputs = list(twins(program.inputs))
    there = [*tree_leaves(inputs), *_attributes(runnable)]
    allocator = Allocator() if any(isinstance(x, torch.Tensor) and x.is_cuda for x in there) else None
    watch = _Watch(allocator, there)
    del there
    if probe or allocator is None:
        for node in runnable.graph.nodes:
            if node.op == "call_function" and node.target.__name__ != "getitem":
                node.target = watch.wrap(node.target, node.name)
    if program.donated:
        runnable.graph.set_codegen(_BoxedCodeGen())
    runnable.recompile()
    if allocator:
        allocator.settle()
        allocator.restart()
        watch.start = allocator.now()
    with torch.no_grad():
        result = runnable.forward(inputs) if program.donated else runnable(*inputs)
    peak = allocator.peak().minus(watch.start) if allocator else Bytes(watch.peak, watch.peak)
    if allocator and probe:  # each call has forgotten the peak before it
        after = [call.after for call in watch.calls if call.after]
        over = [call.surplus for call in watch.calls if call.surplus]
        peak = Bytes(*(max(a[i] + s[i] for a, s in zip(after, over, strict=True)) for i in range(2)))
    del result
    given = donated_bytes(graph)
    return Run(Bytes(peak.requested + given.requested, peak.allocated + given.allocated), watch.calls)


def donated_bytes(graph: Graph) -> Bytes:
    """What donated inputs take at the start: part of the simulated peak, but there before a run begins."""
    donated = graph.size[(graph.kind == Kind.DONATED) & (memory_model(graph).steps.uses > 0)]
    return Bytes(int(donated.sum()), int(in_blocks(donated).sum()))


def in_blocks(sizes: Int64Array) -> Int64Array:
    """Bytes, int64[k], as the allocator hands them out."""
    blocks: Int64Array = -(-np.asarray(sizes, np.int64) // BLOCK) * BLOCK
    return blocks


class _Watch:
    def __init__(self, allocator: Allocator | None, there: list[Any]) -> None:
        self.allocator = allocator
        self.start = Bytes(0, 0)
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.calls: list[Call] = []
        self.register(there)
        self.at_start = self.bytes

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.alive.values())

    @property
    def peak(self) -> int:
        return max((call.alive for call in self.calls), default=0)

    def register(self, value: Any) -> list[int]:
        """Note the storages of ``value``; returns the bytes of the new ones."""
        new = []
        for leaf in tree_leaves(value):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.alive:
                    new.append(storage.nbytes())
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return sorted(new)

    def wrap(self, target: Any, name: str) -> Any:
        """``target``, looked at."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.allocator:
                self.allocator.restart()
            result = target(*args, **kwargs)
            counts = (self.allocator.now(), self.allocator.peak()) if self.allocator else None
            self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
            noted = Call(name, self.register(result), self.bytes - self.at_start)
            if counts:
                noted.after, noted.surplus = counts[0].minus(self.start), counts[1].minus(counts[0])
            self.calls.append(noted)
            return result

        call.__name__ = f"probed_{name}"
        return call


def _attributes(module: fx.GraphModule) -> list[Any]:
    found = []
    for node in module.graph.find_nodes(op="get_attr"):
        value: Any = module
        for atom in str(node.target).split("."):
            value = getattr(value, atom)
        found.append(value)
    return found
