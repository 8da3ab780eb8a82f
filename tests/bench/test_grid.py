"""The benchmark: resumable after a kill, independent of its workers, verified by another simulator, read from lines."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import graphs
from bench import best_known, compare, grid
from bench.__main__ import main
from bench.cases import SUITES, Case, cases
from bench.one_run import Run, key_of, measure, packed, unpacked, verified
from bench.onnx_models import with_weights
from bench.page import page
from bench.reading import rows_of, score, seconds_to, tables
from bench.scaling import fitted
from bench.workers import on_processes
from graphs import GraphError
from graphs.synthetic import layered
from tests import oracle
from tests.strategies import random_graph, random_order

ROOT = Path(__file__).parents[2]
TIMES = {"seconds", "curve", "peak_rss_bytes", "before_rss_bytes"}
NAMES = ("layered_100_8000", "randwire_150_8000", "tree_80_8000")


def bench(*words, folder, **more):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "bench", *words], cwd=folder, env=env, text=True, **more)


def quick(folder, *words):
    command = ("quick", "--methods", "auto,lpmf,program", "--graphs", *NAMES, "--steps", "2000", "--jobs", "1", *words)
    process = bench(*command, folder=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with two runs of the same small suite, and what the first has printed."""
    folder = tmp_path_factory.mktemp("bench")
    out = quick(folder, "--out", "a.jsonl", "--keep-graphs", "kept", "--report", "a.html")
    quick(folder, "--out", "b.jsonl", "--keep-graphs", "kept")
    return folder, out


def test_two_files_of_the_same_seeds_differ_only_in_times(finished):
    folder, _ = finished
    first, second = ({key_of(line): line for line in lines_of(folder / name)} for name in ("a.jsonl", "b.jsonl"))
    assert len(first) == 9
    assert first.keys() == second.keys()
    for key, line in first.items():
        assert {k: v for k, v in line.items() if k not in TIMES} == {
            k: v for k, v in second[key].items() if k not in TIMES
        }


def test_a_line_says_what_was_run_and_what_came_of_it(finished):
    for line in lines_of(finished[0] / "a.jsonl"):
        case = next(case for case in cases("quick", 2) if case.name == line["graph"])
        graph = case.make()
        assert (line["graph_sha256"], line["nodes"]) == (graph.fingerprint, graph.n)
        order = unpacked(line["order"])
        assert oracle.is_legal(graph, order.tolist())
        assert oracle.peak(graph, order.tolist()) == line["peak_bytes"] >= line["bound_bytes"]
        assert line["verified"] is True
        assert line["program_peak_bytes"] == oracle.peak(graph, range(graph.n))
        assert {"numpy", "torch"} <= set(line["versions"])
        assert line["machine"]
        if line["method"] == "auto":
            assert [point[1] for point in line["curve"]] == sorted((p[1] for p in line["curve"]), reverse=True)
            assert line["curve"][-1][1:] == [line["peak_bytes"], line["bound_bytes"]]


def test_the_table_is_worked_out_from_the_lines(finished):
    folder, out = finished
    lines = lines_of(folder / "a.jsonl")
    assert out.splitlines()[2:] == list(tables("quick", lines))
    rows = rows_of(lines)
    found = score(rows, "lpmf")
    peaks = {(line["graph"], line["method"]): line["peak_bytes"] for line in lines}
    wins = sum(peaks[name, "auto"] < peaks[name, "lpmf"] for name in NAMES)
    assert (found.graphs, found.wins, found.losses) == (3, wins, 0)
    wanted = np.exp(
        np.mean([np.log(peaks[n, "lpmf"] / min(peaks[n, m] for m in ("auto", "lpmf", "program"))) for n in NAMES])
    )
    assert found.to_best == pytest.approx(wanted)
    text = (folder / "a.html").read_text()
    assert text.count("<svg") == 2
    assert all(name in text for name in NAMES)


def test_a_killed_benchmark_goes_on_where_it_was_and_repeats_nothing(tmp_path):
    command = ("quick", "--methods", "program,lpmf,auto", "--graphs", *NAMES, "--steps", "2000", "--jobs", "1")
    out = tmp_path / "quick.jsonl"
    process = bench(*command, folder=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (out.exists() and out.read_text().count("\n") >= 2):
        assert process.poll() is None or out.read_text().count("\n") >= 2
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = out.read_text()
    out.write_text(before + '{"suite": "quick", "gra')  # as a kill in the middle of a write leaves it
    said = quick(tmp_path, "--resume")
    whole = before[: before.rfind("\n") + 1]
    after = out.read_text()
    assert after.startswith(whole)
    assert len({key_of(line) for line in lines_of(out)}) == len(lines_of(out)) == 9
    there = whole.count("\n")
    assert f"{9 - there} runs to do, {there} there" in said


def test_a_file_that_is_there_is_not_added_to_unasked(finished, capsys):
    folder, _ = finished
    with pytest.raises(SystemExit, match="--resume goes on with it"):
        main(["quick", "--out", str(folder / "a.jsonl")])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--methods", "atuo"], "did you mean 'auto'"),
        (["--graphs", "moo"], "did you mean 'moe'"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--steps", "0"], "--steps must be at least 1"),
    ],
)
def test_what_is_asked_wrongly_is_said(tmp_path, words, text):
    with pytest.raises(SystemExit, match=re.escape(text)):
        main(["quick", "--out", str(tmp_path / "new.jsonl"), *words])


# ---------------------------------------------------------------- its parts


def answer(number):
    if number == 3 and not os.path.exists("seen"):
        Path("seen").write_text("once")
        os._exit(9)
    if number == 4:
        raise ValueError("four")
    if number == 5:
        time.sleep(60)
    return number * number


def nothing():
    pass


def test_a_lost_worker_costs_a_retry_and_an_error_or_a_hang_one_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.workers.TRIES", 2)
    results = on_processes(answer, list(range(7)), jobs=2, first=nothing, timeout=lambda _: 1.0)
    found = {result.task: result for result in results}
    assert {task: found[task].value for task in (0, 1, 2, 3, 6)} == {0: 0, 1: 1, 2: 4, 3: 9, 6: 36}
    assert found[4].failure == "ValueError: four"
    assert "no answer within 1 s" in found[5].failure


def test_fresh_processes_share_nothing():
    results = on_processes(process_id, [1, 2, 3], jobs=1, first=nothing, timeout=lambda _: 60.0, fresh=True)
    assert len({result.value for result in results}) == 3


def process_id(_):
    return os.getpid()


def test_a_dask_cluster_does_the_same(tmp_path):
    distributed = pytest.importorskip("distributed")
    case = Case("quick", "small", partial(layered, 40, seed=7500))
    runs = [Run(case, method, 0, 1.0, 500, tmp_path) for method in ("program", "lpmf")]
    out = tmp_path / "dask.jsonl"
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        said = list(grid.carried_out(runs, out, jobs=1, dask=cluster.scheduler_address, fresh=False))
    assert said == ["2 runs to do, 0 there"]
    lines = {line["method"]: line for line in lines_of(out)}
    assert lines["lpmf"]["peak_bytes"] == measure(runs[1])["peak_bytes"]


def test_orders_pack_and_unpack():
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(seed * 7).astype(np.int32)
        assert unpacked(packed(order)).tolist() == order.tolist()


def test_the_linear_simulator_of_the_tests_agrees_with_the_slow_one():
    import random

    rng = random.Random(7501)
    for seed in range(200):
        graph = random_graph(seed)
        order = random_order(graph, rng)
        assert oracle.peak_by_events(graph, order) == oracle.peak(graph, order)
        assert oracle.is_legal_by_position(graph, order)
        shuffled = rng.sample(order, len(order))
        assert oracle.is_legal_by_position(graph, shuffled) == oracle.is_legal(graph, shuffled)
        assert not oracle.is_legal_by_position(graph, [*order, 0])


def test_an_order_with_another_peak_is_not_verified():
    graph = layered(40, seed=7502)
    order = graphs.program_order(graph)
    assert verified(graph, order, graphs.peak_bytes(graph))
    assert not verified(graph, order, graphs.peak_bytes(graph) - 1)
    assert not verified(graph, order[::-1].copy(), graphs.peak_bytes(graph))


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_names_its_graphs_once(suite):
    names = [case.name for case in cases(suite, 2)]
    assert len(names) == len(set(names)) >= 8
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)  # they are file names too


def test_how_soon_a_run_was_near_the_best():
    line = {"peak_bytes": 100, "seconds": 9.0, "curve": [[0.1, 200, 0], [0.5, 101, 50], [2.0, 100, 100]]}
    assert seconds_to(line, 101) == 0.5
    assert seconds_to(line, 99) == float("inf")
    assert seconds_to(line | {"curve": []}, 100) == 9.0


def test_power_laws_are_found_again():
    nodes = [1_000, 10_000, 100_000]
    law = fitted(nodes, [2e-6 * n**1.5 for n in nodes])
    assert law.exponent == pytest.approx(1.5)
    assert law.factor == pytest.approx(2e-6)
    assert fitted(nodes[:2], [1.0, 2.0]) is None


def a_line(**more):
    line = {
        "suite": "quick",
        "graph": "<i>",
        "graph_sha256": "0",
        "nodes": 3,
        "program_peak_bytes": 9,
        "method": "auto",
    }
    line |= {"seed": 0, "budget_seconds": 1.0, "budget_steps": None, "peak_bytes": 8, "bound_bytes": 4, "seconds": 0.5}
    line |= {"curve": [[0.1, 8, 4]], "verified": True, "order": packed(np.arange(3)), "machine": "m", "versions": {}}
    return line | {"commit": "c", "peak_rss_bytes": 1, "before_rss_bytes": 1} | more


def test_names_are_escaped_and_losses_and_notes_are_said():
    lines = [a_line(), a_line(method="inductor", peak_bytes=7), a_line(method="xla", note="is not there")]
    del lines[2]["peak_bytes"]
    text = page("quick", lines)
    assert "<i>" not in text
    assert "&lt;i&gt;" in text
    said = "\n".join(tables("quick", lines))
    assert "`auto` is not the best on <i>: inductor" in said
    assert "not run, xla: is not there (1 graphs)" in said
    assert "NOT VERIFIED: <i>, auto" in "\n".join(tables("quick", [a_line(verified=False)]))


def test_what_is_better_than_known_is_proposed_and_kept(tmp_path, capsys):
    registry, path = tmp_path / "known.jsonl", tmp_path / "lines.jsonl"

    def go(*lines):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        main(["best_known", str(path), "--update", "--registry", str(registry)])
        return capsys.readouterr().out.splitlines()

    assert go(a_line()) == ["<i>: 8 bytes by auto, bound 4: new", "1 better than known, of 1 graphs"]
    assert go(a_line()) == ["0 better than known, of 1 graphs"]
    assert go(a_line(method="beam", peak_bytes=6, bound_bytes=5)) == [
        "<i>: peak 8 -> 6 by beam, bound 4 -> 5 by beam", "1 better than known, of 1 graphs",
    ]  # fmt: skip
    assert go(a_line(peak_bytes=5, verified=False)) == ["0 better than known, of 1 graphs"]
    kept = best_known.load(registry)["0"]
    assert (kept.peak_bytes, kept.method, kept.bound_bytes) == (6, "beam", 5)


def test_an_order_of_the_registry_is_checked_when_it_is_read():
    graph = layered(40, seed=7503)
    line = a_line(graph_sha256=graph.fingerprint, peak_bytes=graphs.peak_bytes(graph), order=packed(np.arange(40)))
    entry = best_known.better(None, line)
    assert best_known.order_of(graph, entry).tolist() == list(range(40))
    with pytest.raises(GraphError, match="another graph"):
        best_known.order_of(layered(40, seed=7504), entry)
    with pytest.raises(GraphError, match="does not have a peak of 1 bytes"):
        best_known.order_of(graph, entry._replace(peak_bytes=1))


def test_two_files_are_compared_run_by_run(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    first = [a_line(), a_line(graph="h", peak_bytes=6), a_line(graph="only a")]
    second = [a_line(peak_bytes=4, seconds=1.0), a_line(graph="h", peak_bytes=6, seconds=1.0)]
    for path, lines in zip(paths, (first, second), strict=True):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = list(compare.table(*paths))
    assert said[0] == "2 runs in both, 1 in the first only, 0 in the second only"
    assert said[4] == "| auto | 2 | 0.7071 | 1, 1, 0 | 1.0000 | 2.00 |"
    assert said[5:] == ["- <i>, auto: peak 8 -> 4, bound 4 -> 4"]


def test_what_fills_a_weight_of_a_shipped_model_is_no_node_to_place():
    graph = graphs.Graph.build(
        "light", ["w", "x", "fill", "conv", "late"], [[], [], [1], [0, 1], [3, 2]], [0, 1, 2, 3, 4], [90, 8, 7, 6, 5],
        ops=["ConstantOfShape", "Input", "ConstantOfShape", "Conv", "Add"], after=[(0, 1), (3, 4)],
        kind=[0, 0, 0, 0, 1],
    )  # fmt: skip
    found = with_weights(graph)
    assert found.labels == ("x", "fill", "conv", "late")
    assert found.resident_bytes == 90
    assert found.writer.tolist() == [-1, 0, 1, 2, 3]
    assert found.edges.T.tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]
