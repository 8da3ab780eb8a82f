"""What the tests of our passes inside Inductor have in common."""

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

KERNELS = "reorder_for_compute_comm_overlap_passes"
QUICK: dict[str, Any] = {"seconds": 60.0, "steps": 20_000}  # kernels may have to be compiled
OPERANDS = (torch.randn(16, 64, generator=torch.Generator().manual_seed(0)), torch.eye(64).roll(5, 1))
BETTER = 71  # a seed of `products` for which Inductor's own order is not the best


def products(seed: int, calls: int = 20) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """A program of matrix products of many sizes: Inductor makes a kernel of each and fuses none."""
    choose = random.Random(seed)
    start = choose.choice([8, 16, 32])
    plan = [(*choose.choices(range(-6, 0), k=2), choose.choice([4, 8, 16, 32, 64]), i % 2) for i in range(calls)]

    def program(x: Tensor, w: Tensor) -> list[Tensor]:
        values = [x[:, :start]] * 6
        for one, other, width, add in plan:
            a, b = values[one], values[other]
            most = min(a.shape[1], width)
            added = torch.addmm(a[:, :most], b, w[: b.shape[1], :most]) if add else b @ w[: b.shape[1], :width]
            values.append(added)
        return values[-3:]

    return program


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What our own logger said: PyTorch has others."""
    return [record for record in caplog.records if record.name == "topoformer"]
