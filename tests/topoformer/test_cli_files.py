"""Files that the command line reads are never written over; what is interrupted or cut off is not taken for done."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import graphs
import topoformer
from graphs.synthetic import layered
from topoformer.cli import main
from topoformer.report import Compared, html

onnx = pytest.importorskip("onnx")
FACTORY = "import torch\ndef factory():\n    return torch.nn.ReLU(), (torch.ones(2),)\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graphs.save(layered(60, seed=7800), "g.json")
    (tmp_path / "model.py").write_text(FACTORY)
    (tmp_path / "edge.json").write_text(json.dumps(graphs.DEVICES["npu-8mb"].to_json()))
    return tmp_path


def with_external_data(path):
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [64], b"\1" * 256, raw=True)
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [64]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = onnx.helper.make_model(graph)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["schedule", "model.py:factory", "-o", "model.py"], "model.py"),
        (["schedule", "g.json", "--objective", "traffic", "--device", "edge.json", "-o", "edge.json"], "edge.json"),
        (["schedule", "g.json", "--device", "edge.json", "--trace", "edge.json"], "edge.json"),
        (["schedule", "m.onnx", "-o", "w.bin"], "w.bin"),
        (["check", "g.json", "--max-peak", "1GiB", "-o", "g.json"], "g.json"),
    ],
)
def test_what_is_read_is_not_written_over(folder, capsys, words, kept):
    with_external_data("m.onnx")
    before = (folder / kept).read_bytes()
    assert main([*words, "--seconds", "1"]) == 2
    assert capsys.readouterr().err.startswith("topoformer: ")
    assert (folder / kept).read_bytes() == before


def test_weights_called_as_a_schedule_is_are_not_written_over_either(folder, capsys):
    with_external_data("m.onnx")
    os.rename("w.bin", "w.json")
    model = onnx.load("m.onnx", load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "w.json"
    onnx.save(model, "m.onnx")
    assert main(["schedule", "m.onnx", "-o", "w.json"]) == 2
    assert "holds weights of SOURCE" in capsys.readouterr().err


def test_external_data_that_cannot_be_copied_are_said_before_anything_is_written(folder, capsys):
    with_external_data("m.onnx")
    (folder / "else").mkdir()
    (folder / "else" / "w.bin").write_bytes(b"other")
    assert main(["schedule", "m.onnx", "--save", "else/m.onnx", "-o", "s.json"]) == 1
    assert "would overwrite another file" in capsys.readouterr().err
    assert not (folder / "s.json").exists()


def test_a_baseline_that_is_exceeded_stays(folder, capsys):
    assert main(["check", "g.json", "--max-peak", "1GiB", "-o", "b.json"]) == 0
    data = json.loads((folder / "b.json").read_text())
    (folder / "b.json").write_text(json.dumps(data | {"graph_sha256": "another", "peak_bytes": data["peak_bytes"] - 1}))
    before = (folder / "b.json").read_text()
    for _ in range(2):
        assert main(["check", "g.json", "--baseline", "b.json", "-o", "b.json"]) == 1
        assert (folder / "b.json").read_text() == before


def test_a_baseline_is_held_to_the_byte_whatever_its_size_and_tolerance(folder, capsys):
    graph = graphs.Graph.build("huge", ["a"], [[]], [0], [(1 << 60) + 1])
    graphs.save(graph, "huge.json")
    assert main(["check", "huge.json", "--max-peak", str((1 << 60) + 1), "-o", "b.json"]) == 0
    assert main(["check", "huge.json", "--baseline", "b.json"]) == 0
    assert main(["check", "huge.json", "--baseline", "b.json", "--tolerance", "1e308"]) == 0


def test_a_baseline_of_another_objective_is_refused(folder, capsys):
    asked = ["--objective", "latency", "--device", "h100-sxm", "--streams", "2", "--seconds", "1", "-o", "l.json"]
    assert main(["schedule", "g.json", *asked]) == 0
    assert main(["check", "g.json", "--baseline", "l.json"]) == 1
    assert "a schedule for 'latency'" in capsys.readouterr().err


def test_a_limit_that_is_exceeded_is_so_where_nobody_reads(folder):
    words = "check g.json --max-peak 1 --json -q --seconds 1"
    command = f"{sys.executable} -m topoformer {words} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1


def test_an_interrupted_check_says_that_it_does_not_know(folder):
    graphs.save(layered(2_000, seed=7801), "hard.json")
    command = [
        sys.executable,
        "-m",
        "topoformer",
        "check",
        "hard.json",
        "--seconds",
        "60",
        "--max-peak",
        "1",
        "-v",
        "-o",
        "o.json",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert any("cuts" in line or "beam" in line for line in process.stderr)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert "interrupted: whether it is within the limits is not known" in said
    assert not (folder / "o.json").exists()


def test_two_sizes_of_one_dimension_are_refused(folder, capsys):
    assert main(["schedule", "m.onnx", "--dim", "batch=2", "--dim", "batch=3"]) == 2
    assert "two sizes, 2 and 3" in capsys.readouterr().err


def test_methods_are_compared_by_what_was_minimised():
    graph = layered(60, seed=7802)
    found = [
        topoformer.schedule(graph, name, objective="latency", device="rtx4090", seconds=1)
        for name in ("lpmf", "streams")
    ]
    fast = Compared.of(found[0])._replace(method="fast", value=1e-9, peak_bytes=1 << 40)
    page = html(found[0], compared=[*map(Compared.of, found), fast])
    table = page[page.index("Methods compared") :]
    assert table.index('<tr class="best"><th scope=row>fast') < table.index("lpmf")
    assert "<th scope=col class=n>latency</th>" in table


def test_a_path_in_the_place_of_a_graph_is_refused_in_words():
    with pytest.raises(TypeError, match=r"'graph' must be a Graph, .* \(got str\)"):
        topoformer.schedule("g.json")
