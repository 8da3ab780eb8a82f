"""The command line: results on stdout and nothing else there, one line on stderr for whatever cannot be done."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import graphs
from graphs.synthetic import breadth_trap, layered, tree
from topoformer.cli import main

SCHEDULE_KEYS = {
    *("format", "version", "graph", "graph_sha256", "method", "seed", "order", "program_peak_bytes", "peak_bytes"),
    *("bound_bytes", "proven_optimal", "resident_bytes", "search_seconds"),
}


@pytest.fixture
def graph_file(tmp_path):
    """A graph whose program order is not the best."""
    path = tmp_path / "wide.json"
    graphs.save(layered(60, seed=3), path)
    return str(path)


@pytest.fixture
def run(capsys):
    """``run(*argv)`` in this process: exit code, stdout, stderr."""

    def call(*argv):
        code = main([str(arg) for arg in argv])
        return code, *capsys.readouterr()

    return call


def command(*argv, **options):
    """The command as a process of its own."""
    options = {"check": False, "capture_output": True, "text": True, "timeout": 60} | options
    return subprocess.run([sys.executable, "-m", "topoformer", *map(str, argv)], **options)


def is_one_line(err):
    return err.startswith("topoformer: ") and err.endswith("\n") and err.count("\n") == 1 and err[:-1].isprintable()


def refused(answer, code, *words):
    got, out, err = answer
    assert (got, out) == (code, "")
    assert is_one_line(err), err
    assert len(err) < 2500
    for word in words:
        assert word in err
    return err


# ---------------------------------------------------------------- schedule


def test_schedule_says_what_a_person_wants_to_know(run, graph_file):
    code, out, err = run("schedule", graph_file, "--seconds", "2")
    assert (code, err) == (0, "")
    for word in ("60 nodes", "program peak", "new peak", "lower bound", "resident", "auto", "policies", "alive at"):
        assert word in out
    assert not [line for line in out.splitlines() if line != line.rstrip()]


def test_json_holds_every_key_of_the_format_and_an_order_that_costs_what_it_says(run, graph_file):
    code, out, err = run("schedule", graph_file, "--seconds", "2", "--seed", "7", "--json")
    answer, graph = json.loads(out), graphs.load(graph_file)
    assert (code, err) == (0, "")
    assert set(answer) >= SCHEDULE_KEYS
    assert (answer["format"], answer["version"], answer["seed"]) == ("topoformer.schedule", 1, 7)
    assert (answer["graph"], answer["graph_sha256"]) == (graph.name, graph.fingerprint)
    assert graphs.simulate(graph, answer["order"]).peak_bytes == answer["peak_bytes"]
    assert graphs.peak_bytes(graph) == answer["program_peak_bytes"] > answer["peak_bytes"] >= answer["bound_bytes"]


def test_gzipped_graphs_are_read_too(run, graph_file, tmp_path):
    packed = tmp_path / "wide.json.gz"
    graphs.save(graphs.load(graph_file), packed)
    plain, zipped = (json.loads(run("schedule", f, "--method", "lpmf", "--json")[1]) for f in (graph_file, packed))
    assert plain["order"] == zipped["order"]


@pytest.mark.parametrize("name", ["s.json", "s.json.gz"])
def test_output_is_the_schedule_json(run, graph_file, tmp_path, name):
    target = tmp_path / name
    code, out, _ = run("schedule", graph_file, "--method", "lpmf", "-o", target, "--json")
    data = target.read_bytes()
    assert code == 0
    assert json.loads(gzip.decompress(data) if name.endswith("gz") else data) == json.loads(out)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "wide.json"])


@pytest.mark.parametrize(
    ("make", "nodes", "verdict"),
    [(tree, 1, "the given order is already optimal"), (layered, 60, "% above")],
)
def test_the_verdict_is_in_plain_words(run, tmp_path, make, nodes, verdict):
    path = tmp_path / "g.json"
    graphs.save(make(nodes, seed=3), path)
    assert verdict in run("schedule", path, "--method", "lpmf")[1]


def test_a_found_optimum_is_called_one(run, tmp_path):
    path = tmp_path / "trap.json"
    graphs.save(breadth_trap(41, seed=0), path)
    assert "optimal: no order needs less" in run("schedule", path, "--seconds", "5")[1]


def test_an_empty_graph_is_no_trouble(run, tmp_path):
    path, report = tmp_path / "empty.json", tmp_path / "r.svg"
    path.write_text('{"format": "topoformer.graph", "version": 1, "name": "e", "nodes": [], "tensors": []}')
    code, out, err = run("schedule", path, "--report", report)
    assert (code, err) == (0, "")
    assert "0 nodes" in out
    assert report.read_text().startswith("<svg")


def test_a_memory_limit_is_kept_or_refused(run, graph_file):
    answer = json.loads(run("schedule", graph_file, "--seconds", "2", "--json")[1])
    needed = answer["peak_bytes"] + answer["resident_bytes"]
    words = ["60 nodes", "new peak"]
    code, out, err = run("schedule", graph_file, "--seconds", "2", "--memory-limit", needed)
    assert (code, err) == (0, "")
    assert all(word in out for word in words)
    refused(run("schedule", graph_file, "--seconds", "2", "--memory-limit", "1KiB"), 1, "1.00 KiB", "bytes")


# ---------------------------------------------------------------- compare, generate, methods


def test_compare_has_a_row_a_method_and_marks_the_lowest(run, graph_file):
    code, out, err = run("compare", graph_file, "--methods", "program,lpmf, net_change")
    rows = {line.split()[0]: line for line in out.splitlines()[2:-1]}
    assert (code, err) == (0, "")
    assert list(rows) == ["program", "lpmf", "net_change"]
    assert any(line.endswith("*") for line in rows.values())
    assert "1.000" in rows["program"]


def test_compare_as_json_holds_every_method_to_the_best_bound(run, graph_file):
    rows = json.loads(run("compare", graph_file, "--methods", "random,auto", "--seconds", "2", "--json")[1])
    assert [row["method"] for row in rows] == ["random", "auto"]
    assert rows[0]["bound_bytes"] == rows[1]["bound_bytes"] <= rows[1]["peak_bytes"] <= rows[0]["peak_bytes"]


def test_generate_writes_the_same_graph_to_stdout_and_to_a_file(run, tmp_path):
    target = tmp_path / "t.json.gz"
    code, out, err = run("generate", "tree", "--nodes", 9, "--seed", 4)
    assert code == run("generate", "tree", "--nodes", 9, "--seed", 4, "-o", target)[0] == 0
    assert graphs.load(target).fingerprint == tree(9, seed=4).fingerprint
    assert json.loads(out) == json.loads(gzip.decompress(target.read_bytes()))
    assert "9 nodes" in err


def test_methods_says_a_line_of_each(run):
    code, out, err = run("methods")
    assert (code, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()]
    assert names[:3] == ["method", "auto", "exact"]
    assert {"beam", "local_search", "cuts", "program", "lpmf"} <= set(names)
    assert all(len(line.split()) > 4 and len(line) <= 120 for line in out.splitlines())


def test_training_has_a_command_line_of_its_own(run):
    code, out, err = run("train", "--help")
    assert (code, err) == (0, "")
    assert "--minutes" in out
    assert "train" in run("--help")[1]


@pytest.mark.parametrize("argv", [["--help"], ["schedule", "--help"], ["compare", "--help"], ["generate", "--help"]])
def test_help_shows_an_example(run, argv):
    code, out, err = run(*argv)
    assert (code, err) == (0, "")
    assert re.search(r"^ +topoformer \w+ \S+", out, re.MULTILINE)


def test_version(run):
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"topoformer \S.*\n", out)


# ---------------------------------------------------------------- usage: exit 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["COMMAND"]),
        (["shedule", "G"], ["shedule", "schedule"]),
        (["schedule"], ["SOURCE"]),
        (["schedule", "G", "--method", "lpfm"], ["'lpfm'", "did you mean 'lpmf'", "net_change"]),
        (["schedule", "G", "--method", ""], ["method", "lpmf"]),
        (["schedule", "G", "--objective", "memry"], ["did you mean 'memory'"]),
        (["schedule", "G", "--secnds", "3"], ["--secnds", "did you mean '--seconds'"]),
        (["schedule", "G", "H"], ["H"]),
        (["schedule", "G", "--seconds"], ["--seconds"]),
        (["schedule", "G", "--seconds", "0"], ["--seconds", "positive", "0"]),
        (["schedule", "G", "--seconds", "-1"], ["--seconds", "positive", "-1"]),
        (["schedule", "G", "--seconds", "nan"], ["--seconds", "positive", "nan"]),
        (["schedule", "G", "--seconds", "1e999"], ["--seconds", "finite", "1e999"]),
        (["schedule", "G", "--seconds", "soon"], ["--seconds", "number", "'soon'"]),
        (["schedule", "G", "--seed", "-1"], ["--seed", "-1"]),
        (["schedule", "G", "--seed", "1.5"], ["--seed", "integer", "1.5"]),
        (["schedule", "G", "--seed", "9" * 5000], ["--seed", "integer"]),
        (["compare", "G", "--methods", ""], ["method"]),
        (["compare", "G", "--methods", "lpmf,,auto"], ["method", "lpmf"]),
        (["compare", "G", "--methods", "lpmf,bsf"], ["did you mean 'bfs'"]),
        (["generate", "layred", "--nodes", "5"], ["did you mean 'layered'"]),
        (["generate", "layered"], ["--nodes"]),
        (["generate", "layered", "--nodes", "-1"], ["--nodes", "-1"]),
        (["generate", "layered", "--nodes", "x"], ["--nodes", "integer", "'x'"]),
        (["generate", "layered", "--nodes", "0"], ["layered", "0"]),
        (["generate", "layered", "--nodes", "4000000000000"], ["--nodes", "4000000000000"]),
        (["generate", "layered", "--nodes", "5", "--seed", "-3"], ["--seed", "-3"]),
        (["schedule", "G", "--save", "DIR/x.pt2"], ["--save", "graph"]),
        (["schedule", "G", "--verify"], ["--verify", "graph"]),
        (["schedule", "G", "--measure-scratch"], ["--measure-scratch", "graph"]),
        (["schedule", "G", "--memory-limit", "4 gigs"], ["--memory-limit", "'gigs'", "GiB"]),
        (["schedule", "G", "--memory-limit", "-4"], ["--memory-limit", "'-4'"]),
        (["compare", "G", "--memory-limit", "4"], ["--memory-limit"]),
        (["schedule", "G", "--save", "DIR/x.txt"], ["--save", ".pt2", "x.txt"]),
        (["schedule", "G", "--report", "DIR/x.gif"], ["--report", ".html", ".svg", "x.gif"]),
        (["schedule", "G", "-o", "DIR/no/such/s.json"], ["no directory", "such"]),
        (["schedule", "G", "-o", "DIR"], ["is a directory"]),
        (["schedule", "G", "--report", "DIR/no/s.svg"], ["no directory"]),
        (["generate", "tree", "--nodes", "3", "-o", "DIR"], ["is a directory"]),
        (["generate", "tree", "--nodes", "3", "-o", "DIR/x.txt"], [".json", "x.txt"]),
        (["schedule", "G", "-o", "DIR/s.svg", "--report", "DIR/./s.svg"], ["s.svg", "-o", "--report"]),
        (["schedule", "G", "-o", "G"], ["SOURCE"]),
    ],
)
def test_usage(run, graph_file, tmp_path, argv, words):
    before = sorted(os.listdir(tmp_path))
    kept = Path(graph_file).read_bytes()
    argv = [arg.replace("DIR", str(tmp_path)) if arg != "G" else graph_file for arg in argv]
    err = refused(run(*argv), 2, *words)
    assert "_natural" not in err
    assert sorted(os.listdir(tmp_path)) == before
    assert Path(graph_file).read_bytes() == kept


# ---------------------------------------------------------------- graphs that cannot be read: exit 1


def graph_text(**changes):
    node = {"name": "a", "op": "f", "reads": [], "writes": [0]}
    data = {"format": "topoformer.graph", "version": 1, "name": "g", "nodes": [node], "tensors": [{"bytes": 4}]}
    return json.dumps(data | changes)


def nodes(*rows, **more):
    keys = ("name", "reads", "writes", "after")
    return graph_text(nodes=[dict(zip(keys, row, strict=False)) for row in rows], **more)


def test_files_that_are_none(run, tmp_path, graph_file):
    refused(run("schedule", tmp_path / "missing.json"), 1, "missing.json", "No such file")
    refused(run("schedule", tmp_path), 1, str(tmp_path), "directory")
    half = tmp_path / "half.json.gz"
    half.write_bytes(gzip.compress(Path(graph_file).read_bytes())[:-200])
    refused(run("schedule", half), 1, "half.json.gz", "gzip")
    refused(run("schedule", "a\nb\x1b[31m.json"), 1, "\\x1b")
    refused(run("schedule", "null\0byte.json"), 1)
    refused(run("schedule", tmp_path / "m.onnx"), 1, "m.onnx")
    refused(run("schedule", ""), 1)


@pytest.mark.parametrize("name", ["zeros.json", "zeros.json.gz", "zeros.pt2"])
def test_a_gigabyte_of_zeros_is_refused_at_once(run, tmp_path, name):
    path = tmp_path / name
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    began = time.perf_counter()
    refused(run("schedule", path), 1, name)
    assert time.perf_counter() - began < 10  # torch's import is in it


def test_names_are_printed_without_their_control_characters(run, tmp_path):
    path, report = tmp_path / "g.json", tmp_path / "r.html"
    path.write_text(nodes(("\x1b[31m<script>\n" + "x" * 100_000, [], [0]), name="\x1b]0;n\x07\u2028"))
    code, out, err = run("schedule", path, "--report", report)
    assert (code, err) == (0, "")
    assert all(line.isprintable() and len(line) < 200 for line in out.splitlines())
    page = report.read_text()
    assert page.count("<script") == 2  # its own data and code
    assert "\x1b" not in page
    assert len(page) < 150_000


# ---------------------------------------------------------------- as a process


def test_stdout_is_pure_json_and_stderr_is_silent(graph_file):
    done = command("schedule", graph_file, "--method", "lpmf", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["method"] == "lpmf"


def test_exit_codes_reach_the_shell(graph_file):
    for argv, code in [(["schedule", "no.json"], 1), (["schedule", graph_file, "--seconds", "0"], 2)]:
        done = command(*argv)
        assert (done.returncode, done.stdout) == (code, "")
        assert is_one_line(done.stderr)


def test_any_name_can_be_printed_in_ascii(tmp_path):
    path = tmp_path / "g.json"
    path.write_text(nodes(("größe\ud800", [], [0]), name="ネットワーク"))
    done = command("schedule", path, "--method", "lpmf", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 nodes" in done.stdout or "1 node" in done.stdout
    assert "\\u30cd" in done.stdout


def test_a_narrow_terminal_keeps_the_usage_error_on_one_line(graph_file):
    done = command("schedule", graph_file, "--methd", "lpmf", env=os.environ | {"COLUMNS": "40"})
    refused((done.returncode, done.stdout, done.stderr), 2, "--methd", "did you mean '--method'")


def test_a_reader_that_leaves_is_no_error():
    argv = [sys.executable, "-m", "topoformer", "generate", "layered", "--nodes", "5000"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert "Traceback" not in err
    assert "Broken" not in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_line(graph_file):
    with open("/dev/full", "w") as full:
        done = command(
            "schedule", graph_file, "--method", "lpmf", stdout=full, stderr=subprocess.PIPE, capture_output=False
        )
    assert done.returncode == 1
    assert is_one_line(done.stderr)


def test_a_graph_costs_no_heavy_import(graph_file):
    code = (
        "import sys; from topoformer.cli import main; code = main(sys.argv[1:]);"
        "print([m for m in ('torch', 'torch_geometric', 'botorch', 'rich') if m in sys.modules], code)"
    )
    argv = [sys.executable, "-c", code, "schedule", graph_file, "--method", "lpmf", "-o", os.devnull]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)
    assert done.stdout.endswith("[] 0\n"), done.stdout + done.stderr


INTERRUPTED = """
import sys
from topoformer.cli import main
main(["schedule", sys.argv[1], "--seconds", "2", "-o", sys.argv[1] + ".warm"])
sys.stdout.flush()
print("ready", file=sys.stderr, flush=True)
sys.exit(main(["schedule", sys.argv[2], "--seconds", "60", "--json"]))
"""


def test_an_interrupt_prints_the_best_order_so_far(graph_file, tmp_path):
    hard = tmp_path / "hard.json"
    graphs.save(layered(500, seed=0), hard)
    argv = [sys.executable, "-c", INTERRUPTED, graph_file, str(hard)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "ready\n"
        time.sleep(2.0)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        began = time.perf_counter()
        out, err = process.communicate(timeout=120)
        took = time.perf_counter() - began
    assert (process.returncode, err) == (0, "")
    answer = json.loads(out.splitlines()[-1])
    assert graphs.simulate(graphs.load(hard), answer["order"]).peak_bytes == answer["peak_bytes"]
    assert answer["peak_bytes"] < answer["program_peak_bytes"]
    assert answer["search_seconds"] < 30
    assert took < 20  # far from the 60 that it was given


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_progress_is_for_terminals_and_only_on_stderr(graph_file):
    main_end, terminal = os.openpty()
    done = command(
        *("schedule", graph_file, "--seconds", "1", "--json"),
        stdout=subprocess.PIPE,
        stderr=terminal,
        capture_output=False,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(terminal)
    shown = os.read(main_end, 4096).decode()
    os.close(main_end)
    assert done.returncode == 0
    assert json.loads(done.stdout)["format"] == "topoformer.schedule"
    assert "auto" in shown
