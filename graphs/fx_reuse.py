"""Let element-wise calls write their result into an argument that is done with, instead of into new memory.

A rewriting that never costs: it is made only where everybody else who reads the argument runs before in every legal
order, so no order is lost, and no step holds more than before. Autograd and functional programs leave many such calls:
they cannot know that nobody will look at the argument again.
"""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from graphs.fx import copied
from graphs.fx_inputs import storage_key
from graphs.fx_operators import draws_random
from graphs.fx_order import RULES
from graphs.fx_trace import Step, Trace, trace
from graphs.graph import Kind

# Element by element too, though their schemas do not say so.
POINTWISE = frozenset(
    f"aten::{name}"
    for name in (
        *("hardtanh_backward", "hardsigmoid_backward", "leaky_relu_backward", "elu_backward", "softplus_backward"),
        *("softshrink_backward", "hardshrink_backward", "hardswish"),
    )
)
# Whose kernels on a CPU have read all that they need of a row before they write to it.
BY_ROWS = ("aten::_softmax_backward_data", "aten::_log_softmax_backward_data")
MOST_STEPS = 20_000  # who runs before whom is kept as a bit a pair


def reuse(module: fx.GraphModule, *, weights: Collection[str] = (), donated: Collection[str] = ()) -> fx.GraphModule:
    """A copy of ``module`` with such calls made in place; results are equal bit for bit, parameters shared.

    Arguments as for :func:`graphs.fx.from_fx`. A program of more than 20,000 calls is given back as it is.

    Raises:
        UnsupportedOp: a call is not understood; names the node.
    """
    result = fx.GraphModule(module, copied(module.graph), type(module).__name__)
    result.meta = dict(module.meta)
    facts = trace(result, weights=weights, donated=donated)
    if len(facts.steps) <= MOST_STEPS:
        _Rewriter(facts).run()
    result.recompile()
    return result


class _Rewriter:
    def __init__(self, facts: Trace) -> None:
        self.facts = facts
        self.before = _ancestors(facts)
        self.home = list(range(len(facts.storages)))  # the storage that each one's contents now live in
        self.readers: list[set[int]] = [set() for _ in facts.storages]
        for i, step in enumerate(facts.steps):
            for tensor in step.reads:
                self.readers[tensor].add(i)
        self.tensor_of = facts.tensor_of

    def run(self) -> None:
        """Change the program's calls, first to last."""
        for index, step in enumerate(self.facts.steps):
            if (call := self._in_place(index, step)) is not None:
                target, kwargs, mine, into = call
                step.node.target = target
                step.node.kwargs = {**step.node.kwargs, **kwargs}
                self._move(mine, into, index)

    def _move(self, mine: int, into: int, index: int) -> None:
        home = self._home(into)
        self.home[mine] = home
        self.readers[home] |= self.readers[mine] | {index}
        if self.facts.storages[mine].kind == Kind.OUTPUT:
            self.facts.storages[home].kind = Kind.OUTPUT

    def _home(self, tensor: int) -> int:
        while self.home[tensor] != tensor:
            tensor = self.home[tensor]
        return tensor

    def _in_place(self, index: int, step: Step) -> tuple[OpOverload, dict[str, Any], int, int] | None:
        """(operator, arguments to add, the storage that is saved, the one to write to) or None."""
        node, target = step.node, step.node.target
        result = self.facts.values[node]
        if not (isinstance(target, OpOverload) and isinstance(result, torch.Tensor) and len(step.writes) == 1):
            return None
        if not _keeps_to_places(target, result) or target._schema.is_mutable or step.changes:
            return None
        if draws_random(target, node.args, dict(node.kwargs)) or not _fills_its_storage(result):
            return None
        for argument, variant, name in _variants(target, node):
            if (into := self._is_free(argument, node, index, result)) is not None:
                return variant, {name: argument} if name else {}, step.writes[0], into
        return None

    def _is_free(self, argument: fx.Node, node: fx.Node, index: int, result: torch.Tensor) -> int | None:
        """The storage of ``argument`` if ``result`` may take its place, else None."""
        value = self.facts.values[argument]
        if not isinstance(value, torch.Tensor) or not _same_form(value, result) or not _fills_its_storage(value):
            return None
        home = self._home(self.tensor_of[storage_key(value)])
        storage = self.facts.storages[home]
        if storage.kind != Kind.TEMPORARY or storage.bytes != result.untyped_storage().nbytes():
            return None
        for other in node.all_input_nodes:
            seen = self.facts.values[other]
            if other is not argument and isinstance(seen, torch.Tensor):
                shared = self._home(self.tensor_of[storage_key(seen)]) == home
                if shared and not (_same_form(seen, value) and seen.storage_offset() == value.storage_offset()):
                    return None
        everybody = self.readers[home] | {storage.writer}
        before = self.before[index]
        return home if all(before >> reader & 1 for reader in everybody if reader != index) else None


def _keeps_to_places(target: OpOverload, result: torch.Tensor) -> bool:
    """Whether no element of the result is written while another one may still read that place of an argument."""
    name = target._schema.name
    if torch.Tag.pointwise in target.tags or name in POINTWISE:
        return True
    return name in BY_ROWS and result.device.type == "cpu"


def _ancestors(facts: Trace) -> list[int]:
    """For each step the set of steps that run before it in every legal order, as bits."""
    before = [0] * len(facts.steps)
    earlier: list[set[int]] = [set(step.uses) for step in facts.steps]
    for rule in RULES:
        for u, v in rule(facts):
            earlier[v].add(u)
    for v, step in enumerate(facts.steps):
        writers = (facts.storages[tensor].writer for tensor in step.reads)
        for u in earlier[v] | {writer for writer in writers if writer >= 0}:
            before[v] |= before[u] | 1 << u
    return before


def _variants(target: OpOverload, node: fx.Node) -> Iterator[tuple[fx.Node, OpOverload, str]]:
    """(argument to write to, operator that does, name under which it takes it or "") for each way to do so."""
    wanted = [(argument.name, str(argument.type)) for argument in target._schema.arguments]
    arguments = [argument for argument in node.args if isinstance(argument, fx.Node)]
    if node.args and node.args[0] in arguments:
        packet = getattr(torch.ops.aten, f"{target._opname}_", None) if target.namespace == "aten" else None
        variant = getattr(packet, target._overloadname, None)
        if variant is not None and _takes(variant) == wanted and torch.Tag.generated not in variant.tags:
            yield arguments[0], variant, ""
    for name in target.overloadpacket.overloads():
        variant = getattr(target.overloadpacket, name)
        out = [a for a in variant._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        if len(out) != 1 or not out[0].kwarg_only or torch.Tag.generated in variant.tags:
            continue
        if [pair for pair in _takes(variant) if pair[0] != out[0].name] == wanted:
            yield from ((argument, variant, out[0].name) for argument in arguments)


def _takes(target: OpOverload) -> list[tuple[str, str]]:
    return [(argument.name, str(argument.type)) for argument in target._schema.arguments]


def _same_form(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(
        one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
        and one.device == other.device
        and one.is_conj() == other.is_conj()
        and one.is_neg() == other.is_neg()
    )


def _fills_its_storage(tensor: torch.Tensor) -> bool:
    """Whether ``tensor`` is all of its storage, each element once."""
    count: int = tensor.numel()
    return bool(count > 0 and count * tensor.element_size() == tensor.untyped_storage().nbytes())
