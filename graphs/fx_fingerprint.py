"""Telling that a program was looked at before: a hash of all that its graph depends on.

:func:`graphs.fx.from_fx` runs the program without data, which takes seconds where there are a thousand calls; this
reads it, in some ten milliseconds. Two programs with one fingerprint have one graph, but for its name and the places
in the source.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import EllipsisType, NoneType
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch.export import ExportedProgram

from graphs.errors import UnsupportedOp
from graphs.fx import _lifted, _program_name, _source
from graphs.fx_inputs import fixed, refuse_unseen, storage_key
from graphs.fx_operators import operator_name
from graphs.fx_trace import steps_of
from graphs.graph import Graph

# What operators of these do is told by PyTorch's version; of others, Python code decides that may change any time.
NAMESPACES = ("aten", "prim", "prims", "rngprims", "inductor", "inductor_prims", "mkl", "mkldnn", "onednn", "profiler")
CONSTANTS = (
    *(NoneType, EllipsisType, bool, int, float, complex, str),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)


class _CannotTellError(Exception):
    """Something that the graph depends on has no lasting name."""


def program_fingerprint(
    program: fx.GraphModule | ExportedProgram, *, weights: Collection[str] = (), donated: Collection[str] = ()
) -> str | None:
    """sha256 (hex) of all on which the graph of ``program`` depends; None where that cannot be told.

    That is the program's calls with their arguments, what :func:`graphs.fx.from_fx` looks at in tensors that come from
    outside (sizes and strides, types and devices, which share memory), PyTorch's version and the settings by which it
    chooses kernels, and the source of this package. Operators that are not PyTorch's own make it None, as modes that
    watch operators do while they are active. O(program).

    Args:
        program, weights, donated: as for :func:`graphs.fx.from_fx`.
    """
    module = program.graph_module if isinstance(program, ExportedProgram) else program
    values = _lifted(program) if isinstance(program, ExportedProgram) else {}
    try:
        reader = _Reader(values)
        lines = [*reader.module(module), repr((sorted({*weights, *values}), sorted(donated)))]
        lines += [repr(fact) for fact in _surroundings(reader.devices)]
    except (_CannotTellError, UnsupportedOp):
        return None
    return hashlib.sha256("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()


def as_graph_of(program: fx.GraphModule | ExportedProgram, graph: Graph, *, name: str | None = None) -> Graph | None:
    """``graph``, captured from a program of the same fingerprint, with the name and places in the source of this one.

    None if it cannot be this one's: its nodes are others.
    """
    module = program.graph_module if isinstance(program, ExportedProgram) else program
    nodes = [step.node for step in steps_of(module.graph)]
    if [(node.name, operator_name(node.target)) for node in nodes] != list(zip(graph.labels, graph.ops, strict=True)):
        return None
    sources = tuple(_source(node) for node in nodes)
    return replace(graph, name=name if name is not None else _program_name(module), sources=sources)


class _Reader:
    """Reads modules into lines of text, in which each memory has a number."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.devices: set[torch.device] = set()
        self._memory: dict[int, int] = {}
        self._seen: list[torch.Tensor] = []  # keeps the keys of their memory from being used again

    def module(self, module: fx.GraphModule) -> Iterator[str]:
        """A line for each node, and for each that stands for something outside the program a second one."""
        steps_of(module.graph)  # raises UnsupportedOp where a call is not one that an order may move
        for node in module.graph.nodes:
            yield f"{node.op} {node.name!r} {self._target(node)} {self._text(node.args)} {self._text(node.kwargs)}"
            if node.op == "placeholder":
                yield self._value(self._outside(node))
            elif node.op == "get_attr":
                yield self._value(_attribute(module, str(node.target)))

    def _outside(self, node: fx.Node) -> Any:
        if node.name in self.values:
            return self.values[node.name]
        if "val" not in node.meta:
            raise _CannotTellError
        return node.meta["val"]

    def _target(self, node: fx.Node) -> str:
        target = node.target
        if isinstance(target, OpOverload):
            if target.namespace not in NAMESPACES:
                raise _CannotTellError
            return str(target)
        return operator_name(target) if callable(target) else repr(target)

    def _text(self, value: Any) -> str:
        """An argument of a call: a nest of nodes and constants."""
        if isinstance(value, fx.Node):
            return f"%{value.name}"
        if isinstance(value, tuple | list):
            return f"{_container(value)}({', '.join(map(self._text, value))})"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{self._text(key)}: {self._text(item)}' for key, item in value.items())}}}"
        if isinstance(value, slice):
            return f"slice{self._text((value.start, value.stop, value.step))}"
        if type(value) in CONSTANTS:
            return f"{value!r}"
        raise _CannotTellError

    def _value(self, value: Any) -> str:
        """Something that a placeholder or an attribute stands for."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            return f"symbol {fixed(value, '')}"
        if isinstance(value, tuple | list):
            return f"{_container(value)}({', '.join(map(self._value, value))})"
        if isinstance(value, fx.GraphModule):
            return "\n".join(["module", repr(value.code), *self.module(value), "end"])
        return self._text(value)

    def _tensor(self, tensor: torch.Tensor) -> str:
        refuse_unseen(tensor, "")
        self._seen.append(tensor)
        self.devices.add(tensor.device)
        memory = self._memory.setdefault(storage_key(tensor), len(self._memory))
        sizes = (*tensor.size(), *tensor.stride(), tensor.storage_offset(), tensor.untyped_storage().nbytes())
        facts = (tensor.dtype, str(tensor.device), tensor.is_conj(), tensor.is_neg(), tensor.requires_grad)
        return f"tensor {memory} {tensor.dim()} {[fixed(size, '') for size in sizes]} {facts}"


def _attribute(module: fx.GraphModule, name: str) -> Any:
    value: Any = module
    for atom in name.split("."):
        if not hasattr(value, atom):
            raise _CannotTellError
        value = getattr(value, atom)
    return value


def _container(value: Any) -> str:
    return "list" if isinstance(value, list) else type(value).__name__


def _surroundings(devices: Collection[torch.device]) -> Iterator[Any]:
    """What decides, besides the program, which kernels run and what they are seen to do."""
    try:
        from torch.overrides import _len_torch_function_stack
        from torch.utils._python_dispatch import _len_torch_dispatch_stack
    except ImportError:  # another PyTorch's: whether it is being watched cannot be told
        raise _CannotTellError from None
    default = torch.get_default_device()
    expected = 1 if default.type != "cpu" else 0  # a default device is such a mode
    if _len_torch_dispatch_stack() or _len_torch_function_stack() > expected:
        raise _CannotTellError
    yield torch.__version__, torch.version.git_version, torch.version.cuda, torch.version.hip, _own_source()
    yield str(default), torch.get_default_dtype(), torch.is_inference_mode_enabled()
    yield torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    for kind in sorted({"cpu", default.type, *(device.type for device in devices)} - {"meta"}):
        yield kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    yield torch.is_autocast_cache_enabled(), torch.backends.mkldnn.is_available(), torch.backends.mkldnn.enabled
    yield torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    yield cudnn.is_available(), cudnn.enabled, cudnn.benchmark, cudnn.deterministic
    yield cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled()
    for device in sorted(devices, key=str):
        if device.type == "cuda" and torch.cuda.is_available():
            yield str(device), _gpu(device)


def _gpu(device: torch.device) -> Any:
    """Which kernels there are for it."""
    try:
        return torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    except (AssertionError, RuntimeError):  # there is none of that number, or this process is the fork of one with it
        raise _CannotTellError from None


@cache
def _own_source() -> str:
    """sha256 (hex) of the source of this package: how programs are looked at."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()
