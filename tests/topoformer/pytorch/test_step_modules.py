"""Which module each call of a recorded training step belongs to: forward, backward and update."""

from functools import partial

import torch
from torch import nn

import topoformer


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.arms = nn.ModuleDict({"left": nn.Sequential(nn.Linear(6, 6), nn.Tanh()), "right": nn.Linear(6, 6)})

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.arms["left"](x) * self.arms["right"](x)


def step_of(model):
    batch = (torch.randn(3, 6), torch.randn(3, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = topoformer.compile_train_step(model, nn.functional.mse_loss, optimizer, batch, seconds=1.0)
    step(batch)
    return step.schedule.graph


def modules_of(graph, word):
    return {module for op, module in zip(graph.ops, graph.modules, strict=True) if word in op}


def test_forward_backward_and_update_belong_to_the_module_of_the_parameters():
    graph = step_of(Branches())
    linear = {"stem", "arms.left.0", "arms.right"}
    assert modules_of(graph, "aten.addmm") | modules_of(graph, "aten.linear") == linear
    assert modules_of(graph, "tanh_backward") == {"arms.left.1"}
    assert modules_of(graph, "aten.sum") >= linear  # gradients of the three biases
    assert modules_of(graph, "aten.add_") == linear  # momentum and update
    assert modules_of(graph, "mse_loss") == {""}


def test_a_module_that_is_called_twice_has_the_calls_of_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.between = nn.Linear(6, 6), nn.Tanh()

        def forward(self, x):
            return self.shared(self.between(self.shared(x)))

    graph = step_of(Twice())
    forward = [
        m
        for op, m in zip(graph.ops, graph.modules, strict=True)
        if op.startswith(("aten.addmm", "aten.tanh.", "aten.tanh_."))
    ]
    assert forward == ["shared", "between", "shared"]


def test_hooks_of_the_model_stay_as_they_were():
    model, calls = Branches(), []
    model.stem.register_forward_hook(lambda *_: calls.append("own"))
    hooks = partial(lambda m: [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in m.modules()], model)
    before = hooks()
    step_of(model)
    assert hooks() == before


def test_a_module_that_is_registered_twice_keeps_its_weights_and_trains_as_in_the_plain_loop():
    def make():
        torch.manual_seed(7700)
        block = nn.Linear(6, 6)
        model = nn.Sequential(block, nn.Tanh(), block, nn.Linear(6, 6))
        model.alias, model[3].weight = block, block.weight
        return model

    ours, plain = make(), make()
    batch = (torch.randn(3, 6), torch.randn(3, 6))
    step = topoformer.compile_train_step(
        ours, nn.functional.mse_loss, torch.optim.SGD(ours.parameters(), lr=0.1), batch, seconds=1.0
    )
    assert all(type(tensor) is nn.Parameter for tensor in ours.parameters())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(3):
        step(batch)
        optimizer.zero_grad()
        nn.functional.mse_loss(plain(batch[0]), batch[1]).backward()
        optimizer.step()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
