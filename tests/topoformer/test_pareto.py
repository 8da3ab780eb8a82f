"""Fronts of memory against latency and traffic: unbeaten, within their bounds, drawn, and from the command line."""

import json
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

import graphs
from graphs.device import DEVICES
from graphs.latency import latency_bound
from graphs.synthetic import series_parallel
from topoformer.cli import main
from topoformer.front import pareto
from topoformer.front_plot import svg
from topoformer.text import pareto_lines

GRAPH = series_parallel(80, seed=7005)
GPU = replace(DEVICES["h100-sxm"], streams=2)
CHIP = replace(DEVICES["cortex-m7"], on_chip_bytes=graphs.peak_bytes(GRAPH) // 3)
ASKED = {"points": 5, "seconds": 60.0, "steps": 400}


@pytest.fixture(scope="module")
def front():
    return pareto(GRAPH, GPU, **ASKED)


def test_no_point_is_beaten_by_another_or_by_the_program(front):
    points = front.points()
    assert len(points) >= 2
    assert all(a < b for (a, _), (b, _) in pairwise(points))
    assert all(a > b for (_, a), (_, b) in pairwise(points))
    size, value = front.point(front.program)
    assert any(held <= size and cost <= value for held, cost in points)
    for held, cost in points:
        assert held >= front.bound_bytes
        assert cost >= front.bound_value == latency_bound(GRAPH, GPU)


def test_the_same_steps_give_the_same_front(front):
    assert pareto(GRAPH, GPU, **ASKED).points() == front.points()


def test_traffic(front):
    found = pareto(GRAPH, CHIP, objective="traffic", **ASKED)
    assert found.points()[-1][1] < found.point(found.program)[1]
    assert "traffic" in pareto_lines(found)
    assert "MiB" in svg(found)


def test_the_picture_shows_every_point_and_escapes_names(front):
    evil = replace(front, graph=replace(GRAPH, name="<script>alert(1)</script>"))
    root = ElementTree.fromstring(svg(evil))
    circles = [part for part in root.iter() if part.tag.endswith("circle")]
    assert len(circles) == len(front.schedules) + 1
    assert "<script>" not in svg(evil)


def test_what_is_refused():
    with pytest.raises(ValueError, match="'points' must be at least 2"):
        pareto(GRAPH, GPU, points=1)
    with pytest.raises(ValueError, match="'latency' or 'traffic'"):
        pareto(GRAPH, GPU, objective="arena")
    with pytest.raises(ValueError, match="needs on-chip memory"):
        pareto(GRAPH, GPU, objective="traffic")


def test_on_the_command_line(tmp_path, capsys):
    path, out, picture = tmp_path / "g.json", tmp_path / "front.json", tmp_path / "front.svg"
    graphs.save(GRAPH, path)
    command = ["schedule", str(path), "--pareto", "4", "--device", "h100-sxm", "--streams", "2", "--steps", "300"]
    assert main([*command, "-o", str(out), "--report", str(picture)]) == 0
    assert "no order below" in capsys.readouterr().out
    data = json.loads(out.read_text())
    assert data["format"] == "topoformer.front"
    assert all(one["format"] == "topoformer.schedule" for one in data["schedules"])
    ElementTree.fromstring(picture.read_text())


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--pareto"], "--pareto needs a device"),
        (["--pareto", "1", "--device", "h100-sxm"], "--pareto must be at least 2"),
        (["--pareto", "--device", "h100-sxm", "--verify"], "--verify does not go with --pareto"),
        (["--pareto", "--device", "h100-sxm", "--method", "dfs"], "--method does not go with --pareto"),
        (["--pareto", "--device", "h100-sxm", "--objective", "arena"], "weighs memory against latency or traffic"),
        (["--pareto", "--device", "h100-sxm", "--report", "x.html"], "--report takes a file that ends in .svg"),
        (["--objective", "latency"], "objective 'latency' needs a device; name one with --device"),
        (["--objective", "latency", "--device", "h200"], "unknown device 'h200'"),
        (["--streams", "2"], "streams and on-chip memory are those of a device"),
        (["--objective", "traffic", "--device", "h100-sxm"], "needs on-chip memory"),
        (["--device", "nowhere.json"], "nowhere.json"),
    ],
)
def test_usage(extra, text, tmp_path, capsys):
    path = tmp_path / "g.json"
    graphs.save(GRAPH, path)
    assert main(["schedule", str(path), *extra]) in (1, 2)
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_a_device_from_a_file(tmp_path, capsys):
    path, device = tmp_path / "g.json", tmp_path / "device.json"
    graphs.save(GRAPH, path)
    device.write_text(json.dumps(replace(GPU, name="mine").to_json()))
    command = ["schedule", str(path), "--method", "streams", "--objective", "latency", "--device", str(device)]
    assert main(command) == 0
    assert "on mine, 2 streams" in capsys.readouterr().out
    device.write_text("{}")
    assert main(command) == 1
    assert "not a device" in capsys.readouterr().err


def test_compare_shows_what_was_minimised(tmp_path, capsys):
    path = tmp_path / "g.json"
    graphs.save(GRAPH, path)
    command = [
        "compare",
        str(path),
        "--methods",
        "program,streams,dfs",
        "--objective",
        "latency",
        "--device",
        "h100-sxm",
    ]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "best by the objective" in out
    assert "us" in out
    assert main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in rows] == ["program", "streams", "dfs"]
    assert rows[0]["value_ratio"] == 1.0
    assert rows[1]["value"] == min(row["value"] for row in rows)
