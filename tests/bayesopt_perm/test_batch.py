import numpy as np
import pytest

from bayesopt_perm.acquisition import ACQUISITIONS, WEIGHTS
from bayesopt_perm.batch import BATCH_RULES, Round, greedy_determinant, pick
from bayesopt_perm.problems import random_flow_shop, random_quadratic_assignment, random_traveling_salesman
from bayesopt_perm.search import EXACT, Scorer, candidates, every_candidate
from bayesopt_perm.space import PermutationSpace
from bayesopt_perm.surrogate import fit


def fitted(problem, count, seed=0, kernel="auto"):
    orders = problem.space.sample(count, seed)
    return fit(orders, problem.evaluate(orders), kernel)


def scorer(model, acquisition="logei"):
    return Scorer(model, ACQUISITIONS[acquisition], (model.y.min() - model.center) / model.spread)


def seen(model):
    return {order.tobytes() for order in model.orders}


def test_the_greedy_set_has_the_determinants_that_it_claims():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(30, 12))
    covariance, weight = factor @ factor.T + 0.1 * np.eye(30), rng.uniform(0.1, 1, 30)
    weighted = weight[:, None] * covariance * weight
    chosen = greedy_determinant(covariance, weight, 4, 8)
    assert chosen[0] == 4
    for size in range(1, 8):
        before = chosen[:size]
        gains = [
            -np.inf if i in before else np.linalg.slogdet(weighted[np.ix_([*before, i], [*before, i])])[1]
            for i in range(30)
        ]
        assert chosen[size] == int(np.argmax(gains))


def test_chosen_ones_are_distinct_even_when_nothing_is_left():
    assert sorted(greedy_determinant(np.ones((4, 4)), np.ones(4), 2, 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("rule", BATCH_RULES)
def test_every_rule_gives_different_candidates(rule):
    problem = random_flow_shop(9, 3, seed=1)
    model = fitted(problem, 40)
    rng = np.random.default_rng(0)
    found = candidates(scorer(model), problem.space, ["swap", "insert"], seen(model), rng)
    state = Round(model, found, "logei", (model.y.min() - model.center) / model.spread, rng)
    batch = pick(rule, state, 7)
    assert len(np.unique(batch, axis=0)) == 7
    assert not {order.tobytes() for order in batch} & seen(model)
    if rule not in ("qei", "thompson"):
        assert np.array_equal(batch[0], found.orders[0])


def test_law_weighs_what_is_good_against_what_is_different():
    problem = random_flow_shop(10, 5, seed=1)
    model = fitted(problem, 60, kernel="mallows")
    rng = np.random.default_rng(0)
    found = candidates(scorer(model), problem.space, ["swap"], seen(model), rng)
    state = Round(model, found, "logei", (model.y.min() - model.center) / model.spread, rng)

    def merit(rule):
        chosen = BATCH_RULES[rule](state, 6)
        covariance = model.posterior_covariance(found.orders[chosen])
        return WEIGHTS["logei"](found.value[chosen]).mean(), np.linalg.slogdet(covariance)[1]

    goodness, difference = merit("law")
    assert goodness >= merit("dpp")[0]
    assert difference > merit("top")[1]


@pytest.mark.parametrize("name", ACQUISITIONS)
@pytest.mark.parametrize("problem", [random_traveling_salesman(9, 1), random_quadratic_assignment(9, 1)])
def test_the_bound_hides_no_good_neighbour(name, problem):
    model = fitted(problem, 50)
    score = scorer(model, name)
    around = problem.space.neighbours(model.orders[int(np.argmin(model.y))], "swap")
    everything, few = score(around), score(around, EXACT)
    assert np.allclose(few.value[0], everything.value[0])
    mean, sd = model.predict(few.orders)
    assert np.allclose(mean, model.center + model.spread * few.mean)
    assert np.allclose(sd, model.spread * few.sd)
    assert (np.diff(few.value) <= 0).all()


def test_the_climb_finds_the_best_of_all_and_never_what_is_seen():
    problem = random_flow_shop(7, 3, seed=2)
    model = fitted(problem, 40)
    score = scorer(model)
    whole = every_candidate(score, problem.space, seen(model))
    assert len(whole.orders) == 5040 - 40
    found = candidates(score, problem.space, ["swap", "insert"], seen(model), np.random.default_rng(0))
    assert found.value[0] == pytest.approx(whole.value[0])
    assert not {order.tobytes() for order in found.orders} & seen(model)
    assert len(np.unique(found.orders, axis=0)) == len(found.orders)
    rest = candidates(
        score, problem.space, ["swap"], seen(model) | {found.orders[0].tobytes()}, np.random.default_rng(0)
    )
    assert not (rest.orders == found.orders[0]).all(axis=1).any()


def test_the_search_keeps_precedence():
    pairs = [(0, 5), (1, 5), (5, 6), (2, 3), (6, 8)]
    space = PermutationSpace(9, pairs)
    problem = random_flow_shop(9, 3, seed=2)
    orders = space.sample(30, seed=1)
    model = fit(orders, problem.evaluate(orders))
    found = candidates(scorer(model), space, ["swap", "insert", "reverse"], seen(model), np.random.default_rng(0))
    assert len(found.orders) > 100
    space.check(found.orders)


def test_pending_points_keep_means_and_take_variance_away():
    problem = random_flow_shop(8, 3, seed=2)
    model = fitted(problem, 30)
    asked, others = problem.space.sample(4, 8), problem.space.sample(20, 9)
    after = model.pending(asked)
    assert np.allclose(after.predict(others)[0], model.predict(others)[0])
    assert (after.predict(others)[1] < model.predict(others)[1]).all()
    assert (after.predict(asked)[1] <= after.spread * np.sqrt(after.variance * after.noise) * 1.001).all()
    assert model.pending(asked[:0]) is model


def test_thompson_and_joint_improvement_follow_the_posterior():
    problem = random_flow_shop(6, 3, seed=2)
    model = fitted(problem, 60)
    whole = every_candidate(scorer(model), problem.space, seen(model))
    state = Round(model, whole, "logei", (model.y.min() - model.center) / model.spread, np.random.default_rng(0))
    for rule in ("thompson", "qei"):
        batch = pick(rule, state, 10)
        means = model.predict(batch)[0]
        assert means.mean() < np.median(model.predict(whole.orders)[0])
