"""Whole training steps as one program: forward, backward and the optimiser's update, ordered for lower peak memory.

A gradient can be consumed the moment it exists: then the peak no longer holds all gradients beside the activations.
For that the update has to be part of the graph, in place, and what runs the graph has to free what is used up.
"""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import TreeSpec, tree_flatten

from graphs.errors import UnsupportedOp
from topoformer.cache import ScheduleCache
from topoformer.pytorch.optimizers import Rule, rule_of
from topoformer.pytorch.ordering import Boxed, Ordered, Search, boxed, ordered
from topoformer.pytorch.step_capture import Objective, capture_gradients
from topoformer.pytorch.step_graph import Clipping, Slot, StepGraph
from topoformer.pytorch.step_state import Trained, form_of, no_autocast
from topoformer.scheduling import Schedule, Scheduler
from topoformer.text import schedule_line

LOG = logging.getLogger("topoformer")
MOST_PLANS = 16  # of one step: captured for other shapes, modes and options


def compile_train_step(
    model: nn.Module,
    loss_fn: Any,
    optimizer: torch.optim.Optimizer,
    example_batch: Any,
    *,
    method: str | Scheduler = "auto",
    seconds: float = 10.0,
    seed: int = 0,
    steps: int | None = None,
    memory_limit: int | str | None = None,
    cache: ScheduleCache | None = None,
    autocast: torch.dtype | None = None,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    max_grad_value: float | None = None,
    scaler: "torch.amp.GradScaler | None" = None,
    rewrite: bool = True,
) -> "TrainStep":
    """A function that takes a batch, does one training step on it, and returns the loss.

    ``step(batch)`` does what these lines do, with the same parameters, buffers and optimiser state, which stay where
    they are: ``state_dict()``, ``load_state_dict()`` and learning-rate schedulers work as before::

        optimizer.zero_grad()
        loss = loss_fn(model(inputs), target)  # inputs, target = batch
        loss.backward()
        optimizer.step()

    Args:
        model: not changed now; each step trains it.
        loss_fn: a function or module of the model's output and the target; None if the model returns the loss itself
            (a tensor, or something with a ``loss``), with the whole batch as its input.
        optimizer: ``SGD``, ``Adam`` or ``AdamW`` of ``torch.optim``, in any of their variants. Another one, or one
            with hooks, is called as it is once the gradients are there, which gains less memory.
        example_batch: ``(inputs, target)``; inputs are a tensor, a tuple, or a dictionary of keyword arguments.
        method, seconds, seed, steps, memory_limit, cache: as for :func:`topoformer.schedule`.
        autocast: run model and loss under ``torch.autocast`` with this dtype.
        accumulate: number of batches whose mean gradient makes one update; until then it is in ``parameter.grad``.
        max_grad_norm, max_grad_value: clip as ``clip_grad_norm_`` and ``clip_grad_value_`` of ``torch.nn.utils`` do.
        scaler: scales the loss, skips updates that are not finite; it has to see all gradients before any is used.
        rewrite: besides ordering it, let element-wise operators write into an argument that is done with, and compute
            the two gradients of a convolution one by one. Results are equal bit for bit, peaks lower.

    Raises:
        UnsupportedOp: the step cannot be captured such that it would do the same; one line that says why.
        MemoryLimitError: no order can keep within ``memory_limit``, or none was found that does.
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import torch, topoformer
        >>> model, batch = torch.nn.Linear(3, 1), (torch.ones(2, 3), torch.zeros(2, 1))
        >>> step = topoformer.compile_train_step(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters()), batch)
        >>> step(batch) > step(batch)
        tensor(True)
    """
    _check_arguments(model, optimizer, loss_fn, example_batch)
    options = _Options(accumulate, autocast, Clipping(max_grad_norm, max_grad_value), scaler)
    search = Search(method, seconds, seed, steps, memory_limit, rewrite, cache)
    return _prepared(TrainStep(model, loss_fn, optimizer, search, options), example_batch)


def _prepared(step: "TrainStep", batch: Any) -> "TrainStep":
    step.prepare(batch)
    return step


@dataclass(frozen=True)
class _Options:
    accumulate: int
    autocast: torch.dtype | None
    clipping: Clipping
    scaler: Any

    def __post_init__(self) -> None:
        if isinstance(self.accumulate, bool) or not isinstance(self.accumulate, int) or self.accumulate < 1:
            raise ValueError(f"'accumulate' must be a positive integer (got {self.accumulate})")
        for name, value in (("max_grad_norm", self.clipping.norm), ("max_grad_value", self.clipping.value)):
            if value is not None and not value > 0:
                raise ValueError(f"'{name}' must be positive (got {value})")
        dtype = self.autocast
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise TypeError(f"'autocast' must be a floating-point torch.dtype (got {dtype!r})")


@dataclass
class _Plan:
    """A captured step for batches of one form, in its order."""

    call: Boxed
    ordered: Ordered
    slots: list[Slot]
    with_gradient: list[int]  # indices of the trained parameters that the loss depends on
    cohorts: list[int]  # of these
    state_forms: list[Hashable]  # of the slots that are state
    returns_gradients: bool


class TrainStep:
    """One training step as a function of a batch; made by :func:`compile_train_step`.

    The model's Python runs once, when the step is captured. A batch of other shapes, ``model.eval()``, or an option of
    the optimiser that turns something on or off, lead to a new capture; learning rates and the like are read each time.
    ``grad_norm`` is that of the last update before it was clipped, float32[]; None without ``max_grad_norm``.

    Example:
        >>> import torch
        >>> from topoformer import compile_train_step
        >>> model, batch = torch.nn.Linear(3, 1), (torch.ones(2, 3), torch.zeros(2, 1))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> step = compile_train_step(model, torch.nn.functional.mse_loss, sgd, batch, seconds=1, max_grad_norm=1.0)
        >>> step.captures, step.schedule.proven_optimal, step.schedule.cost.resident_bytes  # weights and batch
        (1, True, 48)
        >>> loss = step((torch.ones(5, 3), torch.zeros(5, 1)))  # captured anew
        >>> step.captures, loss.requires_grad, step.grad_norm.shape
        (2, False, torch.Size([]))
    """

    def __init__(
        self, model: nn.Module, loss_fn: Any, optimizer: torch.optim.Optimizer, search: Search, options: _Options
    ) -> None:
        model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
        self._objective = Objective(model, loss_fn)
        self._optimizer, self._search, self._options = optimizer, search, options
        self._trained = Trained(self._objective, optimizer)
        self._plans: dict[Hashable, list[_Plan]] = {}
        self._done = 0  # batches since the last update
        self._plan: _Plan | None = None
        self.grad_norm: torch.Tensor | None = None  # of the last update, before clipping; None without max_grad_norm

    @property
    def schedule(self) -> Schedule:
        """Of the program that was run or captured last: peaks, bound, order, what is alive at the peak.

        What is resident are parameters, buffers, optimiser state and the batch.
        """
        return self._latest.ordered.schedule

    @property
    def program(self) -> torch.fx.GraphModule:
        """The program that was run or captured last, in its order; its arguments come in a list."""
        return self._latest.ordered.module

    @property
    def _latest(self) -> _Plan:
        assert self._plan is not None  # compile_train_step has prepared one
        return self._plan

    def prepare(self, batch: Any) -> None:
        """Capture and order the step for batches like this one, without running it.

        Raises:
            UnsupportedOp: it cannot be captured; says why.
        """
        self._plan_for(batch)

    def __call__(self, batch: Any) -> torch.Tensor:
        """Do one step on ``batch``; returns the loss, detached.

        Raises:
            UnsupportedOp: the batch has a form for which the step cannot be captured.
            ValueError: parameters or optimiser state are not what they were when it was captured.
        """
        plan, leaves = self._plan_for(batch)
        if self._done == 0:
            self._begin_gradients(plan)
        arguments = self._arguments(plan, leaves)
        # Some kernels keep what their backward pass needs only where gradients are on; no argument asks for any.
        with torch.enable_grad(), no_autocast():
            loss, *rest = plan.call(arguments)
        self._done = (self._done + 1) % self._options.accumulate
        if plan.returns_gradients:
            for i, gradient in enumerate(rest):
                self._trained.parameters[i].grad = gradient
        if self._done == 0:
            if self._rule is None:
                self._update_by_itself()
            elif self._options.clipping.norm is not None:
                self.grad_norm = rest[0]
            self._optimizer._opt_called = True  # learning-rate schedulers ask whether there was a step before theirs
        result: torch.Tensor = loss
        return result

    @property
    def _rule(self) -> Rule | None:
        return None if self._options.scaler is not None else rule_of(self._optimizer)[0]

    @property
    def _is_last(self) -> bool:
        return self._done + 1 == self._options.accumulate

    def _plan_for(self, batch: Any) -> tuple[_Plan, list[Any]]:
        leaves, spec = tree_flatten(batch)
        self._trained.refresh()
        key = (self._is_last, self._rule is None, self._trained.form(self._rule), _form_of_batch(leaves, spec))
        for plan in self._plans.get(key, ()):
            if plan.cohorts == self._cohorts(plan.with_gradient):
                self._plan = plan
                return plan, leaves
        if self.captures >= MOST_PLANS:
            raise UnsupportedOp(
                f"the step has been captured for {MOST_PLANS} forms of batches and options, and this is one more; "
                "give batches few shapes, by padding say"
            )
        self._plan = self._captured(leaves, spec)
        self._plans.setdefault(key, []).append(self._plan)
        return self._plan, leaves

    @property
    def captures(self) -> int:
        """For how many forms of batches, modes and options the step has been captured."""
        return sum(len(plans) for plans in self._plans.values())

    def _cohorts(self, which: list[int]) -> list[int]:
        return [] if self._rule is None or not self._is_last else self._trained.cohorts(which)

    def _captured(self, leaves: list[Any], spec: TreeSpec) -> _Plan:
        options, trained, rule = self._options, self._trained, self._rule
        _check_batch(leaves)
        device = trained.device_type
        given = capture_gradients(
            self._objective,
            trained.trained,
            trained.rest,
            leaves,
            spec,
            divisor=options.accumulate,
            autocast=None if options.autocast is None else (device, options.autocast),
            scaled=options.scaler is not None,
        )
        graph = StepGraph(given)
        there = [i for i, gradient in enumerate(given.gradients) if gradient is not None]
        updates = self._is_last and rule is not None
        if options.accumulate > 1:
            graph.accumulate(to_keep=not updates)
        if updates and rule is not None:
            graph.clip(options.clipping)
            with given.mode:
                states = trained.fake_states(rule, given.mode, given.values)
            graph.update(rule, trained.members(there), states)
        else:
            self._log_reason()
        returns = rule is None and options.accumulate == 1
        module = graph.finish(with_gradients=returns)
        names = [node.name for node in module.graph.find_nodes(op="placeholder")]
        resident = [name for name in names if not name.startswith("batch_") and name not in graph.donated]
        with no_autocast():
            found = ordered(
                module,
                self._search,
                name=f"{type(self._objective.model).__name__}_step",
                weights=resident,
                donated=graph.donated,
            )
        values = dict(zip(names, (node.meta["val"] for node in module.graph.find_nodes(op="placeholder")), strict=True))
        tail = names[len(names) - len(graph.slots) :]
        forms = [form_of(values[name]) for name, slot in zip(tail, graph.slots, strict=True) if slot.kind == "state"]
        LOG.info("%s", schedule_line(found.schedule))
        return _Plan(boxed(found.module), found, graph.slots, there, self._cohorts(there), forms, returns)

    def _log_reason(self) -> None:
        reason = "a scaler decides" if self._options.scaler is not None else rule_of(self._optimizer)[1]
        if reason and self._is_last:
            LOG.warning("the optimizer's update stays outside the captured step, which gains less memory: %s", reason)

    def _begin_gradients(self, plan: _Plan) -> None:
        """What ``zero_grad`` does; zeros where gradients will be added to."""
        for parameter in self._trained.parameters:
            parameter.grad = None
        if self._options.accumulate > 1:
            for i in plan.with_gradient:
                self._trained.parameters[i].grad = torch.zeros_like(self._trained.parameters[i])

    def _arguments(self, plan: _Plan, leaves: list[Any]) -> list[Any]:
        trained = self._trained
        batch = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        arguments: list[Any] = [*trained.trained.values(), *trained.rest.values(), *batch]
        if self._options.scaler is not None:
            arguments.append(self._options.scaler.scale(torch.ones((), device=trained.parameters[0].device)))
        numbers: dict[int, dict[str, float]] = {}
        if self._rule is not None and self._is_last:
            numbers = trained.begin_update(self._rule, plan.with_gradient)
        parameters, forms = trained.parameters, iter(plan.state_forms)
        for kind, index, name in plan.slots:
            if kind == "number":
                arguments.append(numbers[index][name])
            elif kind == "gradient":
                arguments.append(parameters[index].grad)
            else:
                value = self._optimizer.state[parameters[index]][name]
                if form_of(value) != next(forms):
                    where = list(trained.trained)[index].removeprefix("model.")
                    raise ValueError(
                        f"the optimizer's state '{name}' of '{where}' has another shape or type than before"
                    )
                arguments.append(value)
        if self._rule is not None and self._is_last:
            trained.count_update(plan.with_gradient)
            for parameter in parameters:  # the list is the only one to hold them: they are freed when they are used up
                parameter.grad = None
        return [value.detach() if isinstance(value, torch.Tensor) else value for value in arguments]

    def _update_by_itself(self) -> None:
        """Clip and step as one would without us."""
        clipping, scaler, parameters = self._options.clipping, self._options.scaler, self._trained.parameters
        if scaler is not None and (clipping.norm is not None or clipping.value is not None):
            scaler.unscale_(self._optimizer)
        if clipping.norm is not None:
            self.grad_norm = torch.nn.utils.clip_grad_norm_(parameters, clipping.norm)
        if clipping.value is not None:
            torch.nn.utils.clip_grad_value_(parameters, clipping.value)
        if scaler is not None:
            scaler.step(self._optimizer)
            scaler.update()
        else:
            self._optimizer.step()
        for parameter in parameters:
            parameter.grad = None


def _check_arguments(model: Any, optimizer: Any, loss_fn: Any, batch: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"'model' must be a torch.nn.Module (got {type(model).__name__})")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"'optimizer' must be a torch.optim.Optimizer (got {type(optimizer).__name__})")
    closure = signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise UnsupportedOp(f"{type(optimizer).__name__} needs a closure, to compute the loss several times in a step")
    if loss_fn is not None and not callable(loss_fn):
        raise TypeError(
            f"'loss_fn' must be callable, or None if the model returns the loss (got {type(loss_fn).__name__})"
        )
    if loss_fn is not None and not (isinstance(batch, tuple | list) and len(batch) == 2):
        found = f"a {type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__
        raise TypeError(f"'example_batch' must be (inputs, target) where there is a loss_fn (got {found})")


def _check_batch(leaves: Sequence[Any]) -> None:
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
            raise UnsupportedOp("a tensor of the batch requires a gradient, which a captured step would not give it")


def _form_of_batch(leaves: Sequence[Any], spec: TreeSpec) -> Hashable:
    forms: list[Hashable] = []
    memory: dict[int, int] = {}
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            shared = memory.setdefault(leaf.untyped_storage()._cdata, len(memory))
            forms.append((form_of(leaf), leaf.storage_offset(), leaf.requires_grad, shared))
        else:
            forms.append(_constant(leaf))
    return (tuple(forms), spec)


def _constant(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"the batch holds a {type(value).__name__}, which is neither a tensor nor a constant") from None
    constant: Hashable = (type(value), value)
    return constant
