"""The measured device: where it is kept, how it is found again, and the command that measures it."""

import json
from functools import partial

import pytest

from graphs.device import Device
from graphs.synthetic import layered
from graphs.units import format_seconds
from topoformer import calibration
from topoformer.calibration import (
    MOST_MACHINES,
    CalibrationError,
    load_profile,
    machine,
    profile_path,
    save_profile,
    this_device,
)
from topoformer.cli import main

CPU = Device("cpu", {"float32": 2e11, "int8": 1e12}, 2e10, launch_seconds=2e-6, memory_bytes=1 << 34, source="measured")
NETWORK = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()), (torch.ones(2, 4),)

def meta():
    with torch.device("meta"):
        return torch.nn.Linear(4, 4), (torch.ones(2, 4),)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_a_device_is_found_as_it_was_kept():
    save_profile(CPU)
    assert this_device() == CPU
    assert this_device().source == "measured"
    gpu = Device("cuda", {"float32": 1e13}, 1e12)
    save_profile(gpu)
    assert load_profile() == {"cpu": CPU, "cuda": gpu}
    faster = Device("cpu", {"float32": 3e11}, 2e10)
    save_profile(faster)
    assert this_device() == faster


def test_a_machine_that_has_not_been_measured():
    with pytest.raises(
        CalibrationError, match=r"^this machine has not been measured: run 'topoformer calibrate' first"
    ):
        this_device()
    save_profile(CPU)
    with pytest.raises(CalibrationError, match=r"'cuda'.*'topoformer calibrate' measures"):
        this_device("cuda")


def test_machines_that_share_a_directory_are_told_apart(monkeypatch):
    save_profile(CPU)
    other = Device("cpu", {"float32": 1e9}, 1e9)
    monkeypatch.setattr(calibration, "machine", lambda: "another")
    assert load_profile() == {}
    save_profile(other)
    assert this_device() == other
    monkeypatch.setattr(calibration, "machine", machine)
    assert this_device() == CPU


def test_the_file_does_not_grow_for_ever(monkeypatch):
    for i in range(MOST_MACHINES + 1):
        monkeypatch.setattr(calibration, "machine", lambda i=i: f"machine {i}")
        save_profile(CPU)
    machines = json.loads(profile_path().read_text())["machines"]
    assert list(machines) == [f"machine {i}" for i in range(1, MOST_MACHINES + 1)]


SOUND = {"format": "topoformer.calibration", "version": 1}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"a": NaN}', json.dumps(SOUND), json.dumps(SOUND | {"machines": [1]})),
        json.dumps(SOUND | {"version": 2, "machines": {machine(): {"cpu": CPU.to_json()}}}),
        json.dumps(SOUND | {"machines": {machine(): [1]}}),
        json.dumps(SOUND | {"machines": {machine(): {"cpu": CPU.to_json() | {"bandwidth": -1}}}}),
        json.dumps(SOUND | {"machines": {machine(): {"other": CPU.to_json()}}}),
    ],
)
def test_a_file_that_is_something_else_counts_as_empty(text):
    profile_path().parent.mkdir(parents=True)
    profile_path().write_text(text)
    assert load_profile() == {}
    save_profile(CPU)
    assert this_device() == CPU


def test_a_file_elsewhere(tmp_path):
    save_profile(CPU, tmp_path / "deep" / "device.json")
    assert this_device(path=tmp_path / "deep" / "device.json") == CPU
    assert load_profile() == {}


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        save_profile(CPU, tmp_path / "file" / "device.json")


# ---------------------------------------------------------------- topoformer calibrate


@pytest.fixture
def calibrate(monkeypatch, capsys):
    """``calibrate(*argv)``: exit code, stdout, stderr, as the command line makes them of what is raised."""
    pytest.importorskip("torch")
    from topoformer.pytorch import calibrate as module

    monkeypatch.setattr(module, "measure_device", partial(module.measure_device, seconds=0.01))
    monkeypatch.setattr("topoformer.pytorch.calibrate.SIDE", {"cpu": 32})
    monkeypatch.setattr("topoformer.pytorch.calibrate.COPIED_BYTES", {"cpu": 1 << 16})
    monkeypatch.setattr("topoformer.pytorch.calibrate.keep_freed_memory", lambda: True)  # for good: not in a test
    monkeypatch.setattr("topoformer.pytorch.timing.ROUNDS", 3)

    def call(*argv):
        code = main(["calibrate", *map(str, argv)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "network.py"
    path.write_text(NETWORK)
    return path


def test_the_device_alone(calibrate, tmp_path):
    code, out, err = calibrate("-o", tmp_path / "cpu.json")
    assert (code, err) == (0, "")
    assert out.startswith("cpu: ")
    assert "GB/s" in out
    assert str(profile_path()) in out
    assert this_device() == Device.from_json(json.loads((tmp_path / "cpu.json").read_text()))


def test_programs(calibrate, network):
    code, out, _ = calibrate(f"{network}:make", f"{network}:make")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["make", "make"]
    assert [line.split()[-1] for line in out.splitlines()[-2:]] == ["2", "0"]  # timed once
    assert {path.name for path in profile_path().parent.iterdir()} == {"device.json", "timing.json", "scratch.json"}


def test_json(calibrate, network):
    code, out, _ = calibrate(f"{network}:make", "--json", "--seconds", "5", "-q")
    answer = json.loads(out)
    assert code == 0
    assert Device.from_json(answer["devices"][0]) == this_device()
    assert answer["sources"][0]["name"] == "make"
    assert answer["sources"][0]["measured_seconds"] > 0


def test_what_is_no_program(calibrate, network, tmp_path):
    import graphs

    graphs.save(layered(5, seed=1), tmp_path / "graph.json")
    for argv, code, word in (
        ([tmp_path / "graph.json"], 2, "is a graph"),
        ([tmp_path / "none.json"], 1, "none.json"),
        ([f"{network}:none"], 1, "no such function"),
        ([f"{network}:meta"], 1, "cannot be run"),
        (["-o", tmp_path], 2, "is a directory"),
        (["-o", tmp_path / "none" / "a.json"], 2, "there is no directory"),
        (["-o", tmp_path / "a.txt"], 2, "ends in .json"),
    ):
        answer = calibrate(*argv)
        assert answer[:2] == (code, "")
        assert word in answer[2]
        assert len(answer[2].splitlines()) == 1
    assert load_profile() == {}  # all that is said before anything is measured


def test_ctrl_c_leaves_what_has_been_measured(calibrate, network, monkeypatch):
    from topoformer.pytorch import calibrate as module

    real, seen = module.compare, []

    def compare(*args, **options):
        if seen:
            raise KeyboardInterrupt
        seen.append(1)
        return real(*args, **options)

    monkeypatch.setattr(module, "compare", compare)
    code, out, err = calibrate(f"{network}:make", f"{network}:make", "--json")
    assert (code, err) == (130, "interrupted: 1 of 2 sources\n")
    assert len(json.loads(out)["sources"]) == 1
    assert this_device()


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.0, "2 s"), (0.0123, "12.3 ms"), (2.086e-6, "2.09 us"), (1e-9, "1 ns"), (0.0, "0 ns")]
)
def test_seconds_for_people(seconds, text):
    assert format_seconds(seconds) == text
