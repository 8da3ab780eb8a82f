"""The updates of torch.optim's SGD, Adam and AdamW, parameter by parameter, as aten calls in a graph.

Each parameter's update is a few calls of its own, so that a scheduler can run them as soon as the gradient is there;
the hyper-parameters are arguments of the graph, so that they may change from step to step. The calls and their order
are those of ``torch.optim``'s loop over single tensors: results are equal bit for bit. Where the optimiser is ``fused``
it is its kernel, called for one parameter at a time.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import fx

aten = torch.ops.aten
Group = dict[str, Any]  # one of optimizer.param_groups
State = dict[str, Any]  # of one parameter: optimizer.state[parameter]
Form = tuple[Any, ...]  # what decides which calls an update is made of


class Operands(NamedTuple):
    """What one parameter's update works on, as nodes of the graph."""

    parameter: fx.Node
    gradient: fx.Node
    owned: bool  # nothing else lives in the gradient's memory: it may be changed
    state: Mapping[str, fx.Node]
    number: Callable[[str], fx.Node]  # by name, a float that is an argument of the graph
    is_complex: bool


class Rule(Protocol):
    """One optimiser's update."""

    def form(self, group: Group) -> Form:
        """What of a group's options the calls depend on; a change needs a new graph."""

    def state_names(self, group: Group) -> tuple[str, ...]:
        """Names in the parameter's state of the tensors that the calls work on."""

    def begin(self, parameter: torch.Tensor, group: Group, state: State) -> bool:
        """Make what is missing of a parameter's state; whether anything was."""

    def numbers(self, group: Group, step: int, *, fresh: bool) -> dict[str, float]:
        """The floats of the ``step``-th update (from 1) of parameters whose state is ``fresh`` or not."""

    def emit(self, call: Callable[..., fx.Node], group: Group, on: Operands) -> None:
        """Append the update to the graph."""


class SGD:
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD``."""

    def form(self, group: Group) -> Form:
        """As :class:`Rule` says."""
        return (
            group["momentum"] != 0,
            group["weight_decay"] != 0,
            bool(group["nesterov"]),
            bool(group["maximize"]),
            bool(group.get("fused")),
        )

    def state_names(self, group: Group) -> tuple[str, ...]:
        """As :class:`Rule` says."""
        return ("momentum_buffer",) if group["momentum"] != 0 else ()

    def begin(self, parameter: torch.Tensor, group: Group, state: State) -> bool:
        """As :class:`Rule` says. A buffer of zeros, together with no dampening, becomes the first gradient."""
        missing = group["momentum"] != 0 and state.get("momentum_buffer") is None
        if missing:
            state["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return missing

    def numbers(self, group: Group, step: int, *, fresh: bool) -> dict[str, float]:  # noqa: ARG002
        """As :class:`Rule` says."""
        dampening = 0.0 if fresh else float(group["dampening"])
        lr = float(group["lr"])
        return {
            "lr": lr,
            "minus_lr": -lr,
            "weight_decay": float(group["weight_decay"]),
            "momentum": float(group["momentum"]),
            "dampening": dampening,
            "undamped": 1 - dampening,
        }

    def emit(self, call: Callable[..., fx.Node], group: Group, on: Operands) -> None:
        """As :class:`Rule` says."""
        number, buffer = on.number, on.state.get("momentum_buffer")
        if group.get("fused"):
            names = ("weight_decay", "momentum", "lr", "dampening")
            options = {name: number(name) for name in names}
            options |= {name: bool(group[name]) for name in ("nesterov", "maximize")}
            buffers = [] if buffer is None else [buffer]
            call(aten._fused_sgd_.default, [on.parameter], [on.gradient], buffers, **options, is_first_step=False)
            return
        gradient = _decayed(call, group, on, decay=group["weight_decay"] != 0)
        if buffer is not None:
            call(aten.mul_.Scalar, buffer, number("momentum"))
            call(aten.add_.Tensor, buffer, gradient, alpha=number("undamped"))
            gradient = (
                call(aten.add.Tensor, gradient, buffer, alpha=number("momentum")) if group["nesterov"] else buffer
            )
        call(aten.add_.Tensor, on.parameter, gradient, alpha=number("minus_lr"))


class Adam:
    """Adam (Kingma and Ba, 2015), AMSGrad and AdamW (Loshchilov and Hutter, 2019), as ``torch.optim`` has them."""

    def form(self, group: Group) -> Form:
        """As :class:`Rule` says."""
        return (
            group["weight_decay"] != 0,
            bool(group.get("decoupled_weight_decay")),
            bool(group["amsgrad"]),
            bool(group["maximize"]),
            bool(group.get("fused")),
        )

    def state_names(self, group: Group) -> tuple[str, ...]:
        """As :class:`Rule` says."""
        moments = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
        return (*moments, "step") if group.get("fused") else moments

    def begin(self, parameter: torch.Tensor, group: Group, state: State) -> bool:
        """As :class:`Rule` says."""
        missing = "step" not in state
        if missing:
            on_device = group.get("fused") or group.get("capturable")
            dtype = torch.float64 if torch.get_default_dtype() == torch.float64 and not group.get("fused") else None
            place = parameter.device if on_device else "cpu"
            state["step"] = torch.zeros((), dtype=dtype or torch.float32, device=place)
        for name in self.state_names(group):
            if name not in state:
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return missing

    def numbers(self, group: Group, step: int, *, fresh: bool) -> dict[str, float]:  # noqa: ARG002
        """As :class:`Rule` says."""
        lr, (beta1, beta2) = float(group["lr"]), (float(beta) for beta in group["betas"])
        weight_decay = float(group["weight_decay"])
        return {
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "new1": 1 - beta1,
            "new2": 1 - beta2,
            "weight_decay": weight_decay,
            "shrink": 1 - lr * weight_decay,
            "eps": float(group["eps"]),
            "minus_step_size": -(lr / (1 - beta1**step)),
            "correction": (1 - beta2**step) ** 0.5,
        }

    def emit(self, call: Callable[..., fx.Node], group: Group, on: Operands) -> None:
        """As :class:`Rule` says."""
        if group.get("fused"):
            self._emit_fused(call, group, on)
            return
        number, decoupled = on.number, group.get("decoupled_weight_decay")
        decay = group["weight_decay"] != 0
        if decay and decoupled:
            call(aten.mul_.Scalar, on.parameter, number("shrink"))
        gradient = _decayed(call, group, on, decay=decay and not decoupled)
        parameter, state = on.parameter, dict(on.state)
        if on.is_complex:  # moments are those of the real and the imaginary part
            parameter, gradient = (call(aten.view_as_real.default, x) for x in (parameter, gradient))
            state = {name: call(aten.view_as_real.default, x) for name, x in state.items()}
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        call(aten.lerp_.Scalar, mean, gradient, number("new1"))
        call(aten.mul_.Scalar, square, number("beta2"))
        call(aten.addcmul_.default, square, gradient, gradient, value=number("new2"))
        if group["amsgrad"]:
            most = state["max_exp_avg_sq"]
            call(aten.maximum.out, most, square, out=most)
            square = most
        spread = call(aten.div_.Scalar, call(aten.sqrt.default, square), number("correction"))
        call(aten.add_.Scalar, spread, number("eps"))
        call(aten.addcdiv_.default, parameter, mean, spread, value=number("minus_step_size"))

    def _emit_fused(self, call: Callable[..., fx.Node], group: Group, on: Operands) -> None:
        decoupled = group.get("decoupled_weight_decay")
        kernel = aten._fused_adamw_.default if decoupled else aten._fused_adam_.default
        options = {name: on.number(name) for name in ("lr", "beta1", "beta2", "weight_decay", "eps")}
        options |= {name: bool(group[name]) for name in ("amsgrad", "maximize")}
        state = [[on.state[name]] if name in on.state else [] for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")]
        call(kernel, [on.parameter], [on.gradient], *state, [on.state["step"]], **options)


def _decayed(call: Callable[..., fx.Node], group: Group, on: Operands, *, decay: bool) -> fx.Node:
    """The gradient of what is minimised, weight decay included; in its own memory where nobody else is there."""
    gradient, owned = on.gradient, on.owned
    if group["maximize"]:
        gradient, owned = call(aten.neg_.default if owned else aten.neg.default, gradient), True
    if decay:
        add = aten.add_.Tensor if owned else aten.add.Tensor
        gradient = call(add, gradient, on.parameter, alpha=on.number("weight_decay"))
    return gradient


RULES: dict[type[torch.optim.Optimizer], Rule] = {
    torch.optim.SGD: SGD(),
    torch.optim.Adam: Adam(),
    torch.optim.AdamW: Adam(),
}


def rule_of(optimizer: torch.optim.Optimizer) -> tuple[Rule | None, str]:
    """The rule of ``optimizer``, or None and why its update cannot be part of a graph."""
    kind = type(optimizer)
    name = f"{kind.__module__}.{kind.__qualname__}" if not kind.__module__.startswith("torch.") else kind.__name__
    if kind not in RULES:
        return None, f"{name} is not one of {', '.join(known.__name__ for known in RULES)}"
    if any(group.get("differentiable") for group in optimizer.param_groups):
        return None, f"{name} has differentiable=True"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return None, f"{name} has hooks on its step"
    return RULES[kind], ""
