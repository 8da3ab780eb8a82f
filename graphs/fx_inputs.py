"""Fake tensors of fixed sizes for what a program gets from outside: arguments, weights, constants.

Two of them that share memory outside share it here too.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from graphs.errors import UnsupportedOp


def storage_key(tensor: torch.Tensor) -> int:
    """The identity of a tensor's memory while the tensor is alive."""
    return int(tensor.untyped_storage()._cdata)


def refuse_unseen(tensor: torch.Tensor, what: str) -> None:
    """Raises UnsupportedOp unless ``tensor`` is plain elements in one storage."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise UnsupportedOp(f"{what} is a {tensor.layout} or quantized or nested tensor, whose memory we cannot see")
    if is_traceable_wrapper_subclass(tensor):
        raise UnsupportedOp(f"{what} is a {type(tensor).__name__}, whose memory we cannot see")


def fixed(size: Any, what: str) -> int:
    """An int, or the hint of a symbolic one."""
    if isinstance(size, int):
        return size
    hint = getattr(size.node, "hint", None)
    if hint is None:
        raise UnsupportedOp(f"{what}: symbolic size {size} has no hint")
    return int(hint)


class FakeInputs:
    """Makes and remembers the fake stand-ins; ``values`` are known values of placeholders, by name."""

    def __init__(self, mode: FakeTensorMode, values: Mapping[str, Any]) -> None:
        self.mode = mode
        self.values = values
        self.memory: dict[int, torch.Tensor] = {}  # key of the outer storage -> fake bytes
        self.outer: list[torch.Tensor] = []  # keeps the keys from being used again

    def of(self, node: fx.Node, module: fx.GraphModule) -> Any:
        """The fake value of a placeholder or get_attr node.

        Raises:
            UnsupportedOp: nothing is known about it, or its memory cannot be seen.
        """
        what = f"{node.op} '{node.name}'"
        if node.op == "get_attr":
            value: Any = module
            for atom in str(node.target).split("."):
                if not hasattr(value, atom):
                    raise UnsupportedOp(f"{what}: the module has no attribute '{node.target}'")
                value = getattr(value, atom)
            if isinstance(value, torch.ScriptObject):
                raise UnsupportedOp(f"{what} is a custom C++ object, whose effects we cannot see")
        elif node.name in self.values:
            value = self.values[node.name]
        elif "val" in node.meta:
            value = node.meta["val"]
        else:
            raise UnsupportedOp(f"{what} has no meta['val']; capture the program with torch.export or make_fx")
        return self._stand_in(value, what)

    def _stand_in(self, value: Any, what: str) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value, what)
        if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            return fixed(value, what)
        if isinstance(value, tuple | list):
            return type(value)(self._stand_in(item, what) for item in value)
        return value

    def _tensor(self, outer: torch.Tensor, what: str) -> torch.Tensor:
        refuse_unseen(outer, what)
        key = storage_key(outer)
        size, stride = ([fixed(s, what) for s in sizes] for sizes in (outer.size(), outer.stride()))
        with self.mode, torch.no_grad():
            if key not in self.memory:
                count = fixed(outer.untyped_storage().nbytes(), what)
                self.memory[key] = torch.empty(count, dtype=torch.uint8, device=outer.device)
                self.outer.append(outer)
            memory = self.memory[key]
            usable = memory.numel() // outer.element_size() * outer.element_size()
            flat = memory[:usable].view(outer.dtype)
            result = flat.as_strided(size, stride, fixed(outer.storage_offset(), what))
            result = result.conj() if outer.is_conj() else result
            result = result._neg_view() if outer.is_neg() else result
            return result.requires_grad_(outer.requires_grad)  # some operators choose their kernels by it
