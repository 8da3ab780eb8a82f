"""Training loops as one writes them, to hold captured steps against."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

import topoformer
from tests.reality import contents

Loop = Callable[[nn.Module, torch.optim.Optimizer, int, Any], Any]


def bits(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, bytes]:
    """Parameters, buffers and optimiser state, byte for byte."""
    found = {name: contents(tensor) for name, tensor in model.state_dict().items()}
    state = optimizer.state_dict()["state"]
    found |= {f"{i} {key}": contents(value) for i, entry in state.items() for key, value in entry.items()}
    return found


def eager_step(loss_fn: Any, **_: Any) -> Loop:
    """The plain step: forward, backward, update."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, _: int, batch: Any) -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_fn(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def both(
    model: nn.Module,
    loss_fn: Any,
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    batches: Sequence[Any],
    *,
    loop: Loop | None = None,
    **options: Any,
) -> "Pair":
    """Train two copies of ``model`` on ``batches``: captured, and by ``loop`` (default: the plain step)."""
    ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
    optimizers = make_optimizer(ours), make_optimizer(theirs)
    step = topoformer.compile_train_step(ours, loss_fn, optimizers[0], batches[0], seconds=2, **options)
    plain = loop or eager_step(loss_fn)
    losses = []
    for i, batch in enumerate(batches):
        torch.manual_seed(i)
        got = step(batch)
        torch.manual_seed(i)
        losses.append((got, plain(theirs, optimizers[1], i, batch)))
    return Pair(step, ours, theirs, *optimizers, losses)


class Pair:
    """What two training runs have come to."""

    def __init__(self, step: Any, ours: Any, theirs: Any, our_optimizer: Any, optimizer: Any, losses: Any) -> None:
        self.step, self.ours, self.theirs, self.losses = step, ours, theirs, losses
        self.our_optimizer, self.optimizer = our_optimizer, optimizer

    def assert_equal(self) -> "Pair":
        """Losses, parameters, buffers and optimiser state are equal bit for bit."""
        for got, wanted in self.losses:
            assert torch.equal(got, wanted)
        assert bits(self.ours, self.our_optimizer) == bits(self.theirs, self.optimizer)
        return self

    def assert_close(self, **tolerance: float) -> "Pair":
        """They are equal but for rounding."""
        for got, wanted in self.losses:
            torch.testing.assert_close(got, wanted, **tolerance)
        for got, wanted in zip(self.ours.state_dict().values(), self.theirs.state_dict().values(), strict=True):
            torch.testing.assert_close(got, wanted, **tolerance)
        return self
