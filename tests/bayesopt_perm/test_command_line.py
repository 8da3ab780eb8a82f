import json
import os
import pickle
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from bayesopt_perm.__main__ import main
from bayesopt_perm.objective_source import ObjectiveSource

ROOT = Path(__file__).parents[2]
CODE = """
import numpy as np
from beside import WEIGHT
number = 3
def moved(order):
    return WEIGHT * float(np.abs(order - np.sort(order)).sum())
def fails(order):
    raise OSError("no device")
def interrupted(order, seen=[]):
    seen.append(order)
    if len(seen) == 12:
        raise KeyboardInterrupt
    return moved(order)
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("WEIGHT = 2.0\n")
    (tmp_path / "measured.py").write_text(CODE)
    return tmp_path / "measured.py"


@pytest.fixture
def call(capsys):
    def run(*argv):
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


SHORT = ("-n", "6", "--budget", "20", "--initial", "10")


def test_a_function_of_a_file_is_minimised(call, file):
    code, out, err = call(f"{file}:moved", *SHORT)
    assert (code, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    order = json.loads(lines["order"])
    assert float(lines["value"]) == 2 * sum(abs(place - item) for place, item in enumerate(order))
    assert (lines["evaluations"], lines["failed"], lines["stopped"]) == ("20", "0", "budget")


def test_processes_give_what_this_one_gives(call, file):
    wanted = call(f"{file}:moved", *SHORT, "--json")
    assert call(f"{file}:moved", *SHORT, "--json", "--processes", "2") == wanted
    assert json.loads(wanted[1])["evaluations"] == 20


def test_a_function_of_a_module_in_this_folder(call, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    monkeypatch.syspath_prepend("")
    assert call("measured:moved", *SHORT, "--json") == call(f"{file}:moved", *SHORT, "--json")


def test_ctrl_c_prints_the_best_and_the_journal_goes_on(call, file, tmp_path):
    argv = (f"{file}:interrupted", *SHORT, "--json", "--journal", tmp_path / "j")
    code, out, err = call(*argv)
    assert (code, err) == (0, "")
    assert (json.loads(out)["evaluations"], json.loads(out)["stopped"]) == (11, "interrupted")
    ended = json.loads(call(*argv)[1])
    assert (ended["evaluations"], ended["stopped"]) == (20, "budget")
    assert ended == json.loads(call(f"{file}:moved", *SHORT, "--json")[1])


def test_precedence_and_a_start_come_from_files(call, file, tmp_path):
    (tmp_path / "pairs.json").write_text("[[5, 0], [4, 1]]")
    (tmp_path / "start.json").write_text("[[5, 4, 3, 2, 1, 0]]")
    argv = (f"{file}:moved", *SHORT, "--precedence", tmp_path / "pairs.json", "--start", tmp_path / "start.json")
    order = json.loads(call(*argv, "--json")[1])["order"]
    assert order.index(5) < order.index(0)
    assert order.index(4) < order.index(1)


def test_progress_is_for_terminals(file):
    main_end, terminal = pty.openpty()
    argv = [sys.executable, "-m", "bayesopt_perm", f"{file}:moved", *SHORT]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal, text=True, timeout=300, check=True)
    os.close(terminal)
    assert "20 of 20 evaluations, best " in os.read(main_end, 10_000).decode()
    assert "of 20" not in done.stdout


def test_a_source_is_pickled_as_its_text(file):
    source = ObjectiveSource(f"{file}:moved")
    assert source([1, 0]) == 4.0
    assert len(pickle.dumps(source)) < 300
    assert pickle.loads(pickle.dumps(source))([1, 0]) == 4.0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("{file}:none", *SHORT), "'{file}:none': there is no function 'none' in {file}"),
        (("{file}:number", *SHORT), "'{file}:number': there is no function 'number' in {file}"),
        (("{file}", *SHORT), "'{file}' is neither module:function nor path/file.py:function"),
        (("none.py:f", *SHORT), "'none.py:f': there is no file 'none.py'"),
        (("no_module:f", *SHORT), "'no_module:f': No module named 'no_module'"),
        (("{file}:moved", "-n", "6", "--budget", "5"), "'budget' is 5, less than the 30 initial evaluations"),
        (("{file}:moved", *SHORT, "--kernel", "hammer"), "unknown 'kernel' 'hammer' (known: auto, hamming"),
        (("{file}:moved", *SHORT, "--rule", "lawn"), "unknown 'batch' 'lawn' (known: law"),
        (("{file}:moved", *SHORT, "--processes", "-1"), "'processes' must be at least 1 (got -1)"),
        (("{file}:moved", *SHORT, "--precedence", "{file}"), "{file}: Expecting value"),
        (("{file}:fails", *SHORT), "no evaluation gave a value: OSError: no device"),
        (("{file}:moved", *SHORT, "--journal", "/dev/null/j"), "[Errno 20] Not a directory: '/dev/null/j'"),
    ],
)
def test_what_is_wrong_is_one_line(call, file, argv, message):
    code, out, err = call(*(word.format(file=file) for word in argv))
    assert (code, out) == (1, "")
    assert err.startswith("bayesopt_perm: " + message.format(file=file))
    assert err.count("\n") == 1


def test_usage_is_exit_code_two(call, file):
    assert call(f"{file}:moved")[0] == 2
    assert call(f"{file}:moved", *SHORT, "--processes", "2", "--dask", "tcp://a:1")[0] == 2
    assert call("--help")[0] == 0


def test_a_scheduler_that_does_not_answer_is_one_line(call, file, monkeypatch):
    monkeypatch.setattr("bayesopt_perm.workers.CONNECT", "1s")
    code, out, err = call(f"{file}:moved", *SHORT, "--dask", "tcp://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("bayesopt_perm: Timed out trying to connect to tcp://127.0.0.1:1")
