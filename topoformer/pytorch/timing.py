"""Durations of operators, measured: each distinct call of a program is timed by itself, and a graph gets ``seconds``.

An operator by itself, called again and again, finds all of its data in the nearest cache; in a program it does not.
So before a call is timed, other memory is written until nothing else is in the second-level cache; then those of its
operands are touched that the program, in its own order, has used less than ``CACHE_BYTES`` of traffic ago. What was
just made is near, weights are far, those of a recurrent cell are near again at its second step. One operator on the
same shapes may so have several durations, with some operands near and others far.

What is timed is one call from Python code as that of a program, with what it takes to get there and to free its
result: that is most of what small operators take. The calls of a program are timed in rounds, each once in a round,
and what counts is the median. Where PyTorch has one thread, time in which other programs had the core is left out, see
:func:`stopwatch`; on a machine of one's own there is none.

Not in it: what views take, some microseconds each, and page faults on memory that was given back to the system, see
:func:`topoformer.pytorch.calibrate.keep_freed_memory`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from graphs import Graph
from graphs.fx_operators import written_arguments
from graphs.latency import moved_bytes
from topoformer.pytorch.calls import (
    INTEGERS,
    Call,
    Operand,
    Strides,
    module_of,
    strides_of,
    undisturbed,
    values_of,
    walk,
    warn_of_failures,
)
from topoformer.pytorch.timing_cache import Timing, TimingCache
from topoformer.pytorch.verify import copies

ROUNDS, LEAST_ROUNDS = 15, 3
CACHE_BYTES = 2 << 20  # second-level cache of a core of today
FINE = 1e-6  # seconds, of a clock by which operators can be timed
GROUP_BYTES = 512 << 20  # of operands that are there at once
CUDA_CALLS = 10  # between two events

Progress = Callable[[int, int], None]


def measure_seconds(
    program: fx.GraphModule | ExportedProgram,
    graph: Graph,
    *,
    cache: TimingCache | None = None,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    between: Callable[[], object] | None = None,
) -> Graph:
    """A copy of ``graph`` whose ``seconds``, float64[n], are the durations of its nodes' operators as measured.

    Each distinct call, by operator, shapes, strides and types of its arguments and which of them are near, is timed on
    data made up for it: nobody's data is read or changed, and the streams of random numbers stay as they are. Nodes
    that neither compute nor move anything, views, get 0; so do calls that cannot be run by themselves, a line in the
    log says how many there were, and calls that there was no time for: to a latency model they are unknown, and it
    estimates them. Ctrl-C ends it, and what has been measured until then is kept in the cache.

    Args:
        program: what :func:`graphs.from_fx` made ``graph`` of; its placeholders need ``meta["val"]``.
        graph: not changed.
        cache: where to look first; by default :meth:`TimingCache.of_user`. Its keys tell apart versions of PyTorch,
            devices, numbers of threads and settings that choose kernels.
        budget_seconds: after which nothing more is timed; what has been timed ``LEAST_ROUNDS`` times counts.
        progress: is told after each timed call how many have been, and of how many.
        between: is called before each round, if there are any: to time something else under the same conditions.

    Raises:
        GraphError: ``graph`` is not of this program.
        UnsupportedOp: nothing is known about the value of a placeholder.
        ValueError: ``budget_seconds`` is not positive.

    Example:
        >>> import torch
        >>> from graphs import from_fx
        >>> from topoformer import capture, measure_seconds
        >>> from topoformer.pytorch.timing_cache import TimingCache
        >>> program = capture(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Flatten(0)), torch.ones(8, 64))
        >>> timed = measure_seconds(program, from_fx(program), cache=TimingCache(None))  # None: kept in memory only
        >>> (timed.seconds > 0).tolist()  # the second node makes a view, which takes none
        [True, False]
    """
    if budget_seconds is not None and not budget_seconds > 0:
        raise ValueError(f"'budget_seconds' must be positive (got {budget_seconds})")
    module = module_of(program, graph)
    cache = TimingCache.of_user() if cache is None else cache
    session = _Session(module, graph, cache, time.perf_counter() + (budget_seconds or np.inf))
    with undisturbed(session.values):
        try:
            session.prepare()
            session.run(progress, between)
        finally:
            cache.add(session.found())
    warn_of_failures(list(session.failed.values()), "their durations are estimated")
    found = [cache.known.get(session.keys.get(label, "")) for label in graph.labels]
    seconds = np.array([known.seconds if known else 0.0 for known in found])
    return replace(graph, seconds=np.where(still_nodes(graph), 0.0, seconds))


def still_nodes(graph: Graph) -> npt.NDArray[np.bool_]:
    """Which nodes neither compute nor move anything: views, and memory that is only allocated; bool[n]."""
    return np.asarray((moved_bytes(graph) == 0) & (graph.flops == 0))


class Lap(NamedTuple):
    """What a call took."""

    seconds: float  # without those that other programs had the core
    wall_seconds: float


def stopwatch(call: Callable[[], object], *, waits: bool = False) -> Lap:
    """Time ``call()``; where PyTorch has several threads, or the system does not tell, all seconds are its own.

    Args:
        waits: for a GPU, say: so all seconds are its own too.
    """
    began = time.thread_time()
    wall_began = time.perf_counter()
    call()
    wall = time.perf_counter() - wall_began
    own = time.thread_time() - began
    alone = not waits and torch.get_num_threads() == 1 and time.get_clock_info("thread_time").resolution <= FINE
    return Lap(min(wall, own) if alone else wall, wall)


@dataclass
class _Timed:
    """A call that is to be timed, and what it took each time."""

    key: str
    call: Call
    near: tuple[bool, ...]  # for each tensor among its arguments, whether it is in the cache
    integer: int
    samples: list[float] = field(default_factory=list)


class _Ready:
    """A call with its operands there."""

    def __init__(self, timed: _Timed) -> None:
        self.timed = timed
        self._target, self._device = timed.call.target, timed.call.device
        self._args, self._kwargs = timed.call.arguments(timed.integer)
        given = zip(_tensors((self._args, self._kwargs)), timed.near, strict=True)
        near = [tensor for tensor, is_near in given if is_near]
        self._near = [_flat(tensor) for tensor in near if tensor.numel()]
        self._run, self._operands = _generated(self._target, self._args, self._kwargs)
        kept = set(map(id, near))
        self._twins = [tensor if id(tensor) in kept else copies([tensor])[0] for tensor in self._operands]
        self._restored = [(flat, flat.clone()) for flat in map(_flat, self._written()) if flat.numel()]

    def _written(self) -> list[torch.Tensor]:
        if not isinstance(self._target, OpOverload):
            return []
        return _tensors(list(written_arguments(self._target, self._args, self._kwargs)))

    def time(self, elsewhere: torch.Tensor) -> None:
        """Time it once; ``elsewhere`` is memory to fill the cache with.

        The same call on other far operands runs just before, so that what is not data is as near as in a program:
        code, tables, and the memory that results are given.
        """
        self._restore()
        if self._device.type == "cuda":
            self.timed.samples.append(self._on_cuda())
            return
        if not all(self.timed.near):
            elsewhere.add_(1)
        run, operands = self._run, self._operands
        run(*self._twins)
        self._restore()
        for flat in self._near:
            flat.bitwise_or_(0)
        self.timed.samples.append(stopwatch(lambda: run(*operands)).seconds)

    def _restore(self) -> None:
        for flat, content in self._restored:
            flat.copy_(content)

    def _on_cuda(self) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(CUDA_CALLS):
            self._run(*self._operands)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000 / CUDA_CALLS


def _generated(
    target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., object], list[torch.Tensor]]:
    """The call as a function of the tensors among its arguments, which come with it, in code as that of a program."""
    tensors = _tensors((args, kwargs))
    if not isinstance(target, OpOverload):
        leaves, form = tree_flatten((args, kwargs))

        def call(*given: torch.Tensor) -> object:
            left = iter(given)
            own_args, own_kwargs = tree_unflatten(
                [next(left) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], form
            )
            return target(*own_args, **own_kwargs)

        return call, tensors
    graph = fx.Graph()
    inputs = iter([graph.placeholder(f"x{i}") for i in range(len(tensors))])
    own_args, own_kwargs = tree_map_only(torch.Tensor, lambda _: next(inputs), (args, kwargs))
    graph.output(graph.call_function(target, own_args, own_kwargs))
    return fx.GraphModule(nn.Module(), graph).forward, tensors


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of the storage of ``tensor``."""
    made = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return made.set_(tensor.untyped_storage())


class _Session:
    """Times the calls of one program that are not known yet."""

    def __init__(self, module: fx.GraphModule, graph: Graph, cache: TimingCache, deadline: float) -> None:
        self.module = module
        self.cache = cache
        self.deadline = deadline
        self.values = values_of(module)
        self.keys: dict[str, str] = {}  # by the name of the node
        self.failed: dict[str, str] = {}  # operator by key
        self.timed: dict[str, _Timed] = {}
        self._strides: dict[str, Strides] = {}
        moved = np.where(still_nodes(graph), -1, moved_bytes(graph))
        self._moved: dict[str, int] = dict(zip(graph.labels, moved.tolist(), strict=True))  # -1: a view
        self._clock = 0  # bytes that the program has moved
        self._memories = count()
        self._used: dict[int, int] = {}  # by piece of memory: the clock when it was last used
        total = int(moved.clip(0).sum())
        for node in module.graph.nodes:
            if node.op in ("placeholder", "get_attr"):  # last used, at the earliest, when the run before this one began
                memory = next(self._memories)
                self.values[node] = _in_memory(self.values[node], memory)
                self._used[memory] = -total

    def prepare(self) -> None:
        """Run every unknown call once, in program order: what strides it gives its results, and whether it can be."""
        walk(self.module, self.values, self._prepared)

    def _prepared(self, node: fx.Node, call: Call) -> Strides | None:
        near = self._near(node, call)
        key = self.keys[node.name] = f"{call.key}{''.join('fn'[flag] for flag in near)}"
        if key in self.cache.known:
            return self.cache.known[key].strides
        if key not in self._strides and key not in self.failed and time.perf_counter() < self.deadline:
            for integer in INTEGERS:
                with suppress(Exception):  # made-up data may not do, and an operator may refuse it in any way
                    args, kwargs = call.arguments(integer)
                    self._strides[key] = strides_of(call.target(*args, **kwargs))
                    if self._moved[node.name] >= 0:
                        self.timed[key] = _Timed(key, call, near, integer)
                    break
            else:
                self.failed[key] = call.name
        return self._strides.get(key)

    def _near(self, node: fx.Node, call: Call) -> tuple[bool, ...]:
        """Which operands the program has used not long ago; notes that it uses them, and its result, now."""
        moved, memories = self._moved[node.name], [operand.memory for operand in call.operands]
        near = tuple(self._clock - self._used.get(memory, self._clock) < CACHE_BYTES for memory in memories)
        in_place = isinstance(call.target, OpOverload) and call.target._schema.is_mutable
        result = memories[0] if memories and (in_place or moved < 0) else next(self._memories)
        self.values[node] = _in_memory(self.values[node], result)
        self._clock += max(moved, 0)
        self._used |= dict.fromkeys([*memories, result], self._clock)
        return near

    def run(self, progress: Progress | None, between: Callable[[], object] | None) -> None:
        """Time what has been prepared, in rounds, group by group."""
        total, done = ROUNDS * len(self.timed), 0
        for group, deadline in self._groups():
            ready = []
            for timed in group:
                with self._noting_failure(timed):
                    ready.append(_Ready(timed))
            devices = {timed.call.device for timed in group}
            elsewhere = {device: torch.zeros(2 * CACHE_BYTES, dtype=torch.uint8, device=device) for device in devices}
            for _ in range(ROUNDS):
                if between is not None:
                    between()
                for one in ready:
                    if time.perf_counter() > deadline:
                        break
                    if one.timed.key not in self.failed:
                        with self._noting_failure(one.timed):
                            one.time(elsewhere[one.timed.call.device])
                    done += 1
                    if progress is not None:
                        progress(done, total)

    @contextmanager
    def _noting_failure(self, timed: _Timed) -> Iterator[None]:
        """A call that fails could be run once, and not again."""
        try:
            yield
        except Exception:
            self.failed[timed.key] = timed.call.name
            del self.timed[timed.key], self._strides[timed.key]

    def _groups(self) -> Iterator[tuple[list[_Timed], float]]:
        """Calls whose operands can be there at once, and when to leave them."""
        groups: list[list[_Timed]] = []
        held = 0
        for timed in self.timed.values():
            size = 2 * sum(operand.bytes for operand in timed.call.operands)
            if not groups or held + size > GROUP_BYTES:
                groups.append([])
                held = 0
            groups[-1].append(timed)
            held += size
        left = sum(map(len, groups))
        for group in groups:
            now = time.perf_counter()
            yield group, now + (self.deadline - now) * len(group) / left
            left -= len(group)

    def found(self) -> dict[str, Timing]:
        """What has been measured, by key."""
        found = {key: Timing(0.0, strides) for key, strides in self._strides.items() if key not in self.timed}
        for key, timed in self.timed.items():
            if len(timed.samples) >= LEAST_ROUNDS:
                found[key] = Timing(median(timed.samples), self._strides[key])
        return found


def _in_memory(value: Any, memory: int) -> Any:
    """``value``, described, as one that lies in that piece of memory."""
    return tree_map_only(Operand, lambda operand: replace(operand, memory=memory), value)
