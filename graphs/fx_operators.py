"""What is known about PyTorch operators beyond their schema: random streams, undeclared writes, what is refused.

Rules look at the schema, the tags and the names of arguments, never at a list of all operators. They are asked about
the kernels that an operator really calls: a composite operator is the sum of these.
"""

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx.node import _side_effectful_functions
from torch.utils._pytree import tree_leaves

from graphs.errors import UnsupportedOp

COMMUNICATION = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "_dtensor", "symm_mem", "fsdp", "streams")
# Flags by which an operator says that it neither draws random numbers nor updates running statistics.
TRAINING_FLAGS = ("train", "training", "use_input_stats", "dropout_p")
RUNNING_STATISTICS = ("running_mean", "running_var")
NEVER_UPDATE = ("backward", "functional", "no_training", "no_update", "elemt")
SCALAR_OPERATORS = "add sub mul truediv floordiv mod pow neg pos abs eq ne lt le gt ge and_ or_ not_ xor lshift rshift"
SCALAR_FUNCTIONS = [
    *(getattr(operator, name) for name in SCALAR_OPERATORS.split()),
    *(getattr(torch, name) for name in dir(torch) if name.startswith("sym_") and callable(getattr(torch, name))),
    *(math.floor, math.ceil, math.trunc, math.sqrt, round, abs, min, max, int, float, bool),
]
SCALAR_IDS = frozenset(map(id, SCALAR_FUNCTIONS))  # by identity: a foreign object's __eq__ may say anything
LARGEST = 1 << 64  # of the numbers that arithmetic on sizes may come to
# Higher-order operators that only run a sub-module under another mode: its kernels are all there is to know.
INLINE = ("wrap_with_set_grad_enabled", "wrap_with_autocast")


def operator_name(target: Any) -> str:
    """The name under which people know an FX target: ``aten.mm.default``, ``torch.relu``, ``cond``."""
    if isinstance(target, OpOverload):
        return str(target)
    module, name = getattr(target, "__module__", None), getattr(target, "__name__", None)
    return (
        f"{module}.{name}" if module and name and not isinstance(target, HigherOrderOperator) else name or str(target)
    )


def refusal(target: Any) -> str | None:
    """Why an order may not move calls of ``target``, or None where we understand it."""
    if isinstance(target, OpOverload):
        if target.namespace in COMMUNICATION:
            return "communicates with other processes or streams; its order is part of a protocol"
        if target.namespace == "quantized" or (target.namespace == "aten" and _quantizes(target._schema.name)):
            return "is about quantized tensors, whose memory we cannot see"
        return None
    if isinstance(target, HigherOrderOperator):
        return None if target.name() in INLINE else "is a higher-order operator, whose body we cannot see"
    if is_scalar_function(target):
        return None
    if isinstance(target, torch._ops.OpOverloadPacket):
        return "has no overload chosen; capture the program with torch.export or make_fx"
    return "is a Python function without an operator schema; capture the program with torch.export or make_fx"


def _quantizes(name: str) -> bool:
    """Without data such a result looks like a plain tensor of floats."""
    return "quantize" in name and "fake_quantize" not in name


def is_scalar_function(target: Any) -> bool:
    """Whether ``target`` is arithmetic on sizes, such as ``operator.mul`` or ``torch.sym_max``.

    A closed list: a program file may name any Python function, and these are the ones that get called.
    """
    return id(target) in SCALAR_IDS


def scalar(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of arithmetic on sizes.

    Raises:
        UnsupportedOp: an argument is not a number, or a result too large: a program file could ask for any work.
    """
    values = tree_leaves(args) if target is torch.sym_sum else [*args, *kwargs.values()]
    if bad := [value for value in values if not isinstance(value, int | float | complex | None)]:
        raise UnsupportedOp(f"{operator_name(target)} takes a {type(bad[0]).__name__} where sizes are numbers")
    if target in (operator.pow, operator.lshift) and all(isinstance(value, int) for value in values):
        base, exponent = values
        if abs(base) > (target is operator.pow) and exponent > LARGEST.bit_length():
            raise UnsupportedOp(f"{operator_name(target)} comes to more than 2**64")
    result = target(*args, **kwargs)
    if isinstance(result, int) and abs(result) > LARGEST:
        raise UnsupportedOp(f"{operator_name(target)} comes to more than 2**64")
    return result


def draws_random(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this call takes numbers from a random stream."""
    if torch.Tag.nondeterministic_seeded not in op.tags:
        return False
    return not _switched_off(op, args, kwargs)


def written_arguments(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """Values of the arguments whose memory this call changes: declared by the schema, or known to be changed.

    Batch and instance norm update ``running_mean`` and ``running_var`` while training, which several of their schemas
    keep to themselves.
    """
    updates = not any(word in op._schema.name for word in NEVER_UPDATE) and not _switched_off(op, args, kwargs)
    for name, value, declared in _arguments(op, args, kwargs):
        if declared or (updates and name in RUNNING_STATISTICS):
            yield value


def has_side_effect(op: OpOverload) -> bool:
    """Whether a call does something that neither its result nor a written argument shows: an assert, a print."""
    schema = op._schema
    return op in _side_effectful_functions or (not schema.returns and not schema.is_mutable)


def _switched_off(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the schema has training flags and all are off: False, or a dropout probability of 0 (None is not)."""
    flags = [value for name, value, _ in _arguments(op, args, kwargs) if name in TRAINING_FLAGS]
    return bool(flags) and all(flag is not None and not flag for flag in flags)


def _arguments(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """(name, value, whether the schema declares a write) of every argument, defaults included."""
    for position, argument in enumerate(op._schema.arguments):
        positional = not argument.kwarg_only and position < len(args)
        value = args[position] if positional else kwargs.get(argument.name, argument.default_value)
        alias = argument.alias_info
        yield argument.name, value, alias is not None and alias.is_write


def inlined(target: HigherOrderOperator, args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...], Any]:
    """A mode-changing higher-order call as (sub-module, its arguments, the context manager to run it under)."""
    if target.name() == "wrap_with_set_grad_enabled":
        enabled, module, *rest = args
        return module, tuple(rest), torch.set_grad_enabled(enabled)
    if target.name() == "wrap_with_autocast":
        device, dtype, enabled, cache, module, *rest = args
        return module, tuple(rest), torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=cache)
    raise UnsupportedOp(f"'{target.name()}' is a higher-order operator, whose body we cannot see")
