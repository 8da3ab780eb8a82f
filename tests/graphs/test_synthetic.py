import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from math import ceil, floor, sqrt

import numpy as np
import pytest

import graphs
from graphs import Graph, GraphError, Kind
from graphs.synthetic import (
    FAMILIES,
    OPTIMUM,
    breadth_trap,
    depth_first_trap,
    greedy_trap,
    layered,
    random_graph,
    randwire,
    series_parallel,
    tree,
)

MINIMUM = {
    "layered": 3,
    "randwire": 14,
    "series_parallel": 2,
    "tree": 1,
    "greedy_trap": 7,
    "depth_first_trap": 7,
    "breadth_trap": 7,
    "random_graph": 1,
}
KIB, MIB = 1 << 10, 1 << 20


def edges(graph: Graph) -> list[tuple[int, int]]:
    return [(int(u), int(v)) for u, v in graph.edges.T]


def greedy_order(graph: Graph, key: Callable[[int, int], int]) -> list[int]:
    """Of the ready nodes the one with the least ``key(bytes written, bytes freed)``, the first if equal."""
    missing = [len(graph.preds.row(v)) for v in range(graph.n)]
    unread = [len(graph.readers.row(t)) for t in range(graph.k)]
    ready, order = {v for v in range(graph.n) if not missing[v]}, []

    def score(v: int) -> tuple[int, int]:
        written = int(graph.size[graph.writes.row(v)].sum())
        freed = sum(int(graph.size[t]) for t in graph.reads.row(v) if unread[t] == 1)
        return key(written, freed), v

    while ready:
        v = min(ready, key=score)
        ready.remove(v)
        order.append(v)
        for t in graph.reads.row(v):
            unread[t] -= 1
        for w in graph.succs.row(v).tolist():
            missing[w] -= 1
            if not missing[w]:
                ready.add(w)
    return order


def best_peak(graph: Graph) -> int:
    """Least peak over all orders, ideal by ideal; for graphs of temporaries without scratch."""
    preds = [sum(1 << int(u) for u in graph.preds.row(v)) for v in range(graph.n)]
    readers = [sum(1 << int(r) for r in graph.readers.row(t)) for t in range(graph.k)]
    size, writer = graph.size.tolist(), graph.writer.tolist()
    best = {0: 0}
    for _ in range(graph.n):
        level: dict[int, int] = {}
        for ideal, peak in best.items():
            live = sum(size[t] for t in range(graph.k) if ideal >> writer[t] & 1 and readers[t] & ~ideal)
            for v in range(graph.n):
                if not ideal >> v & 1 and not preds[v] & ~ideal:
                    step = max(peak, live + sum(size[t] for t in range(graph.k) if writer[t] == v))
                    after = ideal | 1 << v
                    level[after] = min(step, level.get(after, step))
        best = level
    return best[(1 << graph.n) - 1]


def layers_of(graph: Graph) -> list[list[int]]:
    """Nodes of each layer: a node's is one more than the latest of its predecessors'."""
    depth = [0] * graph.n
    for u, v in edges(graph):  # sorted by v, and u < v
        depth[v] = max(depth[v], depth[u] + 1)
    return [[v for v in range(graph.n) if depth[v] == d] for d in range(max(depth) + 1)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_decided_by_nodes_and_seed(family: str) -> None:
    make = FAMILIES[family]
    assert make(60, seed=5).fingerprint == make(60, seed=5).fingerprint
    assert len({make(60, seed=seed).fingerprint for seed in range(5)}) == 5
    assert make(60).fingerprint == make(60, seed=0).fingerprint
    assert make(60, seed=5).name == make(60, seed=5).name != make(60, seed=6).name


def test_the_global_random_state_plays_no_part() -> None:
    for make in FAMILIES.values():
        np.random.seed(1)
        before = np.random.get_state()[1].copy()  # type: ignore[index]
        first = make(60, seed=3).fingerprint
        assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
        np.random.seed(2)
        assert make(60, seed=3).fingerprint == first


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_node_counts_and_peaks_in_range(family: str) -> None:
    least = MINIMUM[family]
    for nodes in [*range(least, least + 12), 50, 200, 333]:
        for seed in range(3):
            graph = FAMILIES[family](nodes, seed=seed)
            counted = graph.size[~np.isin(graph.kind, (Kind.INPUT, Kind.WEIGHT))]
            assert graph.n == nodes
            peak = graphs.simulate(graph).peak_bytes
            assert graph.size[graph.writer >= 0].max(initial=0) <= peak <= counted.sum() + graph.scratch.max()


@pytest.mark.parametrize("family", FAMILIES)
def test_too_few_nodes(family: str) -> None:
    least = MINIMUM[family]
    with pytest.raises(GraphError, match=rf"^'nodes' must be at least {least} \(got {least - 1}\)$"):
        FAMILIES[family](least - 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layered(9, seed=-1), "'seed' must not be negative (got -1)"),
        (lambda: layered(9, width=1.0), "'width' must be between 0 and 1 (got 1.0)"),
        (lambda: layered(9, width=float("nan")), "'width' must be between 0 and 1 (got nan)"),
        (lambda: layered(9, rho_edge=1.5), "'rho_edge' must be in [0, 1] (got 1.5)"),
        (lambda: layered(9, rho_skip=1), "'rho_skip' must be in [0, 1) (got 1)"),
        (lambda: layered(9, sigma=-0.1), "'sigma' must be in [0, 1] (got -0.1)"),
        (lambda: randwire(60, stages=0), "'stages' must be at least 1 (got 0)"),
        (lambda: randwire(20, stages=5), "'nodes' must be at least 22 (got 20)"),
        (lambda: randwire(60, model="wss"), "unknown model 'wss'; did you mean 'ws'? (known: ws, er, ba)"),
        (lambda: tree(9, direction="up"), "unknown direction 'up' (known: in, out)"),
    ],
)
def test_bad_arguments(call: Callable[[], Graph], message: str) -> None:
    with pytest.raises(GraphError) as error:
        call()
    assert str(error.value) == message


def test_more_edges_than_int32_counts_are_refused_before_they_are_drawn() -> None:
    with pytest.raises(GraphError, match=r"^'rho_edge' of 1.0 gives \d{10,} edges; the most is 2147483647$"):
        layered(300_000, width=0.9999, rho_edge=1.0)


@pytest.mark.parametrize(
    ("nodes", "width", "published_edges", "published_layers"),
    [(100, 0.27, 244, 18.8), (250, 0.43, 973, 22), (500, 0.36, 2486, 31.6), (1000, 0.31, 5885, 50.6)],
)
def test_layered_has_the_published_averages_within_3_percent(
    nodes: int, width: float, published_edges: float, published_layers: float
) -> None:
    drawn = [layered(nodes, seed=seed, width=width) for seed in range(40)]
    assert np.mean([len(graph.preds.idx) for graph in drawn]) == pytest.approx(published_edges, rel=0.03)
    assert np.mean([len(layers_of(graph)) for graph in drawn]) == pytest.approx(published_layers, rel=0.03)


def layered_cases() -> Iterator[tuple[Graph, float, float]]:
    shapes = ((0.27, 0.2), (0.5, 0.6))
    for nodes, seed, (width, rho) in itertools.product((3, 4, 5, 40, 300), range(3), shapes):
        yield layered(nodes, seed=seed, width=width, rho_edge=rho), width, rho


def test_layered_widths() -> None:
    for graph, width, _ in layered_cases():
        layers = layers_of(graph)
        assert list(itertools.chain(*layers)) == list(range(graph.n)), "program order is layer by layer"
        assert len(layers[0]) == len(layers[-1]) == 1
        mean = (graph.n - 2) / ceil(sqrt((graph.n - 2) * (1 / width - 1)))
        least, most = max(ceil(0.25 * mean), 1), max(floor(1.75 * mean), 1)
        assert all(least <= len(layer) <= most for layer in layers[1:-2])
        assert 1 <= len(layers[-2]) <= most


def test_layered_widths_reach_both_ends_of_their_range() -> None:
    for sigma, ends in ((0.75, {5, 29}), (0.0, {17})):  # 498 / ceil(sqrt(498 (1 / 0.36 - 1))) = 16.6
        drawn = [layers_of(layered(500, seed=seed, width=0.36, sigma=sigma))[1:-2] for seed in range(20)]
        widths = {len(layer) for layers in drawn for layer in layers}
        assert {min(widths), max(widths)} == ends


def test_layered_neighbours_are_joined_by_even_contiguous_blocks() -> None:
    longer_first = set()
    for graph, _, rho in layered_cases():
        layers, found = layers_of(graph), edges(graph)
        for left, right in itertools.pairwise(layers):
            pairs = [(u - left[0], v - right[0]) for u, v in found if u in left and v in right]
            a, b = len(left), len(right)
            assert len(pairs) == round(rho * a * b + (1 - rho) * max(a, b))
            large, small = (0, 1) if a > b else (1, 0)
            n_large, n_small = max(a, b), min(a, b)
            blocks = [sorted(pair[small] for pair in pairs if pair[large] == i) for i in range(n_large)]
            lengths = [len(block) for block in blocks]
            assert max(lengths) - min(lengths) <= 1
            longer_first |= {lengths == sorted(lengths, reverse=True)}
            for i, block in enumerate(blocks):
                opposite = round(i * (n_small - 1) / max(n_large - 1, 1))
                start = min(max(opposite - (len(block) - 1) // 2, 0), n_small - len(block))
                assert block == list(range(start, start + len(block)))
        assert all(len(graph.preds.row(v)) for v in range(1, graph.n))
        assert all(len(graph.succs.row(v)) for v in range(graph.n - 1))
    assert longer_first == {True, False}  # which nodes get the longer blocks is drawn


def test_layered_skip_edges() -> None:
    assert edges(layered(5, width=0.25)) == [(0, 1), (1, 2), (1, 3), (2, 3), (3, 4)]  # room for one only
    skips = Counter[str]()
    for seed in range(10):
        graph = layered(300, seed=seed, width=0.36)
        layers = layers_of(graph)
        place: dict[int, tuple[int, float, float]] = {}
        for depth, layer in enumerate(layers):
            place |= {v: (depth, i / len(layer), 1 / len(layer)) for i, v in enumerate(layer)}
        far = [(place[u], place[v]) for u, v in edges(graph) if place[v][0] > place[u][0] + 1]
        wanted = round((len(graph.preds.idx) - len(far)) * 0.14 / 0.86)
        assert 0.9 * wanted <= len(far) <= wanted  # some are drawn twice
        for (source, x, dx), (target, y, dy) in far:
            assert 1 <= source < target - 1 <= len(layers) - 3
            assert x < y + dy
            assert y < x + dx + 0.2
            skips["ends at last"] += target == len(layers) - 2
            skips["starts at first"] += source == 1
            skips["starts at last but two"] += source == len(layers) - 4
    assert all(skips[where] for where in ("ends at last", "starts at first", "starts at last but two"))


def test_layered_bytes_are_the_mixture() -> None:
    size = layered(20_000, seed=1, rho_edge=0.001).size
    assert (size % 10 == 0).all()
    assert size.min() >= 0
    assert size.mean() == pytest.approx(1980, rel=0.03)  # negative draws redrawn from their own component
    third_and_fourth = 0.3 * 0.159 + 0.1 * 0.841
    assert (size > 4000).mean() == pytest.approx(third_and_fourth, rel=0.05)
    first_and_second = (0.3 * 0.341 + 0.3 * 0.150) / 0.841
    assert (size < 500).mean() == pytest.approx(first_and_second, rel=0.05)


def test_layered_draws_width_from_the_papers_range_and_grows_large() -> None:
    layers = [len(layers_of(layered(500, seed=seed))) for seed in range(30)]
    fewest, most = ceil(sqrt(498 * (1 / 0.5 - 1))), ceil(sqrt(498 * (1 / 0.25 - 1)))
    assert fewest * 0.9 < min(layers) < fewest * 1.15
    assert most * 0.95 < max(layers) < most * 1.15
    wide = layered(100_000, seed=1, width=0.999, rho_edge=1e-4)
    assert wide.n == 100_000
    assert max(Counter(np.diff(wide.preds.ptr)).values()) > 10_000


@pytest.mark.parametrize("model", ["ws", "er", "ba"])
def test_randwire(model: str) -> None:
    for nodes, stages in ((14, 3), (15, 3), (16, 3), (2 + 3 + 9 * 32, 3), (600, 5)):
        graph = randwire(nodes, seed=2, model=model, stages=stages)
        ops = Counter(graph.ops)
        wired = (nodes - 2 - stages) // 3
        assert (ops["sum"], ops["relu"], ops["sepconv"], ops["mean"]) == (wired, wired, wired, stages)
        assert graph.n == nodes == len(set(graph.labels))
        for i in (v for v in range(nodes) if graph.ops[v] == "sum"):
            first = graph.preds.row(i)[0]  # in the stage, or the stage's input, which the sepconv shrinks
            shrink = {"sepconv": 1, "mean": 2, "conv": 4}[graph.ops[first]]
            assert graph.size[i] == graph.size[i + 1] == graph.size[first] == shrink * graph.size[i + 2]
        outputs = [int(graph.size[v]) for v in range(nodes) if graph.ops[v] == "mean"]
        assert all(a == 2 * b for a, b in itertools.pairwise(outputs))
        assert np.flatnonzero(graph.kind == Kind.OUTPUT).tolist() == [nodes - 1]
        assert [v for v in range(nodes) if not len(graph.preds.row(v))] == [0]
        assert [v for v in range(nodes) if not len(graph.succs.row(v))] == [nodes - 1]


def test_randwire_wiring_has_the_degrees_of_its_model() -> None:
    for model, edges_wanted in (("ws", 2 * 32), ("ba", 5 * 27), ("er", 0.2 * 32 * 31 / 2)):
        counts = []
        for seed in range(10):
            graph = randwire(2 + 3 + 9 * 32, seed=seed, model=model)
            sums = [v for v in range(graph.n) if graph.ops[v] == "sum"]
            inner = sum(graph.ops[u] == "sepconv" for v in sums for u in graph.preds.row(v))
            counts.append(inner / 3)
        assert np.mean(counts) == pytest.approx(edges_wanted, rel=0.1 if model == "er" else 0)


def test_series_parallel_reduces_to_one_edge() -> None:
    for nodes, seed in itertools.product((2, 3, 30, 100), range(5)):
        graph = series_parallel(nodes, seed=seed)
        left = set(edges(graph))
        for _ in range(nodes - 2):
            into, out = Counter(v for _, v in left), Counter(u for u, _ in left)
            x = next(x for x in into if into[x] == 1 == out[x])  # parallel edges merge in the set
            (u,), (v,) = [u for u, w in left if w == x], [w for u, w in left if u == x]
            left = (left - {(u, x), (x, v)}) | {(u, v)}
        assert left == {(0, nodes - 1)}
        forks = int((np.diff(graph.succs.ptr) > 1).sum())
        assert nodes < 100 or 20 < forks < 40


def test_trees_are_written_level_by_level() -> None:
    for seed in range(5):
        graph = tree(80, seed=seed)
        assert [len(graph.succs.row(v)) for v in range(80)] == [1] * 79 + [0]
        depth = [0] * 80
        for v in reversed(range(79)):
            depth[v] = depth[int(graph.succs.row(v)[0])] + 1
        assert depth == sorted(depth, reverse=True)
        assert graph.kind.tolist() == [Kind.TEMPORARY] * 79 + [Kind.OUTPUT]


def test_an_out_tree_is_the_in_tree_backwards() -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        down, up = tree(60, seed=seed), tree(60, seed=seed, direction="out")
        assert [len(up.preds.row(v)) for v in range(60)] == [0] + [1] * 59
        assert up.kind.tolist() == [Kind.DONATED] + [Kind.TEMPORARY] * 59
        peaks = set()
        for _ in range(5):
            order = greedy_order(down, lambda _written, _freed: int(rng.integers(1 << 30)))
            peak = graphs.simulate(down, order).peak_bytes
            assert graphs.simulate(up, [59 - v for v in reversed(order)]).peak_bytes == peak
            peaks.add(peak)
        assert len(peaks) > 1


@pytest.mark.parametrize("family", OPTIMUM)
def test_the_closed_form_optimum_is_the_brute_force_one(family: str) -> None:
    for nodes, seed in itertools.product((7, 8, 9, 10, 13, 17, 19), range(3)):
        graph = FAMILIES[family](nodes, seed=seed)
        assert OPTIMUM[family](graph) == best_peak(graph)


def test_the_closed_form_of_many_branches_is_met_by_running_the_highest_first() -> None:
    for make in (greedy_trap, breadth_trap):
        for nodes in (30_001, 30_003):  # 10,000 results of 1 KiB outgrow every branch
            graph, k = make(nodes), 10_000
            highest = np.argsort(-(graph.size[:k] + graph.size[k : 2 * k]), kind="stable")
            branches = np.stack([highest, highest + k, highest + 2 * k]).T.ravel()
            order = np.concatenate([branches, range(3 * k, nodes)])
            assert graphs.simulate(graph, order).peak_bytes == OPTIMUM[make.__name__](graph) >= (k + 1) * KIB


def test_greedy_falls_into_its_trap() -> None:
    for nodes, seed in itertools.product((7, 22, 100), range(3)):
        graph, k = greedy_trap(nodes, seed=seed), (nodes - 1) // 3
        starts = graph.size[:k]
        for key in (lambda written, freed: written - freed, lambda written, _: written):
            peak = graphs.simulate(graph, greedy_order(graph, key)).peak_bytes
            assert peak >= starts.sum() + starts.min() + MIB
            assert peak >= OPTIMUM["greedy_trap"](graph) * (k + 2) / 6
        assert peak > OPTIMUM["greedy_trap"](graph)


def test_breadth_first_falls_into_its_trap_and_greedy_does_not() -> None:
    for nodes, seed in itertools.product((7, 22, 100), range(3)):
        graph, k = breadth_trap(nodes, seed=seed), (nodes - 1) // 3
        humps = graph.size[k : 2 * k]
        program = graphs.simulate(graph).peak_bytes
        assert program == humps.sum() + KIB > OPTIMUM["breadth_trap"](graph)
        greedy = greedy_order(graph, lambda written, freed: written - freed)
        assert graphs.simulate(graph, greedy).peak_bytes <= humps.max() + (k + 2) * KIB


def test_every_depth_first_order_falls_into_its_trap() -> None:
    for (nodes, levels), seed in itertools.product(((7, 1), (16, 1), (17, 2), (37, 3), (200, 5)), range(3)):
        graph = depth_first_trap(nodes, seed=seed)
        large = int(graph.size.max())
        post_order_peak = large + levels * large // 2 + KIB
        for reverse in (False, True):
            pre_order, stack = [], [nodes - 1]
            while stack:
                pre_order.append(stack.pop())
                stack += sorted(graph.preds.row(pre_order[-1]).tolist(), reverse=reverse)
            assert graphs.simulate(graph, pre_order[::-1]).peak_bytes == post_order_peak
        assert graphs.simulate(graph).peak_bytes == post_order_peak
        assert OPTIMUM["depth_first_trap"](graph) == large + (levels + 1) * KIB < post_order_peak


def test_random_graphs_use_every_feature() -> None:
    seen = Counter[str]()
    for seed in range(30):
        graph = random_graph(30, seed=seed)
        written = np.diff(graph.writes.ptr)
        unread = np.diff(graph.readers.ptr) == 0
        after = {(int(u), int(v)) for u, v in graph.after.T}
        reads = [set(graph.reads.row(v).tolist()) for v in range(graph.n)]
        seen.update(Kind(kind).name for kind in graph.kind)
        seen["several writes"] += int((written > 1).any())
        seen["scratch"] += int(graph.scratch.any())
        seen["no bytes"] += int((graph.size == 0).any())
        seen["unread"] += int((unread & (graph.kind == Kind.TEMPORARY)).any())
        seen["ties"] += len(set(graph.size.tolist())) < graph.k / 2
        seen["beyond int32"] += bool(graph.size.max() > 2**32)
        seen["view"] += sum(written[u] == 0 and bool(reads[u] & reads[v]) for u, v in after)
        seen["other order"] += any(not reads[u] & reads[v] for u, v in after)
    wanted = [kind.name for kind in Kind] + ["several writes", "scratch", "no bytes", "unread", "ties"]
    wanted += ["beyond int32", "view", "other order"]
    assert {what: seen[what] for what in wanted if seen[what] < 3} == {}
    assert seen["view"] > 60  # more than other pairs give by chance: consumers do come after views
