"""The folder of the cache: never in the way, never beyond its limit, and shared by many processes."""

import fcntl
import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphs.synthetic import layered, tree
from tests.caches import OPEN, entries, held
from topoformer.cache import Question, ScheduleCache
from topoformer.scheduling import schedule


@pytest.fixture
def cache(tmp_path):
    return ScheduleCache(tmp_path / "cache")


@pytest.fixture
def entry(cache):
    """The file of a schedule of OPEN by dfs."""
    schedule(OPEN, "dfs", seconds=1.0, cache=cache)
    return entries(cache)[0]


def places(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    return [
        file,
        file / "below",
        loop,
        loop / "below",
        Path("/proc/none"),
        Path(os.devnull) / "x",
        tmp_path / ("x" * 300),
    ]


@pytest.mark.parametrize("which", range(7))
def test_a_folder_that_cannot_be_made_costs_a_debug_line(which, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "topoformer")
    cache = ScheduleCache(places(tmp_path)[which])
    for _ in range(2):
        assert not schedule(OPEN, "dfs", seconds=1.0, cache=cache).cached
    assert caplog.records
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert str(cache.folder) in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read_still_gives_hits(cache, entry):
    cache.folder.chmod(0o500)
    try:
        assert schedule(OPEN, "dfs", seconds=1.0, cache=cache).cached
        assert not schedule(OPEN, "bfs", seconds=1.0, cache=cache).cached
    finally:
        cache.folder.chmod(0o700)


FULL_DISK = """
import resource, signal, sys
from graphs.synthetic import tree
from topoformer.cache import ScheduleCache
from topoformer.scheduling import schedule

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
cache, graph = ScheduleCache(sys.argv[1]), tree(60, seed=7)
schedule(tree(20, seed=1), "dfs", seconds=1.0)  # compiled, and kept by numba, before
for room in (0, 2, 50):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    print(schedule(graph, "dfs", seconds=1.0, cache=cache).cached)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for _ in range(2):
    print(schedule(graph, "dfs", seconds=1.0, cache=cache).cached)
print(*sorted(path.name for path in cache.folder.iterdir()))
"""


def test_a_file_that_cannot_be_written_to_its_end_leaves_nothing_behind(tmp_path):
    """The system refuses bytes beyond a limit, as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "cache"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    *hits, names = done.stdout.splitlines()
    assert hits == ["False", "False", "False", "False", "True"]
    assert len(names.split()) == 3  # the entry, the lock, and the total


def test_the_folder_keeps_within_its_limit_and_the_oldest_used_go_first(tmp_path):
    cache = ScheduleCache(tmp_path, limit_bytes=8_000)
    (tmp_path / "notes.json.gz").write_bytes(b"mine" * 5_000)
    favourite, many = tree(30, seed=0), [tree(30, seed=seed) for seed in range(1, 60)]
    schedule(favourite, "dfs", cache=cache)
    for graph in many:
        assert not schedule(graph, "dfs", cache=cache).cached
        assert held(cache) <= 8_000
        assert schedule(favourite, "dfs", cache=cache).cached  # used all the time, so it stays
    assert held(cache) > 4_000
    left = [schedule(graph, "dfs", cache=ScheduleCache(tmp_path, 1 << 30)).cached for graph in reversed(many)]
    assert left.index(False) >= 10  # those stored last are there
    assert not any(left[left.index(False) :])
    assert (tmp_path / "notes.json.gz").exists()


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path):
    cache = ScheduleCache(tmp_path, limit_bytes=500)
    schedule(tree(3, seed=0), "dfs", cache=cache)
    small = entries(cache)
    schedule(tree(500, seed=0), "dfs", cache=cache)
    assert entries(cache) == small
    assert len(small) == 1


@pytest.mark.parametrize("total", ["", "-5", "many", "1" * 30])
def test_a_note_of_the_total_that_is_wrong_is_counted_anew(total, tmp_path):
    cache = ScheduleCache(tmp_path, limit_bytes=4_000)
    for seed in range(20):
        schedule(tree(30, seed=seed), "dfs", cache=cache)
        (tmp_path / "total").write_text(total)
        assert held(cache) <= 4_000


def test_what_killed_processes_have_left_is_cleaned_away(tmp_path):
    cache = ScheduleCache(tmp_path, limit_bytes=4_000)
    left, other = tmp_path / f".{'0' * 64}.json.gz.abc", tmp_path / ".config"
    for folder in (left, other):
        folder.mkdir()
        (folder / "x").write_bytes(b"x" * 100_000)
    for seed in range(30):
        schedule(tree(30, seed=seed), "dfs", cache=cache)
    assert not left.exists()
    assert other.exists()


def test_writers_wait_for_each_other_but_not_for_ever(cache, entry):
    with open(cache.folder / "lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert schedule(OPEN, "dfs", seconds=1.0, cache=cache).cached  # reading needs no lock
        began = time.monotonic()
        assert not schedule(OPEN, "bfs", seconds=1.0, cache=cache).cached
        assert 2 <= time.monotonic() - began < 10
        assert entries(cache) == [entry]
    assert not schedule(OPEN, "bfs", seconds=1.0, cache=cache).cached
    assert len(entries(cache)) == 2


HAMMER = """
import random, sys, time
from pathlib import Path
from graphs import peak_bytes
from graphs.synthetic import layered, tree
from topoformer.cache import Answer, Question, ScheduleCache
from topoformer.outcome import Outcome
from topoformer.scheduling import schedule

folder, own = Path(sys.argv[1]), int(sys.argv[2])
small, large = ScheduleCache(folder / "small", limit_bytes=6_000), ScheduleCache(folder / "large")
graphs = [tree(40, seed=i) for i in range(12)]
wanted = [schedule(graph, "dfs", seconds=1.0) for graph in graphs]
shared = layered(40, seed=11)
found = [schedule(shared, method) for method in ("program", "lpmf", "auto")]
found = [found[(own + i) % 3] for i in range(3)]
print("ready", flush=True)
start, rng, hits = float(sys.stdin.readline()), random.Random(own), 0
for moment in range(25):  # all write an answer to one question at once: the best of them is to stay
    while time.time() < start + moment / 50:
        pass
    best = found[moment % 3]
    answer = Answer(Outcome(best.order, best.bound_bytes), best.cost.peak_bytes, 0.1, 0.1)
    large.keep_schedule(shared, Question("auto", moment, None, "memory"), answer)
for _ in range(200):
    i = rng.randrange(12)
    result = schedule(graphs[i], "dfs", seconds=1.0, cache=small)
    assert result.order.tolist() == wanted[i].order.tolist() and result.bound_bytes == wanted[i].bound_bytes
    hits += result.cached
    if rng.random() < 0.05:
        for path in list(small.folder.glob("*.json.gz"))[:1]:
            path.unlink(missing_ok=True)
print(hits, *(one.cost.peak_bytes for one in found))
"""


def test_many_processes_share_a_folder(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, tmp_path, str(i)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(3)
    ]  # fmt: skip
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write(f"{time.time() + 0.1}\n")
        process.stdin.flush()
    time.sleep(0.5)
    started[2].send_signal(signal.SIGKILL)  # wherever it is
    peaks = []
    for process in started[:2]:
        out, err = process.communicate(timeout=240)
        assert (process.returncode, err) == (0, "")
        hits, *own = map(int, out.split())
        assert hits > 20
        peaks.append(own)
    started[2].communicate()
    small, large = ScheduleCache(tmp_path / "small"), ScheduleCache(tmp_path / "large")
    assert 0 < held(small) <= 6_000
    for path in entries(small):
        assert json.loads(gzip.decompress(path.read_bytes()))["order"]
    for moment in range(25):
        kept = large.schedule(layered(40, seed=11), Question("auto", moment, None, "memory"))
        assert kept.peak_bytes <= min(own[moment % 3] for own in peaks)
    assert len(set(peaks[0])) == 3
