"""What the command line takes as SOURCE: programs and Python functions that make them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import graphs
from graphs.pt2 import load_pt2, save_pt2
from graphs.synthetic import tree
from tests.topoformer.test_cli import graph_text, nodes, refused
from topoformer import capture
from topoformer.cli import main
from topoformer.sources import SourceError, load_source


class Branches(nn.Module):
    """Its own order keeps both wide branches; the best one reduces each at once."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Linear(64, 1)

    def forward(self, x):
        wide = [x.repeat(1, 4) * k for k in (1.0, 2.0, 3.0)]
        small = [w.sum(dim=1, keepdim=True) for w in wide]
        return self.narrow(x) + small[0] + small[1] + small[2]


@pytest.fixture(autouse=True)
def _path_is_restored(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def run(capsys):
    def call(*argv):
        code = main([str(arg) for arg in argv])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def program_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "branches.pt2"
    torch.manual_seed(0)
    save_pt2(capture(Branches(), (torch.randn(8, 64),)), path)
    return path


def bits(value):
    return [leaf.detach().numpy().tobytes() for leaf in tree_leaves(value)]


FACTORIES = """
import sys
import torch
from torch import nn

class Keywords(nn.Module):
    def forward(self, x, *, scale):
        return (x * scale).exp()

class Depends(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1

class Conditional(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda a: a + 1, lambda a: a - 1, (x,))

class Leaves(nn.Module):
    def forward(self, x):
        print("last words")
        sys.exit(0)

def net():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

def positional(): return net(), (torch.ones(3, 4),)
def keywords(): return Keywords(), {"x": torch.ones(3), "scale": torch.tensor(2.0)}
def one_tensor(): return net(), torch.ones(3, 4)
def on_meta():
    with torch.device("meta"):
        return nn.Linear(1 << 20, 1 << 20), (torch.ones(2, 1 << 20),)
def prints():
    print("hello from the factory")
    return positional()

def prints_beside_python():
    import os
    os.system("echo hello from a child")
    os.write(1, b"hello from C\\n")
    return positional()

def raises(): raise RuntimeError("no weights\\nsecond line")
def leaves(): sys.exit(0)
def needs_more(size): return positional()
def none(): return None
def number(): return 7
def three(): return net(), torch.ones(3, 4), 1
def module_and_int(): return net(), 7
def no_module(): return "net", torch.ones(3, 4)
def wrong_inputs(): return net(), (torch.ones(3, 5),)
def depends(): return Depends(), torch.ones(3)
def conditional(): return Conditional(), torch.ones(3)
def leaves_in_forward(): return Leaves(), torch.ones(3)
a_number = 7
"""


@pytest.fixture
def factories(tmp_path):
    path = tmp_path / "made.py"
    path.write_text(FACTORIES)
    return path


@pytest.mark.parametrize("name", ["positional", "keywords", "one_tensor", "on_meta"])
def test_factories(run, factories, name):
    code, out, err = run("schedule", f"{factories}:{name}", "--method", "lpmf")
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}: ")
    assert "already optimal" in out
    if name == "on_meta":
        assert "4.00 TiB" in out


def test_a_factory_of_an_importable_module(run, tmp_path, monkeypatch):
    (tmp_path / "importable_models.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    code, out, err = run("schedule", "importable_models:positional", "--method", "dfs", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["graph"] == "positional"


def test_the_zoo_is_a_source():
    source = load_source("graphs.models:resnet18")
    assert source.graph.n > 40
    assert source.program is not None


def test_what_a_factory_prints_is_not_a_result(run, factories):
    code, out, err = run("schedule", f"{factories}:prints", "--method", "lpmf", "--json")
    assert code == 0
    assert json.loads(out)["graph"] == "prints"
    assert err == "hello from the factory\n"


def test_what_a_factory_prints_beside_python_is_no_result_either(factories):
    argv = [sys.executable, "-m", "topoformer", "schedule", f"{factories}:prints_beside_python", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["graph"] == "prints_beside_python"
    assert done.stderr == "hello from a child\nhello from C\n"


WRONG = {
    "raises": ["RuntimeError", "no weights"],
    "leaves": ["SystemExit"],
    "needs_more": ["TypeError", "size"],
    "none": ["(module, example_inputs)", "NoneType"],
    "number": ["(module, example_inputs)", "int"],
    "three": ["(module, example_inputs)", "3"],
    "module_and_int": ["(module, example_inputs)", "int"],
    "no_module": ["torch.nn.Module", "str"],
    "wrong_inputs": ["Sequential", "torch.export"],
    "depends": ["Depends", "torch.export"],
    "conditional": ["cond", "higher-order"],
    "leaves_in_forward": ["leaves_in_forward", "ends the program"],
    "a_number": ["not a function", "int"],
    "postional": ["'postional'", "did you mean 'positional'"],
    "no_such": ["'no_such'", "keywords"],
}


@pytest.mark.parametrize("name", WRONG)
def test_factories_that_cannot_be_used(run, factories, tmp_path, name):
    out = tmp_path / "out.json"
    err = refused(run("schedule", f"{factories}:{name}", "--method", "lpmf", "-o", out), 1, *WRONG[name])
    assert not out.exists()
    assert "second line" not in err
    assert "nn," not in err


def test_modules_that_cannot_be_imported(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def make(:\n")
    (tmp_path / "ends.py").write_text("import sys; print('x'); sys.exit(0)")
    refused(run("schedule", "no_such_package.models:make"), 1, "no_such_package")
    refused(run("schedule", "graphs.modles:make"), 1, "graphs.modles")
    refused(run("schedule", "missing.py:make"), 1, "missing.py")
    refused(run("schedule", "broken.py:make"), 1, "broken.py", "SyntaxError")
    refused(run("schedule", "broken:make"), 1, "SyntaxError")
    refused(run("schedule", "a b:make"), 1, "a b")
    refused(run("schedule", "broken.py"), 1, "broken.py:function")
    code, out, err = run("schedule", "ends.py:make")
    assert (code, out) == (1, "")
    assert err.splitlines()[0] == "x"
    assert "SystemExit" in err.splitlines()[1]


def test_logging_is_left_as_it_was(factories):
    import logging

    with pytest.raises(ValueError, match="Depends"):
        load_source(f"{factories}:depends")
    assert logging.root.manager.disable == 0


def test_a_file_does_not_take_the_place_of_a_library(tmp_path):
    path = tmp_path / "torch.py"
    path.write_text("def make(): return 7")
    with pytest.raises(SourceError, match="got int"):
        load_source(f"{path}:make")
    assert sys.modules["torch"] is torch


# ---------------------------------------------------------------- .pt2


def test_a_saved_program_computes_the_same_in_the_new_order(run, program_file, tmp_path):
    better = tmp_path / "better.pt2"
    code, out, err = run("schedule", program_file, "--seconds", "2", "--save", better, "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer["peak_bytes"] < answer["program_peak_bytes"]
    assert graphs.peak_bytes(load_source(str(better)).graph) == answer["peak_bytes"]
    inputs = torch.randn(8, 64)
    before, after = load_pt2(program_file), load_pt2(better)
    assert bits(after.module()(inputs)) == bits(before.module()(inputs))
    labels = [[n.name for n in p.graph.nodes if n.op == "call_function"] for p in (before, after)]
    assert sorted(labels[0]) == sorted(labels[1])
    assert labels[0] != labels[1]
    assert os.listdir(tmp_path) == ["better.pt2"]


def test_a_factory_can_be_saved(run, factories, tmp_path):
    saved = tmp_path / "net.pt2"
    assert run("schedule", f"{factories}:keywords", "--method", "lpmf", "--save", saved)[0] == 0
    x, scale = torch.randn(3), torch.tensor(0.5)
    assert bits(load_pt2(saved).module()(x=x, scale=scale)) == bits((x * scale).exp())


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + b"\0" * 100, b"\x1f\x8b\x08"])
def test_pt2_files_that_are_none(run, tmp_path, data):
    path, out = tmp_path / "bad.pt2", tmp_path / "out.pt2"
    path.write_bytes(data)
    refused(run("schedule", path, "--save", out), 1, "bad.pt2")
    assert not out.exists()


def test_half_a_pt2_and_none_at_all(run, tmp_path, program_file):
    path = tmp_path / "half.pt2"
    path.write_bytes(program_file.read_bytes()[:2000])
    refused(run("schedule", path), 1, "half.pt2")
    refused(run("schedule", tmp_path / "missing.pt2"), 1, "missing.pt2", "No such file")
    (tmp_path / "folder.pt2").mkdir()
    refused(run("schedule", tmp_path / "folder.pt2"), 1, "folder.pt2", "directory")


SLOW = """
import time
from torch import nn

class Slow(nn.Module):
    def forward(self, x):
        with open("started", "w"):
            pass
        time.sleep(60)
        return x

def make():
    import torch
    return Slow(), torch.ones(2)
"""


def test_an_interrupt_while_capturing_is_one_line(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    argv = [sys.executable, "-m", "topoformer", "schedule", "slow.py:make"]
    env = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(graphs.__file__))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, cwd=tmp_path, env=env, **pipes) as process:
        deadline = time.monotonic() + 300
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "topoformer: interrupted\n")


@pytest.mark.parametrize("name", ["a:b.json", "C:\\graphs\\g.json", "x:make"])
def test_a_file_that_exists_is_a_file_whatever_its_name(run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    graphs.save(tree(3, seed=0), name)
    code, out, err = run("schedule", name, "--method", "lpmf")
    assert (code, err) == (0, "")
    assert "3 nodes" in out


def test_names_with_colons_that_are_no_files(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run("schedule", "C:\\no\\g.json"), 1, "No such file")
    refused(run("schedule", "C:\\no\\m.py:make"), 1, "no file")
    refused(run("schedule", ":make"), 1, ":make")


def test_a_refusal_is_one_line_in_a_process_too(factories):
    argv = [sys.executable, "-m", "topoformer", "schedule", f"{factories}:depends", "--json"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)
    refused((done.returncode, done.stdout, done.stderr), 1, "Depends")


# ---------------------------------------------------------------- graph files, exit 1

TWO = [{"bytes": 4}, {"bytes": 4}]
REFUSED = {
    "unknown version": (graph_text(version=2), ["'version'", "2"]),
    "no version": (graph_text(version=None), ["'version'"]),
    "another format": (graph_text(format="onnx"), ["'format'", "onnx"]),
    "index out of range": (nodes(("a", [], [5])), ["'a'", "5"]),
    "negative index": (nodes(("a", [-1], [0])), ["'a'", "-1"]),
    "two writers": (nodes(("a", [], [0]), ("b", [], [0])), ["'a'", "'b'", "two writers"]),
    "reader without writer": (nodes(("a", [0], []), tensors=[{"bytes": 4}]), ["'a'", "0"]),
    "cycle": (nodes(("a", [1], [0]), ("b", [0], [1]), tensors=TWO), ["cycle", "'a'", "'b'"]),
    "program order": (nodes(("a", [1], [0]), ("b", [], [1]), tensors=TWO), ["'a'", "'b'"]),
    "after itself": (nodes(("a", [], [0], [0])), ["'a'"]),
    "negative bytes": (graph_text(tensors=[{"bytes": -1}]), ["tensor 0", "-1"]),
    "part of a byte": (graph_text(tensors=[{"bytes": 1.5}]), ["tensor 0", "1.5"]),
    "bytes as text": (graph_text(tensors=[{"bytes": "4"}]), ["tensor 0"]),
    "huge bytes": (graph_text(tensors=[{"bytes": 1 << 200}]), ["tensor 0", "2**63"]),
    "sum of bytes": (nodes(("a", [], [0, 1]), tensors=[{"bytes": (1 << 63) - 1}] * 2), ["2**"]),
    "too many digits": (graph_text(tensors=[{"bytes": 7}]).replace("7", "7" * 9000), ["JSON"]),
    "duplicate names": (nodes(("a", [], [0]), ("a", [], [1]), tensors=TWO), ["'a'"]),
    "NaN": (graph_text().replace('"f"', '"f", "flops": NaN'), ["NaN"]),
    "Infinity": (graph_text().replace('"f"', '"f", "seconds": 1e999'), ["'a'"]),
    "an array": ("[1, 2]", ["begin"]),
    "text": ("hello", ["begin"]),
    "nothing": ("", ["empty"]),
    "half": (graph_text()[:-20], ["JSON"]),
    "deep nesting": ('{"nodes": ' + "[" * 200_000, ["JSON"]),
    "zeros inside": (graph_text() + "\0" * 10, ["zero"]),
    "names of control characters": (
        nodes(("\x1b[31ma\nb", [], [0]), ("\x1b[31ma\nb", [], [1]), tensors=TWO),
        ["\\x1b[31ma\\nb"],
    ),
    "names of 100 kB": (nodes(("n" * 100_000, [], [0]), ("n" * 100_000, [], [1]), tensors=TWO), ["nnn"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_graphs(run, tmp_path, case):
    text, words = REFUSED[case]
    path, out = tmp_path / "bad.json", tmp_path / "out.json"
    path.write_text(text)
    refused(run("schedule", path, "--method", "lpmf", "-o", out), 1, "bad.json", *words)
    assert not out.exists()
