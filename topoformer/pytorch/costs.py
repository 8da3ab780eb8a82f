"""Costs of an order that are measured by running the reordered program for real."""

import math
import os
import statistics
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram

from graphs import Order
from graphs.errors import unknown_name
from graphs.fx import apply_order
from graphs.pt2 import load_pt2
from topoformer.pytorch.measure import Event, Recording, measure_peak
from topoformer.pytorch.verify import copies, flat_call, flat_inputs

ALIGNMENT = 64  # of the blocks of a heap
REPEATS, WARM = 7, 2  # runs that are timed, and those before them
KINDS = {
    "peak": "most bytes that the allocator had handed out at once, workspaces included",
    "heap": "bytes of a best-fit heap that serves what the run allocates and frees, workspaces included",
    "seconds": "median time of a run",
}

Measure = Callable[[Callable[..., Any], tuple[Any, ...]], float]


@dataclass(frozen=True, eq=False)
class MeasuredCost:
    """The measured cost of an order of a program; can be sent to other processes of this machine.

    Args:
        program: itself, or the .pt2 file that it is in, which each process reads once.
        measure: a key of :data:`KINDS`, or a function that takes the reordered module and its inputs, as
            ``cost(module, inputs)``, and returns a number; to run in other processes it must be importable.

    Raises:
        ValueError: there is no measure of that name.
    """

    program: "ExportedProgram | str | os.PathLike[str]"
    measure: str | Measure = "peak"

    def __post_init__(self) -> None:
        if isinstance(self.measure, str) and self.measure not in KINDS:
            raise ValueError(unknown_name("measured cost", self.measure, KINDS))

    def __call__(self, order: Order) -> float:
        """The cost of ``order``, int32[n]: bytes, seconds, or what the caller's function says."""
        with _ONE_AT_A_TIME:
            return self._measured(order)

    def _measured(self, order: Order) -> float:
        program = self.program if isinstance(self.program, ExportedProgram) else loaded(os.fspath(self.program))
        reordered = apply_order(program, order)
        if not isinstance(self.measure, str):
            if reordered.example_inputs is None:
                raise ValueError("the program has no example inputs to run on")
            args, kwargs = reordered.example_inputs
            if kwargs:
                raise ValueError("a cost(module, inputs) takes positional inputs; the program has others")
            return float(self.measure(reordered.module(), tuple(args)))
        call, inputs = flat_call(reordered.graph_module), flat_inputs(program)
        with torch.no_grad(), torch.random.fork_rng():
            return {"peak": _peak, "heap": _heap, "seconds": _seconds}[self.measure](call, inputs)


_ONE_AT_A_TIME = threading.Lock()  # there is one profiler, and one core to time on
_PROGRAMS: dict[tuple[str, int], ExportedProgram] = {}  # by path and time of change, once a process


def load(path: str) -> None:
    """Have this process read a .pt2 file, before anything is measured."""
    loaded(path)


def loaded(path: str) -> ExportedProgram:
    """The program in a .pt2 file, read once a process."""
    key = (path, os.stat(path).st_mtime_ns)
    if key not in _PROGRAMS:
        _PROGRAMS.clear()
        _PROGRAMS[key] = load_pt2(path)
    return _PROGRAMS[key]


def _peak(call: Callable[[list[Any]], Any], inputs: list[Any]) -> float:
    return float(measure_peak(call, copies(inputs)).requested_bytes)


def _heap(call: Callable[[list[Any]], Any], inputs: list[Any]) -> float:
    values = copies(inputs)
    if any(isinstance(value, torch.Tensor) and value.is_cuda for value in values):
        return float(measure_peak(call, values).reserved_bytes)  # CUDA has a caching allocator of its own
    recording = Recording()
    with recording:
        recording.mark("begin")
        result = call(values)
        recording.mark("end")
    del result
    return float(heap_bytes(recording.events))


def _seconds(call: Callable[[list[Any]], Any], inputs: list[Any]) -> float:
    values = copies(inputs)
    cuda = any(isinstance(value, torch.Tensor) and value.is_cuda for value in values)
    took = []
    for run in range(WARM + REPEATS):
        began = time.perf_counter()
        call(values)
        if cuda:
            torch.cuda.synchronize()
        if run >= WARM:
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def heap_bytes(events: Iterable[Event]) -> int:
    """Size that a heap grows to which serves ``events`` between its marks "begin" and "end".

    Each request, rounded up to 64 bytes, goes to the smallest free block that holds it, of equal ones to the lowest;
    to the end of the heap where there is none. Blocks that are freed are joined with free neighbours (Knuth 1997,
    section 2.5).
    """
    heap, running = _Heap(), False
    for event in events:
        if event.mark in ("begin", "end"):
            running = event.mark == "begin"
        elif running and not event.mark and event.bytes > 0:
            heap.take(event.address, event.bytes)
        elif running and not event.mark:
            heap.free(event.address)
    return heap.top


class _Heap:
    """Free blocks by size and by both of their ends; ``top`` is where the heap ends."""

    def __init__(self) -> None:
        self.top = 0
        self._sizes: list[tuple[int, int]] = []  # (size, start), sorted
        self._starts: dict[int, int] = {}  # start -> size
        self._ends: dict[int, int] = {}  # end -> start
        self._taken: dict[int, tuple[int, int]] = {}  # address of the request -> (start, size)

    def take(self, address: int, count: int) -> None:
        size = math.ceil(count / ALIGNMENT) * ALIGNMENT
        place = bisect_left(self._sizes, (size, -1))
        if place < len(self._sizes):
            found, start = self._sizes[place]
            self._forget(start, found)
            if found > size:
                self._note(start + size, found - size)
        else:
            start = self.top  # a free block that ends there is made longer
            if start in self._ends:
                start = self._ends[start]
                self._forget(start, self._starts[start])
            self.top = start + size
        self._taken[address] = (start, size)

    def free(self, address: int) -> None:
        if address not in self._taken:  # from before the run
            return
        start, size = self._taken.pop(address)
        if start in self._ends:
            before = self._ends[start]
            size += self._starts[before]
            self._forget(before, self._starts[before])
            start = before
        if start + size in self._starts:
            after = self._starts[start + size]
            self._forget(start + size, after)
            size += after
        self._note(start, size)

    def _note(self, start: int, size: int) -> None:
        insort(self._sizes, (size, start))
        self._starts[start], self._ends[start + size] = size, start

    def _forget(self, start: int, size: int) -> None:
        del self._sizes[bisect_left(self._sizes, (size, start))]
        del self._starts[start], self._ends[start + size]
