"""What a search says while it runs, and how the command line shows it: on a terminal, or line by line with -v."""

import argparse
import dataclasses
import os
import re
import select
import sys
from itertools import pairwise

import pytest

import graphs
import topoformer
from graphs.cost import OBJECTIVES
from graphs.synthetic import layered
from topoformer.cli import main
from topoformer.cli.progress import counting, moving, searching
from topoformer.outcome import Standing
from topoformer.scheduling import SCHEDULERS

GRAPH = layered(120, seed=7311)
QUIET, TALK = argparse.Namespace(quiet=True), argparse.Namespace(quiet=False, verbose=False)


def told(method="auto", **more):
    heard = []
    result = topoformer.schedule(GRAPH, method, seconds=3.0, progress=heard.append, **more)
    return result, heard


def test_phases_are_told_as_they_begin_and_numbers_as_they_change():
    result, heard = told()
    phases = [standing.phase for standing in heard]
    assert phases.index("policies") < phases.index("cuts")
    assert {phase.name for phase in result.phases} <= {*phases, "compiling"}
    assert heard[-1].peak_bytes == heard[-1].value == result.cost.peak_bytes
    assert heard[-1].bound_bytes == result.bound_bytes


@pytest.mark.parametrize("method", [name for name in SCHEDULERS if name != "bo"])
def test_the_best_never_rises_and_the_bound_never_falls(method):
    _, heard = told(method, steps=5_000)
    for earlier, later in pairwise(heard):
        assert later.value <= earlier.value
        assert later.bound_bytes >= earlier.bound_bytes
        assert later.seconds_left >= 0


def test_other_objectives_are_told_in_their_own_unit():
    result, heard = told(objective="latency", device="rtx4090")
    assert heard[-1].value == pytest.approx(result.program_cost.latency_seconds, rel=0.5)
    result, heard = told(objective="arena", steps=200)
    assert {"memory", "policies", "annealing"} <= {standing.phase for standing in heard}
    assert result.cost.arena_bytes <= heard[-1].value


def test_a_method_of_ones_own_need_not_know_of_it():
    result, heard = told(lambda graph, objective, *, seconds, seed: graphs.program_order(graph))
    assert heard == []
    assert result.method == "<lambda>"


def test_bayesian_optimisation_counts_its_evaluations():
    small = dataclasses.replace(graphs.DEVICES["npu-8mb"], on_chip_bytes=20_000)
    _, heard = told("bo", objective="traffic", device=small, steps=100)
    counted = [standing.phase for standing in heard if standing.phase.startswith("evaluation ")]
    assert counted[:2] == ["evaluation 1", "evaluation 2"]


def shown_on_a_terminal(monkeypatch, work):
    main_end, terminal = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with os.fdopen(terminal, "w") as file, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", file)
        work()
        file.flush()
        shown = ""
        while select.select([main_end], [], [], 0.2)[0]:
            shown += os.read(main_end, 1 << 16).decode()
    os.close(main_end)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_a_terminal_shows_phase_best_bound_and_time_left(monkeypatch):
    def work():
        with searching("auto", OBJECTIVES["memory"], TALK) as tell:
            tell(Standing("squeeze 256", 3 << 20, 3 << 20, 2 << 20, 7.4))

    assert "auto: squeeze 256, best 3.00 MiB, bound 2.00 MiB, 7 s left" in shown_on_a_terminal(monkeypatch, work)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_a_terminal_shows_how_much_is_done_of_work_in_parts(monkeypatch):
    def work():
        with counting("timing operators", TALK) as tell:
            tell(3, 12)

    assert "timing operators: 3 of 12, about 0 s left" in shown_on_a_terminal(monkeypatch, work)


def test_nothing_moves_where_there_is_no_terminal(capsys):
    with moving(lambda: "text"), counting("work", TALK) as tell, searching("auto", OBJECTIVES["memory"], QUIET):
        tell(1, 2)
    assert capsys.readouterr() == ("", "")


def test_verbose_has_a_line_for_each_step_of_the_search(tmp_path, capsys):
    graphs.save(GRAPH, tmp_path / "g.json")
    assert main(["schedule", str(tmp_path / "g.json"), "-v", "--seconds", "3"]) == 0
    out, err = capsys.readouterr()
    assert "new peak" in out
    lines = err.splitlines()
    assert lines[0] == "auto:"
    assert all(re.fullmatch(r" +[\d.]+ s  .{16,}  best +[\d.]+ \w+  bound +[\d.]+ \w+", line) for line in lines[1:])
    assert {"policies", "cuts"} <= {line.split()[2] for line in lines[1:]}
    assert len(lines) == len(set(lines))


def test_quiet_and_verbose_do_not_go_together(tmp_path, capsys):
    assert main(["schedule", "g.json", "-q", "-v"]) == 2
    assert "not allowed with" in capsys.readouterr().err
