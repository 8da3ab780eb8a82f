"""Programs as torch.export, AOTAutograd and make_fx give them, for the reality law."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch._dynamo.backends.common import aot_autograd

from tests.reality import Case, exported, module, rand, traced, twins


def convolution() -> Case:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, stride=2)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = F.relu(self.norm(self.left(x)), inplace=True)
            b = F.silu(self.right(x), inplace=True)
            pooled = [F.adaptive_avg_pool2d(y, 1).flatten(1) for y in (a, b)]
            return self.head(torch.cat(pooled, 1)) + F.max_pool2d(a, 2).mean()

    return exported(module(Net).eval(), rand(2, 3, 12, 12))


def attention() -> Case:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out, self.norm = nn.Linear(16, 48), nn.Linear(16, 16), nn.LayerNorm(16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            heads = [t.unflatten(-1, (4, 4)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1)]
            fused = F.scaled_dot_product_attention(*heads)
            plain = torch.softmax(heads[0] @ heads[1].mT / 2, -1) @ heads[2]
            return x + self.out((fused + plain).transpose(1, 2).flatten(2))

    return exported(module(Net).eval(), rand(2, 6, 16))


def batch_norm_module() -> Case:
    net = module(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(0.3)))
    return exported(net.train(), rand(2, 2, 7, 7))


def embedding() -> Case:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.places = nn.Embedding(11, 8), nn.Embedding(5, 8)
            self.register_buffer("steps", torch.arange(5))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.table(ids) + self.places(self.steps)
            bag = F.embedding_bag(ids, self.table.weight)
            return x @ self.table.weight.t() + bag.sum()

    return exported(module(Net).eval(), torch.tensor([[1, 2, 3, 4, 0], [5, 6, 7, 10, 9]]))


def mode_regions() -> Case:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = x.exp()
            with torch.no_grad():
                z = y * 2
                z.add_(1)
            with torch.autocast("cpu", enabled=False):
                w = (y * 3).sin()
            return z.sum() + w, y

    return exported(Net(), rand(4, 4))


def symbolic_sizes() -> Case:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = torch.cat([x, x * 2]).reshape(-1, 2)
            return y[: x.shape[0] // 2 + 1] * x.shape[0], x.new_zeros(x.shape[0] + 3) + x.sum()

    return exported(Net(), rand(6, 4), dynamic=({0: torch.export.Dim.AUTO},))


def training_step() -> Case:
    """Forward, backward and in-place optimiser in one graph."""

    def program(x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, momentum: torch.Tensor) -> torch.Tensor:
        parameters = [w.detach().requires_grad_() for w in (w1, w2)]
        with torch.enable_grad():
            loss = (torch.relu(x @ parameters[0]) @ parameters[1]).square().mean()
            gradients = torch.autograd.grad(loss, parameters)
        momentum.mul_(0.9).add_(gradients[0])
        w1.sub_(momentum, alpha=0.1)
        w2.sub_(gradients[1], alpha=0.1)
        return loss

    return traced(program, rand(5, 6), rand(6, 8), rand(8, 3), torch.zeros(6, 8))


def recurrent() -> Case:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.gru = nn.LSTM(4, 5, 2, batch_first=True), nn.GRU(5, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            states, (last, _) = self.lstm(x)
            return self.gru(states)[0], last

    return exported(module(Net).eval(), rand(2, 3, 4))


def transformer_layer() -> Case:
    net = module(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    return exported(net.train(), rand(2, 3, 8))


def embedding_bags() -> Case:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bags = nn.ModuleList(nn.EmbeddingBag(10, 4, mode=mode) for mode in ("sum", "mean", "max"))
            self.bags.append(nn.EmbeddingBag(10, 4, mode="sum", padding_idx=0, include_last_offset=True))

        def forward(self, ids: torch.Tensor, starts: torch.Tensor) -> list[torch.Tensor]:
            return [bag(ids, starts) for bag in self.bags]

    return exported(module(Net), torch.tensor([1, 2, 3, 0, 4]), torch.tensor([0, 2, 5]))


def changed_arguments() -> Case:
    """An argument and a buffer that change, a value returned twice, one that is a view, and one that is an input."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(3))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[Any, ...]:
            early = x.exp()
            self.seen[0].add_(x.sum())
            x.add_(y)
            late = x.cos()
            return early, late, late, late[:1], y, self.seen * 2, x.shape[0]

    return exported(Net(), rand(2, 3), rand(2, 3) + 1)


def backward_graph() -> Case:
    """AOTAutograd's backward pass, called as it is: everything saved for it is given away."""
    calls: list[Case] = []

    def recorder(graph: fx.GraphModule, _: Any) -> Callable[..., Any]:
        def call(*args: torch.Tensor) -> Any:
            names = tuple(node.name for node in graph.graph.nodes if node.op == "placeholder")
            calls.append(Case(graph, tuple(twins(args)), donated=names))
            return graph(*args)

        return call

    net = module(lambda: nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Dropout(0.3), nn.LayerNorm(6), nn.Linear(6, 2)))
    backend = aot_autograd(fw_compiler=recorder, bw_compiler=recorder)
    x = rand(3, 4).requires_grad_()
    F.mse_loss(torch.compile(net.train(), backend=backend)(x), rand(3, 2)).backward()
    assert len(calls) == 2
    return calls[1]


CAPTURES: dict[str, Callable[[], Case]] = {
    make.__name__: make
    for make in (
        convolution,
        attention,
        batch_norm_module,
        embedding,
        mode_regions,
        symbolic_sizes,
        training_step,
        recurrent,
        transformer_layer,
        embedding_bags,
        changed_arguments,
        backward_graph,
    )
}
