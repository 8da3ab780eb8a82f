"""Programs to run on a device: exported networks, AOTAutograd's forward and backward graphs, whole training steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch._functorch.aot_autograd import aot_module
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves, tree_map_only

from graphs.models import ZOO
from topoformer.pytorch import capture

TRAINED = ("resnet18", "mobilenet", "transformer", "unet_plus_plus")  # small enough to be captured quickly


class Program(NamedTuple):
    """A module with the inputs to run it on; ``donated``: placeholders that a boxed call gives away."""

    name: str
    module: fx.GraphModule
    inputs: tuple[Any, ...]
    donated: tuple[str, ...] = ()


def sources(device: str) -> dict[str, Callable[[], list[Program]]]:
    """By name, what makes the programs of one network on ``device``."""
    zoo = {name: partial(exported, name, device) for name in ZOO}
    return {**zoo, **{f"{name}_training": partial(trained, name, device) for name in TRAINED}}


def network(name: str, device: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A network of the zoo and its example inputs on ``device``."""
    net, inputs = ZOO[name]()
    return net.to(device), tuple(value.to(device) for value in inputs)


def exported(name: str, device: str) -> list[Program]:
    """The inference program of a network of the zoo."""
    net, inputs = network(name, device)
    return [Program(name, capture(net, inputs).module(), inputs)]


def trained(name: str, device: str) -> list[Program]:
    """A network's AOTAutograd forward and backward graphs and its whole training step."""
    return [*forward_and_backward(name, device), training_step(name, device)]


def forward_and_backward(name: str, device: str) -> list[Program]:
    """AOTAutograd's two graphs of a network in training mode; all that is saved for the second is given away to it."""
    net, inputs = network(name, device)
    made: list[Program] = []

    def recorder(graph: fx.GraphModule, _: Any) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            names = [node.name for node in graph.graph.nodes if node.op == "placeholder"]
            which, donated = (f"{name}_backward", tuple(names)) if made else (f"{name}_forward", ())
            made.append(Program(which, graph, twins(args), donated))
            return graph(*args)

        return call

    result = aot_module(net.train(), fw_compiler=recorder, bw_compiler=recorder)(*inputs)
    loss(result).backward()
    return made


def loss(result: Any) -> torch.Tensor:
    """Something that depends on all of ``result``."""
    return torch.stack([leaf.float().square().mean() for leaf in tree_leaves(result)]).sum()


def training_step(name: str, device: str) -> Program:
    """Forward, backward and an in-place SGD update with momentum, in one graph."""
    net, inputs = network(name, device)
    net.train()
    parameters = {key: value.detach().clone() for key, value in net.named_parameters()}
    buffers = {key: value.detach().clone() for key, value in net.named_buffers()}
    momentum = {key: torch.zeros_like(value) for key, value in parameters.items()}
    given = (parameters, buffers, momentum, inputs)
    flat, spec = torch.utils._pytree.tree_flatten(given)

    def step(*values: Any) -> torch.Tensor:
        parameters, buffers, momentum, inputs = torch.utils._pytree.tree_unflatten(values, spec)
        leaves = {key: value.detach().requires_grad_() for key, value in parameters.items()}
        with torch.enable_grad():
            total = loss(torch.func.functional_call(net, {**leaves, **buffers}, inputs))
            gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        for key, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                momentum[key].mul_(0.9).add_(gradient)
                parameters[key].sub_(momentum[key], alpha=1e-3)
        return total.detach()

    with torch.autograd.set_multithreading_enabled(False):  # the tracer sees what happens in its own thread
        module = make_fx(step)(*tree_map_only(torch.Tensor, torch.clone, flat))
    for node, value in zip(module.graph.find_nodes(op="placeholder"), flat, strict=True):
        node.meta["val"] = value  # make_fx notes shapes only
    return Program(f"{name}_step", module, tuple(flat))


def twins(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies that share memory with each other as the originals do."""
    memory: dict[int, torch.UntypedStorage] = {}

    def twin(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        data = memory.setdefault(storage._cdata, storage.clone())
        made = torch.empty(0, dtype=value.dtype, device=value.device)
        return made.set_(data, value.storage_offset(), value.size(), value.stride())

    return tuple(twin(value.detach()) if isinstance(value, torch.Tensor) else value for value in inputs)
