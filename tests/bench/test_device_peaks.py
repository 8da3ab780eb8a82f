"""The benchmark of real peaks, as far as it runs without an accelerator: storages instead of allocations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.__main__ import main
from bench.device_peaks import measure, rows
from bench.device_programs import Program, forward_and_backward, training_step
from bench.device_runs import in_blocks
from graphs import models
from topoformer.pytorch import capture


def small() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A convolutional network with a branch, small enough to be trained in a test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        left, right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, stride=2)
    pool = nn.AdaptiveAvgPool2d(1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.norm = left, right, nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return pool(self.norm(self.left(x)).relu()) + pool(self.right(x))

    return Net(), (torch.ones(2, 3, 9, 9),)


def agrees(program: Program) -> None:
    result = measure(program, seconds=1.0)
    assert result["storages_that_differ"] == []
    assert [entry["requested"] - entry["predicted"] for entry in result["orders"]] == [0] * 6
    assert all(entry["steps_that_differ"] == 0 for entry in result["orders"])
    assert len(list(rows(result))) == 3


def test_an_exported_network() -> None:
    net, inputs = small()
    agrees(Program("small", capture(net.eval(), inputs).module(), inputs))


@pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd")
def test_training_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.ZOO, "small", small)
    forward, backward = forward_and_backward("small", "cpu")
    assert backward.donated
    assert not forward.donated
    for program in (forward, backward, training_step("small", "cpu")):
        agrees(program)


def test_blocks() -> None:
    assert in_blocks(np.array([0, 1, 512, 513])).tolist() == [0, 512, 512, 1024]


def test_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(models.ZOO, "small", small)
    out = tmp_path / "peaks.json"
    assert main(["device_peaks", "--device", "cpu", "--networks", "small", "--seconds", "1", "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("| small |") == 3
    assert '"storages_that_differ": []' in out.read_text()
