"""The tensors that a training step works on, where the model and the optimiser keep them.

They are looked up in each step, since ``load_state_dict``, ``to`` and the like put others in their place.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from graphs.errors import UnsupportedOp
from topoformer.pytorch.optimizers import Rule, State
from topoformer.pytorch.step_capture import Objective
from topoformer.pytorch.step_graph import Member

WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)


class Trained:
    """Parameters that an optimiser trains, by their names in the objective, and all other tensors of its modules."""

    def __init__(self, objective: Objective, optimizer: torch.optim.Optimizer) -> None:
        self.objective, self.optimizer = objective, optimizer
        self.modules = list(objective.modules())
        self.places: list[tuple[dict[str, Any], str, torch.Tensor]] = []
        self.trained: dict[str, nn.Parameter] = {}
        self.rest: dict[str, torch.Tensor] = {}
        self.groups: list[int] = []  # index of the optimiser's group, by trained parameter
        self.held: list[int] = []
        self.steps = _StepCounts()
        check_plain(objective)
        self._find()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters."""
        return list(self.trained.values())

    @property
    def device_type(self) -> str:
        """Of the first trained parameter."""
        return next((p.device.type for p in self.parameters), "cpu")

    def refresh(self) -> None:
        """Look everything up again if a tensor was replaced, or the optimiser holds other parameters.

        Raises:
            UnsupportedOp: the optimiser holds a parameter that is of neither the model nor the loss.
        """
        same = all(place.get(key) is tensor for place, key, tensor in self.places)
        if not same or self.held != self._held() or not self._are_plain():
            check_plain(self.objective)
            self._find()

    def _are_plain(self) -> bool:
        return all(
            p.requires_grad and not p._backward_hooks and not p._post_accumulate_grad_hooks
            for p in self.trained.values()
        )

    def _held(self) -> list[int]:
        return [id(p) for group in self.optimizer.param_groups for p in group["params"]]

    def _find(self) -> None:
        self.held = self._held()
        group_of = {id(p): i for i, group in enumerate(self.optimizer.param_groups) for p in group["params"]}
        self.places, self.trained, self.rest, self.groups = [], {}, {}, []
        seen: set[int] = set()
        for prefix, module in self.objective.named_modules():
            for place in (module._parameters, module._buffers):
                for key, tensor in place.items():
                    if tensor is None:
                        continue
                    self.places.append((place, key, tensor))
                    if id(tensor) in seen:
                        continue
                    seen.add(id(tensor))
                    name = f"{prefix}.{key}" if prefix else key
                    if id(tensor) in group_of and tensor.requires_grad:
                        self.trained[name] = tensor
                        self.groups.append(group_of[id(tensor)])
                    else:
                        self.rest[name] = tensor
        for i, group in enumerate(self.optimizer.param_groups):
            for j, parameter in enumerate(group["params"]):
                if id(parameter) not in seen and parameter.requires_grad:
                    what = f"parameter {j} of the optimizer's group {i}, of shape {tuple(parameter.shape)}"
                    text = "belongs neither to the model nor to loss_fn as a module: its gradient cannot be seen"
                    raise UnsupportedOp(f"{what}, {text}")
        if not self.trained:
            raise UnsupportedOp("the optimizer holds no parameter of the model that requires a gradient")

    def form(self, rule: Rule | None) -> Hashable:
        """What a captured step depends on besides the batch: two forms that are equal can share it."""
        tensors = tuple(form_of(t) for t in (*self.trained.values(), *self.rest.values()))
        options = None if rule is None else tuple(rule.form(group) for group in self.optimizer.param_groups)
        modes = tuple(module.training for module in self.modules)
        devices = {"cpu", self.device_type}
        cast = tuple((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in sorted(devices))
        return (tuple(self.trained), tensors, options, modes, cast)

    def cohorts(self, which: Sequence[int]) -> list[int]:
        """For each of the parameters ``which`` the number of its cohort: same group, as many updates behind it."""
        number: dict[tuple[int, int], int] = {}
        parameters = self.parameters
        keys = ((self.groups[i], self.steps.of(self.optimizer.state.get(parameters[i], {}))) for i in which)
        return [number.setdefault(key, len(number)) for key in keys]

    def members(self, which: Sequence[int]) -> dict[int, Member]:
        """The parameters ``which`` as the optimiser has them, by their numbers."""
        groups = self.optimizer.param_groups
        return {i: Member(groups[self.groups[i]], cohort) for i, cohort in zip(which, self.cohorts(which), strict=True)}

    def fake_states(self, rule: Rule, mode: FakeTensorMode, values: Sequence[torch.Tensor]) -> list[State]:
        """The optimiser's state of each trained parameter as tensors without data; called under ``mode``."""
        states = []
        for parameter, group, value in zip(self.parameters, self.groups, values, strict=True):
            state = {
                key: mode.from_tensor(entry) if isinstance(entry, torch.Tensor) else entry
                for key, entry in self.optimizer.state.get(parameter, {}).items()
            }
            rule.begin(value, self.optimizer.param_groups[group], state)
            states.append(state)
        return states

    def begin_update(self, rule: Rule, which: Sequence[int]) -> dict[int, dict[str, float]]:
        """Make missing states of the parameters ``which``; the floats of their next update by cohort.

        Raises:
            ValueError: parameters of one group need different dampening in this step.
        """
        cohorts, parameters = dict(zip(which, self.cohorts(which), strict=True)), self.parameters
        numbers: dict[int, dict[str, float]] = {}
        was_fresh: dict[int, bool] = {}
        for i in which:
            group, state = self.optimizer.param_groups[self.groups[i]], self.optimizer.state[parameters[i]]
            step = self.steps.of(state) + 1
            fresh = rule.begin(parameters[i], group, state)
            if was_fresh.setdefault(cohorts[i], fresh) != fresh and group.get("dampening"):
                name = list(self.trained)[i].removeprefix("model.")
                raise ValueError(f"with dampening, all parameters of a group must start together ('{name}' does not)")
            if cohorts[i] not in numbers:
                numbers[cohorts[i]] = rule.numbers(group, step, fresh=fresh)
        return numbers

    def count_update(self, which: Sequence[int]) -> None:
        """Add 1 to the steps that the optimiser has counted for the parameters ``which``."""
        parameters = self.parameters
        states = (self.optimizer.state[parameters[i]] for i in which)
        self.steps.advance([state["step"] for state in states if "step" in state])


class _StepCounts:
    """How many updates a parameter has had; a counter on a device is read only if somebody else has changed it."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[torch.Tensor, int, int]] = {}

    def of(self, state: State) -> int:
        """The count in an optimiser's state, 0 where there is none."""
        counter = state.get("step")
        if counter is None:
            return 0
        if not isinstance(counter, torch.Tensor):
            return int(counter)
        known = self.known.get(id(counter))
        if known is None or known[0] is not counter or known[1] != counter._version:
            known = self.known[id(counter)] = (counter, counter._version, int(counter.item()))
        return known[2]

    def advance(self, counters: Sequence[torch.Tensor]) -> None:
        """Add 1 to each."""
        if not counters:
            return
        counts = [self.of({"step": counter}) for counter in counters]
        with torch.no_grad():
            torch._foreach_add_(list(counters), 1)
        self.known = {
            id(counter): (counter, counter._version, count + 1) for counter, count in zip(counters, counts, strict=True)
        }


def form_of(tensor: torch.Tensor) -> Hashable:
    """What a program that was captured with this tensor takes for granted of it."""
    return (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)


def check_plain(objective: Objective) -> None:
    """Raises UnsupportedOp for what a captured step would pass by: hooks on parameters, wrappers that communicate."""
    for name, module in objective.named_modules():
        if isinstance(module, WRAPPERS):
            text = f"{type(module).__name__} communicates with other processes or devices in each step"
            raise UnsupportedOp(f"{text}, which cannot be captured")
        for key, parameter in module._parameters.items():
            what = f"parameter '{f'{name}.{key}'.removeprefix('.').removeprefix('model.')}'"
            if isinstance(parameter, nn.parameter.UninitializedTensorMixin):
                raise UnsupportedOp(f"{what} has no shape yet: run the model once before")
            if parameter is not None and (parameter._backward_hooks or parameter._post_accumulate_grad_hooks):
                raise UnsupportedOp(f"{what} has a hook on its gradient, which a captured step would not call")


@contextmanager
def no_autocast() -> Iterator[None]:
    """Run operators as they are: the captured ones have their casts in the graph."""
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
