"""The command line on programs that can be run: --verify, --measure-scratch and --memory-limit."""

import gzip
import json
import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import graphs
from graphs.pt2 import load_pt2, save_pt2
from tests.topoformer.test_cli import SCHEDULE_KEYS, command, refused
from topoformer import capture
from topoformer.cli import main

HERE = "tests.topoformer.test_cli_programs"
MEASURED = {"predicted_storage_bytes", "storage_bytes", "allocated_bytes", "predicted_allocated_bytes"}


@torch.library.custom_op("topoformer_cli_tests::larger", mutates_args=())
def larger(x: torch.Tensor) -> torch.Tensor:
    """Its result has twice the memory that its stand-in says."""
    print("larger was here")
    return torch.cat([x, x])[: len(x)]


@larger.register_fake
def _larger_fake(x):
    return torch.empty_like(x)


@torch.library.custom_op("topoformer_cli_tests::impatient", mutates_args=())
def impatient(x: torch.Tensor) -> torch.Tensor:
    raise KeyboardInterrupt


@impatient.register_fake
def _impatient_fake(x):
    return torch.empty_like(x)


class Branches(nn.Module):
    """Keeps wide tensors longer than it must, and a convolution takes a workspace."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        wide = [x.repeat(1, 1, 2, 2) * k for k in (1.0, 2.0, 3.0)]
        small = [w.mean(dim=(2, 3), keepdim=True) for w in wide]
        return F.dropout(self.conv(x) + small[0] + small[1] + small[2], 0.5)


class Calls(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.op = op

    def forward(self, x):
        return self.op(x + 1) * 2


def branches():
    torch.manual_seed(0)
    return Branches(), torch.rand(1, 8, 32, 32)


def meta():
    with torch.device("meta"):
        return branches()


def liar():
    return Calls(torch.ops.topoformer_cli_tests.larger), torch.ones(1000)


def interrupted():
    return Calls(torch.ops.topoformer_cli_tests.impatient), torch.ones(1000)


class Table(nn.Module):
    def forward(self, x, table):
        return F.embedding(x, table)


def failing():
    return Table(), (torch.tensor([7]), torch.ones(3, 2))


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """One thread, and a cache directory of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(capfd):
    """``run(factory or file, *options)`` in this process: exit code, stdout, stderr; also what C libraries print."""

    def call(source, *options):
        name = f"{HERE}:{source.__name__}" if callable(source) else str(source)
        code = main(["schedule", name, "--method", "lpmf", *map(str, options)])
        return code, *capfd.readouterr()

    return call


# ---------------------------------------------------------------- --verify


def test_verify_says_what_was_measured(run):
    code, out, err = run(branches, "--verify")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    at = lines.index("run for real:")
    assert [line.split("  ")[1] for line in lines[at + 2 :]] == ["program order", "new order", "outputs"]
    assert [line.endswith("  storages as predicted") for line in lines[at + 2 : -1]] == [True, True]
    assert lines[-1] == "  outputs       equal bit for bit"
    assert not [line for line in lines if line != line.rstrip()]


def test_verify_as_json_adds_one_key(run, tmp_path):
    target = tmp_path / "s.json.gz"
    code, out, err = run(branches, "--verify", "--json", "-o", target)
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert set(answer) == SCHEDULE_KEYS | {"arena_bytes", "verification"}
    found = answer["verification"]
    assert set(found) == {"holds", "outputs_equal", "program", "new"}
    assert (found["holds"], found["outputs_equal"]) == (True, True)
    assert set(found["program"]) == set(found["new"]) == MEASURED
    assert found["program"]["storage_bytes"] == answer["program_peak_bytes"] > answer["peak_bytes"]
    assert found["new"]["storage_bytes"] == answer["peak_bytes"] < found["new"]["allocated_bytes"]
    assert json.loads(gzip.decompress(target.read_bytes())) == answer
    assert set(json.loads(run(branches, "--json")[1])) == SCHEDULE_KEYS | {"arena_bytes"}


def test_a_prediction_that_is_wrong_is_exit_code_one(run):
    code, out, err = run(liar, "--verify")
    assert code == 1
    assert out.count("storages NOT as predicted: 12,000 bytes, predicted 8,000") == 2
    assert out.endswith("  outputs       equal bit for bit\n")
    assert err == "larger was here\n" * 2  # what the program prints is no result
    code, out, _ = run(liar, "--verify", "--json")
    assert code == 1
    assert json.loads(out)["verification"]["holds"] is False


def test_an_interrupted_verification_leaves_the_schedule(run):
    code, out, err = run(interrupted, "--verify", "--json")
    assert (code, err) == (130, "interrupted: not verified\n")
    assert set(json.loads(out)) == SCHEDULE_KEYS | {"arena_bytes"}


def test_programs_in_files(run, tmp_path):
    program = capture(*branches())
    save_pt2(program, tmp_path / "with.pt2")
    program._example_inputs = None
    save_pt2(program, tmp_path / "without.pt2")
    better = tmp_path / "better.pt2"
    code, out, _ = run(tmp_path / "with.pt2", "--verify", "--save", better, "--json")
    assert code == 0
    assert json.loads(out)["verification"]["holds"]
    again = json.loads(run(better, "--verify", "--json")[1])
    assert again["verification"]["program"]["storage_bytes"] == json.loads(out)["peak_bytes"]
    refused(run(tmp_path / "without.pt2", "--verify"), 1, "without.pt2", "no example inputs")
    assert load_pt2(tmp_path / "without.pt2").example_inputs is None


def test_what_cannot_be_run_is_said_before_the_search(run, tmp_path):
    refused(run(meta, "--verify", "--report", tmp_path / "r.svg"), 1, f"{HERE}:meta", "meta device", "no data")
    assert not (tmp_path / "r.svg").exists()
    refused(run(failing, "--verify"), 1, "'failing' fails when it is run: IndexError: index out of range")


# ---------------------------------------------------------------- --measure-scratch


def test_measured_scratch_belongs_to_the_peak_and_is_kept(run, tmp_path):
    plain = json.loads(run(branches, "--json")[1])
    code, out, err = run(branches, "--measure-scratch", "--verify", "--json")
    answer = json.loads(out)
    found = answer["verification"]
    assert (code, err) == (0, "")
    assert answer["program_peak_bytes"] == found["program"]["allocated_bytes"] > plain["program_peak_bytes"]
    assert answer["peak_bytes"] == found["new"]["allocated_bytes"] == found["new"]["predicted_allocated_bytes"]
    assert answer["graph_sha256"] != plain["graph_sha256"]
    cache = tmp_path / "cache" / "topoformer" / "scratch.json"
    before = cache.stat().st_mtime_ns
    assert "scratch of the step" in run(branches, "--measure-scratch", "--method", "program")[1]
    assert cache.stat().st_mtime_ns == before


def test_scratch_is_measured_without_weights(run):
    with_data, without = (json.loads(run(source, "--measure-scratch", "--json")[1]) for source in (branches, meta))
    assert without["peak_bytes"] == with_data["peak_bytes"]


def test_both_in_the_text(run):
    out = run(branches, "--measure-scratch", "--verify")[1]
    assert out.count("storages and allocated as predicted") == 2


# ---------------------------------------------------------------- a graph still costs nothing


def test_a_graph_with_all_options_that_it_takes_needs_no_torch(tmp_path):
    path = tmp_path / "g.json"
    graphs.save(graphs.from_fx(capture(*branches())), path)
    done = command(
        "schedule", path, "--method", "lpmf", "--memory-limit", "1GiB", env=os.environ | {"PYTHONVERBOSE": "1"}
    )
    assert done.returncode == 0
    assert "import 'torch'" not in done.stderr
    assert "import 'topoformer.cli" in done.stderr
