"""Append to a graph of gradients what happens to them: accumulation, clipping, the optimiser's update."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import fx

from graphs.fx_inputs import storage_key
from topoformer.pytorch.optimizers import Group, Operands, Rule, State
from topoformer.pytorch.step_capture import Gradients
from topoformer.pytorch.step_modules import note_module
from topoformer.pytorch.tidy import placeholders

aten = torch.ops.aten


@dataclass(frozen=True)
class Clipping:
    """What is done to large gradients before the update, as ``torch.nn.utils.clip_grad_norm_`` and such do."""

    norm: float | None = None
    value: float | None = None


@dataclass
class Member:
    """A trained parameter as the optimiser has it."""

    group: Group
    cohort: int  # parameters of one group with as many updates behind them: they share the floats of a step


class Slot(NamedTuple):
    """What an argument stands for that follows the parameters, buffers and batch."""

    kind: str  # "gradient" so far, "state", or "number" of the optimiser
    of: int  # index of the parameter, or of the cohort
    name: str  # in the optimiser's state, or of the number


class StepGraph:
    """Appends calls and arguments to a graph of gradients."""

    def __init__(self, given: Gradients) -> None:
        self.given = given
        self.graph = given.module.graph
        self.slots: list[Slot] = []
        self.donated: list[str] = []  # placeholders that are given away
        self.gradients = list(given.gradients)
        self.owned = _owned(given)
        self.outputs: list[fx.Node] = [given.loss]
        self.last = list(placeholders(self.graph))[-1]
        self.numbers: dict[tuple[int, str], fx.Node] = {}
        self.owner = ""  # path of the module whose parameter the calls are about

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Append one call."""
        node = self.graph.call_function(target, args, kwargs)
        if self.owner:
            note_module(node, self.owner)
        return node

    def accumulate(self, *, to_keep: bool) -> None:
        """Add the gradients to those of earlier batches, which are given away unless they are ``to_keep``."""
        for i, gradient in enumerate(self.gradients):
            if gradient is None:
                continue
            with self.given.mode:
                before = torch.empty_like(self.given.values[i])
            node = self._argument(f"gradient_of_{self.given.parameters[i].name}", before)
            self.slots.append(Slot("gradient", i, ""))
            if not to_keep:
                self.donated.append(node.name)
            self.gradients[i] = self.call(aten.add_.Tensor, node, gradient)
            self.owned[i] = True

    def clip(self, clipping: Clipping) -> None:
        """Scale all gradients to the norm allowed, cut each to the value allowed; the norm becomes an output."""
        there = [i for i, gradient in enumerate(self.gradients) if gradient is not None]
        if clipping.norm is not None and there:
            norms = [self.call(aten.linalg_vector_norm.default, self.gradients[i], 2.0) for i in there]
            total = self.call(aten.linalg_vector_norm.default, self.call(aten.stack.default, norms), 2.0)
            inverse = self.call(aten.reciprocal.default, self.call(aten.add.Tensor, total, 1e-6))
            factor = self.call(aten.mul.Tensor, inverse, clipping.norm)
            factor = self.call(aten.clamp.default, factor, None, 1.0)
            for i in there:
                multiply = aten.mul_.Tensor if self.owned[i] else aten.mul.Tensor
                self._changed(i, self.call(multiply, self.gradients[i], factor))
            self.outputs.append(total)
        if clipping.value is not None:
            for i in there:
                clamp = aten.clamp_.default if self.owned[i] else aten.clamp.default
                self._changed(i, self.call(clamp, self.gradients[i], -clipping.value, clipping.value))

    def _changed(self, index: int, gradient: fx.Node) -> None:
        self.gradients[index], self.owned[index] = gradient, True

    def update(self, rule: Rule, members: Mapping[int, Member], states: Sequence[State]) -> None:
        """Append the optimiser's update.

        Args:
            members: of the parameters that there are gradients of, by their numbers.
            states: of all parameters, made by the rule on fake tensors.
        """
        for i, member in members.items():
            gradient = self.gradients[i]
            assert gradient is not None  # the caller has chosen them so
            tensors = {}
            for name in rule.state_names(member.group):
                tensors[name] = self._argument(f"{name}_of_{self.given.parameters[i].name}", states[i][name])
                self.slots.append(Slot("state", i, name))
            number = partial(self.number, member.cohort)
            complex_ = self.given.values[i].is_complex()
            on = Operands(self.given.parameters[i], gradient, self.owned[i], tensors, number, complex_)
            self.owner = self.given.owners[i]
            rule.emit(self.call, member.group, on)
        self.owner = ""

    def finish(self, *, with_gradients: bool = False) -> fx.GraphModule:
        """The graph with its output: the loss, the norm if there is one, the gradients if they are wanted."""
        outputs: list[Any] = [*self.outputs, *(self.gradients if with_gradients else ())]
        self.graph.output(tuple(outputs))
        self.graph.lint()
        self.given.module.recompile()
        return self.given.module

    def number(self, cohort: int, name: str) -> fx.Node:
        """The argument for one of the floats of a step."""
        key = (cohort, name)
        if key not in self.numbers:
            self.numbers[key] = self._argument(f"{name}_{cohort}", 0.5)
            self.slots.append(Slot("number", cohort, name))
        return self.numbers[key]

    def _argument(self, name: str, value: Any) -> fx.Node:
        with self.graph.inserting_after(self.last):
            self.last = self.graph.placeholder(self.graph._graph_namespace.create_name(name, None))
        self.last.meta["val"] = value
        return self.last


def _owned(given: Gradients) -> list[bool]:
    """Which gradients have memory to themselves that the backward pass has made for them."""
    taken = Counter(storage_key(node.meta["val"]) for node in placeholders(given.module.graph))
    taken.update(storage_key(node.meta["val"]) for node in given.gradients if node is not None)
    return [
        node is not None and taken[storage_key(node.meta["val"])] == 1 and _is_dense(node.meta["val"])
        for node in given.gradients
    ]


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether no two elements of ``tensor`` share memory."""
    return all(step != 0 or count <= 1 for count, step in zip(tensor.shape, tensor.stride(), strict=True))
