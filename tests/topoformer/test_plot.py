"""Schedules and fronts as Matplotlib figures, and what a notebook shows of them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import graphs
import topoformer
from graphs.synthetic import layered
from topoformer.cli import main
from topoformer.report.plot import COLUMNS, picture, plot

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def result():
    return topoformer.schedule(layered(60, seed=7304), seconds=5)


@pytest.fixture(scope="module")
def front():
    device = dataclasses.replace(graphs.DEVICES["h100-sxm"], streams=2)
    return topoformer.pareto(layered(60, seed=7304), device, seconds=1.5, points=3)


def curves(axes):
    """{label: highest value} of what is drawn in steps, as if its unit were KiB."""
    labelled = [patch for patch in axes.patches if patch.get_label().strip("_")]
    return {patch.get_label(): 1024.0 * max(patch.get_data().values) for patch in labelled}


def test_both_curves_reach_their_peaks_and_the_bound_is_where_it_is(result):
    axes = result.plot()
    assert axes.get_ylabel() == "live memory in each step [KiB]"
    drawn = curves(axes)
    assert [label.split(",")[0] for label in drawn] == ["program order", "topoformer"]
    assert np.allclose(list(drawn.values()), [result.program_cost.peak_bytes, result.cost.peak_bytes])
    bound = next(line for line in axes.lines if line.get_label().startswith("lower bound"))
    assert np.allclose(bound.get_ydata(), result.bound_bytes / 1024)


def test_it_draws_on_the_axes_that_it_is_given(result):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    assert result.plot(axes) is axes
    assert plot(result, axes).get_xlabel() == "step"


def test_no_peak_is_lost_where_steps_share_a_column():
    graph = layered(3 * COLUMNS, seed=7305)
    result = topoformer.schedule(graph, "dfs", seconds=1)
    drawn = curves(result.plot())
    top = max(result.cost.peak_bytes, result.program_cost.peak_bytes)
    assert np.isclose(max(drawn.values()) / 1024, top / 1024 ** ((top.bit_length() - 1) // 10))


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_a_picture_is_the_same_whenever_it_is_drawn(result, suffix, magic):
    first, second = (picture(result.plot(), suffix) for _ in range(2))
    assert first.startswith(magic)
    assert first == second


@pytest.mark.parametrize("name", ["$x_{$", "a$b$c\\frac", "<script>", "名前" * 60, "x\ny\x1b"])
def test_any_name_can_be_drawn(name):
    graph = dataclasses.replace(layered(20, seed=7306), name=name)
    assert picture(topoformer.schedule(graph, "lpmf", seconds=1).plot(), ".png")


@pytest.mark.parametrize("sizes", [[], [0], [1], [1 << 50]])
def test_the_smallest_graphs_can_be_drawn(sizes):
    n = len(sizes)
    graph = graphs.Graph.build("small", [str(i) for i in range(n)], [[]] * n, list(range(n)), sizes)
    assert picture(topoformer.schedule(graph, "program", seconds=1).plot(), ".png")


def test_a_front_has_a_point_for_each_schedule_and_one_for_the_program(front):
    axes = front.plot()
    found, program = axes.lines[:2]
    assert list(zip(found.get_xdata(), found.get_ydata(), strict=True)) == front.points()
    assert (program.get_xdata()[0], program.get_ydata()[0]) == front.point(front.program)
    assert picture(axes, ".png")


def test_notebooks_show_the_picture(result, front):
    for shown in (result._repr_html_(), front._repr_html_()):
        assert "<svg" in shown
        assert "<script" not in shown


def test_the_command_line_writes_pictures(tmp_path, capsys):
    graphs.save(layered(30, seed=7307), tmp_path / "g.json")
    for suffix in (".png", ".pdf"):
        target = tmp_path / f"picture{suffix}"
        assert main(["schedule", str(tmp_path / "g.json"), "--method", "lpmf", "--report", str(target)]) == 0
        assert target.stat().st_size > 1000
    assert "peak" in capsys.readouterr().out


def test_without_matplotlib_it_is_said_before_the_search(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("topoformer.cli.outputs.find_spec", lambda _: None)
    graphs.save(layered(30, seed=7307), tmp_path / "g.json")
    assert main(["schedule", str(tmp_path / "g.json"), "--report", str(tmp_path / "p.png")]) == 2
    assert "pip install 'topoformer[plot]'" in capsys.readouterr().err
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(("suffix", "magic"), [(".html", b"<!DOCTYPE html>"), (".svg", b"<svg"), (".png", b"\x89PNG")])
def test_a_schedule_writes_its_report(result, tmp_path, suffix, magic):
    target = tmp_path / f"report{suffix}"
    result.report(target)
    assert target.read_bytes().startswith(magic)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_report_of_another_kind_is_refused(result, tmp_path):
    with pytest.raises(ValueError, match=r"ends in .html, .svg, .png, .pdf \(got 'report.gif'\)"):
        result.report(tmp_path / "report.gif")
    assert not list(tmp_path.iterdir())


def test_a_report_to_what_is_no_file_is_a_page(result):
    result.report("/dev/null")
    assert not Path("/dev/null").is_file()
