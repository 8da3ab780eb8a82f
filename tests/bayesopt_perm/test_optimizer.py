import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bayesopt_perm import BayesOpt, PermutationSpace
from bayesopt_perm.batch import BATCH_RULES
from bayesopt_perm.kernels import HammingKernel, PositionKernel
from bayesopt_perm.problems import random_flow_shop, random_traveling_salesman

PROBLEM = random_traveling_salesman(9, seed=1)


def played(opt, rounds, problem=PROBLEM):
    """Batches asked and told, in one array each."""
    batches = []
    for _ in range(rounds):
        batches.append(opt.ask())
        opt.tell(batches[-1], problem.evaluate(batches[-1]))
    return batches


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_importing_the_package_loads_no_botorch_and_minimising_neither():
    code = (
        "import sys, bayesopt_perm\n"
        "assert not {'torch', 'numba', 'botorch', 'gpytorch'} & set(sys.modules)\n"
        "r = bayesopt_perm.minimize(lambda o: float(o[0]), n=6, budget=20, initial=10, batch_size=5)\n"
        "assert r.value == 0\n"
        "assert not {'botorch', 'gpytorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_first_orders_are_random_and_then_come_batches():
    opt = BayesOpt(PROBLEM.space, batch_size=4, initial=10, seed=1)
    sizes = [len(batch) for batch in played(opt, 4)]
    assert sizes == [4, 4, 2, 4]
    assert len(np.unique([evaluation.order for evaluation in opt.history], axis=0)) == 14
    assert opt.best.value == min(evaluation.value for evaluation in opt.history)


def test_a_seed_fixes_every_batch():
    first, again, other = (played(BayesOpt(PROBLEM.space, initial=10, seed=seed), 5) for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


def test_it_finds_the_optimum_that_random_search_does_not():
    best = PROBLEM.evaluate(list(PROBLEM.space.sample(1, 0))).min()
    space, optimum = PROBLEM.space, None
    orders = np.array([[0, *order + 1] for order in PermutationSpace(8)])
    optimum = PROBLEM.evaluate(orders).min()
    assert best > optimum
    for seed in range(3):
        opt = BayesOpt(space, batch_size=5, initial=15, seed=seed)
        played(opt, 13)
        assert opt.best.value == pytest.approx(optimum), seed
        assert PROBLEM.evaluate(space.sample(65, seed)).min() > optimum * 1.03, seed


@pytest.mark.parametrize("rule", BATCH_RULES)
@pytest.mark.parametrize("acquisition", ["logei", "ei", "ucb", "est"])
def test_every_rule_works_with_every_acquisition(rule, acquisition):
    opt = BayesOpt(PROBLEM.space, batch_size=3, initial=9, batch=rule, acquisition=acquisition)
    played(opt, 5)
    orders = [evaluation.order for evaluation in opt.history]
    assert len(np.unique(orders, axis=0)) == 15


@pytest.mark.parametrize("kernel", ["mallows", ("hamming", "adjacency"), HammingKernel() + PositionKernel()])
def test_kernels_may_be_named_or_given(kernel):
    opt = BayesOpt(PermutationSpace(7), batch_size=3, initial=6, kernel=kernel)
    played(opt, 3, random_flow_shop(7, 3, seed=1))
    if isinstance(kernel, str | tuple):
        assert opt.choice.kernel in kernel
    assert len(opt.history) == 9


def test_precedence_is_kept():
    space = PermutationSpace(9, [(0, 1), (2, 1), (3, 8)])
    opt = BayesOpt(space, batch_size=4, initial=8)
    batches = played(opt, 5)
    space.check(np.concatenate(batches))


def test_pending_orders_count_and_are_not_asked_again():
    opt = BayesOpt(PROBLEM.space, batch_size=3, initial=6)
    played(opt, 2)
    first, second = opt.ask(), opt.ask()
    assert same(opt.pending, np.concatenate([first, second]))
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 6
    opt.tell(second[:2], PROBLEM.evaluate(second[:2]))
    assert same(opt.pending, np.concatenate([first, second[2:]]))


def test_who_is_told_first_does_not_matter():
    opts = [BayesOpt(PROBLEM.space, batch_size=4, initial=8) for _ in range(2)]
    for opt, step in zip(opts, (1, -1), strict=True):
        for _ in range(3):
            batch = opt.ask()
            for order in batch[::step]:
                opt.tell(order, [PROBLEM(order)])
    assert same(opts[0].ask(), opts[1].ask())


def test_failures_are_recorded_and_their_region_is_avoided():
    problem = random_flow_shop(9, 3, seed=1)

    def fails(order):
        return order[0] < 4  # nearly half of the space

    def tell(opt, batch):
        opt.tell(batch, [np.nan if fails(order) else value for order, value in zip(batch, problem.evaluate(batch))])  # noqa: B905

    opt = BayesOpt(problem.space, batch_size=5, initial=20, seed=3)
    for _ in range(10):
        tell(opt, opt.ask())
    failed = [evaluation.failure is not None for evaluation in opt.history]
    assert [fails(evaluation.order) for evaluation in opt.history] == failed
    assert np.mean(failed[20:]) < 0.2 < np.mean(failed[:20])
    assert opt.history[failed.index(True)].failure == "the value is nan"


def test_nothing_but_failures_asks_at_random_and_for_nothing_twice():
    opt = BayesOpt(PermutationSpace(6), batch_size=5, initial=5)
    for value in (None, np.inf, -np.inf, np.nan):
        batch = opt.ask()
        opt.tell(batch, [value] * 5)
    assert opt.best is None
    assert len(np.unique([evaluation.order for evaluation in opt.history], axis=0)) == 20
    with pytest.raises(ValueError, match="needs at least one evaluation that gave a value"):
        opt.surrogate()


def test_a_small_space_is_tried_to_the_end():
    opt = BayesOpt(PermutationSpace(4, [(0, 1)]), batch_size=5, initial=3)
    sizes = []
    while len(batch := opt.ask()):
        sizes.append(len(batch))
        opt.tell(batch, np.zeros(len(batch)))  # a constant objective, too
    assert sum(sizes) == 12 == len(np.unique([evaluation.order for evaluation in opt.history], axis=0))
    assert len(opt.pending) == 0


def test_orders_never_asked_for_may_be_told_also_twice():
    opt = BayesOpt(PROBLEM.space, batch_size=5, initial=10)
    orders = PROBLEM.space.sample(12, seed=4)
    opt.tell(orders, PROBLEM.evaluate(orders))
    opt.tell(orders[0], [PROBLEM(orders[0]) + 1])
    assert len(opt.history) == 13
    assert len(opt.ask()) == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BayesOpt(PermutationSpace(3), batch_size=7), "'batch_size' is 7, but the space has only 6 members"),
        (lambda: BayesOpt(PermutationSpace(9), batch_size=0), "'batch_size' must be at least 1 (got 0)"),
        (lambda: BayesOpt(PermutationSpace(9), initial=1), "'initial' must be at least 2 (got 1)"),
        (lambda: BayesOpt(PermutationSpace(9), seed=-1), "'seed' must be at least 0 (got -1)"),
        (
            lambda: BayesOpt(PermutationSpace(9), acquisition="pi"),
            "unknown 'acquisition' 'pi' (known: logei, ei, ucb, est)",
        ),
        (
            lambda: BayesOpt(PermutationSpace(9), batch="best"),
            f"unknown 'batch' 'best' (known: {', '.join(BATCH_RULES)})",
        ),
        (
            lambda: BayesOpt(PermutationSpace(9), moves=["turn"]),
            "unknown 'moves' 'turn' (known: swap, adjacent, insert, reverse)",
        ),
        (
            lambda: BayesOpt(PermutationSpace(9), kernel="rbf"),
            "unknown 'kernel' 'rbf' (known: auto, hamming, position, mallows, spearman, adjacency, mergesort)",
        ),
        (lambda: BayesOpt(PermutationSpace(3), batch_size=2).ask(0), "'count' must be at least 1 (got 0)"),
        (
            lambda: BayesOpt(PermutationSpace(3)).tell([[0, 1, 2]], [1.0, 2.0]),
            "1 orders need as many values (got 2)",
        ),
        (
            lambda: BayesOpt(PermutationSpace(3)).tell([[0, 1, 1]], [1.0]),
            "order 0 is not a permutation of 0 .. 2: it has the item 1 2 times",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert str(caught.value) == message


def test_given_orders_come_first_and_then_random_ones():
    given = PROBLEM.space.sample(5, seed=77)
    opt = BayesOpt(PROBLEM.space, batch_size=4, initial=7, start=[*given, given[0]])
    batches = played(opt, 4)
    assert [len(batch) for batch in batches] == [4, 3, 4, 4]
    asked = np.concatenate(batches)
    assert same(asked[:5], given)
    assert len(np.unique(asked, axis=0)) == 15
    assert len(BayesOpt(PROBLEM.space, batch_size=9, initial=3, start=given).ask()) == 5
    with pytest.raises(ValueError, match="order 1 is not a permutation of 0"):
        BayesOpt(PROBLEM.space, start=[given[0], [3, 3, 0, 1, 2, 4, 5, 6, 7]])


def test_hundreds_of_items_stay_within_memory():
    problem = random_flow_shop(200, 5, seed=2)
    opt = BayesOpt(problem.space, batch_size=10, initial=200, seed=1)
    tracemalloc.start()
    played(opt, 21, problem)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(opt.history) == 210
    assert peak < 200 << 20
    first, last = ([e.value for e in part] for part in (opt.history[:200], opt.history[200:]))
    assert np.mean(last) < np.mean(first)


def test_kernels_that_are_as_likely_share_a_batch_until_one_is_not():
    problem = random_traveling_salesman(20, seed=12)
    opt = BayesOpt(problem.space, batch_size=6, initial=30, seed=3)
    led = []
    for _ in range(14):
        played(opt, 1, problem)
        led.append({opt.choice.kernel, *(name for name, _, _ in opt.choice.rivals)} if opt.choice else set())
    assert {"hamming", "adjacency"} <= led[5]  # thirty random tours say next to nothing
    assert led[-1] == {"adjacency"}
    alone = BayesOpt(problem.space, batch_size=6, initial=30, seed=3, kernel="hamming")
    played(alone, 14, problem)
    assert alone.choice.rivals == ()
    assert opt.best.value < alone.best.value


def test_a_kernel_that_is_nearly_as_likely_has_a_share_of_one_evaluation_at_a_time_too():
    problem = random_traveling_salesman(20, seed=12)
    opts = [BayesOpt(problem.space, batch_size=1, initial=12, seed=3, kernel=kernel) for kernel in ("auto", "hamming")]
    orders = problem.space.sample(12, seed=5)
    asked = []
    for opt in opts:
        opt.tell(orders, problem.evaluate(orders))
        asked.append([opt.ask()[0].tolist() for _ in range(3)])
    assert len(opts[0].choice.rivals) == 2
    assert asked[0] != asked[1]


def test_what_the_caller_does_with_his_arrays_changes_nothing():
    opt = BayesOpt(PROBLEM.space, batch_size=4, initial=8)
    asked = opt.ask()
    kept = asked.copy()
    asked += 1
    assert same(opt.pending, kept)
    values = np.array([1.0, np.inf, 3.0, 4.0])
    values.flags.writeable = False
    told = kept.copy()
    opt.tell(told, values)
    told[:] = told[:, ::-1]
    assert same([evaluation.order for evaluation in opt.history], kept)
    assert values[1] == np.inf


def test_a_value_with_a_reason_why_there_is_none_is_no_value():
    opt = BayesOpt(PROBLEM.space, initial=4)
    opt.tell(opt.ask(2), [1.0, 2.0], ["crash", None])
    assert opt.best.value == 2.0
    assert np.isnan(opt.history[0].value)


def test_a_given_kernel_is_left_as_it_is_and_takes_pending_orders():
    kernel = PositionKernel()
    before = kernel.lengthscale.item()
    opts = [BayesOpt(PROBLEM.space, batch_size=3, initial=8, kernel=kernel) for _ in range(2)]
    for opt in opts:
        played(opt, 3)
        opt.ask()
    opts[1].surrogate()  # only looks
    assert same(opts[0].ask(), opts[1].ask())
    assert kernel.lengthscale.item() == before


def test_every_initial_order_and_every_member_is_reached():
    assert BayesOpt(PermutationSpace(20), initial=4000).initial == 4000
    assert BayesOpt(PermutationSpace(20), start=[]).initial == 30
    opt = BayesOpt(PermutationSpace(7), batch_size=20, initial=30)
    orders = np.array(list(PermutationSpace(7)))
    opt.tell(orders[30:], np.full(len(orders) - 30, np.nan))
    assert len(opt.ask(50)) == 30
    assert len(opt.ask(50)) == 0
    tight = PermutationSpace(200, [(i, i + 1) for i in range(199) if i % 16 != 1])
    opt = BayesOpt(tight, batch_size=20, initial=5, kernel="hamming")
    batches = played(opt, 3, random_flow_shop(200, 2, seed=1))
    assert [len(batch) for batch in batches] == [5, 20, 20]


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("moves", [], "'moves' must not be empty (known: auto, swap"),
        ("moves", "swop", "unknown 'moves' 'swop' (known: auto, swap"),
        ("kernel", [], "'kernel' must not be empty (known: auto, hamming"),
        ("kernel", ["auto", "mallows"], "unknown 'kernel' 'auto' (known: hamming"),
        ("kernel", 42, "'kernel' must be \"auto\", names of kernels or a gpytorch kernel (got int)"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_is_evaluated(argument, value, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        BayesOpt(PROBLEM.space, **{argument: value})
    assert str(caught.value).startswith(message)
    assert BayesOpt(PROBLEM.space, moves="swap").moves == "swap"
