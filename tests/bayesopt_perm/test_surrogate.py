from dataclasses import replace

import numpy as np
import pytest
import torch
from gpytorch.mlls import ExactMarginalLogLikelihood
from scipy.optimize import check_grad

from bayesopt_perm.botorch_model import inputs
from bayesopt_perm.covariance import NAMES, TableCovariance
from bayesopt_perm.kernels import KERNELS, AdjacencyKernel, HammingKernel
from bayesopt_perm.problems import (
    quadratic_assignment,
    random_flow_shop,
    random_linear_ordering,
    random_quadratic_assignment,
    random_traveling_salesman,
)
from bayesopt_perm.surrogate import Choice, _loss, choose, fit


def data(problem, count, seed=0):
    orders = problem.space.sample(count, seed)
    return orders, problem.evaluate(orders)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [2, 9, 150])
def test_looked_up_covariances_are_those_of_the_gpytorch_kernel(name, n):
    rng = np.random.default_rng(n)
    a, b = (np.array([rng.permutation(n) for _ in range(6)]) for _ in range(2))
    table = TableCovariance(name, n, 0.3)
    kernel = KERNELS[name]().double()
    kernel.lengthscale = torch.tensor(0.3, dtype=torch.float64)
    found = table.between(table.features(a), table.features(b))
    assert np.allclose(found, kernel(inputs(a), inputs(b)).to_dense().detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_posterior_is_that_of_the_botorch_model(name):
    problem = random_flow_shop(9, 4, seed=1)
    orders, y = data(problem, 40)
    surrogate = fit(orders, y, name)
    assert surrogate.choice.kernel == name
    new = problem.space.sample(15, 5)
    mean, sd = surrogate.predict(new)
    posterior = surrogate.model.posterior(inputs(new)[:, None])
    assert np.allclose(mean, posterior.mean.detach().numpy().ravel(), rtol=1e-6)
    assert np.allclose(sd**2, posterior.variance.detach().numpy().ravel(), rtol=1e-3, atol=1e-6 * y.var())
    together = surrogate.model.posterior(inputs(new)).covariance_matrix.detach().numpy()
    assert np.allclose(surrogate.spread**2 * surrogate.posterior_covariance(new), together, atol=1e-4 * y.var())


def test_no_parameter_of_the_botorch_model_wants_to_move(monkeypatch):
    monkeypatch.setattr("bayesopt_perm.surrogate.PRIOR_SDS", np.array([1e6, 1e6]))  # the likelihood alone
    orders, y = data(random_quadratic_assignment(9, seed=2), 60)
    noisy = y + np.random.default_rng(0).normal(0, 0.3 * y.std(), len(y))
    surrogate = fit(orders, noisy, "hamming")
    assert surrogate.choice.weights == ()  # or a prior would pull as well
    assert 1e-4 < surrogate.choice.noise_share < 5  # inside the bounds, so the gradient must vanish
    assert 0.03 < surrogate.choice.lengthscale < 90
    model = surrogate.model.train()
    loss = -ExactMarginalLogLikelihood(model.likelihood, model)(model(*model.train_inputs), model.train_targets)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() < 2e-3, name


@pytest.mark.parametrize(
    ("problem", "kernels"),
    [
        (random_quadratic_assignment(7, seed=1), {"hamming"}),
        (random_traveling_salesman(12, seed=1), {"adjacency"}),
        (random_linear_ordering(12, seed=1), {"mallows", "spearman", "position"}),
    ],
)
def test_the_likelihood_picks_the_kernel_that_suits_and_predicts(problem, kernels):
    orders, y = data(problem, 150)
    surrogate = fit(orders, y)
    assert surrogate.choice.kernel in kernels
    new, wanted = data(problem, 200, seed=9)
    mean, sd = surrogate.predict(new)
    assert 1 - ((mean - wanted) ** 2).mean() / wanted.var() > 0.1
    assert (((wanted - mean) / sd) ** 2).mean() < 1.7  # it does not trust itself too much


def test_a_linear_objective_is_learned_almost_exactly():
    problem = random_linear_ordering(7, seed=3)  # linear in 21 pairs
    surrogate = fit(*data(problem, 80), "mallows")
    new, wanted = data(problem, 100, seed=9)
    assert np.abs(surrogate.predict(new)[0] - wanted).max() < 0.05 * wanted.std()


def test_parameters_and_kernel_are_kept_while_there_are_few_more_evaluations():
    problem = random_traveling_salesman(10, seed=1)
    orders, y = data(problem, 104)
    last = Choice("hamming", 0.5, 1e-3, evaluations=80, fitted=80)
    assert choose(orders[:83], y[:83], last=last) is last
    refitted = choose(orders[:84], y[:84], last=last)
    assert (refitted.kernel, refitted.evaluations, refitted.fitted) == ("hamming", 80, 84)
    assert refitted.lengthscale != last.lengthscale
    assert choose(orders[:103], y[:103], last=last).kernel == "hamming"
    anew = choose(orders, y, last=last)
    assert (anew.kernel, anew.evaluations, anew.fitted) == ("adjacency", 104, 104)
    assert choose(orders[:81], y[:81], ("adjacency",), last).kernel == "adjacency"


def test_many_evaluations_are_thinned_for_the_parameters_only():
    orders, y = data(random_flow_shop(15, 5, seed=1), 600)
    surrogate = fit(orders, y, "position")
    assert len(surrogate.weights) == 600
    mean, _ = surrogate.predict(orders[:50])
    assert np.corrcoef(mean, y[:50])[0, 1] > 0.8


def test_a_constant_objective_and_repeated_orders_are_taken():
    orders = np.array([[0, 1, 2], [0, 1, 2], [2, 1, 0]])
    mean, sd = fit(orders, np.full(3, 7.0)).predict(orders)
    assert np.allclose(mean, 7)
    assert np.isfinite(sd).all()
    mean, _ = fit(orders, np.array([1.0, 3.0, 10.0])).predict(orders)
    assert mean[0] == mean[1] < mean[2]
    assert np.isfinite(fit(orders[:1], np.array([5.0])).predict(orders)[0]).all()


def test_a_sum_of_gpytorch_kernels_is_fitted_by_botorch():
    problem = random_quadratic_assignment(8, seed=1)
    orders, y = data(problem, 40)
    surrogate = fit(orders, y, HammingKernel() + AdjacencyKernel())
    new = problem.space.sample(10, 5)
    mean, sd = surrogate.predict(new)
    posterior = surrogate.model.posterior(inputs(new)[:, None])
    assert np.allclose(mean, posterior.mean.detach().numpy().ravel(), rtol=1e-5)
    assert np.allclose(sd, posterior.variance.sqrt().detach().numpy().ravel(), rtol=1e-2)
    assert surrogate.choice is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fit(x, np.zeros(2), "mallow"), f"unknown kernel 'mallow' (known: {', '.join(NAMES)})"),
        (lambda x: fit(x, np.array([0, np.nan])), "'y' must hold finite numbers"),
        (
            lambda x: fit(x, np.zeros(3)),
            "'orders' and 'y' must have shapes [N, n] and [N], N >= 1 (got (2, 3) and (3,))",
        ),
        (
            lambda x: fit(x, np.zeros(2), torch.nn.Linear(1, 1)),
            "'kernel' must be \"auto\", names of kernels or a gpytorch kernel (got Linear)",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call(np.array([[0, 1, 2], [2, 1, 0]]))
    assert str(caught.value) == message


def sparse_assignment(n, busy, seed):
    """An assignment in which only ``busy`` of the n facilities have any flow."""
    rng = np.random.default_rng(seed)
    flow = np.zeros((n, n))
    flow[:busy, :busy] = rng.integers(1, 99, (busy, busy))
    return quadratic_assignment(flow, rng.integers(1, 99, (n, n)))


def test_weights_find_the_places_that_matter_and_predict_better():
    problem = sparse_assignment(8, 3, seed=1)
    orders, y = data(problem, 200)
    surrogate = fit(orders, y, "hamming")
    weights = np.array(surrogate.choice.weights)
    assert weights[:3].min() > 100 * weights[3:].max()
    new, wanted = data(problem, 300, seed=9)
    plain = Choice("hamming", 0.5, 1e-3, 200)  # kept as it is, so never weighed
    errors = [np.mean((fit(orders, y, "hamming", last).predict(new)[0] - wanted) ** 2) for last in (None, plain)]
    assert errors[0] < 0.5 * errors[1]


def test_weights_are_left_alone_where_nothing_speaks_for_them():
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(8) for _ in range(200)])
    assert fit(orders, rng.normal(size=200), ("hamming", "position")).choice.weights == ()
    assert fit(orders[:15], rng.normal(size=15), ("hamming", "position")).choice.weights == ()  # too few to tell


def test_the_weighted_posterior_is_that_of_the_botorch_model_with_its_gradient_at_rest():
    for name, problem in (("hamming", sparse_assignment(9, 3, seed=2)), ("position", random_flow_shop(9, 4, seed=1))):
        orders, y = data(problem, 120)
        choice = replace(choose(orders, y, (name,)), weights=tuple(np.linspace(0.3, 2, 9).tolist()), evaluations=110)
        surrogate = fit(orders, y, name, choice)
        assert surrogate.choice.weights == choice.weights
        new = problem.space.sample(15, 5)
        mean, sd = surrogate.predict(new)
        posterior = surrogate.model.posterior(inputs(new)[:, None])
        assert np.allclose(mean, posterior.mean.detach().numpy().ravel(), rtol=1e-6)
        assert np.allclose(sd**2, posterior.variance.detach().numpy().ravel(), rtol=1e-3, atol=1e-6 * y.var())


def test_the_gradient_of_the_loss_is_its_slope():
    rng = np.random.default_rng(0)
    parts = torch.from_numpy(np.abs(rng.normal(size=(3, 9, 9))))
    parts = parts + parts.mT
    parts.diagonal(dim1=1, dim2=2).zero_()
    y = torch.from_numpy(rng.normal(size=9))
    theta = np.array([1.0, -1.0, 0.3, -0.2, 0.5])
    assert check_grad(lambda t: _loss(t, parts, y)[0], lambda t: _loss(t, parts, y)[1], theta) < 1e-6
    whole = parts.sum(0)
    assert check_grad(lambda t: _loss(t, whole, y)[0], lambda t: _loss(t, whole, y)[1], theta[:2]) < 1e-6


def test_a_design_that_looks_like_noise_keeps_the_prior():
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(30) for _ in range(30)])
    choice = choose(orders, rng.normal(size=30), ("hamming",))
    assert 0.2 < choice.lengthscale < 2
    assert choice.noise_share < 0.1
