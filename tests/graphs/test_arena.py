import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.arena import cut, instances, read, table
from graphs import Graph, GraphError, Kind, peak_bytes, program_order
from graphs.arena import GREEDIES, METHODS, check_plan, pack, plan
from graphs.arena_search import _luby, sections
from tests import oracle_arena as oracle
from tests.interrupts import interrupted_after
from tests.strategies import graphs_with_orders, random_graph, random_order, tangled_graph

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def draw_buffers(rng, most, horizon=8, sizes=(0, 1, 1, 2, 3, 5, 7, 9, 16)):
    starts = [rng.randrange(horizon) for _ in range(rng.randint(0, most))]
    return [(s, s + rng.choice((0, 1, 1, 2, 3, 5, horizon)), rng.choice(sizes)) for s in starts]


def packed(buffers, **options):
    """Pack and check what must hold of every packing."""
    lower, upper, size = (list(column) for column in zip(*buffers, strict=True)) if buffers else ([], [], [])
    packing = pack(lower, upper, size, **options)
    alignment = options.get("alignment", 1)
    rounded = [(a, b, -(-c // alignment) * alignment) for a, b, c in buffers]
    offsets = packing.offset.tolist()
    assert oracle.clashes(rounded, offsets) == []
    assert all(offset >= 0 and offset % alignment == 0 for offset in offsets)
    assert packing.bytes == oracle.arena(rounded, offsets)
    assert packing.bound_bytes == oracle.bound(rounded) <= packing.least_bytes <= packing.bytes
    return packing


def test_tiny_instances_are_packed_as_small_as_any_order_of_placing_packs_them():
    for seed in range(2000):
        buffers = draw_buffers(random.Random(seed), 6)
        packing = packed(buffers, seconds=20)
        assert packing.proven, seed
        assert packing.bytes == oracle.smallest(buffers), seed


def test_where_the_bound_cannot_be_met_the_search_shows_it():
    above = 0
    for seed in range(350):
        buffers = oracle.tight_buffers(random.Random(seed), 7, 20, 5)
        packing = packed(buffers, seconds=20, seed=seed)
        assert packing.proven, seed
        if packing.bytes > packing.bound_bytes:
            above += 1
            assert not oracle.fits(buffers, packing.bytes - 1), seed
    assert above >= 2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_packs_without_overlaps(method):
    for seed in range(60):
        rng = random.Random(seed)
        buffers = draw_buffers(rng, 40, horizon=20)
        packing = packed(buffers, method=method, alignment=rng.choice((1, 4, 64)), seconds=5, steps=3000)
        assert method not in GREEDIES or packing.method == method


buffers_strategy = st.lists(
    st.tuples(st.integers(-5, 20), st.integers(0, 12), st.integers(0, 40)).map(lambda b: (b[0], b[0] + b[1], b[2])),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(buffers_strategy, st.sampled_from((1, 2, 16, 64)), st.integers(0, 5), st.integers(0, 20_000))
def test_best_is_never_worse_than_a_greedy_and_repeats_itself(buffers, alignment, seed, steps):
    options = {"alignment": alignment, "seed": seed, "steps": steps, "seconds": 60}
    packing = packed(buffers, **options)
    again = packed(buffers, **options)
    assert packing.offset.tolist() == again.offset.tolist()
    assert (packing.method, packing.least_bytes) == (again.method, again.least_bytes)
    for method in GREEDIES:
        assert packing.bytes <= packed(buffers, alignment=alignment, method=method).bytes


def test_rectangles_cut_from_a_square_go_back_into_it():
    met = 0
    for seed in range(6):
        instance = cut(60, seed)
        buffers = list(zip(*(column.tolist() for column in instance[1:4]), strict=True))
        packing = packed(buffers, seed=seed, steps=60_000, seconds=20)
        assert packing.bound_bytes == instance.capacity
        met += packing.proven
        assert packing.bytes <= 1.1 * instance.capacity
    assert met >= 3


def test_the_search_is_better_than_greedies_and_as_the_seed_says():
    instance = cut(150, seed=3)
    columns = instance[1:4]
    greedy = min(pack(*columns, method=name).bytes for name in GREEDIES)
    first, again = (pack(*columns, seed=1, steps=30_000, seconds=60) for _ in range(2))
    assert first.bytes < greedy
    assert first.offset.tolist() == again.offset.tolist()
    few = [pack(*columns, seed=seed, steps=5_000, seconds=60, method="search").offset.tolist() for seed in range(4)]
    assert any(offset != few[0] for offset in few)


def test_a_part_too_large_for_the_tree_gets_the_descent(monkeypatch):
    monkeypatch.setattr("graphs.arena_search.TREE_BUFFERS", 10)
    instance = cut(60, seed=2)
    greedy = min(pack(*instance[1:4], method=name).bytes for name in GREEDIES)
    packing = pack(*instance[1:4], steps=60_000, seconds=60)
    assert packing.method == "descent"
    assert packing.bytes < greedy
    monkeypatch.setattr("graphs.arena_search.TREE_BUFFERS", 2048)
    monkeypatch.setattr("graphs.arena_search.TREE_PAIRS", 10)
    assert pack(*instance[1:4], steps=60_000, seconds=60).offset.tolist() == packing.offset.tolist()


def test_a_capacity_is_good_enough():
    instance = cut(100, seed=4)
    capacity = instance.capacity * 5 // 4
    packing = pack(*instance[1:4], capacity=capacity, seconds=60)
    assert pack(*instance[1:4], method="greedy_by_size").bytes > capacity
    assert instance.capacity <= packing.bytes <= capacity
    assert pack([0], [1], [10], capacity=3).bytes == 10  # one that nothing fits does no harm


def test_parts_of_time_are_packed_for_themselves():
    far = [(lower + 100 * i, upper + 100 * i, size) for i in range(20) for lower, upper, size in TIGHT]
    packing = packed(far, seconds=20)
    assert packing.proven
    assert packing.bytes == oracle.smallest(TIGHT)


TIGHT = [(0, 2, 5), (1, 4, 3), (3, 6, 5), (5, 7, 3), (0, 1, 3), (6, 7, 5)]


def test_empty_buffers_and_no_buffers():
    assert packed([]).bytes == packed([(3, 3, 10), (0, 5, 0)]).bytes == 0
    assert packed([]).proven
    assert packed([(3, 3, 10), (0, 5, 0), (0, 5, 7)]).offset.tolist() == [0, 0, 0]


def test_bytes_do_not_overflow():
    quarter = 2**60
    packing = packed([(0, 3, quarter), (1, 4, quarter), (2, 5, quarter), (-(2**63), 2**63 - 1, quarter)], alignment=64)
    assert packing.bytes == 2**62
    with pytest.raises(ValueError, match=r"'size' must add up to at most 2\*\*62 bytes \(got 4611686018427387968\)"):
        pack([0, 1], [1, 2], [2**62, 1], alignment=64)


def test_packings_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        pack([0], [1], [2]).offset[0] = 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"alignment": 3}, r"^'alignment' must be a power of two \(got 3\)$"),
        ({"alignment": 0}, r"^'alignment' must be a power of two \(got 0\)$"),
        ({"alignment": 2**41}, r"^'alignment' must be at most 2\*\*40 \(got 2199023255552\)$"),
        ({"capacity": -1}, r"^'capacity' must not be negative \(got -1\)$"),
        ({"seconds": -0.5}, r"^'seconds' must not be negative \(got -0.5\)$"),
        ({"seconds": float("nan")}, r"^'seconds' must not be negative \(got nan\)$"),
        ({"steps": -1}, r"^'steps' must not be negative \(got -1\)$"),
        ({"method": "bestfit"}, r"^unknown method 'bestfit'; did you mean 'best_fit'\?"),
        ({"lower": [0.5]}, r"^'lower' must hold integers that fit int64 \(got float64\)$"),
        ({"upper": [-1]}, r"^buffer 0 lives during \[0, -1\), which ends before it starts$"),
        ({"upper": [1, 2]}, r"^'upper' must be int64\[1\] as 'lower' is \(got shape \[2\]\)$"),
        ({"size": [-7]}, r"^buffer 0 has -7 bytes; bytes must be between 0 and 2\*\*62$"),
    ],
)
def test_arguments_out_of_range_are_named(change, text):
    with pytest.raises(ValueError, match=text):
        pack(**({"lower": [0], "upper": [1], "size": [4]} | change))


def test_the_deadline_and_ctrl_c_keep_the_best_so_far():
    instance = cut(300, seed=5)
    pack(*instance[1:4], steps=5_000, seconds=60)
    began = time.monotonic()
    assert not pack(*instance[1:4], seconds=0.3).interrupted
    assert time.monotonic() - began < 3
    buffers = list(zip(*(column.tolist() for column in instance[1:4]), strict=True))
    began = time.monotonic()
    with interrupted_after(0.5):
        packing = packed(buffers, seconds=60)
    assert packing.interrupted
    assert time.monotonic() - began < 10


def test_sections_meet_where_lifetimes_do():
    for seed in range(300):
        buffers = [b for b in draw_buffers(random.Random(seed), 12, horizon=6) if b[0] < b[1]]
        if buffers:
            lower, upper = (np.array(column) for column in list(zip(*buffers, strict=True))[:2])
            first, behind, count = sections(lower, upper)
            assert (first < behind).all()
            assert behind.max() == count <= len(buffers)
            for i, a in enumerate(buffers):
                for j, b in enumerate(buffers):
                    assert oracle.meet(a, b) == oracle.meet((first[i], behind[i]), (first[j], behind[j])), seed


def test_lubys_sequence():
    assert [_luby(i) for i in range(1, 16)] == [1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8]


def test_plans_of_random_graphs_hold_in_the_oracle():
    for seed in range(300):
        graph, rng = random_graph(seed), random.Random(seed)
        order = random_order(graph, rng)
        alignment = rng.choice((1, 64))
        made = plan(graph, order, alignment=alignment, steps=2000, seconds=20)
        check_plan(made)
        wanted = oracle.graph_buffers(graph, order)
        places = {("tensor", t): int(o) for t, o in enumerate(made.offset) if o >= 0}
        places |= {("scratch", v): int(o) for v, o in enumerate(made.scratch_offset) if o >= 0}
        assert set(places) == {what for what, *_ in wanted}, seed
        offsets = [places[what] for what, *_ in wanted]
        assert oracle.clashes([buffer[1:] for buffer in wanted], offsets) == []
        assert made.peak_bytes == peak_bytes(graph, np.array(order, np.int32)) <= made.bound_bytes <= made.arena_bytes


@settings(max_examples=100, deadline=None)
@given(graphs_with_orders())
def test_without_rounding_the_bound_is_the_peak(pair):
    graph, order = pair
    made = plan(graph, order, alignment=1, steps=500, seconds=20)
    assert made.bound_bytes == made.peak_bytes == peak_bytes(graph, np.array(order, np.int32))
    assert made.proven or made.arena_bytes > made.bound_bytes


def test_plans_of_larger_graphs():
    for seed in range(12):
        graph = tangled_graph(seed, 80)
        made = plan(graph, alignment=1, steps=20_000, seconds=20)
        check_plan(made)
        assert made.bound_bytes == peak_bytes(graph, program_order(graph))
        assert made.arena_bytes <= 1.25 * made.bound_bytes
        check_plan(plan(graph, in_place={""}, steps=2_000, seconds=20))


def chain(sizes, ops, **columns):
    n = len(sizes)
    return Graph.build("g", [f"n{i}" for i in range(n)], [[i - 1] if i else [] for i in range(n)], range(n), sizes,
                       ops=ops, **columns)  # fmt: skip


def test_in_place_chains_share_one_place():
    graph = chain([60, 64, 33, 128, 128], ["a", "relu", "relu", "mm", "relu"])
    apart = plan(graph)
    shared = plan(graph, in_place={"relu"})
    assert (apart.arena_bytes, shared.arena_bytes) == (256, 192)
    assert shared.bound_bytes == 192
    assert shared.peak_bytes == apart.peak_bytes == 256
    assert len(set(shared.offset[:3].tolist())) == len(set(shared.offset[3:].tolist())) == 1
    check_plan(shared)
    with pytest.raises(GraphError, match="overlap"):  # the same places without the permission
        check_plan(replace(shared, in_place=frozenset()))


def test_in_place_needs_a_last_reader_an_equal_size_and_one_output():
    relu = {"in_place": {"relu"}, "alignment": 1}
    read_again = Graph.build("g", "abc", [[], [0], [0, 1]], [0, 1, 2], [8, 8, 8], ops=["", "relu", ""])
    assert plan(read_again, **relu).bound_bytes == 24
    assert plan(chain([8, 9], ["", "relu"]), **relu).bound_bytes == 17
    kept = chain([8, 8], ["", "relu"], kind=[Kind.OUTPUT, Kind.TEMPORARY])
    assert plan(kept, **relu).bound_bytes == 16
    two = Graph.build("g", "ab", [[], [0]], [0, 1, 1], [8, 8, 8], ops=["", "relu"])
    assert plan(two, **relu).bound_bytes == 24
    both = Graph.build("g", "abc", [[], [], [0, 1]], [0, 1, 2], [8, 8, 8], ops=["", "", "relu"])
    made = plan(both, **relu)
    assert made.bound_bytes == 16  # over one of the two
    check_plan(made)
    for kind, peak in ((Kind.DONATED, 8), (Kind.INPUT, 8)):
        given_ = Graph.build("g", "a", [[0]], [-1, 0], [8, 8], ops=["relu"], kind=[kind, Kind.OUTPUT])
        made = plan(given_, **relu)
        check_plan(made)
        assert made.arena_bytes == peak
        assert (made.offset[0] == -1) == (kind == Kind.INPUT)


def test_in_place_plans_of_random_graphs_hold():
    smaller = 0
    for seed in range(200):
        graph = random_graph(seed)
        ops = {"aten.mm.default", ""}
        made, apart = (plan(graph, in_place=names, alignment=1, steps=500, seconds=20) for names in (ops, set()))
        check_plan(made)
        assert made.bound_bytes <= apart.bound_bytes
        smaller += made.bound_bytes < apart.bound_bytes
    assert smaller > 5


def test_a_broken_plan_is_refused():
    graph = Graph.build("g", "abc", [[3], [0], [0, 1]], [0, 1, 2, -1], [64, 64, 64, 9], scratch=[0, 64, 0],
                        tensor_names=["x", "", "", ""])  # fmt: skip
    made = plan(graph)
    check_plan(made)

    def broken(**changes):
        with pytest.raises(GraphError) as error:
            check_plan(replace(made, **changes))
        return str(error.value)

    def at(array, place, value):
        changed = array.copy()
        changed[place] = value
        return changed

    text = broken(offset=at(made.offset, 1, made.offset[0]))
    place = made.offset[0]
    where = f"bytes {place} to {place + 64} and {place} to {place + 64}"
    assert text == f"tensor 0 'x' and tensor 1 'b' are both live at step 1 and overlap: {where}"
    assert "scratch of node 'b'" in broken(scratch_offset=at(made.scratch_offset, 1, made.offset[0]))
    assert broken(offset=at(made.offset, 0, 32)) == "tensor 0 'x' must lie at a multiple of 64 (got offset 32)"
    assert broken(offset=at(made.offset, 0, -1)) == "tensor 0 'x' must lie at a multiple of 64 (got offset -1)"
    assert broken(offset=at(made.offset, 3, 0)) == "tensor 3 is not to have a place (got offset 0)"
    assert broken(offset=made.offset[:2]) == "the plan has 2 offsets for 4 tensors"
    assert broken(arena_bytes=128).endswith("ends at byte 192 of an arena of 128 bytes")
    with pytest.raises(GraphError, match="node 'b' must run after node 'a'"):
        plan(graph, [1, 0, 2])


def test_any_overlap_is_found():
    found = 0
    for seed in range(300):
        graph, rng = tangled_graph(seed, 12), random.Random(seed)
        made = plan(graph, alignment=1, steps=200, seconds=20)
        placed = np.flatnonzero((made.offset > 0) & (graph.size > 0))
        if not len(placed):
            continue
        offset = made.offset.copy()
        offset[rng.choice(placed.tolist())] = rng.randrange(int(offset.max()))
        buffers = oracle.graph_buffers(graph, list(range(graph.n)))
        places = [offset[at] if what == "tensor" else made.scratch_offset[at] for (what, at), *_ in buffers]
        bad = oracle.clashes([b[1:] for b in buffers], places)
        broken = replace(made, offset=offset, arena_bytes=int((offset + graph.size).max()) + 1000)
        if bad:
            found += 1
            with pytest.raises(GraphError, match="overlap"):
                check_plan(broken)
        else:
            check_plan(broken)
    assert found > 50


def test_an_empty_graph_takes_nothing():
    made = plan(Graph.build("g", [], [], [], []))
    check_plan(made)
    assert (made.arena_bytes, made.bound_bytes, made.proven) == (0, 0, True)


@pytest.mark.skipif(not (DATA / "arena").is_dir(), reason="needs the instances of MiniMalloc")
def test_published_instances_fit_their_capacity():
    loaded = list(instances(DATA))
    assert len(loaded) == 11
    met = 0
    for instance in loaded:
        if instance.name not in "AEGI":  # those take seconds
            packing = pack(*instance[1:4], capacity=instance.capacity, steps=400_000, seconds=60)
            met += packing.bytes <= instance.capacity
    assert met >= 6


def test_the_benchmark_reads_files_and_prints_rows(tmp_path):
    folder = tmp_path / "arena"
    folder.mkdir()
    (folder / "Z.12.csv").write_text("id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n")
    instance = read(folder / "Z.12.csv")
    assert (instance.name, instance.capacity, instance.size.tolist()) == ("Z", 12, [4] * 5)
    lines = list(table(tmp_path, 0.2, 2, tmp_path / "out.jsonl"))
    assert len(lines) == 3
    assert "| 1.0000 1.0000 |" in lines[2]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    with pytest.raises(SystemExit, match="no instances"):
        list(instances(folder))
