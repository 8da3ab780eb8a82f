"""The benchmark of predicted seconds, on networks small enough for a test."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bench import latency
from topoformer.pytorch.calibrate import measure_device

pytestmark = pytest.mark.usefixtures("one_thread")


def small(width: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU()), (torch.ones(2, width),)


def test_the_table_and_the_lines_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "measure_device", lambda: measure_device(seconds=0.01))
    monkeypatch.setattr("topoformer.pytorch.calibrate.SIDE", {"cpu": 32})
    monkeypatch.setattr("topoformer.pytorch.calibrate.COPIED_BYTES", {"cpu": 1 << 16})
    monkeypatch.setattr("topoformer.pytorch.timing.ROUNDS", 3)
    monkeypatch.setattr(latency, "ZOO", {"narrow": lambda: small(4), "wide": lambda: small(32)})
    out = tmp_path / "latency.jsonl"
    lines = list(latency.table(models=["narrow", "wide"], repeats=2, out=out, system_memory=True))
    assert [line.split()[1] for line in lines if line.startswith(("| narrow", "| wide"))] == ["narrow", "wide"]
    assert [line.split()[1] for line in lines if line.startswith(("| 1 ", "| 2 "))] == ["1", "2"]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["name"], row["repeat"]) for row in rows] == [("narrow", 0), ("narrow", 1), ("wide", 0), ("wide", 1)]
    assert all(row["calls"] == 2 and row["measured_seconds"] > 0 for row in rows)


def test_errors_and_ranks() -> None:
    seconds = {"measured_seconds": 1.0, "wall_seconds": 2.0, "quiet_seconds": None, "runs": 5, "quiet_runs": 0}
    rows = [
        seconds | {"repeat": 0, "predicted_seconds": 0.9, "error": -0.1, "roofline_seconds": 2, "roofline_error": 1.0},
        seconds
        | {"measured_seconds": 2.0, "wall_seconds": 4.0, "repeat": 0, "predicted_seconds": 2.4, "error": 0.2}
        | {"roofline_seconds": 1, "roofline_error": -0.5},
    ]
    lines = list(latency.summary(rows))
    assert lines[3] == "| 1 | 15.0% | 20.0% | 1.000 | 75.0% | 100.0% | -1.000 |"
    assert lines[-1].endswith("with that of other programs: median error 47.5%, largest 55.0%, Spearman 1.000.")


def test_a_number_of_repeats_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"'repeats' must be positive \(got 0\)"):
        list(latency.table(models=[], repeats=0, out=None))
