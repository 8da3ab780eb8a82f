import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from bayesopt_perm.distances import DISTANCES, distance
from bayesopt_perm.space import MOVES, PermutationSpace

PRECEDENCES = {
    "none": [],
    "forest": [(0, 1), (0, 2), (3, 4)],
    "zigzag": [(0, 3), (1, 3), (1, 4), (2, 4)],
    "chain": [(4, 3), (3, 2), (2, 1), (1, 0)],
}


def members(n, pairs):
    """Every member, from the definition."""
    for order in itertools.permutations(range(n)):
        if all(order.index(u) < order.index(v) for u, v in pairs):
            yield order


def moved(order, move):
    """Every order one move away, from the definition of the move."""
    n, found = len(order), set()
    for i in range(n):
        for j in range(n):
            new = list(order)
            if move == "insert":
                new.insert(j, new.pop(i))
            elif move == "reverse":
                new[i : j + 1] = new[i : j + 1][::-1]
            elif move == "swap" or abs(i - j) == 1:
                new[i], new[j] = new[j], new[i]
            found.add(tuple(new))
    return found - {tuple(order)}


@pytest.mark.parametrize("pairs", PRECEDENCES.values(), ids=PRECEDENCES)
def test_members_are_enumerated_counted_and_recognised(pairs):
    space = PermutationSpace(5, pairs)
    wanted = list(members(5, pairs))
    assert [tuple(order.tolist()) for order in space] == wanted
    assert space.count() == len(wanted)
    assert space.count(at_most=3) == min(3, len(wanted))
    assert [order in space for order in itertools.permutations(range(5))] == [
        order in set(wanted) for order in itertools.permutations(range(5))
    ]


def test_a_large_space_is_counted_without_overflow():
    assert PermutationSpace(200).count(at_most=10**9) == 10**9
    assert PermutationSpace(9).count() == math.factorial(9)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("pairs", PRECEDENCES.values(), ids=PRECEDENCES)
def test_neighbours_are_what_the_move_says_and_precedence_allows(pairs, move):
    space, legal = PermutationSpace(5, pairs), set(members(5, pairs))
    for order in legal:
        found = [tuple(row) for row in space.neighbours(order, move).tolist()]
        assert len(found) == len(set(found))
        assert set(found) == moved(order, move) & legal


def test_a_part_of_the_neighbours_is_drawn_from_all_of_them():
    space, order = PermutationSpace(12, [(0, 1), (2, 5)]), np.arange(12)
    for move in MOVES:
        whole = {tuple(row) for row in space.neighbours(order, move).tolist()}
        parts = [[tuple(row) for row in space.neighbours(order, move, 30, seed).tolist()] for seed in range(60)]
        assert all(len(part) == len(set(part)) <= 30 for part in parts)
        assert set().union(*parts) == whole
    assert np.array_equal(space.neighbours(order, "swap", 500), space.neighbours(order, "swap"))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.data())
def test_neighbours_keep_random_relations(n, data):
    order = data.draw(st.permutations(range(n)))
    ranks = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda pair: pair[0] < pair[1])
    pairs = [(order[i], order[j]) for i, j in data.draw(st.lists(ranks, max_size=8) if n > 1 else st.just([]))]
    space = PermutationSpace(n, pairs)
    for move in MOVES:
        wanted = {new for new in moved(order, move) if all(new.index(u) < new.index(v) for u, v in pairs)}
        assert {tuple(row) for row in space.neighbours(order, move).tolist()} == wanted


@pytest.mark.parametrize("pairs", PRECEDENCES.values(), ids=PRECEDENCES)
def test_samples_are_uniform(pairs):
    space = PermutationSpace(5, pairs)
    wanted = list(members(5, pairs))
    sample = space.sample(60 * len(wanted), seed=3)
    counts = dict.fromkeys(wanted, 0)
    for row in space.check(sample).tolist():
        counts[tuple(row)] += 1
    assert len(wanted) == 1 or chisquare(list(counts.values())).pvalue > 0.01


def test_the_walk_is_needed_for_a_uniform_sample(monkeypatch):
    monkeypatch.setattr("bayesopt_perm.space.MOST_WALK_STEPS", 0)
    space = PermutationSpace(5, PRECEDENCES["forest"])
    _, counts = np.unique(space.sample(1200, seed=3), axis=0, return_counts=True)
    assert chisquare(counts).pvalue < 1e-6


def test_a_seed_gives_the_same_sample_and_a_generator_goes_on():
    space = PermutationSpace(12, [(0, 1)])
    assert np.array_equal(space.sample(5, seed=1), space.sample(5, seed=1))
    assert not np.array_equal(space.sample(5, seed=1), space.sample(5, seed=2))
    rng = np.random.default_rng(1)
    assert not np.array_equal(space.sample(5, rng), space.sample(5, rng))


def rank_distances(p, q):
    n = len(p)
    place_p, place_q = np.argsort(p), np.argsort(q)
    edges = [{frozenset((o[t], o[(t + 1) % n])) for t in range(n)} for o in (p, q)]
    return {
        "hamming": sum(a != b for a, b in zip(p, q, strict=True)),
        "footrule": sum(abs(place_p - place_q)),
        "spearman": sum((place_p - place_q) ** 2),
        "kendall": sum(
            (place_p[u] < place_p[v]) != (place_q[u] < place_q[v]) for u, v in itertools.combinations(range(n), 2)
        ),
        "adjacency": len(edges[0] - edges[1]),
    }


@pytest.mark.parametrize("n", [3, 5, 13, 70])
def test_distances_agree_with_their_definitions(n):
    rng = np.random.default_rng(n)
    a, b = (np.array([rng.permutation(n) for _ in range(4)]) for _ in range(2))
    for i, j in itertools.product(range(4), range(4)):
        for name, wanted in rank_distances(a[i].tolist(), b[j].tolist()).items():
            assert distance(a, b, name)[i, j] == wanted, name


def merge_decisions(values):
    """Which run each item came from, level by level, by a plain bottom-up merge sort."""
    runs, decisions = [[v] for v in values], []
    while len(runs) > 1:
        merged = []
        for pair in itertools.zip_longest(runs[::2], runs[1::2], fillvalue=()):
            (left, right), out = map(list, pair), []
            while left or right:
                decisions.append(not left or bool(right and right[0] < left[0]))
                out.append((right if decisions[-1] else left).pop(0))
            merged.append(out)
        runs = merged
    return decisions


@pytest.mark.parametrize("n", [1, 2, 5, 13, 64, 100])
def test_the_merge_sort_distance_counts_different_decisions(n):
    rng = np.random.default_rng(n)
    a = np.array([rng.permutation(n) for _ in range(5)])
    told = np.array([merge_decisions(np.argsort(row).tolist()) for row in a]).reshape(5, -1)
    assert np.array_equal(distance(a, a, "mergesort"), (told[:, None] != told[None]).sum(-1))
    rows = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    assert (distance(rows, rows, "mergesort") > 0).sum() == 30  # it tells all permutations apart


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
def test_the_largest_distance_is_one(name, n):
    orders = np.array(list(itertools.permutations(range(n))))
    largest = distance(orders[:720], orders, name).max()
    assert largest <= DISTANCES[name].largest(n)
    assert name in ("mergesort", "adjacency") or n == 1 or largest == DISTANCES[name].largest(n)


def test_a_tour_has_no_distance_to_itself_turned_or_mirrored():
    rng = np.random.default_rng(0)
    tour = rng.permutation(17)
    others = np.array([np.roll(tour, 5), tour[::-1], np.roll(tour[::-1], 3)])
    assert distance(tour[None], others, "adjacency").tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PermutationSpace(0), "'n' must be from 1 to 1800 (got 0)"),
        (lambda: PermutationSpace(3, [(0, 3)]), "'precedence' has the pair (0, 3), but items go from 0 to 2"),
        (lambda: PermutationSpace(3, [(0, 1), (1, 2), (2, 1)]), "'precedence' has a cycle: 1 -> 2 -> 1"),
        (lambda: PermutationSpace(2, [(1, 1)]), "'precedence' has a cycle: 1 -> 1"),
        (
            lambda: PermutationSpace(30, [(t, (t + 1) % 30) for t in range(30)]),
            "'precedence' has a cycle: 0 -> 1 -> 2 -> 3 -> 4 -> 5 -> 6 -> 7 -> 8 -> ...",
        ),
        (lambda: PermutationSpace(3).check([0, 1]), "an order must have 3 items (got an array of shape (2,))"),
        (
            lambda: PermutationSpace(3).check([[0, 1, 2], [0, 1, 1]]),
            "order 1 is not a permutation of 0 .. 2: it has the item 1 2 times",
        ),
        (lambda: PermutationSpace(3).check([1, 2, 3]), "order 0 is not a permutation of 0 .. 2: it has the item 3"),
        (lambda: PermutationSpace(3).check([0.5, 1, 2]), "an order must hold whole numbers (got float64)"),
        (
            lambda: PermutationSpace(3, [(2, 0)]).check([[2, 1, 0], [0, 1, 2]]),
            "order 1 has item 0 before item 2, which must precede it",
        ),
        (
            lambda: PermutationSpace(3).neighbours([0, 1, 2], "shuffle"),
            "unknown move 'shuffle' (known: swap, adjacent, insert, reverse)",
        ),
        (
            lambda: PermutationSpace(2).distance([0, 1], [1, 0], "cayley"),
            "unknown distance 'cayley' (known: hamming, footrule, spearman, kendall, adjacency, mergesort)",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("pairs", [5, [0, 1], [[0, 1, 2]], ["ab"]])
def test_what_is_no_pairs_is_refused_in_one_line(pairs):
    with pytest.raises(ValueError, match=r"'precedence' must hold pairs \(u, v\) of items, u before v"):
        PermutationSpace(4, pairs)
