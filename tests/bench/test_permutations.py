"""The permutation benchmark: resumable, paired, and its table comes out of its lines."""

import json

import numpy as np
import pytest

from bench import permutations
from bench.permutation_runs import Run, search
from bench.permutation_tables import of


def rows(out, **changes):
    asked = {"only": ["generated"], "tasks": ["qap 15"], "data": None, "seeds": 1, "jobs": 1, "curves": None}
    return list(permutations.table(**{**asked, "out": out, "dry": False, **changes}))


def test_what_was_run_is_not_run_again_and_a_torn_line_is(tmp_path):
    out = tmp_path / "lines.jsonl"
    first = rows(out)
    assert first[0] == "4 runs to do, 0 there"
    assert first[-1].startswith("| qap 15 |")
    whole = out.read_text()
    assert len(whole.splitlines()) == 4
    assert rows(out) == first[1:]
    assert out.read_text() == whole
    out.write_text(whole[:-40])  # as a kill in the middle of a write leaves it
    again = rows(out)
    assert again[0] == "1 runs to do, 3 there"
    assert [line.split("|")[:4] for line in again[1:]] == [line.split("|")[:4] for line in first[1:]]
    assert bests(out.read_text()) == bests(whole)


def bests(text):
    return {(line["method"], line["best"]) for line in map(json.loads, text.splitlines())}


def test_every_method_of_a_seed_begins_with_the_same_orders():
    runs = [Run("lop 20", method, batch, 40, 7) for method, batch in (("bayes", 10), ("climb swap", 1), ("random", 1))]
    lines = [search(run, None) for run in runs]
    assert len({tuple(line["curve"][:3]) for line in lines}) == 1
    assert all(line["best"] == min(line["curve"]) and len(line["curve"]) == 4 for line in lines)


def test_a_file_that_is_not_there_is_said(tmp_path):
    found = rows(tmp_path / "none", only=["law"], tasks=["chr12a"], data=tmp_path)
    assert found[0] == "not found under --data, left out: qaplib/chr12a.dat"


def test_tables_count_wins_and_means():
    line = {"task": "qap 15", "budget": 230, "kernel": "hamming", "round_seconds": {"median": 0.1}}
    lines = [
        {**line, "method": method, "batch": batch, "seed": seed, "best": best}
        for method, batch, bests in (("bayes", 10, (1.0, 5.0, 3.0)), ("climb swap", 1, (2.0, 4.0, 3.0)))
        for seed, best in enumerate(bests)
    ]
    *_, row = of("generated", lines)
    assert row.split(" | ")[1:6] == ["3.0 ± 0.577 (swap)", "", "**3.0 ± 1.15**", "1 / 1 / 1", "3"]
    rules = [{**line, "method": f"bayes batch={rule}"} for line in lines[:3] for rule in ("law", "qei")]
    *_, ranks = of("rules", [{**line, "best": line["best"] + (line["method"][-3:] == "qei")} for line in rules])
    assert ranks == "| mean rank | 1.00 | 2.00 | |"


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    line = search(Run("lop 20", "climb swap", 1, 60, 3), None)
    permutations.draw(tmp_path / "curves.svg", [line, {**line, "seed": 4, "curve": np.add(line["curve"], 1).tolist()}])
    assert (tmp_path / "curves.svg").read_text().lstrip().startswith("<?xml")
