"""``.pt2`` files: there and back, and nothing in them is run."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import graphs
from graphs import GraphError
from graphs.pt2 import _is_plain, load_pt2, save_pt2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(4, 6)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x).relu_()])[: x.shape[0] // 2 + 1]


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    program = torch.export.export(Net(), (torch.ones(6, 4),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    path = tmp_path / "net.pt2"
    save_pt2(program, path)
    return path


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def rewritten(path, target, change):
    """Copy the archive, each member through ``change(name, data) -> data``."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return target


def test_reordered_program_there_and_back(saved, tmp_path):
    program = load_pt2(saved)
    graph = graphs.from_fx(program)
    order = graphs.check_order(graph, [graph.labels.index(label) for label in _other_order(graph)])
    again = tmp_path / "again.pt2"
    save_pt2(graphs.apply_order(program, order), again)
    loaded = load_pt2(again)
    calls = [n.name for n in loaded.graph.nodes if n.name in graph.labels]
    assert calls == [graph.labels[i] for i in order]
    x = torch.randn(8, 4)
    assert torch.equal(loaded.module()(x), program.module()(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.pt2", "net.pt2"]


def _other_order(graph):
    """The second linear before the first, all else as it was."""
    first, second = (i for i, op in enumerate(graph.ops) if op == "aten.linear.default")
    labels = list(graph.labels)
    labels.insert(first, labels.pop(second))
    return labels


def test_sample_inputs_are_not_unpickled(saved, tmp_path):
    mark = tmp_path / "ran"

    def change(name, data):
        if "sample_inputs" not in name:
            return data
        buffer = io.BytesIO()
        torch.save(Bomb(mark), buffer)
        return buffer.getvalue()

    bad = rewritten(saved, tmp_path / "bad.pt2", change)
    with pytest.raises(GraphError, match=r"bad.pt2: .*model.pt is a pickle of more than tensors"):
        load_pt2(bad)
    assert not mark.exists()


def test_pickled_weights_are_refused(saved, tmp_path):
    mark = tmp_path / "ran"

    def change(name, data):
        if name.endswith("weights_config.json"):
            config = json.loads(data)
            next(iter(config["config"].values()))["use_pickle"] = True
            return json.dumps(config)
        return pickle.dumps(Bomb(mark)) if name.endswith("weight_0") else data

    bad = rewritten(saved, tmp_path / "bad.pt2", change)
    with pytest.raises(GraphError, match="asks for a pickled tensor"):
        load_pt2(bad)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["data/constants/opaque_obj_0", "data/constants/custom_obj_0"])
def test_pickled_objects_are_refused(saved, tmp_path, name):
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(saved.read_bytes())
    with zipfile.ZipFile(bad, "a") as archive:
        archive.writestr(f"net/{name}", pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(GraphError, match="holds a pickled object"):
        load_pt2(bad)


def test_compiled_code_is_refused(saved, tmp_path):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("net/data/aotinductor/model/model.so", b"\x7fELF")
    with pytest.raises(GraphError, match="holds compiled code"):
        load_pt2(saved)


def test_expressions_are_not_evaluated(saved, tmp_path):
    mark = tmp_path / "ran"

    def change(name, data):
        text = f"__import__('pathlib').Path('{mark}').touch()"
        if not name.endswith("models/model.json"):
            return data

        def poison(item):
            if isinstance(item, dict):
                return {k: text if k == "expr_str" else poison(v) for k, v in item.items()}
            return [poison(i) for i in item] if isinstance(item, list) else item

        return json.dumps(poison(json.loads(data)))

    bad = rewritten(saved, tmp_path / "bad.pt2", change)
    with pytest.raises(GraphError, match="an expression that is not plain arithmetic"):
        load_pt2(bad)
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Add(FloorDiv(Symbol('s77', positive=True, integer=True), Integer(2)), Integer(1))",
        "Mul(Integer(-4), Float('0.5', precision=53))",
        "-3",
    ],
)
def test_plain_expressions(text):
    assert _is_plain(text)


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "Symbol('eval(1)')",
        "Max('__import__(1)', 2)",
        "Add(S('1'), 2)",
        "Symbol('x').subs(1, 2)",
        "[x for x in ()]",
        "lambda: 0",
        "Symbol(name='x y')",
        "s0 + 1",
        "(" * 500,
        "",
    ],
)
def test_other_expressions(text):
    assert not _is_plain(text)


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", b"not a zip", b"\x80\x04K\x01.", bytes(1000)],
    ids=["empty", "head", "text", "pickle", "zeros"],
)
def test_what_is_not_a_program(tmp_path, data):
    path = tmp_path / "net.pt2"
    path.write_bytes(data)
    with pytest.raises(GraphError, match=r"net.pt2: not a .pt2 file of torch.export") as error:
        load_pt2(path)
    assert "\n" not in str(error.value)


def test_damaged_archives(saved, tmp_path):
    whole = saved.read_bytes()
    for cut in range(1, len(whole), len(whole) // 25):
        (tmp_path / "cut.pt2").write_bytes(whole[:cut])
        with pytest.raises(GraphError, match=r"cut.pt2: "):
            load_pt2(tmp_path / "cut.pt2")


def test_an_archive_of_something_else(tmp_path):
    path = tmp_path / "other.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(GraphError, match=r"not a .pt2 file"):
        load_pt2(path)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_pt2(tmp_path / "none.pt2")
    with pytest.raises(IsADirectoryError):
        load_pt2(tmp_path)
    program = torch.export.export(nn.ReLU(), (torch.ones(1),))
    with pytest.raises(IsADirectoryError):
        save_pt2(program, tmp_path)
