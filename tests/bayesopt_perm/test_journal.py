import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bayesopt_perm import BayesOpt, JournalError, PermutationSpace, minimize
from bayesopt_perm.journal import Journal
from bayesopt_perm.problems import random_flow_shop

ROOT = Path(__file__).parents[2]
KILLS = 50
PROBLEM = random_flow_shop(9, 3, seed=1)
OPTIONS = {"batch_size": 4, "initial": 8, "seed": 5}


def rounds(opt, count):
    for _ in range(count):
        batch = opt.ask()
        opt.tell(batch, PROBLEM.evaluate(batch))


def told(history):
    return [(evaluation.order.tolist(), evaluation.value) for evaluation in history]


@pytest.mark.parametrize("stopped", [0, 1, 2, 3, 5])
def test_a_search_goes_on_where_it_stopped(tmp_path, stopped):
    whole = BayesOpt(PROBLEM.space, **OPTIONS)
    rounds(whole, 7)
    first = BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
    rounds(first, stopped)
    first.close()
    second = BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
    rounds(second, 7 - stopped)
    second.close()
    assert told(second.history) == told(whole.history)


def test_whatever_line_is_torn_the_same_evaluations_follow(tmp_path):
    path = tmp_path / "j"
    wanted = minimize(PROBLEM, 9, budget=20, journal=path, **OPTIONS)
    data = path.read_bytes()
    rng = random.Random(0)
    for cut in sorted({1, len(data) - 1, *(rng.randrange(len(data)) for _ in range(12))}):
        path.write_bytes(data[:cut])
        counted = []
        found = minimize(lambda order: counted.append(order) or PROBLEM(order), 9, budget=20, journal=path, **OPTIONS)  # noqa: B023
        assert told(found.history) == told(wanted.history), cut
        known = sum(line.startswith(b'{"tell"') for line in data[:cut].split(b"\n")[:-1])
        assert len(counted) == 20 - known, cut
        assert path.read_bytes() == data, cut


NURSERY = """
import os, random, signal, sys, time
from bayesopt_perm import minimize
from bayesopt_perm.problems import random_flow_shop
folder, kills = sys.argv[1], int(sys.argv[2])
problem = random_flow_shop(9, 3, seed=1)
options = dict(batch_size=4, initial=8)
def f(order):
    with open(f"{folder}/{search}.log", "a") as log:
        log.write(".")
    time.sleep(0.002)
    return problem(order)
minimize(problem, 9, budget=20, **options)  # what is compiled is compiled once
rng, search = random.Random(1), 0
while kills:
    child = os.fork()
    if not child:
        minimize(f, 9, budget=40, seed=search, journal=f"{folder}/{search}.jsonl", **options)
        os._exit(0)
    time.sleep(rng.uniform(0.0, 0.2))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    kills -= status == signal.SIGKILL
    search += status == 0
minimize(f, 9, budget=40, seed=search, journal=f"{folder}/{search}.jsonl", **options)
print(search + 1)
"""


def test_killed_at_any_moment_nothing_is_lost_and_nothing_counted_twice(tmp_path):
    """Fifty kills, each start going on with what the one before left, a new search once one has ended."""
    argv = [sys.executable, "-c", NURSERY, str(tmp_path), str(KILLS)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    evaluated = 0
    for search in range(int(done.stdout)):
        lines = [json.loads(line) for line in (tmp_path / f"{search}.jsonl").read_text().splitlines()]
        tells = [entry["tell"][0] for entry in lines if "tell" in entry]
        assert len(tells) == 40 == len({tuple(order) for order in tells})
        wanted = minimize(PROBLEM, 9, budget=40, **{**OPTIONS, "seed": search})
        assert [evaluation.order.tolist() for evaluation in wanted.history] == tells
        evaluated += len((tmp_path / f"{search}.log").read_text())
    assert 0 <= evaluated - 40 * int(done.stdout) <= KILLS  # a kill repeats at most the evaluation that it cut short


def test_two_processes_on_one_journal_are_refused(tmp_path):
    opt = BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
    code = "import sys; from bayesopt_perm import *; BayesOpt(PermutationSpace(9), seed=5, journal=sys.argv[1])"
    other = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "j"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert other.returncode == 1
    assert other.stderr.splitlines()[-1].endswith(f"{tmp_path / 'j'}: another process is using this journal")
    opt.close()
    BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS).close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": PermutationSpace(8)}, "'n' is 9, not 8"),
        ({"space": PermutationSpace(9, [(0, 1)])}, "'precedence' is [], not [[0, 1]]"),
        ({"seed": 6}, "'seed' is 5, not 6"),
        ({"start": [[8, 7, 6, 5, 4, 3, 2, 1, 0]]}, "'start' is null, not [[8, 7, 6, 5, 4, 3, 2, 1, 0]]"),
        ({"kernel": "mallows"}, '\'kernel\' is "auto", not "mallows"'),
    ],
)
def test_a_journal_of_another_search_is_refused(tmp_path, change, message):
    path = tmp_path / "j"
    BayesOpt(PROBLEM.space, journal=path, **OPTIONS).close()
    before = path.read_bytes()
    with pytest.raises(JournalError) as caught:
        BayesOpt(**{"space": PROBLEM.space, "journal": path, **OPTIONS, **change})
    assert str(caught.value) == f"{path}: belongs to another search: {message}"
    assert path.read_bytes() == before
    BayesOpt(PROBLEM.space, journal=path, **OPTIONS).close()  # the lock was let go


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"format": 3}'])
def test_a_file_that_is_no_journal_is_refused(tmp_path, line):
    (tmp_path / "j").write_text(line + "\n")
    with pytest.raises(JournalError, match=str(tmp_path / "j")):
        Journal(tmp_path / "j", {})


def test_values_and_failures_come_back_exactly(tmp_path):
    opt = BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
    batch = opt.ask()
    values = [0.1 + 0.2, 1e-300, np.nan, 5.0]
    opt.tell(batch, values, [None, None, "OSError: no device", None])
    opt.close()
    again = BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
    assert [evaluation.value for evaluation in again.history[:2]] == values[:2]
    assert again.history[2].failure == "OSError: no device"


def test_an_entry_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    opt = BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
    batch = opt.ask()
    before = (tmp_path / "j").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            opt.tell(batch, PROBLEM.evaluate(batch))
    assert (tmp_path / "j").read_bytes() == before
    opt.tell(batch, PROBLEM.evaluate(batch))
    opt.close()
    again = BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
    assert told(again.history) == told(opt.history)


def test_a_forked_worker_that_lives_on_does_not_hold_the_journal(tmp_path):
    opt = BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
    begun, begins = os.pipe()
    worker = os.fork()
    if not worker:
        os.write(begins, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(begun, 1)
    try:
        with pytest.raises(JournalError, match="another process"):
            BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
        opt.close()  # as the kernel does for a process that is killed
        BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS).close()
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)


def test_an_entry_of_another_version_is_said_and_the_file_let_go(tmp_path):
    opt = BayesOpt(PROBLEM.space, journal=tmp_path / "j", **{**OPTIONS, "seed": np.int64(5)})
    opt.close()
    data = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(data + b'{"asked": 1}\n')
    with pytest.raises(JournalError, match="an entry is not one of this version"):
        BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS)
    (tmp_path / "j").write_bytes(data)
    BayesOpt(PROBLEM.space, journal=tmp_path / "j", **OPTIONS).close()


@pytest.mark.parametrize(
    "content", [b"not a journal", b'{"format": "topoformer.graph"}', b"PK\x03\x04\n\x00\x01", b"{}\n{}"]
)
def test_a_file_of_something_else_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(JournalError):
        BayesOpt(PROBLEM.space, journal=path, **OPTIONS)
    assert path.read_bytes() == content


def test_a_header_that_a_kill_has_cut_is_written_again(tmp_path):
    path = tmp_path / "j"
    BayesOpt(PROBLEM.space, journal=path, **OPTIONS).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    BayesOpt(PROBLEM.space, journal=path, **OPTIONS).close()
    assert path.read_bytes() == whole


def test_a_journal_with_another_tag_is_refused(tmp_path):
    path = tmp_path / "j"
    BayesOpt(PROBLEM.space, journal=path, tag="seconds", **OPTIONS).close()
    for tag in ("bytes", None):
        with pytest.raises(JournalError, match="belongs to another search: 'tag' is \"seconds\""):
            BayesOpt(PROBLEM.space, journal=path, tag=tag, **OPTIONS)
    BayesOpt(PROBLEM.space, journal=path, tag="seconds", **OPTIONS).close()
