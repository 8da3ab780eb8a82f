import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import _ei_helper, _log_ei_helper

from bayesopt_perm.acquisition import (
    ACQUISITIONS,
    WEIGHTS,
    estimated_optimum,
    expected_improvement,
    log_expected_improvement,
)


def test_expected_improvement_is_the_average_improvement():
    draws = np.random.default_rng(0).normal(size=400_000)
    for mean, sd, best in [(0.0, 1.0, 0.0), (2.0, 0.5, 1.5), (-1.0, 2.0, 0.3)]:
        found = expected_improvement(np.array([mean]), np.array([sd]), best)[0]
        assert found == pytest.approx(np.maximum(best - (mean + sd * draws), 0).mean(), rel=2e-2)


def test_improvement_and_its_logarithm_agree_with_botorch():
    z = np.concatenate([np.linspace(-40, 8, 500), [-1.0, -1e3, -1e5]])
    found = log_expected_improvement(-2.0 * z, np.full(len(z), 2.0), 0.0)
    wanted = _log_ei_helper(torch.from_numpy(z)).numpy() + np.log(2)
    assert np.allclose(found, wanted, rtol=1e-7, atol=1e-9)
    ordinary = z[:500]
    ei = expected_improvement(-2.0 * ordinary, np.full(500, 2.0), 0.0)
    assert np.allclose(ei, 2 * _ei_helper(torch.from_numpy(ordinary)).numpy(), atol=1e-12)


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_a_lower_mean_is_worth_more_and_weights_follow(name):
    mean = np.linspace(3, -3, 50)
    value = ACQUISITIONS[name](mean, np.full(50, 0.7), -0.5)
    assert (np.diff(value) > 0).all()
    weight = WEIGHTS[name](value)
    assert (np.diff(weight) >= 0).all()
    assert weight.min() >= 0.01
    assert weight.max() <= 1.01


def test_the_weight_of_log_improvement_is_that_of_improvement_in_units_of_the_best():
    ei = np.array([1e-9, 0.3, 4.0])
    assert np.allclose(WEIGHTS["logei"](np.log(ei)), WEIGHTS["ei"](ei / 4.0))
    assert np.allclose(WEIGHTS["logei"](np.log(ei) - 30), WEIGHTS["logei"](np.log(ei)))


def test_the_estimated_optimum_is_the_expected_minimum():
    rng = np.random.default_rng(1)
    mean, sd = rng.normal(size=20), rng.uniform(0.1, 1, 20)
    draws = np.minimum((mean + sd * rng.standard_normal((200_000, 20))).min(axis=1), -0.5)
    assert estimated_optimum(mean, sd, -0.5) == pytest.approx(draws.mean(), abs=0.01)
