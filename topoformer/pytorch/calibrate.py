"""The machine at hand, measured: a device's rates, and how far predicted seconds of a program are from real ones.

Rates are what PyTorch reaches on large operands, by the median of several rounds; see :mod:`topoformer.pytorch.timing`
for the durations of single operators and for the clock.
"""

import ctypes
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from graphs import Graph, program_order
from graphs.device import Device
from graphs.fx import apply_order
from graphs.latency import node_seconds
from topoformer.calibration import machine
from topoformer.pytorch.timing import Lap, Progress, measure_seconds, still_nodes, stopwatch
from topoformer.pytorch.timing_cache import TimingCache
from topoformer.pytorch.verify import copies, flat_inputs

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8)
SIDE = {"cpu": 512, "cuda": 4096}  # of the square matrices that are multiplied
COPIED_BYTES = {"cpu": 32 << 20, "cuda": 256 << 20}  # more than near caches hold
LAUNCHES = 100  # of a tiny operator, timed together
SLOWEST_SECONDS = 2.0  # a product that takes longer is nothing that the device is made for
RUNS = 5  # of a program where there is nothing else to time
QUIET = 1.02  # wall time over one's own, at most, of a run that had the core to itself
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt
Clock = Callable[[Callable[[], object]], float]


class _Rate(NamedTuple):
    """Something to be timed: ``amount`` flop, bytes or launches are done by one ``call``."""

    name: str
    call: Callable[[], object]
    amount: float


def device_names() -> list[str]:
    """Names of the devices that can be measured here."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def device_of(program: ExportedProgram | None) -> str:
    """Name of the device that runs ``program``: "cuda" if any of its tensors is on a GPU."""
    nodes = program.graph_module.graph.nodes if program is not None else ()
    leaves = tree_leaves([node.meta.get("val") for node in nodes])
    return "cuda" if any(isinstance(leaf, torch.Tensor) and leaf.is_cuda for leaf in leaves) else "cpu"


def measure_device(name: str = "cpu", *, seconds: float = 2.0) -> Device:
    """The CPU with PyTorch's number of threads, or the first GPU, as a :class:`Device` called ``name``.

    ``bandwidth`` is that of a copy, bytes read and written together; ``flops`` those of products of square matrices in
    each type that there are kernels for; ``launch_seconds`` what an operator takes on one number, from Python.

    Args:
        name: "cpu" or "cuda".
        seconds: to measure for, at least; each rate is measured three times at least.

    Raises:
        ValueError: there is no such device here, or ``seconds`` is not positive.
    """
    if name not in SIDE:
        raise ValueError(f"'name' must be 'cpu' or 'cuda' (got '{name}')")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here")
    if not seconds > 0:
        raise ValueError(f"'seconds' must be positive (got {seconds})")
    clock: Clock = _cuda_clock if name == "cuda" else lambda call: stopwatch(call).seconds
    with torch.no_grad():
        rates = _rates(name, clock)
        samples: dict[str, list[float]] = {rate.name: [] for rate in rates}
        began, rounds = time.perf_counter(), 0
        while rounds < 3 or time.perf_counter() - began < seconds:
            for rate in rates:
                samples[rate.name].append(clock(rate.call))
            rounds += 1
    found = {rate.name: rate.amount / median(samples[rate.name]) for rate in rates}
    launches, bandwidth = found.pop("launch"), found.pop("copy")
    memory, what = _memory_and_name(name)
    return Device(
        name,
        found,
        bandwidth,
        launch_seconds=1 / launches,
        memory_bytes=memory,
        source=f"measured: {what}, torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds",
    )


def _rates(name: str, clock: Clock) -> list[_Rate]:
    one = torch.ones(1, device=name)
    source, target = (torch.zeros(COPIED_BYTES[name], dtype=torch.uint8, device=name) for _ in range(2))

    def launch() -> None:
        for _ in range(LAUNCHES):
            torch.ops.aten.neg.default(one)

    rates = [
        _Rate("launch", launch, LAUNCHES),
        _Rate("copy", lambda: target.copy_(source), 2 * COPIED_BYTES[name]),
    ]
    for dtype in DTYPES:
        with suppress(RuntimeError, NotImplementedError):  # there is no kernel for it
            product = _product(name, dtype)
            clock(product)  # the first call makes what libraries keep
            if clock(product) < SLOWEST_SECONDS:
                rates.append(_Rate(str(dtype).removeprefix("torch."), product, 2 * SIDE[name] ** 3))
    return rates


def _product(name: str, dtype: torch.dtype) -> Callable[[], object]:
    side = SIDE[name]
    left, right = (torch.ones(side, side, device=name).to(dtype) for _ in range(2))
    multiply = torch._int_mm if dtype == torch.int8 else torch.mm
    return lambda: multiply(left, right)


def _cuda_clock(call: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def _memory_and_name(name: str) -> tuple[int | None, str]:
    if name == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory), str(torch.cuda.get_device_name(0))
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        memory = 0
    return memory if memory > 0 else None, machine()


@dataclass(frozen=True)
class Comparison:
    """Seconds of one program, from end to end, by the model of one stream and as measured."""

    name: str
    nodes: int
    measured_seconds: float  # median; without those that other programs had the core
    wall_seconds: float  # median of the same runs with them
    quiet_seconds: float | None  # median wall time of those runs that had the core to themselves; None: there were none
    runs: int
    quiet_runs: int
    predicted_seconds: float  # durations of operators as measured
    roofline_seconds: float  # none of them measured: from the device's rates alone
    estimated_nodes: int  # whose operators could not be timed, and take the time of the roofline
    calls: int  # distinct ones that have been timed now; others were known
    calibration_seconds: float  # that it took to time them, runs of the whole program included

    @property
    def error(self) -> float:
        """Of the predicted seconds, relative to the measured ones."""
        return self.predicted_seconds / self.measured_seconds - 1

    @property
    def roofline_error(self) -> float:
        """Of the roofline's seconds, relative to the measured ones."""
        return self.roofline_seconds / self.measured_seconds - 1

    def to_json(self) -> dict[str, Any]:
        """A dictionary of numbers, for machines."""
        return asdict(self) | {"error": self.error, "roofline_error": self.roofline_error}


def compare(
    program: ExportedProgram,
    graph: Graph,
    device: Device,
    *,
    cache: TimingCache | None = None,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
) -> tuple[Graph, Comparison]:
    """Time the operators of ``program`` and, between the rounds, the whole of it on copies of its example inputs.

    Args:
        graph: what :func:`graphs.from_fx` made of ``program``.
        device: for what cannot be timed, and to compare with.
        cache, budget_seconds, progress: as :func:`measure_seconds` takes them.

    Returns:
        ``graph`` with measured ``seconds``, and what the two say.

    Raises:
        ValueError: the program has no example inputs, or its tensors no data.
        GraphError, UnsupportedOp: as :func:`measure_seconds` does.
    """
    cache = TimingCache.of_user() if cache is None else cache
    run, on_cuda = _runnable(program, graph)
    run()
    laps: list[Lap] = []

    def lap() -> None:
        laps.append(stopwatch(run, waits=on_cuda))

    known, began = len(cache.known), time.perf_counter()
    timed = measure_seconds(
        program,
        graph,
        cache=cache,
        budget_seconds=budget_seconds,
        progress=progress,
        between=lap,
    )
    while len(laps) < RUNS:
        lap()
    quiet = [lap.wall_seconds for lap in laps if lap.wall_seconds <= QUIET * lap.seconds]
    return timed, Comparison(
        name=graph.name,
        nodes=graph.n,
        measured_seconds=median(lap.seconds for lap in laps),
        wall_seconds=median(lap.wall_seconds for lap in laps),
        quiet_seconds=median(quiet) if quiet else None,
        runs=len(laps),
        quiet_runs=len(quiet),
        predicted_seconds=float(node_seconds(timed, device).sum()),
        roofline_seconds=float(node_seconds(graph, device).sum()),
        estimated_nodes=int(np.count_nonzero((timed.seconds == 0) & ~still_nodes(graph))),
        calls=len(cache.known) - known,
        calibration_seconds=time.perf_counter() - began,
    )


def _runnable(program: ExportedProgram, graph: Graph) -> tuple[Callable[[], object], bool]:
    """A run of ``program``, without autograd, on copies of what it was exported with; whether it waits for a GPU."""
    inputs = copies(flat_inputs(program))
    module = apply_order(program, program_order(graph)).graph_module
    module.graph.set_codegen(fx.graph.CodeGen())
    module.recompile()
    cuda = any(isinstance(value, torch.Tensor) and value.is_cuda for value in inputs)

    def run() -> None:
        with torch.no_grad():
            module.forward(*inputs)
        if cuda:
            torch.cuda.synchronize()

    return run, cuda


def keep_freed_memory() -> bool:
    """Make this process keep what it frees, for good; returns whether its C library could be told to.

    The GNU library else gives large blocks back to the system at moments that depend on all that was allocated before,
    and touching them again costs a page fault every 4 KiB: the same program then takes up to half as long again.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(M_MMAP_MAX, 0))
