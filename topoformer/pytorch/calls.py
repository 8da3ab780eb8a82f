"""The calls of a program, their tensors described instead of there: each can be run by itself on made-up data.

Results are given the strides that they really have, which are not always those that PyTorch says without data, before
their readers are run.
"""

import logging
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from hashlib import sha256
from typing import Any

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
from topoformer.calibration import processor

LOG = logging.getLogger("topoformer")
INTEGERS = (0, 1)  # tried in turn: 0 is a valid index of anything, 1 can be divided by
NAMED_AT_MOST = 5

Strides = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Operand:
    """All that is known about a tensor before there is one."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool  # some operators choose their kernels by it
    conj: bool
    neg: bool
    memory: int = field(default=-1, repr=False)  # which piece of memory it lies in, where that is known

    @property
    def bytes(self) -> int:
        """Of the memory that it spans."""
        return int(self._count * self.dtype.itemsize)

    @property
    def _count(self) -> int:
        empty = 0 in self.size
        return 0 if empty else 1 + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))

    def made(self, integer: int) -> torch.Tensor:
        """A tensor like it: of random numbers from 0 to 1, or of ``integer`` where it holds integers."""
        count = self._count
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
class Call:
    """One call of a program, the tensors among its arguments described instead of there."""

    name: str
    key: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    device: torch.device

    @classmethod
    def of(cls, node: fx.Node, values: dict[fx.Node, Any]) -> "Call":
        """The call that ``node`` makes on ``values``."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        leaves = tree_leaves((args, kwargs, values.get(node)))
        devices = [leaf.device for leaf in leaves if isinstance(leaf, Operand)]
        device = next((device for device in devices if device.type == "cuda"), torch.device("cpu"))
        name = operator_name(node.target)
        told = [f"{environment(device)} {name} {args!r} {kwargs!r}"]
        for leaf in leaves:
            if isinstance(leaf, fx.GraphModule):  # its repr says nothing about what it does
                told += [part.code for part in leaf.modules() if isinstance(part, fx.GraphModule)]
        return cls(name, sha256("\n".join(told).encode()).hexdigest()[:32], node.target, args, kwargs, device)

    @property
    def operands(self) -> list[Operand]:
        """The tensors among the arguments."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Operand)]

    def arguments(self, integer: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Made-up positional and keyword arguments; ``integer`` is what integers among the data are."""
        args, kwargs = tree_map_only(Operand, lambda tensor: tensor.made(integer), (self.args, self.kwargs))
        return args, kwargs


def module_of(program: fx.GraphModule | ExportedProgram, graph: Graph) -> fx.GraphModule:
    """The module of ``program``.

    Raises:
        GraphError: ``graph`` is not of this program.
    """
    module = program.graph_module if isinstance(program, ExportedProgram) else program
    if tuple(step.node.name for step in steps_of(module.graph)) != graph.labels:
        raise GraphError(f"graph '{graph.name}' is not of this program: its nodes have other names")
    return module


def walk(
    module: fx.GraphModule, values: dict[fx.Node, Any], strides: Callable[[fx.Node, Call], Strides | None]
) -> None:
    """Go through the program: ``strides`` says those of the result that each call really has, None if it cannot.

    Args:
        values: of :func:`values_of`; get these strides, before their readers are gone to.
    """
    for node in module.graph.nodes:
        if node.target is operator.getitem:
            values[node] = values[node.args[0]][node.args[1]]
        elif node.op == "call_function" and takes_memory(node.target):
            found = strides(node, Call.of(node, values))
            if found is not None:
                values[node] = with_strides(values[node], found)


@contextmanager
def undisturbed(values: dict[fx.Node, Any]) -> Iterator[None]:
    """Without autograd and warnings, and with streams of random numbers as before when it is over."""
    leaves = tree_leaves(list(values.values()))
    cuda = {leaf.device.index or 0 for leaf in leaves if isinstance(leaf, Operand) and leaf.device.type == "cuda"}
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(sorted(cuda)))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # the user hears them when the program is run
        yield


def warn_of_failures(operators: Sequence[str], consequence: str) -> None:
    """Put into the log how many calls, of these operators, cannot be run by themselves, and what comes of it."""
    if operators:
        names = sorted(set(operators))
        shown, rest = ", ".join(names[:NAMED_AT_MOST]), ", ..." if len(names) > NAMED_AT_MOST else ""
        LOG.warning("%d calls cannot be run by themselves, %s: %s%s", len(operators), consequence, shown, rest)


def takes_memory(target: Any) -> bool:
    """Whether there is anything to measure: not for arithmetic on sizes, nor for asserts and prints."""
    if isinstance(target, OpOverload):
        return not has_side_effect(target)
    return isinstance(target, HigherOrderOperator)


def values_of(module: fx.GraphModule) -> dict[fx.Node, Any]:
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
            call = Call.of(node, values)
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
            return Operand(size, stride, leaf.dtype, leaf.device, leaf.requires_grad, leaf.is_conj(), leaf.is_neg())
        return fixed(leaf, what) if isinstance(leaf, torch.SymInt | torch.SymFloat | torch.SymBool) else leaf

    return tree_map(described, value)


def strides_of(value: Any) -> Strides:
    return tuple(tuple(leaf.stride()) for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))


def with_strides(value: Any, strides: Strides) -> Any:
    """``value``, described, with other strides; as it is where they do not fit."""
    tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Operand)]
    if [len(tensor.size) for tensor in tensors] != [len(numbers) for numbers in strides]:
        return value
    left: Iterator[tuple[int, ...]] = iter(strides)
    return tree_map_only(Operand, lambda tensor: replace(tensor, stride=next(left)), value)


def environment(device: torch.device) -> str:
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
        told += [processor(), torch.backends.cpu.get_cpu_capability()]
    return ", ".join(told)
