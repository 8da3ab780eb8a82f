"""What a kernel computes and moves, from its arguments and results: the facts of the latency model."""

from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from graphs import fx_operators as knowledge
from graphs.fx_inputs import storage_key

# Of their first argument they read no more elements than they give back: tables.
LOOKUPS = frozenset(
    [
        "embedding",
        "embedding_bag",
        "gather",
        "index",
        "index_select",
        "_index_put_impl_",
        "take",
        "_unsafe_index",
        "slice_scatter",
    ]
)


@dataclass
class Work:
    """Work of the kernels under one call.

    ``flops`` are those of PyTorch's own flop counter: matrix products, convolutions and attention; others count 0.
    ``moved`` bytes are the elements of every kernel's arguments and results, each element once, repeats by a stride
    of 0 left out; kernels that only look at memory in another way, or only allocate it, move none.
    """

    flops: float = 0.0
    moved: int = 0
    dtype: str = ""  # of the first kernel that computes in floating point, else of the first one's result

    def add(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Count one kernel in."""
        if count := flop_registry.get(func._overloadpacket):
            self.flops += float(count(*args, **kwargs, out_val=result))
        taken, given = _tensors((args, kwargs)), _tensors(result)
        written = _tensors(list(knowledge.written_arguments(func, args, kwargs)))
        self._note_dtype([*taken, *given])
        known = {storage_key(tensor) for tensor in taken}
        fresh = [tensor for tensor in given if storage_key(tensor) not in known]
        name = func._schema.name.partition("::")[2]
        if not (fresh or written) or name.startswith(("empty", "new_empty")):
            return
        sizes = [_bytes(tensor) for tensor in taken]
        if name in LOOKUPS and sizes and fresh:
            sizes[0] = min(sizes[0], sum(map(_bytes, fresh)))
        self.moved += sum(sizes) + sum(map(_bytes, [*fresh, *written]))

    def _note_dtype(self, tensors: list[torch.Tensor]) -> None:
        floating = [tensor for tensor in tensors if tensor.dtype.is_floating_point or tensor.dtype.is_complex]
        if not self.dtype and (found := floating or tensors):
            self.dtype = str(found[0].dtype).removeprefix("torch.")


def _tensors(value: Any) -> list[torch.Tensor]:
    leaves = (leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))
    return [leaf for leaf in leaves if leaf.layout == torch.strided]


def _bytes(tensor: torch.Tensor) -> int:
    """Of the elements of ``tensor`` that are different places in memory, at most those of its storage."""
    elements: int = tensor.element_size()
    whole: int = tensor.untyped_storage().nbytes()
    for size, stride in zip(tensor.size(), tensor.stride(), strict=True):
        elements *= int(size) if stride else min(int(size), 1)
    return min(elements, whole)
