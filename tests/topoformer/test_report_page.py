"""The page: what it lets in, what it says without a script, and the data that its script draws from."""

import base64
import re
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from graphs import program_order, simulate
from graphs.device import device_named
from graphs.graph import Graph, inverse
from graphs.latency import simulate_latency
from graphs.memory import lifetimes
from graphs.synthetic import layered, tree
from graphs.traffic import simulate_traffic
from graphs.units import format_bytes
from topoformer import report, schedule
from topoformer.outcome import Phase
from topoformer.report import Compared, anytime, columns, data
from topoformer.report._kernels import first_fit
from topoformer.report.container import packed, unpacked


def data_of(page):
    return unpacked(re.search(r'id="data">([^<]*)<', page)[1])


def scratchy(nodes=40, seed=0):
    """A graph with all that a graph can have: names, modules, types, sources, scratch."""
    base, rng = layered(nodes, seed=seed), np.random.default_rng(seed)
    return replace(
        base,
        scratch=rng.integers(0, 3, nodes) * 1000,
        ops=tuple(f"aten.op{i % 3}.default" for i in range(nodes)),
        modules=tuple(f"layers.{i // 10}.part{i % 2}" if i % 7 else "" for i in range(nodes)),
        sources=tuple(f"model.py:{i}" for i in range(nodes)),
        types=tuple(f"float32[{i}, 8]" for i in range(base.k)),
    )


@pytest.fixture(scope="module")
def better():
    result = schedule(scratchy(60, seed=3), seconds=2.0)
    assert result.cost.peak_bytes < result.program_cost.peak_bytes
    return result


# ---------------------------------------------------------------- what it lets in


def test_the_policy_admits_what_is_in_the_page_and_nothing_else(better):
    page = report.html(better)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for name in ("style", "script"):
        texts = re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
        hashes = {f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts}
        assert set(re.search(rf"{name}-src ([^;]*)", policy)[1].split()) == hashes
    assert not re.search(r"<[^>]* (style|on\w+)=", page.split('id="data"')[0])


def test_a_page_is_the_same_each_time(better):
    assert report.html(better) == report.html(better)


def test_the_page_has_what_it_needs_to_be_read(better):
    page = report.html(better)
    for part in ('<html lang="en">', "<title>", 'name="viewport"', "<main", "<h1>", "<header", "<footer", "<nav"):
        assert part in page
    assert page.count("<h1") == 1


# ---------------------------------------------------------------- what is there without a script


def test_sentence_tiles_picture_and_table_need_no_script(better):
    page = report.html(better).split('id="data"')[0]
    assert f"Peak memory falls from {format_bytes(better.program_cost.peak_bytes)}" in page
    assert 'class="tiles"' in page
    assert report.svg(better) in page
    for tensor in better.profile.alive():
        assert f"<td>{tensor.name}</td><td class=n>{tensor.bytes:,}</td>" in page
        assert f"<td>{better.graph.types[tensor.tensor]}</td>" in page
    scratch = int(better.graph.scratch[better.order[better.profile.peak_step]])
    assert ("scratch of the step" in page) == (scratch > 0)


def test_the_gap_is_said_as_what_it_is():
    optimal = schedule(tree(9, seed=0), seconds=2.0)
    assert "Optimal</dd>" in report.html(optimal)
    assert "Unknown</dd>" in report.html(replace(optimal, bound_bytes=0, witness=None))
    third = replace(optimal, bound_bytes=optimal.cost.peak_bytes * 3 // 4, witness=None)
    assert re.search(r"33\.[34] <small>%</small>", report.html(third))


def test_methods_are_compared_by_their_peaks(better):
    before, after = better.program_cost.peak_bytes, better.cost.peak_bytes
    rows = [Compared("<b>slow", 2 * before, 0.5), Compared("program", before, 0.1), Compared("good", after, 1.25)]
    page = report.html(better, compared=rows)
    methods = re.search(r'<section id="methods".*?</section>', page, re.DOTALL)[0]
    names = re.findall(r"<tr[^>]*><th scope=row>(.*?)</th>", methods)
    assert names == ["good", "program order", "&lt;b&gt;slow"]
    assert "2.000" in methods
    assert "1.25 s" in methods
    assert 'id="methods"' not in report.html(better)


def test_sections_are_there_where_something_is_known_for_them(better):
    page = report.html(better)
    assert not re.findall(r'<section id="(latency|traffic|arena)"', page)
    assert ('<section id="search"' in page) == bool(better.phases)
    planned = replace(better)
    assert planned.arena.arena_bytes
    assert '<section id="arena"' in report.html(planned)


def test_a_search_that_changes_something_is_drawn():
    phases = [Phase("first", 0.5, 2000, 0), Phase("second", 1.0, 1500, 1000), Phase("<third>", 0.0, 1500, 1500)]
    assert anytime.picture(phases).count("<circle") == 6
    assert "&lt;third&gt;" in anytime.table(phases)
    assert anytime.picture([phases[2]] * 3) == ""  # no time, no change
    assert anytime.picture([]) == ""


# ---------------------------------------------------------------- the data


def test_what_is_packed_is_unpacked():
    content = {"a": [1, "<\u2028\ud800", {"b": np.arange(5, dtype=np.int32)}], "c": np.array([1 << 50, 3]), "d": None}
    text = packed(content)
    assert re.fullmatch(r"[A-Za-z0-9+/=]*", text)
    back = unpacked(text)
    assert back["a"][:2] == content["a"][:2]
    assert back["d"] is None
    assert back["a"][2]["b"].tolist() == [0, 1, 2, 3, 4]
    assert back["c"].tolist() == [1 << 50, 3]
    assert back["c"].dtype == np.float64


def test_steps_and_what_is_alive_in_them_are_as_simulated(better):
    found = data_of(report.html(better))
    graph = better.graph
    orders = [program_order(graph), better.order]
    assert [part["name"] for part in found["orders"]] == ["program", "new"]
    for part, order in zip(found["orders"], orders, strict=True):
        profile = simulate(graph, order)
        assert part["bytes"].tolist() == profile.step_bytes.tolist()
        assert (part["peak"], part["peak_step"]) == (profile.peak_bytes, profile.peak_step)
        labels = [found["strings"][found["nodes"]["label"][node]] for node in part["node"]]
        assert labels == [graph.labels[node] for node in order]
        for step in range(graph.n):
            alive = (part["first"] <= step) & (step < part["last"])
            assert found["items"]["bytes"][alive].sum() == profile.step_bytes[step]


def test_tensors_carry_what_the_graph_knows_of_them(better):
    found, graph = data_of(report.html(better)), better.graph
    texts, items, nodes = found["strings"], found["items"], found["nodes"]
    tensors = np.flatnonzero(np.less(*lifetimes(graph, better.order)))
    kinds = [found["kinds"][kind] for kind in items["kind"]]
    assert len(kinds) == len(tensors) + np.count_nonzero(graph.scratch)
    assert kinds[len(tensors) :] == ["scratch"] * np.count_nonzero(graph.scratch)
    for i, tensor in enumerate(tensors):
        writer = graph.writer[tensor]
        assert texts[items["type"][i]] == graph.types[tensor]
        for name, column in (("label", graph.labels), ("op", graph.ops), ("module", graph.modules)):
            assert texts[nodes[name][items["node"][i]]] == column[writer]
        assert texts[nodes["source"][items["node"][i]]] == graph.sources[writer]


def test_places_of_tensors_that_are_alive_at_once_do_not_meet():
    rng = np.random.default_rng(0)
    for _ in range(30):
        lower = np.sort(rng.integers(0, 30, 40))
        upper, size = lower + rng.integers(1, 12, 40), rng.integers(1, 50, 40)
        place = first_fit(lower, upper, size)
        for i in range(40):
            others = (lower < upper[i]) & (lower[i] < upper) & (np.arange(40) != i)
            apart = (place + size <= place[i]) | (place[i] + size[i] <= place)
            assert apart[others].all()
        lowest = place[(lower == lower.min())].min()
        assert lowest == 0


def test_a_planned_arena_is_what_the_map_shows(better):
    planned = replace(better)
    arena = planned.arena
    found = data_of(report.html(planned))
    items = data.items_of(planned.graph, [planned.profile])
    places = np.concatenate([arena.offset, arena.scratch_offset])[items.tensor]
    assert [part["planned"] for part in found["orders"]] == [False, True]
    assert found["orders"][1]["offset"].tolist() == places.tolist()
    assert not any(part["planned"] for part in data_of(report.html(better))["orders"])


def test_of_too_much_the_largest_is_kept_and_no_peak_is_lost(better, monkeypatch):
    graph = better.graph
    whole = data_of(report.html(better))
    monkeypatch.setattr(columns, "MOST_STEPS", 7)
    monkeypatch.setattr(data, "MOST_ITEMS", 35)
    found = data_of(report.html(better))
    assert found["left_out"] == len(whole["items"]["bytes"]) - 35
    assert found["edges"][0] == 0
    assert found["edges"][-1] == graph.n
    assert len(found["items"]["bytes"]) == 35
    for part, full in zip(found["orders"], whole["orders"], strict=True):
        assert part["bytes"].max() == part["peak"] == full["peak"]
        for column, step in enumerate(part["step"]):
            assert found["edges"][column] <= step < found["edges"][column + 1]
            assert full["bytes"][step] == part["bytes"][column]
        at_peak = (part["first"] <= part["peak_step"]) & (part["peak_step"] < part["last"])
        assert found["items"]["bytes"][at_peak].sum() == part["peak"]
        assert (part["node"] >= 0).all()


def test_columns_of_steps():
    bytes_ = np.array([3, 9, 9, 1, 0, 0, 0], np.int64)
    assert columns.columns_of(bytes_).step.tolist() == list(range(7))
    assert columns.columns_of(bytes_[:0]).edges.tolist() == [0]


def test_a_timeline_is_as_simulated():
    device = replace(device_named("h100-sxm"), streams=2)
    result = schedule(scratchy(), "streams", objective="latency", device=device, seconds=1.0)
    page = report.html(result)
    found = data_of(page)["latency"]
    assert '<section id="latency"' in page
    timeline = simulate_latency(result.graph, result.order, device=device)
    part = found["orders"][-1]
    assert part["seconds"] == timeline.seconds
    assert part["start"].tolist() == timeline.start.tolist()
    assert part["stream"].tolist() == timeline.stream.tolist()
    assert part["held"] == part["level"].max() == timeline.peak_bytes
    assert found["bound"] <= part["seconds"]
    assert found["path"] <= part["seconds"]


def test_traffic_is_as_simulated():
    device = replace(device_named("npu-8mb"), on_chip_bytes=30_000)
    result = schedule(scratchy(), "lpmf", objective="traffic", device=device, seconds=1.0)
    page = report.html(result)
    found = data_of(page)["traffic"]
    assert '<section id="traffic"' in page
    moved = simulate_traffic(result.graph, result.order, capacity=30_000)
    part = found["orders"][-1]
    assert (part["total"], found["compulsory"]) == (moved.bytes, moved.compulsory_bytes)
    assert part["fetched"].tolist() == moved.fetched.tolist()
    assert part["written"].tolist() == moved.written_back.tolist()


# ---------------------------------------------------------------- the small, the large and the odd


@pytest.mark.parametrize(
    "graph",
    [
        Graph.build("empty", [], [], [], []),
        Graph.build("one", ["a"], [[]], [0], [0]),
        Graph.build("large", ["a", "b"], [[], [0]], [0, 1], [1 << 50, 7], scratch=[5, 1 << 40]),
        Graph.build("reads only", ["a"], [[0]], [-1], [64]),
        Graph.build("y" * 10_000, ["x" * 10_000], [[]], [0], [8], modules=["." * 10_000], sources=["s" * 10_000]),
    ],
    ids=lambda graph: graph.name[:10],
)
def test_any_graph_has_a_page(graph):
    page = report.html(schedule(graph, "program", seconds=0.1))
    assert len(page) < 120_000
    assert data_of(page)["steps"] == graph.n


def test_twenty_thousand_nodes_fit_a_page():
    result = schedule(scratchy(20_000), "program", seconds=0.1)
    page = report.html(result)
    assert len(page) < 5_000_000
    found = data_of(page)
    assert found["left_out"] == 0
    assert len(found["orders"]) == 1
    assert found["orders"][0]["bytes"].tolist() == result.profile.step_bytes.tolist()
    assert inverse(result.order).tolist() == list(range(20_000))
