"""Modules through torch.export, and its programs: captured, reordered, and handed back as what they were."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, overload

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.utils._pytree import tree_map

from graphs.errors import UnsupportedOp
from graphs.fx import apply_order
from topoformer.cache import ScheduleCache
from topoformer.pytorch.ordering import Search, graph_of
from topoformer.scheduling import Scheduler

ExampleInputs: TypeAlias = "torch.Tensor | Sequence[Any] | Mapping[str, Any]"


def capture(module: nn.Module, example_inputs: ExampleInputs) -> ExportedProgram:
    """The aten program that ``module`` runs for inputs like these, by ``torch.export``.

    Parameters, buffers and inputs on the ``meta`` device stand for tensors on the CPU without data: a model made under
    ``torch.device("meta")`` is captured without memory for its weights.

    Args:
        module: not changed; the program shares its parameters.
        example_inputs: a tuple or list of positional arguments, a dictionary of keyword arguments, or one tensor.

    Raises:
        UnsupportedOp: the module does not trace; says why in one line.
        TypeError: an argument is of another type.

    Example:
        >>> import torch
        >>> from graphs import from_fx
        >>> from topoformer import capture
        >>> with torch.device("meta"):  # no memory for 4 GiB of weights
        ...     model = torch.nn.Linear(32768, 32768, bias=False)
        >>> from_fx(capture(model, torch.ones(1, 32768)), name="large")
        <Graph 'large': 1 nodes, 3 tensors (1 output, 1 input, 1 weight), 0 edges, writes 128.00 KiB, resident 4.00 GiB>
    """
    args, kwargs = _call_arguments(module, example_inputs)
    weights = [*module.parameters(), *module.buffers()]
    if any(tensor.is_meta for tensor in (*weights, *_leaves((args, kwargs)))):
        stand_ins = _StandIns()
        module = stand_ins.in_module(module)
        args, kwargs = tree_map(stand_ins.of, (args, kwargs))
    try:
        return torch.export.export(module, args, kwargs, strict=False)
    except Exception as error:  # torch.export raises errors of many kinds, and user code any
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
        raise UnsupportedOp(f"{type(module).__name__} does not trace with torch.export ({text[:300]})") from error


@overload
def optimize(
    module: ExportedProgram,
    *,
    method: str | Scheduler = ...,
    seconds: float = ...,
    seed: int = ...,
    steps: int | None = ...,
    memory_limit: int | str | None = ...,
    cache: ScheduleCache | None = ...,
) -> ExportedProgram: ...


@overload
def optimize(
    module: nn.Module,
    example_inputs: ExampleInputs,
    *,
    method: str | Scheduler = ...,
    seconds: float = ...,
    seed: int = ...,
    steps: int | None = ...,
    memory_limit: int | str | None = ...,
    cache: ScheduleCache | None = ...,
) -> nn.Module: ...


def optimize(
    module: nn.Module | ExportedProgram,
    example_inputs: "ExampleInputs | None" = None,
    *,
    method: str | Scheduler = "auto",
    seconds: float = 10.0,
    seed: int = 0,
    steps: int | None = None,
    memory_limit: int | str | None = None,
    cache: ScheduleCache | None = None,
) -> nn.Module | ExportedProgram:
    """What computes the same as ``module``, bit for bit, in an order that needs less memory.

    Of a module, a module: it takes inputs of the example's shapes, shares the parameters of ``module``, and keeps
    whether it was training; its ``meta["schedule"]`` is the :class:`~topoformer.Schedule`. The peak is that of running
    it under ``torch.no_grad()``: with autograd on, activations stay for the backward pass whatever the order.

    Of a program of ``torch.export``, a program with the same signature, state, constants, constraints and names, to be
    run, saved or compiled as the one given; its ``graph_module.meta["schedule"]`` is the Schedule. Sizes that are
    dynamic count at those of the example that it was exported with: it computes the same at all sizes, and its peak is
    no higher at those.

    Args:
        module: a module or an ExportedProgram; not changed.
        example_inputs: of a module, as for :func:`capture`; a program has its own.
        method, seconds, seed, steps, memory_limit: as for :func:`topoformer.schedule`.
        cache: as for :func:`topoformer.schedule`; a program that was seen before is not looked at again either.

    Raises:
        UnsupportedOp: the module does not trace, or an operator is not understood; names it.
        MemoryLimitError: no order can keep within ``memory_limit``, or none was found that does.
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import torch
        >>> from topoformer import optimize
        >>> class Branches(torch.nn.Module):
        ...     def forward(self, x):
        ...         first, second = x.repeat(100), x.repeat(100) + 1
        ...         return first.sum() + second.sum()
        >>> better = optimize(Branches(), torch.ones(4), seconds=1)
        >>> better.meta["schedule"]
        <Schedule of 'Branches' by auto: peak 3,200 bytes, 0.667 of the program's, optimal>
        >>> better(torch.ones(4)), Branches()(torch.ones(4))
        (tensor(1200.), tensor(1200.))
    """
    search = Search(method, seconds, seed, steps, memory_limit, cache=cache)
    if isinstance(module, ExportedProgram):
        if example_inputs is not None:
            raise TypeError("'example_inputs' is for a module: an ExportedProgram has been captured with its own")
        return _reordered(module, search, None)
    program = capture(module, example_inputs)  # which refuses None
    ordered = _reordered(program, search, type(module).__name__)
    result = ordered.module()
    result.meta["schedule"] = ordered.graph_module.meta["schedule"]
    return result


def _reordered(program: ExportedProgram, search: Search, name: str | None) -> ExportedProgram:
    found = search.schedule(graph_of(program, search.cache, name=name))
    result = apply_order(program, found.order)
    result.graph_module.meta["schedule"] = found
    return result


def _call_arguments(module: nn.Module, inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not isinstance(module, nn.Module):
        raise TypeError(f"'module' must be a torch.nn.Module (got {type(module).__name__})")
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        if bad := next((key for key in inputs if not isinstance(key, str)), None):
            raise TypeError(f"'example_inputs' must have argument names as keys (got {bad!r})")
        return (), dict(inputs)
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}
    raise TypeError(f"'example_inputs' must be a tuple, a dict or a tensor (got {type(inputs).__name__})")


def _leaves(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]


class _StandIns:
    """Fake CPU tensors for meta tensors: the same one for the same tensor, so that tied weights stay tied."""

    def __init__(self) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.made: dict[int, torch.Tensor] = {}

    def of(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_meta:
            return value
        if id(value) not in self.made:
            with self.mode:
                fake = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="cpu")
            parameter = isinstance(value, nn.Parameter)
            self.made[id(value)] = nn.Parameter(fake, requires_grad=value.requires_grad) if parameter else fake
        return self.made[id(value)]

    def in_module(self, module: nn.Module) -> nn.Module:
        clone = copy.deepcopy(module)
        for part in clone.modules():
            for tensors in (part._parameters, part._buffers):
                for name, tensor in tensors.items():
                    tensors[name] = self.of(tensor)
        return clone
