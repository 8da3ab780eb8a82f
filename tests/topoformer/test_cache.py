"""The cache on disk: a hit is the answer that was searched, and whatever is wrong with a file is a miss."""

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphs.bound import check_bound, footprint_bound
from graphs.cost import OBJECTIVES
from graphs.cuts import Witness
from graphs.implied import Refutation
from graphs.json_format import graph_to_json
from graphs.synthetic import FAMILIES, layered, tree
from tests.caches import OPEN, entries
from tests.interrupts import interrupted_after
from tests.strategies import random_graph, tangled_graph
from topoformer.cache import Answer, Question, ScheduleCache
from topoformer.outcome import Outcome
from topoformer.scheduling import SCHEDULERS, schedule

NAMED = {name: make(40, seed=11) for name, make in FAMILIES.items()}
FACTS = (
    *("order", "cost", "program_cost", "method_cost", "bound_bytes", "method", "seed"),
    *("search_seconds", "phases", "interrupted", "narrowed"),
)


@pytest.fixture
def cache(tmp_path):
    return ScheduleCache(tmp_path / "cache")


def facts(result):
    return [value.tolist() if isinstance(value := getattr(result, name), np.ndarray) else value for name in FACTS]


def parts(witness):
    if witness is None:
        return None
    return type(witness), [v.tolist() if isinstance(v, np.ndarray) else v for v in vars(witness).values()]


def changed(path, **values):
    """Write the entry again with other values, as a well-formed file."""
    data = json.loads(gzip.decompress(path.read_bytes())) | values
    path.write_bytes(gzip.compress(json.dumps(data).encode()))


@pytest.mark.parametrize("method", SCHEDULERS)
def test_a_hit_is_what_was_searched(method, cache):
    few = {graph.fingerprint: graph for graph in [*NAMED.values(), *map(random_graph, range(20))]}
    for graph in few.values():
        first = schedule(graph, method, seconds=0.2, seed=4, cache=cache)
        again = schedule(graph, method, seconds=0.2, seed=4, cache=cache)
        assert (first.cached, again.cached) == (False, True), graph
        assert facts(again) == facts(first)
        assert parts(again.witness) == parts(first.witness)
        assert again.graph is graph


CUT, REFUTED = (NAMED["layered"], "cuts"), (layered(80, seed=3), "exact")  # with a proof of the one and the other kind


def test_the_proof_of_a_hit_can_be_checked(cache):
    for (graph, method), kind in ((CUT, Witness), (REFUTED, Refutation)):
        assert isinstance(schedule(graph, method, cache=cache).witness, kind)
        again = schedule(graph, method, cache=cache)
        assert again.cached
        assert check_bound(graph, again.witness)


def test_another_question_is_a_miss(cache):
    graph = OPEN
    asked = {"method": "dfs", "seconds": 1.0, "seed": 0}
    schedule(graph, **asked, cache=cache)
    relabelled = replace(graph, labels=tuple(f"{label}_" for label in graph.labels))
    for other, change in [
        (graph, {"seed": 1}),
        (graph, {"steps": 50}),
        (graph, {"method": "lpmf"}),
        (relabelled, {}),
        (replace(graph, size=graph.size * 2), {}),
    ]:
        assert not schedule(other, **asked | change, cache=cache).cached
        assert schedule(other, **asked | change, cache=cache).cached
    renamed = replace(graph, name="other", sources=("model.py:1",) * graph.n)  # what no order depends on
    assert schedule(renamed, **asked, cache=cache).cached
    assert schedule(renamed, **asked, cache=cache).graph is renamed


def test_another_objective_or_a_function_is_never_kept(cache):
    twin = replace(OBJECTIVES["memory"])
    for arguments in ({"objective": twin, "method": "dfs"}, {"method": lambda graph, goal, *, seconds, seed: range(3)}):
        for _ in range(2):
            assert not schedule(tree(3, seed=1), **arguments, cache=cache).cached
    assert not cache.folder.exists()


def test_fewer_seconds_are_a_hit_and_more_only_for_what_is_proven(cache):
    assert not schedule(OPEN, "dfs", seconds=1.0, cache=cache).proven_optimal
    assert schedule(OPEN, "dfs", seconds=0.5, cache=cache).cached
    assert not schedule(OPEN, "dfs", seconds=1.5, cache=cache).cached
    assert schedule(OPEN, "dfs", seconds=1.5, cache=cache).cached
    assert schedule(NAMED["tree"], seconds=1.0, cache=cache).proven_optimal
    assert schedule(NAMED["tree"], seconds=100.0, cache=cache).cached


def test_a_longer_search_adds_to_what_is_known_and_takes_nothing_away(cache):
    graph, question = NAMED["layered"], Question("bfs", 0, None, "memory")
    best, own, floor = schedule(graph), schedule(graph, "bfs"), footprint_bound(graph)
    assert floor < own.bound_bytes <= best.cost.peak_bytes < own.cost.peak_bytes
    cache.keep_schedule(graph, question, Answer(Outcome(best.order, floor), best.cost.peak_bytes, 0.1, 0.1))
    result = schedule(graph, "bfs", seconds=1.0, cache=cache)
    assert not result.cached  # it was searched
    assert (result.cost, result.bound_bytes) == (best.cost, own.bound_bytes)
    assert parts(result.witness) == parts(own.witness)
    cache.keep_schedule(graph, question, Answer(Outcome(own.order, floor), own.cost.peak_bytes, 0.5, 0.5))
    kept = cache.schedule(graph, question)
    assert (kept.peak_bytes, kept.outcome.bound_bytes) == (best.cost.peak_bytes, own.bound_bytes)
    assert kept.asked_seconds == 1.0


def test_a_bound_that_a_better_order_refutes_is_forgotten(cache):
    graph, question = NAMED["layered"], Question("auto", 0, None, "memory")
    own, best = schedule(graph, "bfs"), schedule(graph)
    lie = Answer(Outcome(own.order, own.cost.peak_bytes - 1), own.cost.peak_bytes, 0.1, 0.1)
    cache.keep_schedule(graph, question, lie)
    for _ in range(2):
        result = schedule(graph, seconds=1.0, cache=cache)
        assert (result.cost, result.bound_bytes) == (best.cost, best.bound_bytes)
    assert result.cached


def test_what_was_interrupted_is_not_kept(cache):
    graph = layered(3000, seed=5)
    schedule(layered(50, seed=1))  # compiled by now
    with interrupted_after(0.3):
        result = schedule(graph, seconds=60, cache=cache)
    assert result.interrupted
    assert not cache.folder.exists()


# --- what is read is not believed


@pytest.fixture
def entry(cache):
    """The file of a schedule of OPEN by dfs."""
    schedule(OPEN, "dfs", seconds=1.0, cache=cache)
    return entries(cache)[0]


def is_a_miss_then_a_hit(cache, graph=OPEN, method="dfs"):
    wanted = schedule(graph, method, seconds=1.0)
    for cached in (False, True):
        result = schedule(graph, method, seconds=1.0, cache=cache)
        assert result.cached is cached
        assert result.order.tolist() == wanted.order.tolist()
        assert (result.cost, result.bound_bytes) == (wanted.cost, wanted.bound_bytes)


PEAK = schedule(OPEN, "dfs").cost.peak_bytes
ORDER = schedule(OPEN, "dfs").order.tolist()
LIES = [
    {"key": None},
    {"key": ["schedule"]},
    {"order": None},
    {"order": []},
    {"order": ORDER[::-1]},
    {"order": [*ORDER[:-1], ORDER[0]]},
    {"order": ORDER[:-1]},
    {"order": [float(v) for v in ORDER]},
    {"order": [1 << 70, *ORDER[1:]]},
    {"order": [[v] for v in ORDER]},
    {"order": {"0": 1}},
    {"order_peak_bytes": PEAK - 1},
    {"order_peak_bytes": str(PEAK)},
    {"bound_bytes": PEAK + 1},
    {"bound_bytes": 0},
    {"bound_bytes": -1},
    {"bound_bytes": 1e3},
    {"bound_bytes": True},
    {"asked_seconds": 0},
    {"asked_seconds": "1"},
    {"search_seconds": None},
    {"witness": 3},
    {"witness": {"kind": "a good feeling"}},
    {"witness": {"kind": ["minimum cut"]}},
    {"phases": None},
    {"phases": [None]},
    {"phases": [{"name": "policies"}]},
    {"phases": [{"name": 1, "seconds": 0, "peak_bytes": 1, "bound_bytes": 1}]},
    {"narrowed": None},
    {"narrowed": "\x1b[31m"},
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: f"{next(iter(lie))}-{str(next(iter(lie.values())))[:12]}")
def test_an_entry_that_says_something_untrue_is_a_miss(lie, cache, entry):
    changed(entry, **lie)
    is_a_miss_then_a_hit(cache)


@pytest.mark.parametrize(("graph", "method"), [CUT, REFUTED])
def test_a_witness_that_is_none_is_a_miss(graph, method, cache):
    first = schedule(graph, method, seconds=1.0, cache=cache)
    path = entries(cache)[0]
    good = json.loads(gzip.decompress(path.read_bytes()))["witness"]
    lists = [name for name, value in good.items() if isinstance(value, list)]
    lies = [{"bytes": good["bytes"] - 999}, {"node": graph.n}, {"node": -1}, {"node": None}]
    lies += [{name: wrong} for name in lists for wrong in (None, [*good[name], 1], [-1], ["a"], [1 << 63])]
    is_cut = isinstance(first.witness, Witness)
    lies += [{"number_of_arcs": 1 << 40}, {"number_of_arcs": 0}] if is_cut else [{"kind": "minimum cut"}]
    lies.remove({"ideal": [*good["ideal"], 1]}) if is_cut else None  # it is for people: the flow alone is the proof
    for lie in lies:
        changed(path, witness=good | lie)
        assert not schedule(graph, method, seconds=1.0, cache=cache).cached, lie
        assert schedule(graph, method, seconds=1.0, cache=cache).cached


def test_a_bound_that_is_higher_than_its_flow_is_a_miss(cache):
    graph = NAMED["layered"]
    result = schedule(graph, "dfs", seconds=1.0, cache=cache)
    assert result.bound_bytes < result.cost.peak_bytes
    path = entries(cache)[0]
    witness = json.loads(gzip.decompress(path.read_bytes()))["witness"]
    changed(path, bound_bytes=result.cost.peak_bytes, witness=witness | {"bytes": result.cost.peak_bytes})
    is_a_miss_then_a_hit(cache, graph)


def test_an_entry_is_cut_off_anywhere_or_has_a_byte_changed(cache, entry):
    whole = entry.read_bytes()
    rng, missed = np.random.default_rng(0), 0
    for end in (0, 1, 2, 9, 10, 30, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        entry.write_bytes(whole[:end])
        assert not schedule(OPEN, "dfs", seconds=1.0, cache=cache).cached
    for _ in range(100):
        broken = bytearray(whole)
        broken[rng.integers(10, len(whole))] ^= 1 << int(rng.integers(8))  # the head of gzip has bytes without meaning
        entry.write_bytes(bytes(broken))
        result = schedule(OPEN, "dfs", seconds=1.0, cache=cache)
        assert result.order.tolist() == ORDER
        missed += not result.cached
    assert missed >= 98  # some bits at the end of the packed text have no meaning


TEXTS = [
    b"",
    b"\0" * 100,
    b"[]",
    b"{}",
    b"nonsense",
    b"\xff\xfe",
    b'{"a":' * 100_000,
    b'{"key": NaN}',
    b'{"key": ' + b"9" * 9999 + b"}",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("packed", [False, True])
def test_an_entry_that_is_anything_else_is_a_miss(text, packed, cache, entry):
    entry.write_bytes(gzip.compress(text) if packed else text)
    is_a_miss_then_a_hit(cache)


def test_an_entry_that_unpacks_to_too_much_is_a_miss(cache, entry):
    entry.write_bytes(gzip.compress(b'{"key": "' + b"a" * (80 << 20)))
    is_a_miss_then_a_hit(cache)


def test_an_answer_for_endless_seconds_is_a_miss(cache, entry):
    text = gzip.decompress(entry.read_bytes())
    assert b'"asked_seconds":1.0' in text
    entry.write_bytes(gzip.compress(text.replace(b'"asked_seconds":1.0', b'"asked_seconds":1e999')))
    is_a_miss_then_a_hit(cache)


def put_link_loop(path):
    path.symlink_to(path)


def put_dangling_link(path):
    path.symlink_to(path.parent / "nowhere")


def put_link(path):
    """A link to a good entry, which must not be written through."""
    target = path.parent.parent / "target"
    target.write_text("mine")
    path.symlink_to(target)


@pytest.mark.parametrize("put", [put_link_loop, put_dangling_link, put_link, Path.mkdir, os.mkfifo])
def test_an_entry_that_is_no_file_is_removed(put, cache, entry):
    entry.unlink()
    put(entry)
    is_a_miss_then_a_hit(cache)
    assert entry.is_file()
    assert not entry.is_symlink()
    if put is put_link:
        assert (entry.parent.parent / "target").read_text() == "mine"


def test_a_folder_in_place_of_an_entry_is_in_nobodys_way(cache, entry):
    entry.unlink()
    (entry / "mine").mkdir(parents=True)
    for _ in range(2):
        assert not schedule(OPEN, "dfs", seconds=1.0, cache=cache).cached
    assert (entry / "mine").is_dir()


# --- where it is


def test_the_default_place(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert ScheduleCache().folder == tmp_path / "xdg" / "topoformer" / "schedules"
    monkeypatch.setenv("HOME", str(tmp_path))
    for unusable in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert ScheduleCache().folder == tmp_path / ".cache" / "topoformer" / "schedules"


def test_caches_of_the_same_folder_are_equal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ScheduleCache("a") == ScheduleCache(tmp_path / "a") != ScheduleCache("b")
    assert hash(ScheduleCache("a")) == hash(ScheduleCache(tmp_path / "a"))
    assert ScheduleCache("a", 5) != ScheduleCache("a")


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "64MiB", None])
def test_a_limit_that_is_no_number_of_bytes(limit, tmp_path):
    with pytest.raises(ValueError, match="'limit_bytes' must be a positive integer"):
        ScheduleCache(tmp_path, limit)


def test_other_arguments_that_are_wrong(tmp_path):
    with pytest.raises(ValueError, match="'folder' must be a path"):
        ScheduleCache("a\0b")
    with pytest.raises(TypeError, match=r"'cache' must be a topoformer\.cache\.ScheduleCache \(got str\)"):
        schedule(OPEN, cache=str(tmp_path))


# --- graphs of programs


def test_a_graph_is_kept_whole(cache):
    for seed in range(50):
        graph = random_graph(seed)
        cache.keep_graph(f"{seed:064x}", graph)
        found = cache.graph(f"{seed:064x}")
        assert found.fingerprint == graph.fingerprint
        assert (found.name, found.tensor_names, found.sources) == (graph.name, graph.tensor_names, graph.sources)
    assert cache.graph("f" * 64) is None


def test_a_graph_that_was_changed_is_not_believed(cache):
    graph = tangled_graph(3, 30)
    for change in (
        {"graph": None},
        {"graph_sha256": "0" * 64},
        {"key": []},
        {"graph": graph_to_json(OPEN)},
    ):
        cache.keep_graph("a" * 64, graph)
        path = entries(cache)[0]
        changed(path, **change)
        assert cache.graph("a" * 64) is None
        assert not path.exists()
