"""Forward and backward of a network as one graph, its gradients returned to the caller: no optimiser in it."""

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves

from graphs import Graph
from graphs.fx import from_fx
from topoformer.pytorch.step_capture import Objective, capture_gradients
from topoformer.pytorch.step_graph import StepGraph


def joint_graph(model: nn.Module, inputs: tuple[Any, ...], *, name: str) -> Graph:
    """The graph of the sum of the outputs of ``model`` and of its derivatives by every parameter."""
    objective = Objective(model.train(), _total)
    trained, rest = dict(objective.named_parameters()), dict(objective.named_buffers())
    leaves, spec = tree_flatten((inputs, None))
    module = StepGraph(capture_gradients(objective, trained, rest, leaves, spec)).finish(with_gradients=True)
    names = [node.name for node in module.graph.find_nodes(op="placeholder")]
    return from_fx(module, name=name, weights=names[: len(trained) + len(rest)])


def _total(outputs: Any, _: None) -> torch.Tensor:
    floating = [leaf for leaf in tree_leaves(outputs) if leaf.is_floating_point()]
    return torch.stack([leaf.float().sum() for leaf in floating]).sum()
