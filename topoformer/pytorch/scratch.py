"""Workspaces of operators, measured: what a kernel takes and gives back while it runs becomes ``scratch`` of a graph.

Each distinct call, by operator and the shapes of its arguments, is run once by itself on made-up data. Results are
given the strides that they really have, which are not always those that PyTorch says without data, before their readers
are run.
"""

import logging
import operator
import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache as remembered
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from graphs import Graph
from graphs.errors import GraphError, UnsupportedOp
from graphs.fx_inputs import fixed
from graphs.fx_operators import has_side_effect, operator_name
from graphs.fx_trace import steps_of
from topoformer.pytorch.measure import Recording
from topoformer.pytorch.scratch_cache import ScratchCache, Workspace

LOG = logging.getLogger("topoformer")
BEGIN = "begin"
INTEGERS = (0, 1)  # tried in turn: 0 is a valid index of anything, 1 can be divided by
NAMED_AT_MOST = 5

Strides = tuple[tuple[int, ...], ...]


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
        cache: where to look first; by default :meth:`ScratchCache.of_user`. Its keys tell apart versions of PyTorch,
            devices, numbers of threads and settings that choose kernels.

    Raises:
        GraphError: ``graph`` is not of this program.
        UnsupportedOp: nothing is known about the value of a placeholder.
        RuntimeError: a profiler is active.
    """
    module = program.graph_module if isinstance(program, ExportedProgram) else program
    nodes = [step.node for step in steps_of(module.graph)]
    if tuple(node.name for node in nodes) != graph.labels:
        raise GraphError(f"graph '{graph.name}' is not of this program: its nodes have other names")
    cache = ScratchCache.of_user() if cache is None else cache
    session = _Session(module, cache)
    with session:
        session.run()
    cache.add(session.found())
    if session.failed:
        names = sorted(set(session.failed.values()))
        text = "%d calls cannot be run by themselves, their workspaces count as 0: %s%s"
        shown, rest = ", ".join(names[:NAMED_AT_MOST]), ", ..." if len(names) > NAMED_AT_MOST else ""
        LOG.warning(text, len(session.failed), shown, rest)
    found = [cache.known.get(session.keys.get(node, "")) for node in nodes]
    return replace(graph, scratch=np.array([known.bytes if known else 0 for known in found], np.int64))


@dataclass(frozen=True)
class _Tensor:
    """All that is known about a tensor before there is one."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool  # some operators choose their kernels by it
    conj: bool
    neg: bool

    def made(self, integer: int) -> torch.Tensor:
        """A tensor like it: of random numbers from 0 to 1, or of ``integer`` where it holds integers."""
        empty = 0 in self.size
        count = 0 if empty else 1 + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if not (self.dtype.is_floating_point or self.dtype.is_complex):
            flat = torch.full((count,), integer, device=self.device).to(self.dtype)
        elif self.dtype.itemsize > 1:
            flat = torch.rand(count, device=self.device).to(self.dtype)
        else:  # there is no way to some of these from other types
            flat = torch.zeros(count, dtype=torch.uint8, device=self.device).view(self.dtype)
        made = torch.empty(0, dtype=self.dtype, device=self.device)  # a view is not the same: it cannot be detached
        made.set_(flat.untyped_storage(), 0, self.size, self.stride)
        made = made.conj() if self.conj else made
        made = made._neg_view() if self.neg else made
        return made.requires_grad_(self.requires_grad)


@dataclass(frozen=True)
class _Call:
    """One call of a program, the tensors among its arguments described instead of there."""

    name: str
    key: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    device: torch.device

    @classmethod
    def of(cls, node: fx.Node, values: dict[fx.Node, Any]) -> "_Call":
        """The call that ``node`` makes on ``values``."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        leaves = tree_leaves((args, kwargs, values.get(node)))
        devices = [leaf.device for leaf in leaves if isinstance(leaf, _Tensor)]
        device = next((device for device in devices if device.type == "cuda"), torch.device("cpu"))
        name = operator_name(node.target)
        told = [f"{_environment(device)} {name} {args!r} {kwargs!r}"]
        for leaf in leaves:
            if isinstance(leaf, fx.GraphModule):  # its repr says nothing about what it does
                told += [part.code for part in leaf.modules() if isinstance(part, fx.GraphModule)]
        return cls(name, sha256("\n".join(told).encode()).hexdigest()[:32], node.target, args, kwargs, device)

    def arguments(self, integer: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Made-up positional and keyword arguments; ``integer`` is what integers among the data are."""
        args, kwargs = tree_map_only(_Tensor, lambda tensor: tensor.made(integer), (self.args, self.kwargs))
        return args, kwargs


class _Session:
    """Runs the calls of one program that are not known yet, in program order."""

    def __init__(self, module: fx.GraphModule, cache: ScratchCache) -> None:
        self.module = module
        self.cache = cache
        self.values = _values(module)
        self.keys: dict[fx.Node, str] = {}
        self.failed: dict[str, str] = {}  # operator by key
        self._strides: dict[str, Strides] = {}
        self._bytes: dict[str, int] = {}
        self._recording = Recording()
        self._stack = ExitStack()

    def __enter__(self) -> None:
        leaves = tree_leaves(list(self.values.values()))
        cuda = {leaf.device.index or 0 for leaf in leaves if isinstance(leaf, _Tensor) and leaf.device.type == "cuda"}
        with ExitStack() as stack:
            stack.enter_context(self._recording)
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.random.fork_rng(sorted(cuda)))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # the user hears them when the program is run
            self._stack = stack.pop_all()

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def run(self) -> None:
        """Go through the program: every value gets the strides that it really has, then its readers are run."""
        for node in self.module.graph.nodes:
            if node.target is operator.getitem:
                self.values[node] = self.values[node.args[0]][node.args[1]]
            elif node.op == "call_function" and _takes_memory(node.target):
                call = _Call.of(node, self.values)
                self.keys[node] = call.key
                strides = self._strides_of(call)
                if strides is not None:
                    self.values[node] = _with_strides(self.values[node], strides)

    def _strides_of(self, call: _Call) -> Strides | None:
        if call.key in self.cache.known:
            return self.cache.known[call.key].strides
        if call.key not in self._strides and call.key not in self.failed:
            attempt = self._on_cuda if call.device.type == "cuda" else self._on_cpu
            if not any(attempt(call, integer) for integer in INTEGERS):
                self.failed[call.key] = call.name
        return self._strides.get(call.key)

    def _on_cpu(self, call: _Call, integer: int) -> bool:
        """Whether the call succeeds; then two marks stand around it, the second of which is its key."""
        try:
            args, kwargs = call.arguments(integer)
            self._recording.mark(BEGIN)
            result = call.target(*args, **kwargs)
        except Exception:  # made-up data may not do, and an operator may refuse it in any way
            return False
        self._recording.mark(call.key)
        self._strides[call.key] = _strides(result)  # `result` is there until now: it is no workspace
        return True

    def _on_cuda(self, call: _Call, integer: int) -> bool:
        try:
            args, kwargs = call.arguments(integer)
            call.target(*args, **kwargs)  # libraries keep what they take for their first call
            torch.cuda.reset_peak_memory_stats(call.device)
            result = call.target(*args, **kwargs)
            counts = torch.cuda.memory_stats(call.device)
        except Exception:
            return False
        self._bytes[call.key] = int(counts["requested_bytes.all.peak"] - counts["requested_bytes.all.current"])
        self._strides[call.key] = _strides(result)
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


def _takes_memory(target: Any) -> bool:
    """Whether there is anything to measure: not for arithmetic on sizes, nor for asserts and prints."""
    if isinstance(target, OpOverload):
        return not has_side_effect(target)
    return isinstance(target, HigherOrderOperator)


def _values(module: fx.GraphModule) -> dict[fx.Node, Any]:
    """What is known of every node's value before anything has been run: tensors described, numbers, sub-modules."""
    values: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            value: Any = reduce(getattr, str(node.target).split("."), module)
        elif "val" in node.meta:
            value = node.meta["val"]
        elif node.target is operator.getitem:
            value = values[node.args[0]][node.args[1]]
        elif node.op == "call_function":  # make_fx leaves it out where the result is a list
            call = _Call.of(node, values)
            with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
                args, kwargs = call.arguments(0)
                value = node.target(*args, **kwargs)
        elif node.op == "placeholder":
            text = f"placeholder '{node.name}' has no meta['val']"
            raise UnsupportedOp(f"{text}; capture the program with torch.export or make_fx")
        else:
            continue
        values[node] = _described(value, node.name)
    return values


def _described(value: Any, what: str) -> Any:
    """``value`` with tensors described, symbolic sizes at their hints."""

    def described(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            size, stride = (tuple(fixed(n, what) for n in numbers) for numbers in (leaf.size(), leaf.stride()))
            return _Tensor(size, stride, leaf.dtype, leaf.device, leaf.requires_grad, leaf.is_conj(), leaf.is_neg())
        return fixed(leaf, what) if isinstance(leaf, torch.SymInt | torch.SymFloat | torch.SymBool) else leaf

    return tree_map(described, value)


def _strides(value: Any) -> Strides:
    return tuple(tuple(leaf.stride()) for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _with_strides(value: Any, strides: Strides) -> Any:
    """``value``, described, with other strides; as it is where they do not fit."""
    tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, _Tensor)]
    if [len(tensor.size) for tensor in tensors] != [len(numbers) for numbers in strides]:
        return value
    left: Iterator[tuple[int, ...]] = iter(strides)
    return tree_map_only(_Tensor, lambda tensor: replace(tensor, stride=next(left)), value)


def _environment(device: torch.device) -> str:
    """What else decides which kernels run: versions, the device, threads and settings."""
    told = [
        f"torch {torch.__version__}",
        f"threads {torch.get_num_threads()}",
        f"deterministic {torch.are_deterministic_algorithms_enabled()}",
        f"matmul {torch.get_float32_matmul_precision()}",
        f"oneDNN {torch._C._get_mkldnn_enabled()}",
    ]
    if device.type == "cuda":
        cudnn = torch.backends.cudnn
        told += [torch.cuda.get_device_name(device), f"cuda {torch.version.cuda}", f"cudnn {cudnn.version()}"]
        told += [f"cudnn {cudnn.enabled} {cudnn.benchmark} {cudnn.deterministic}"]
    else:
        told += [_processor(), torch.backends.cpu.get_cpu_capability()]
    return ", ".join(told)


@remembered
def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()
