import itertools

import numpy as np
import pytest

from bayesopt_perm.problems import (
    TaillardRandom,
    flow_shop,
    linear_ordering,
    quadratic_assignment,
    random_flow_shop,
    random_linear_ordering,
    random_quadratic_assignment,
    random_traveling_salesman,
    traveling_salesman,
)


def value(name, data, order):
    """The objective, written out from its definition."""
    n = len(order)
    if name == "qap":
        flow, distance = data
        return sum(flow[i][j] * distance[order[i]][order[j]] for i in range(n) for j in range(n))
    (table,) = data
    if name == "tsp":
        return sum(table[order[t]][order[(t + 1) % n]] for t in range(n))
    if name == "lop":
        return sum(table[order[j]][order[i]] for i in range(n) for j in range(i + 1, n))
    end = {}
    for t, job in enumerate(order):
        for machine, time in enumerate(table[job]):
            end[t, machine] = time + max(end.get((t - 1, machine), 0), end.get((t, machine - 1), 0))
    return end[n - 1, len(table[0]) - 1]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("qap", random_quadratic_assignment(6, seed=1)),
        ("qap", quadratic_assignment([[0, 1, 5], [2, 0, 7], [3, 9, 0]], [[0, 4, 1], [8, 0, 2], [6, 3, 0]])),
        ("tsp", random_traveling_salesman(6, seed=2)),
        ("tsp", traveling_salesman([[0, 1, 5], [2, 0, 7], [3, 9, 0]])),
        ("lop", random_linear_ordering(6, seed=3)),
        ("flow", random_flow_shop(6, 4, seed=4)),
        ("flow", flow_shop([[1], [2], [3]])),
    ],
)
def test_values_agree_with_the_definition(name, problem):
    orders = list(itertools.permutations(range(problem.n)))
    wanted = [value(name, [table.tolist() for table in problem.data], order) for order in orders]
    assert np.allclose(problem.evaluate(orders), wanted, rtol=1e-12)
    assert problem(orders[1]) == pytest.approx(wanted[1], rel=1e-12)
    assert problem.space.n == problem.n


def test_a_tour_may_have_two_items():
    assert traveling_salesman([[0, 3], [4, 0]])([1, 0]) == 7


def test_the_generator_is_the_published_one():
    rng = TaillardRandom(1)
    assert [rng.integer(0, 0) for _ in range(10_000)] == [0] * 10_000
    assert rng.state == 1_043_618_065  # Park and Miller 1988: what seed 1 gives after 10,000 steps
    # The first rows of Taillard's first flow-shop instance.
    assert random_flow_shop(20, 5, seed=873654221).data[0][:2].tolist() == [[54, 79, 16, 66, 58], [83, 3, 89, 58, 56]]
    drawn = TaillardRandom(7).matrix(100, 100, 2, 5)
    assert set(np.unique(drawn)) == {2, 3, 4, 5}


def test_a_generated_instance_depends_on_its_seed_only():
    for make in (random_quadratic_assignment, random_traveling_salesman, random_linear_ordering):
        same, again, other = make(7, seed=5), make(7, seed=5), make(7, seed=6)
        assert all(np.array_equal(a, b) for a, b in zip(same.data, again.data, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(same.data, other.data, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: quadratic_assignment([[0]], [[0, 1], [1, 0]]),
            "'flow' and 'distance' must have one size (got 1 and 2)",
        ),
        (lambda: traveling_salesman([[0, 1]]), "'distance' must be a square matrix (got an array of shape (1, 2))"),
        (lambda: flow_shop([1, 2]), "'times' must be a matrix (got an array of shape (2,))"),
        (lambda: linear_ordering([[np.nan]]), "'weight' must hold finite numbers"),
        (lambda: TaillardRandom(0), "'seed' must be from 1 to 2147483646 (got 0)"),
        (
            lambda: random_flow_shop(3, 2, seed=1)([0, 1, 1]),
            "order 0 is not a permutation of 0 .. 2: it has the item 1 2 times",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert str(caught.value) == message


def test_problems_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        random_flow_shop(3, 2, seed=1).data[0][0, 0] = 5
