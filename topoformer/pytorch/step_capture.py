"""Forward and backward pass of a model as one aten graph, to which an optimiser's update can be appended.

The model's own Python runs once, on tensors without data, under autograd; what it does to tensors is recorded, changes
in place as such. What would make the recorded step differ from the next call of the Python is refused by name.
"""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import TreeSpec, tree_unflatten

from graphs.errors import UnsupportedOp
from graphs.fx_inputs import refuse_unseen
from graphs.fx_operators import draws_random
from topoformer.pytorch.step_modules import ModuleMarks
from topoformer.pytorch.tidy import placeholders, tidy

LOG = logging.getLogger("topoformer")


@dataclass
class Gradients:
    """Forward and backward as a graph without an output yet; lists are by trained parameter."""

    module: fx.GraphModule
    mode: FakeTensorMode
    loss: fx.Node
    gradients: list[fx.Node | None]  # None: the loss does not depend on it
    parameters: list[fx.Node]
    values: list[torch.Tensor] = field(default_factory=list)  # fake parameters
    owners: list[str] = field(default_factory=list)  # paths of the modules that have the parameters


class Objective(nn.Module):
    """The loss of a batch: ``loss_fn(model(inputs), target)``, or what the model itself returns."""

    def __init__(self, model: nn.Module, loss_fn: Any) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn  # registered, and its parameters with it, if it is a module

    def forward(self, batch: Any) -> torch.Tensor:
        """The loss, a tensor with one element; raises UnsupportedOp if it is something else."""
        if self.loss_fn is None:
            loss = _loss_in(_called(self.model, batch))
        else:
            inputs, target = batch
            loss = self.loss_fn(_called(self.model, inputs), target)
        if not isinstance(loss, torch.Tensor):
            raise UnsupportedOp(f"the loss must be a tensor (got {type(loss).__name__})")
        if loss.numel() != 1:
            raise UnsupportedOp(f"the loss must be a single number (got a tensor of shape {tuple(loss.shape)})")
        if not loss.requires_grad:
            raise UnsupportedOp("the loss does not depend on any parameter that the optimizer trains")
        return loss


def _called(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def _loss_in(result: Any) -> Any:
    if isinstance(result, Mapping) and "loss" in result:
        return result["loss"]
    return getattr(result, "loss", result)


def capture_gradients(
    objective: Objective,
    trained: Mapping[str, torch.Tensor],
    rest: Mapping[str, torch.Tensor],
    leaves: Sequence[Any],
    spec: TreeSpec,
    *,
    divisor: int = 1,
    autocast: tuple[str, torch.dtype] | None = None,
    scaled: bool = False,
) -> Gradients:
    """Record the loss of a batch and its gradients.

    The graph's arguments are ``trained``, ``rest``, the batch's tensors and, if ``scaled``, a factor of the loss.

    Args:
        trained: parameters to differentiate by, by their names in ``objective``.
        rest: its other parameters and its buffers.
        leaves: the batch's values, of which ``spec`` makes the batch; those that are no tensors are constants.
        divisor: of the loss before it is differentiated.
        autocast: device type and dtype under which forward runs.

    Raises:
        UnsupportedOp: the model does not trace, or would not do the same in the next call; says why.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    given = [*trained.values(), *rest.values(), *(x for x in leaves if isinstance(x, torch.Tensor))]
    _refuse_unseen({**trained, **rest})
    fakes = [mode.from_tensor(tensor.detach()) for tensor in given]
    if scaled:
        with mode:
            fakes.append(torch.empty((), device=fakes[0].device if fakes else None))
    t, r = len(trained), len(rest)
    marks = ModuleMarks(objective.model)

    def program(*values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        parameters = [value.detach().requires_grad_() for value in values[:t]]
        tensors = iter(values[t + r :])
        batch = tree_unflatten([next(tensors) if isinstance(x, torch.Tensor) else x for x in leaves], spec)
        members = {**dict(zip(trained, parameters, strict=True)), **dict(zip(rest, values[t : t + r], strict=True))}
        with torch.enable_grad():
            # The tracer turns the cache of casts off: then a weight that is used twice would be cast twice.
            casts = torch.autocast(*autocast, cache_enabled=True) if autocast else nullcontext()
            with casts, marks.forward():
                loss, replaced = _run(objective, {**trained, **rest}, members, batch)
            goal = loss * values[-1] if scaled else loss
            goal = goal / divisor if divisor > 1 else goal
            marks.watch_backward(goal)
            found = torch.autograd.grad(goal.reshape(()), parameters, allow_unused=True)
        for old, new in replaced:
            old.copy_(new.detach())
        return loss.detach(), list(found)

    what = type(objective.model).__name__
    with _refusals(what), _no_frozen_state(objective) as seeded, torch.autograd.set_multithreading_enabled(False):
        module = make_fx(program, tracing_mode="fake", _allow_non_fake_inputs=True, record_stack_traces=True)(*fakes)
    marks.apply(module.graph)
    tidy(module.graph)
    _refuse_replayed_randomness(module.graph, seeded, what)
    return _as_gradients(module, mode, trained, rest)


def _refuse_unseen(members: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in members.items():
        refuse_unseen(tensor, f"'{name.removeprefix('model.')}'")


def _run(
    objective: Objective, originals: Mapping[str, torch.Tensor], members: dict[str, torch.Tensor], batch: Any
) -> tuple[Any, list[tuple[Any, Any]]]:
    """The loss, and buffers that the model put others in the place of, with these others."""
    replaced = []

    def compare(module: nn.Module, _args: Any, _result: Any) -> None:
        for name, buffer in module.named_buffers():
            if name in members and buffer is not members[name]:
                if buffer.shape != members[name].shape or buffer.dtype != members[name].dtype:
                    raise UnsupportedOp(f"buffer '{name.removeprefix('model.')}' changes its shape or type in forward")
                replaced.append((members[name], buffer))

    hook = objective.register_forward_hook(compare)
    try:
        with _in_their_places(objective, {id(originals[name]): member for name, member in members.items()}):
            return objective(batch), replaced
    finally:
        hook.remove()


@contextmanager
def _in_their_places(module: nn.Module, members: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """Other tensors in all the places of ``module``'s own, which are put back: ``members`` has them by these' ids.

    A module that is registered under two names is one module: torch.func.functional_call would not put its own back.
    """
    places = [
        (store, key, tensor)
        for part in module.modules()
        for store in (part._parameters, part._buffers)
        for key, tensor in store.items()
        if tensor is not None and id(tensor) in members
    ]
    try:
        for store, key, tensor in places:
            store[key] = members[id(tensor)]
        yield
    finally:
        for store, key, tensor in places:
            store[key] = tensor


def _as_gradients(
    module: fx.GraphModule, mode: FakeTensorMode, trained: Mapping[str, Any], rest: Mapping[str, Any]
) -> Gradients:
    graph = module.graph
    output = graph.output_node()
    loss, gradients = output.args[0]
    graph.erase_node(output)
    arguments = list(placeholders(graph))
    for node, name in zip(arguments, [*trained, *rest], strict=False):
        node.name = node.target = graph._graph_namespace.create_name(name.removeprefix("model."), None)
    for i, node in enumerate(arguments[len(trained) + len(rest) :]):
        node.name = node.target = graph._graph_namespace.create_name(f"batch_{i}", None)
    parameters = arguments[: len(trained)]
    for name, gradient in zip(trained, gradients, strict=True):
        if gradient is not None and gradient.meta["val"].layout != torch.strided:
            raise UnsupportedOp(f"the gradient of '{name.removeprefix('model.')}' is sparse")
    owners = [name.removeprefix("model.").rpartition(".")[0] for name in trained]
    return Gradients(module, mode, loss, list(gradients), parameters, [node.meta["val"] for node in parameters], owners)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Whatever stops the trace becomes one line."""
    try:
        yield
    except UnsupportedOp:
        raise
    except Exception as error:  # the tracer raises errors of many kinds, and the model any
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
        raise UnsupportedOp(f"the training step of {what} does not trace ({text[:300]})") from error


@contextmanager
def _no_frozen_state(objective: Objective) -> Iterator[list[str]]:
    """Refuse what a recording would freeze: Python's random numbers, tensors kept in attributes; warn of counters.

    Attributes that forward has changed get their old values back. Yields a list to which the names of functions are
    added that set the state of torch's random numbers.
    """
    before = (random.getstate(), _numpy_state())
    attributes = [(module, dict(vars(module))) for module in objective.modules()]
    changed: list[tuple[nn.Module, str, Any, Any]] = []
    try:
        with _watched_seeding() as seeded:
            yield seeded
    finally:
        for module, old in attributes:
            for key, value in list(vars(module).items()):
                if key not in old or value is not old[key]:
                    changed.append((module, key, old.get(key), value))
                    vars(module).update({key: old[key]}) if key in old else vars(module).pop(key)
    if before != (random.getstate(), _numpy_state()):
        raise UnsupportedOp("forward draws from Python's or NumPy's random numbers, which a captured step would repeat")
    for module, name, was, became in changed:
        what = f"attribute '{name}' of a {type(module).__name__}"
        if isinstance(became, FakeTensor):
            raise UnsupportedOp(f"forward keeps a tensor in {what}")
        if isinstance(was, int | float) and isinstance(became, int | float) and was != became:
            LOG.warning("forward changes %s from %s to %s: in captured steps it stays as it is now", what, was, became)


def _numpy_state() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return (name, np.asarray(keys).tobytes(), *rest)


SEEDING = {
    "set_rng_state": (torch, torch.random, torch.cuda, torch.cuda.random),
    "manual_seed": (torch, torch.random, torch.cuda, torch.cuda.random),
}


@contextmanager
def _watched_seeding() -> Iterator[list[str]]:
    called: list[str] = []
    saved = [(place, name, getattr(place, name)) for name, places in SEEDING.items() for place in places]

    def watched(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return function(*args, **kwargs)

        return call

    try:
        for place, name, function in saved:
            setattr(place, name, watched(name, function))
        yield called
    finally:
        for place, name, function in saved:
            setattr(place, name, function)


def _refuse_replayed_randomness(graph: fx.Graph, seeded: Sequence[str], what: str) -> None:
    drawing = (node for node in graph.nodes if isinstance(node.target, OpOverload))
    drawn = next((node for node in drawing if draws_random(node.target, node.args, dict(node.kwargs))), None)
    if seeded and drawn is not None:
        raise UnsupportedOp(
            f"{what} sets the state of the random numbers ({seeded[0]}) and draws from them ('{drawn.name}'), "
            "as activation checkpointing with dropout does; a captured step cannot"
        )
