"""Workspaces of operators, measured: what a kernel takes and gives back while it runs becomes ``scratch`` of a graph.

Each distinct call, by operator and the shapes of its arguments, is run once by itself on made-up data. Results are
given the strides that they really have, which are not always those that PyTorch says without data, before their readers
are run.
"""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export import ExportedProgram

from graphs import Graph
from topoformer.pytorch.calls import (
    INTEGERS,
    Call,
    Strides,
    module_of,
    strides_of,
    undisturbed,
    values_of,
    walk,
    warn_of_failures,
)
from topoformer.pytorch.measure import Recording
from topoformer.pytorch.scratch_cache import ScratchCache, Workspace

BEGIN = "begin"


def measure_scratch(
    program: fx.GraphModule | ExportedProgram, graph: Graph, *, cache: ScratchCache | None = None
) -> Graph:
    """A copy of ``graph`` whose ``scratch``, int64[n] bytes, are the workspaces of its nodes' operators as measured.

    A workspace is by how much a call's peak is above what is there when it returns. Each distinct call is run on data
    made up for it, random numbers and zeros: nobody's data is read or changed, and the streams of random numbers stay
    as they are. Calls that only have a side effect are not run. One that cannot be run by itself gets 0, and a line
    in the log says how many there were.

    Args:
        program: what :func:`graphs.from_fx` made ``graph`` of; its placeholders need ``meta["val"]``.
        graph: not changed.
        cache: where to look first; by default :meth:`ScratchCache.of_user`. Its keys tell apart versions of PyTorch,
            devices, numbers of threads and settings that choose kernels.

    Raises:
        GraphError: ``graph`` is not of this program.
        UnsupportedOp: nothing is known about the value of a placeholder.
        RuntimeError: a profiler is active.

    Example:
        >>> import torch
        >>> from graphs import from_fx, peak_bytes
        >>> from topoformer import capture, measure_scratch
        >>> from topoformer.pytorch.scratch_cache import ScratchCache
        >>> program = capture(torch.nn.Conv1d(8, 8, 3), torch.ones(1, 8, 100))
        >>> graph = from_fx(program)
        >>> measured = measure_scratch(program, graph, cache=ScratchCache(None))  # None: kept in memory only
        >>> [peak_bytes(measured) - peak_bytes(graph)] == measured.scratch.tolist()  # of the one node
        True
    """
    module = module_of(program, graph)
    cache = ScratchCache.of_user() if cache is None else cache
    session = _Session(module, cache)
    with session:
        session.run()
    cache.add(session.found())
    warn_of_failures(list(session.failed.values()), "their workspaces count as 0")
    found = [cache.known.get(session.keys.get(label, "")) for label in graph.labels]
    return replace(graph, scratch=np.array([known.bytes if known else 0 for known in found], np.int64))


class _Session:
    """Runs the calls of one program that are not known yet, in program order."""

    def __init__(self, module: fx.GraphModule, cache: ScratchCache) -> None:
        self.module = module
        self.cache = cache
        self.values = values_of(module)
        self.keys: dict[str, str] = {}  # by the name of the node
        self.failed: dict[str, str] = {}  # operator by key
        self._strides: dict[str, Strides] = {}
        self._bytes: dict[str, int] = {}
        self._recording = Recording()
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._recording)
            stack.enter_context(undisturbed(self.values))
            self._stack = stack.pop_all()

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def run(self) -> None:
        """Go through the program: every value gets the strides that it really has, then its readers are run."""
        walk(self.module, self.values, self._strides_of)

    def _strides_of(self, node: fx.Node, call: Call) -> Strides | None:
        self.keys[node.name] = call.key
        if call.key in self.cache.known:
            return self.cache.known[call.key].strides
        if call.key not in self._strides and call.key not in self.failed:
            attempt = self._on_cuda if call.device.type == "cuda" else self._on_cpu
            if not any(attempt(call, integer) for integer in INTEGERS):
                self.failed[call.key] = call.name
        return self._strides.get(call.key)

    def _on_cpu(self, call: Call, integer: int) -> bool:
        """Whether the call succeeds; then two marks stand around it, the second of which is its key."""
        try:
            args, kwargs = call.arguments(integer)
            self._recording.mark(BEGIN)
            result = call.target(*args, **kwargs)
        except Exception:  # made-up data may not do, and an operator may refuse it in any way
            return False
        self._recording.mark(call.key)
        self._strides[call.key] = strides_of(result)  # `result` is there until now: it is no workspace
        return True

    def _on_cuda(self, call: Call, integer: int) -> bool:
        try:
            args, kwargs = call.arguments(integer)
            call.target(*args, **kwargs)  # libraries keep what they take for their first call
            torch.cuda.reset_peak_memory_stats(call.device)
            result = call.target(*args, **kwargs)
            counts = torch.cuda.memory_stats(call.device)
        except Exception:
            return False
        self._bytes[call.key] = int(counts["requested_bytes.all.peak"] - counts["requested_bytes.all.current"])
        self._strides[call.key] = strides_of(result)
        return True

    def found(self) -> dict[str, Workspace]:
        """What has been measured, by key; after the session."""
        live = peak = 0
        for event in self._recording.events:
            if not event.mark:
                live += event.bytes
                peak = max(peak, live)
            elif event.mark == BEGIN:
                live = peak = 0
            else:
                self._bytes[event.mark] = peak - live
        return {key: Workspace(self._bytes[key], strides) for key, strides in self._strides.items()}
