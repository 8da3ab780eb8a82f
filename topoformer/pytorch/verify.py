"""Programs run for real, beside what was predicted of them: storages, the allocator's peak, and whether outputs agree.

Independent of the capture: every call of the generated code is wrapped by a probe that adds up the storages that are
there when it returns, its arguments included.
"""

import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves, tree_map

from graphs import Graph, Order, peak_bytes, program_order
from graphs.fx import apply_order
from topoformer.pytorch.measure import measure_peak
from topoformer.pytorch.ordering import boxed
from topoformer.scheduling import Schedule


class StorageRun(NamedTuple):
    """What one run of a program kept in storages, and what it took from the allocator."""

    step_bytes: list[int]  # alive during each call, in bytes, inputs and attributes included
    allocated_bytes: int  # peak of all that was allocated, workspaces too, above what was there at the start
    outputs: list[Any]

    @property
    def peak_bytes(self) -> int:
        """Most bytes alive during any call, inputs and attributes included."""
        return max(self.step_bytes, default=0)


@dataclass(frozen=True)
class Measured:
    """One order of a program: bytes as predicted and as measured, resident ones not counted."""

    predicted_storage_bytes: int
    storage_bytes: int
    allocated_bytes: int  # at the peak of all that the allocator handed out, workspaces too
    predicted_allocated_bytes: int | None  # None where workspaces have not been measured

    @property
    def as_predicted(self) -> bool:
        """Whether every number is the one that was predicted."""
        allocated = self.predicted_allocated_bytes in (None, self.allocated_bytes)
        return allocated and self.storage_bytes == self.predicted_storage_bytes


@dataclass(frozen=True)
class Verification:
    """What became of a schedule when its program was run in its own order and in the new one."""

    program: Measured
    new: Measured
    outputs_equal: bool  # bit for bit

    @property
    def holds(self) -> bool:
        """Whether bytes are as predicted in both orders, and outputs equal."""
        return self.outputs_equal and self.program.as_predicted and self.new.as_predicted

    def to_json(self) -> dict[str, Any]:
        """A dictionary of numbers, for machines."""
        return {
            "holds": self.holds,
            "outputs_equal": self.outputs_equal,
            "program": vars(self.program).copy(),
            "new": vars(self.new).copy(),
        }


def verify(program: ExportedProgram, schedule: Schedule, *, with_scratch: bool = False) -> Verification:
    """Run ``program`` in its own order and in that of ``schedule``, on copies of its example inputs and weights.

    Both runs draw the same random numbers, and nothing is computed for a backward pass. On CUDA a first run, which is
    not looked at, lets libraries take what they keep.

    Args:
        schedule: of the graph that :func:`graphs.from_fx` made of ``program``.
        with_scratch: the graph's ``scratch`` has been measured, and is part of what is predicted.

    Raises:
        ValueError: the program has no example inputs, or its tensors no data (``meta`` device), or it fails.
    """
    inputs = flat_inputs(program)
    graph = schedule.graph

    def run(order: Order) -> StorageRun:
        try:
            return storage_run(apply_order(program, order).graph_module, inputs)
        except Exception as error:  # whatever a kernel finds wrong with the example
            first = (str(error).strip().splitlines() or ["no reason given"])[0][:300]
            raise ValueError(f"'{graph.name}' fails when it is run: {type(error).__name__}: {first}") from error

    own = program_order(graph)
    if any(tensor.is_cuda for tensor in _tensors(inputs)):
        run(own)
    before, after = run(own), run(schedule.order)
    equal = len(before.outputs) == len(after.outputs) and all(map(same_bits, before.outputs, after.outputs))
    return Verification(
        program=_measured(graph, own, before, with_scratch),
        new=_measured(graph, schedule.order, after, with_scratch),
        outputs_equal=equal,
    )


def _measured(graph: Graph, order: Order, run: StorageRun, with_scratch: bool) -> Measured:
    bare = replace(graph, scratch=np.zeros(graph.n, np.int64))
    return Measured(
        predicted_storage_bytes=peak_bytes(bare, order),
        storage_bytes=run.peak_bytes - graph.resident_bytes if graph.n else 0,
        allocated_bytes=run.allocated_bytes,
        predicted_allocated_bytes=peak_bytes(graph, order) if with_scratch else None,
    )


def flat_inputs(program: ExportedProgram) -> list[Any]:
    """What ``program.graph_module`` takes: weights and constants, and the inputs with which it was exported.

    Raises:
        ValueError: they are not there, or are without data.
    """
    if program.example_inputs is None:
        raise ValueError("the program has no example inputs to run on: export it with them, and save it whole")
    given = iter(tree_leaves(tuple(program.example_inputs)))
    stored = {**program.state_dict, **program.constants}
    kinds = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
    values = []
    for spec in program.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT and (spec.kind not in kinds or spec.target not in stored):
            raise ValueError(f"input '{spec.arg.name}' is a {spec.kind.name.lower()} without a value to run on")
        values.append(next(given, None) if spec.kind == InputKind.USER_INPUT else stored[spec.target])
        if isinstance(values[-1], torch.Tensor) and (isinstance(values[-1], FakeTensor) or values[-1].is_meta):
            name = spec.target or spec.arg.name
            raise ValueError(f"'{name}' is on the meta device and has no data: there is nothing to run")
    return values


def storage_run(program: fx.GraphModule, inputs: Sequence[Any], *, donated: Collection[str] = ()) -> StorageRun:
    """Run ``program``, without autograd, on copies of ``inputs`` and see which storages are alive during each call.

    Args:
        program: is left with probes in it; attributes that it changes are changed.
        inputs: one for each placeholder.
        donated: names of placeholders that are given away: with any, the program is run as a boxed call.

    Raises:
        ValueError: there is another number of inputs, or ``donated`` names no placeholder.
    """
    names = [node.name for node in program.graph.find_nodes(op="placeholder")]
    if len(names) != len(inputs):
        raise ValueError(
            f"'inputs' must be one for each of the program's {len(names)} placeholders (got {len(inputs)})"
        )
    if unknown := sorted(set(donated) - set(names)):
        raise ValueError(f"'donated' names '{unknown[0]}', which is no placeholder of the program")
    values = copies(inputs)
    kept = [value for name, value in zip(names, values, strict=True) if name not in donated]
    given = [value for name, value in zip(names, values, strict=True) if name in donated]
    attributes = [_attribute(program, node) for node in program.graph.find_nodes(op="get_attr")]
    probe = _Probe([*kept, *attributes], given)
    del given
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target is not operator.getitem:
            node.target = probe.wrapped(node.target, node.name)
    call = boxed(program) if donated else flat_call(program)
    devices = sorted({tensor.device.index for tensor in _tensors([kept, values]) if tensor.is_cuda})
    device = f"cuda:{devices[0]}" if devices else "cpu"
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        peak = measure_peak(call, values, device=device)
    return StorageRun(probe.steps, peak.requested_bytes, tree_leaves(peak.result))


def flat_call(program: fx.GraphModule) -> Callable[[list[Any]], Any]:
    """``program``, which is changed, as a call with one value for each placeholder in a list."""
    program.graph.set_codegen(fx.graph.CodeGen())
    program.recompile()
    return lambda values: program.forward(*values)


class _Probe:
    """Knows every storage that was there at the start or that a wrapped call has given back."""

    def __init__(self, kept: list[Any], given: list[Any]) -> None:
        """``kept``: what stays to the end; ``given``: what the program may free."""
        self.steps: list[int] = []
        self._kept: dict[int, tuple[StorageWeakRef, int]] = {}  # not asked again and again whether they are there
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._note(kept)
        self._kept, self._alive = self._alive, {}
        self._kept_bytes = sum(size for _, size in self._kept.values())
        self._note(given)

    def _note(self, value: Any) -> None:
        for tensor in _tensors(value):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._kept:
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())

    def wrapped(self, target: Any, name: str) -> Callable[..., Any]:
        """``target``, looked at whenever it returns."""

        def call(*args: Any, **kwargs: Any) -> Any:
            result = target(*args, **kwargs)
            self._note(result)
            self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
            self.steps.append(self._kept_bytes + sum(size for _, size in self._alive.values()))
            return result

        call.__name__ = f"probed_{name}"
        return call


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _attribute(program: fx.GraphModule, node: fx.Node) -> Any:
    value: Any = program
    for atom in str(node.target).split("."):
        value = getattr(value, atom)
    return value


def copies(values: Sequence[Any]) -> list[Any]:
    """Copies of the tensors in ``values``, which share memory among each other as the originals do."""
    memory: dict[int, torch.UntypedStorage] = {}

    def copied(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        storage = value.untyped_storage()
        data = memory.setdefault(storage._cdata, storage.clone())
        made = torch.empty(0, dtype=value.dtype, device=value.device)
        made.set_(data, value.storage_offset(), value.size(), value.stride())
        made = torch._conj(made) if value.is_conj() else made
        made = torch._neg_view(made) if value.is_neg() else made
        return made.requires_grad_(value.requires_grad)  # some operators choose their kernels by it

    return [tree_map(copied, value) for value in values]


def same_bits(one: Any, other: Any) -> bool:
    """Whether two values are the same: tensors in type, shape, strides and every bit."""
    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return type(one) is type(other) and repr(one) == repr(other)
    forms = [(t.dtype, t.shape, t.stride(), t.is_conj(), t.is_neg(), t.device) for t in (one, other)]
    return forms[0] == forms[1] and torch.equal(_bytes(one), _bytes(other))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().flatten()
    return plain.view(torch.uint8) if plain.numel() else plain.to(torch.uint8)
