"""A limit on memory: kept to where it can be, and else one of two errors, each of which is true."""

import pickle
import re

import pytest

import graphs
import topoformer
from graphs import Kind
from graphs.synthetic import layered
from graphs.units import format_bytes, parse_bytes
from tests import oracle
from tests.strategies import random_graph, tangled_graph
from topoformer.cache import ScheduleCache
from topoformer.memory_limit import hold_to
from topoformer.scheduling import SCHEDULERS, MemoryLimitError, schedule


def what_happens(call, limit, graph):
    """ "fits", "impossible" or "not found"; checks that it is true, with the numbers in the text."""
    least = oracle.best_peak(graph) + graph.resident_bytes
    try:
        result = call()
    except MemoryLimitError as error:
        found = error.schedule
        needs, bound = (found.cost.resident_bytes + size for size in (found.cost.peak_bytes, found.bound_bytes))
        text = str(error)
        assert "\n" not in text
        assert needs > limit
        if " was found in " not in text:
            assert least > limit
            assert bound > limit
            assert mentions(text.partition("at least")[2], bound)
            return "impossible"
        assert bound <= limit
        assert mentions(text, needs)
        assert mentions(text, bound)
        return "not found"
    total = result.cost.peak_bytes + result.cost.resident_bytes
    assert least <= total <= limit
    assert oracle.peak(graph, result.order.tolist()) == result.cost.peak_bytes
    return "fits"


def mentions(text, size):
    return (f"({size:,} bytes)" if size >= 1024 else f"{size} B") in text


def test_at_every_limit_exactly_one_outcome_and_it_is_true():
    seen = {method: set() for method in ("auto", "dfs", "program")}
    for seed in range(12):
        graph = tangled_graph(seed, 8)
        for method, outcomes in seen.items():
            result = schedule(graph, method)
            most = graph.resident_bytes + result.program_cost.peak_bytes
            for limit in range(most + 2):

                def call(result=result, limit=limit):
                    hold_to(result, limit)
                    return result

                outcomes.add(what_happens(call, limit, graph))
    assert seen["auto"] == {"fits", "impossible"}  # it proves all of these
    assert seen["dfs"] == seen["program"] == {"fits", "impossible", "not found"}


@pytest.mark.parametrize("method", SCHEDULERS)
def test_limits_around_what_matters_hold_for_every_method(method):
    for seed in range(25):
        graph = random_graph(seed)
        result = schedule(graph, method)
        for peak in {
            result.bound_bytes,
            result.cost.peak_bytes,
            result.program_cost.peak_bytes,
            oracle.best_peak(graph),
        }:
            for limit in (graph.resident_bytes + peak + more for more in (-1, 0, 1)):
                if limit >= 0:
                    what_happens(lambda: schedule(graph, method, memory_limit=limit), limit, graph)  # noqa: B023


def graph_by_hand():
    """An order needs 1000 + 400 + 400 bytes: one of two branches, the sum so far, and a resident weight."""
    return graphs.Graph.build(
        "by hand",
        ["conv", "relu", "sum"],
        [[3], [0], [1]],
        [0, 1, 2, -1],
        [400, 300, 100, 1000],
        ops=["aten.conv2d.default", "aten.relu.default", "aten.sum.default"],
        kind=[Kind.TEMPORARY, Kind.TEMPORARY, Kind.OUTPUT, Kind.WEIGHT],
        scratch=[0, 7, 0],
        tensor_names=["conv_out", "", "total", "weight"],
        sources=["model.py:12", "model.py:13", ""],
    )


def test_what_cannot_be_says_so_in_one_line_with_what_to_change():
    graph = graph_by_hand()
    with pytest.raises(MemoryLimitError) as error:
        schedule(graph, memory_limit=1706)
    assert str(error.value) == (
        "no order of 'by hand' fits in 1.67 KiB (1,706 bytes): any order needs at least 1.67 KiB (1,707 bytes), "
        "1000 B of them resident and 707 B at its peak; alive at the peak of the best order found: conv_out 400 B "
        "(aten.conv2d.default, model.py:12), relu 300 B (aten.relu.default, model.py:13), scratch of the step 7 B"
    )
    assert error.value.schedule.cost.peak_bytes == 707
    assert isinstance(error.value, ValueError)
    assert schedule(graph, memory_limit=1707).cost.peak_bytes == 707
    assert schedule(graph, memory_limit="1.7 KiB").cost.peak_bytes == 707


def test_what_was_not_found_says_that_there_may_be_one():
    graph = layered(60, seed=3)
    poor = schedule(graph, "program")
    assert poor.bound_bytes < poor.cost.peak_bytes
    with pytest.raises(MemoryLimitError) as error:
        schedule(graph, "program", memory_limit=poor.cost.peak_bytes - 1)
    text = str(error.value)
    assert re.search(r"^no order of 'layered_n60_s3' that fits in .* was found in 0\.\d\d s, which does not mean", text)
    assert "method auto or more seconds may find one" in text
    assert re.search(r"and \d+ more, \d+\.\d\d KiB$", text)
    better = schedule(graph, memory_limit=poor.cost.peak_bytes - 1)
    assert better.cost.peak_bytes < poor.cost.peak_bytes


def test_where_resident_bytes_alone_are_too_many():
    with pytest.raises(MemoryLimitError, match=r"needs at least .*1,707 bytes.*1000 B of them resident"):
        schedule(graph_by_hand(), memory_limit=10)


def test_a_name_from_a_file_cannot_write_to_the_terminal():
    graph = graphs.Graph.build("\x1b[31m\n", ["a\nb"], [[]], [0], [5], ops=["\x1b"], sources=["\r:1"])
    with pytest.raises(MemoryLimitError) as error:
        schedule(graph, memory_limit=1)
    assert str(error.value).isprintable()


def test_an_empty_graph_fits_in_nothing():
    assert schedule(graphs.Graph.build("empty", [], [], [], []), memory_limit=0).cost.peak_bytes == 0


def test_the_error_goes_to_another_process_whole():
    with pytest.raises(MemoryLimitError) as error:
        schedule(graph_by_hand(), memory_limit=1)
    again = pickle.loads(pickle.dumps(error.value))
    assert (type(again), str(again)) == (MemoryLimitError, str(error.value))
    assert again.schedule.order.tolist() == error.value.schedule.order.tolist()


def test_a_limit_and_a_cache_go_together(tmp_path):
    graph, cache = graph_by_hand(), ScheduleCache(tmp_path)
    for limit, cached in ((None, False), (1707, True), (2000, True)):
        assert schedule(graph, cache=cache, memory_limit=limit).cached is cached
    with pytest.raises(MemoryLimitError) as error:
        schedule(graph, cache=cache, memory_limit=1706)
    assert error.value.schedule.cached


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (-1, "'memory_limit' must be bytes, not negative, or text such as '4GiB' (got -1)"),
        (1.5, "'memory_limit' must be bytes, not negative, or text such as '4GiB' (got 1.5)"),
        (True, "'memory_limit' must be bytes, not negative, or text such as '4GiB' (got True)"),
        (
            "4 gigs",
            "'memory_limit': '4 gigs' is not a size: the unit 'gigs' is none of B, KB, KiB, MB, MiB, GB, GiB, TB, ",
        ),
        ("", "'memory_limit': '' is not a size: write a number and a unit, such as '4GiB', '512MB' or '4096'"),
    ],
)
def test_a_limit_that_is_none(limit, text):
    with pytest.raises(ValueError, match=re.escape(text)) as error:
        topoformer.schedule(graph_by_hand(), memory_limit=limit)
    assert not isinstance(error.value, MemoryLimitError)


SIZES = {
    "4096": 4096, "0": 0, "4GiB": 4 << 30, "512MB": 512 * 10**6, "1.5 GiB": 3 << 29, " 3 kb ": 3000, "0.1KiB": 102,
    "7 B": 7, "2tib": 2 << 40, "1PB": 10**15, "0.9B": 0, "16.0 MiB": 16 << 20,
}  # fmt: skip


@pytest.mark.parametrize("text", SIZES)
def test_sizes_that_people_write(text):
    assert parse_bytes(text) == SIZES[text]


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "-1", "+1", "1e9", "nan", "inf", "1_000", "1,000", "4G", "4 Gigs", "1.2.3", ".5GiB", "5.GiB", "4GiB!",
     "\u0663GiB", "4\u212aiB", "9" * 41, "1" * 9999, "0x10", "4 Gi B"],
)  # fmt: skip
def test_what_is_no_size_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match="is not a size") as error:
        parse_bytes(text)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


def test_what_is_printed_can_be_read():
    for count in (0, 1, 1023, 1024, 5 << 20, 3 << 30, 9 << 40):
        assert parse_bytes(format_bytes(count)) == count
