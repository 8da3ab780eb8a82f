"""Kernels that give a result other memory than their stand-ins without data do: where PyTorch's two sides differ.

Found by running PyTorch's operators both ways, on the samples of its own test database and on views with gaps
(tests/graphs/test_operators.py). An operator that is not here gave equal bytes there.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._pytree import tree_map_only

from graphs.errors import UnsupportedOp

Call = dict[str, Any]  # arguments by name
Sizes = Iterator[tuple[torch.Tensor, int]]  # results with the bytes that their storages really have
SUM = 0  # a mode of embedding_bag

# The stand-in gives an argument back, keeps the gaps of one, or gives one tensor twice; the kernel makes dense ones.
ANEW = (
    "aten::native_dropout",
    "aten::native_channel_shuffle",
    "aten::uniform",
    "aten::_functional_assert_async",
    "aten::_functional_sym_constrain_range",
    "aten::_functional_sym_constrain_range_for_size",
    "aten::mkldnn_rnn_layer_backward",
)


def with_kernel_memory(op: OpOverload, args: tuple[Any, ...], kwargs: Call, result: Any) -> Any:
    """``result``, as fake tensors, with storages such as a real run of the call would give it."""
    writes, name = op._schema.is_mutable, op._schema.name
    if name in ANEW and not writes:
        return tree_map_only(torch.Tensor, torch.clone, result)
    if rule := RULES.get(name):
        for tensor, size in rule(_by_name(op, args, kwargs), result):
            storage = tensor.untyped_storage()
            # What is there already, as an out= argument is, may grow but does not shrink.
            storage.resize_(max(size, storage.nbytes()) if writes else size)
    return result


def _by_name(op: OpOverload, args: tuple[Any, ...], kwargs: Call) -> Call:
    names = [argument.name for argument in op._schema.arguments]
    defaults = {argument.name: argument.default_value for argument in op._schema.arguments}
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}


def check_returned(op: OpOverload, args: tuple[Any, ...], kwargs: Call, result: Any) -> None:
    """Raises UnsupportedOp if the stand-in does not return an argument that the operator promises to return."""
    if not op._schema.is_mutable:
        return
    call = _by_name(op, args, kwargs)
    given = {  # by the name of the alias, "a" in Tensor(a!)
        name: call[argument.name]
        for argument in op._schema.arguments
        if argument.alias_info is not None and isinstance(call[argument.name], torch.Tensor)
        for name in argument.alias_info.before_set
    }
    results = result if isinstance(result, tuple) else (result,)
    for declared, value in zip(op._schema.returns, results, strict=False):
        for name in declared.alias_info.before_set if declared.alias_info is not None else ():
            if name in given and given[name].untyped_storage()._cdata != value.untyped_storage()._cdata:
                raise UnsupportedOp(f"{op} does not return its argument when run without data")


def _unreduced_loss(call: Call, loss: torch.Tensor) -> Sizes:
    """The mean or sum goes to the first element of the memory that held the loss of every element."""
    if call["reduction"]:
        elements = torch.broadcast_shapes(call["self"].shape, call["target"].shape).numel()
        yield loss, max(elements, 1) * loss.element_size()


def _fold(call: Call, image: torch.Tensor) -> Sizes:
    """The image is put together in memory made for the patches."""
    yield image, max(call["self"].numel(), image.numel()) * image.element_size()


def _whole_memory(call: Call, result: torch.Tensor) -> Sizes:
    """A copy of a view in order to change a part of it: the kernel copies all of the memory behind the view.

    Unless elements of the view share memory: then each gets its own, which stand-ins before torch 2.13 do not show.
    """
    view = call["self"]
    size = view.element_size()
    repeats = any(step == 0 and count > 1 for count, step in zip(view.shape, view.stride(), strict=True))
    yield result, view.numel() * size if repeats else view.untyped_storage().nbytes() // size * size


def _periodic_window(call: Call, window: torch.Tensor) -> Sizes:
    """One element at the end is cut off."""
    if call.get("periodic", True) and window.numel() > 1:
        yield window, (window.numel() + 1) * window.element_size()


def _cudnn_attention(call: Call, result: tuple[Any, ...]) -> Sizes:
    """What only the backward pass needs is made on request."""
    if not call["compute_log_sumexp"]:
        yield result[1], 0


def _embedding_bag(call: Call, result: tuple[torch.Tensor, ...]) -> Sizes:
    """The tables kept for the backward pass, on a CPU: one is made an element longer and cut, or not made at all."""
    weight, indices, offsets = call["weight"], call["indices"], call["offsets"]
    if weight.device.type != "cpu":
        return
    _, bag_of_index, bag_size, _ = result
    scales = call["per_sample_weights"]
    fused = (
        call["mode"] == SUM
        and weight.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and weight.stride(1) == 1
        and call["padding_idx"] < 0
        and (scales is None or scales.stride(0) == 1)
    )
    yield bag_of_index, 0 if fused else (indices.numel() + 1) * bag_of_index.element_size()
    yield bag_size, offsets.numel() * bag_size.element_size()


def _embedding_bag_forward_only(call: Call, result: tuple[torch.Tensor, ...]) -> Sizes:
    yield from _embedding_bag(call, result)
    offsets, max_indices = call["offsets"], result[3]
    if offsets.device.type == "cpu" and call["mode"] == SUM:
        yield max_indices, offsets.numel() * max_indices.element_size()


def _recurrent_workspace(call: Call, result: tuple[torch.Tensor, ...]) -> Sizes:
    """What a layer keeps for its backward pass; only oneDNN can tell how much, so it runs once, on zeros."""
    if call["train"]:
        with unset_fake_temporarily(), torch.enable_grad():
            real = {name: torch.zeros(x.shape) if isinstance(x, torch.Tensor) else x for name, x in call.items()}
            _, _, _, workspace = torch.ops.aten.mkldnn_rnn_layer(**real)
        yield result[3], workspace.untyped_storage().nbytes()


RULES: dict[str, Callable[[Call, Any], Sizes]] = {
    "aten::mse_loss": _unreduced_loss,
    "aten::smooth_l1_loss": _unreduced_loss,
    "aten::soft_margin_loss": _unreduced_loss,
    "aten::binary_cross_entropy": _unreduced_loss,
    "aten::col2im": _fold,
    "aten::select_scatter": _whole_memory,
    "aten::slice_scatter": _whole_memory,
    "aten::diagonal_scatter": _whole_memory,
    "aten::kaiser_window": _periodic_window,
    "aten::_scaled_dot_product_cudnn_attention": _cudnn_attention,
    "aten::_embedding_bag": _embedding_bag,
    "aten::mkldnn_rnn_layer": _recurrent_workspace,
    "aten::_embedding_bag_forward_only": _embedding_bag_forward_only,
}
