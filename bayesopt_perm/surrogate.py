"""The model of the objective: an exact Gaussian process over orders, its kernel chosen by marginal likelihood.

Mean and variance have closed forms given the lengthscale and the share of noise, so the likelihood, times weak priors,
is maximised over two numbers; and over a weight for each place (hamming) or item (position) where it rises by enough.
``Surrogate.model`` is the same process as a botorch model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

from bayesopt_perm._kernels import Float64Array, Int64Array
from bayesopt_perm.covariance import NAMES, WEIGHTED, Covariance, TableCovariance, TorchCovariance, WeightedCovariance

__all__ = ["Choice", "Surrogate", "check_kernel", "choose", "conditioned", "fit"]

LENGTHSCALES = (0.02, 100.0)
NOISE_SHARES = (1e-6, 10.0)  # of the variance; the least keeps the Cholesky factor sound
# Of the logarithms of lengthscale and noise share, both normal: a random design often looks like noise, but that near
# orders have near values is known before.
PRIOR_MEANS, PRIOR_SDS = np.log([0.5, 1e-4]), np.array([0.75, 3.0])
STARTS = ((0.1, 1e-2), (1.0, 1e-3), (10.0, 1e-4))  # (lengthscale, noise share)
MOST_FITTED = 320  # more evaluations than this are thinned for the two parameters; predictions use all
WEIGHED = 2  # evaluations an entry before weights are tried
MOST_WEIGHED = 250  # evaluations that they are fitted on: each adds n numbers a pair
NEARLY = 10.0  # nats that a kernel of another kind may be less likely
KINDS = (("hamming",), ("adjacency",), ("position", "mallows", "spearman", "mergesort"))  # what is alike in their eyes
WIDEST = 4.0  # largest logarithm of a weight
CLOSE = {"ftol": 1e-7}  # of a loss an evaluation: finer differences say nothing about the next batch
REFIT = 1.05  # the two parameters are fitted anew each time there are this many times as many evaluations
AGAIN = 1.3  # and the kernel is chosen anew


@dataclass(frozen=True)
class Choice:
    """A kernel and its two free parameters: all that a round hands to the next."""

    kernel: str
    lengthscale: float
    noise_share: float
    evaluations: int  # how many there were when the kernel was chosen
    fitted: int = 0  # and when its two parameters were fitted
    loss: float = 0.0  # negative log likelihood an evaluation, up to a constant
    weights: tuple[float, ...] = ()  # of the entries, where the likelihood speaks for them
    rivals: tuple[tuple[str, float, float], ...] = ()  # of other kinds and nearly as likely, with their parameters

    def covariance(self, n: int) -> TableCovariance:
        """The covariance function for n items."""
        if self.weights:
            return WeightedCovariance(self.kernel, n, self.lengthscale, tuple(self.weights))
        return TableCovariance(self.kernel, n, self.lengthscale)


def _solve(lower: Any, right: Any) -> Any:
    return torch.linalg.solve_triangular(lower, right, upper=False)


def _profile(correlation: Any, noise: float, y: Any) -> tuple[Any, Any, float, float]:
    """Cholesky factor of R + noise, its inverse times y - mean, and the most likely mean and variance."""
    covariance = correlation.clone()
    covariance.diagonal().add_(noise)
    lower = torch.linalg.cholesky(covariance)
    both = torch.cholesky_solve(torch.stack([y, torch.ones_like(y)], 1), lower)
    mean = float(both[:, 0].sum() / both[:, 1].sum())
    weights = both[:, 0] - mean * both[:, 1]
    return lower, weights, mean, max(float((y - mean) @ weights) / len(y), 1e-300)


def _loss(theta: Float64Array, scaled: Any, y: Any) -> tuple[float, Float64Array]:
    """Negative log likelihood and its gradient in (log lengthscale, log noise share), both over the evaluations.

    ``scaled`` is the matrix of distances, float64[N, N]; or float64[n, N, N], what each entry adds to them, and then
    ``theta`` goes on with the logarithms of their n weights, which a standard normal prior holds at 0.
    """
    lengthscale, noise = np.exp(theta[:2])
    weight = torch.from_numpy(np.exp(theta[2:]))
    parts = scaled
    if len(weight):
        scaled = torch.tensordot(weight, parts, 1)
    correlation = torch.exp(scaled / -lengthscale)
    lower, weights, _, variance = _profile(correlation, noise, y)
    loss = 0.5 * len(y) * np.log(variance) + float(lower.diagonal().log().sum())
    slope = correlation * scaled / lengthscale
    inverse = torch.cholesky_inverse(lower)
    gradient = [
        0.5 * float((inverse * slope).sum() - weights @ (slope @ weights) / variance),
        0.5 * noise * float(inverse.diagonal().sum() - weights @ weights / variance),
    ]
    off = (theta[:2] - PRIOR_MEANS) / PRIOR_SDS
    loss += 0.5 * float(off @ off)
    gradient = (np.array(gradient) + off / PRIOR_SDS).tolist()
    if len(weight):
        pull = correlation * (inverse - torch.outer(weights, weights) / variance)
        each = (parts.flatten(1) @ pull.flatten()) * weight / lengthscale
        gradient.extend((-0.5 * each.numpy() + theta[2:]).tolist())
        loss += 0.5 * float(theta[2:] @ theta[2:])
    return loss / len(y), np.array(gradient) / len(y)


def _thinned(y: Float64Array) -> Int64Array:
    """At most MOST_FITTED evaluations: the better half of them the best there are, the others spread over the rest."""
    ranked = np.argsort(y, kind="stable")
    if len(y) <= MOST_FITTED:
        return ranked
    half = MOST_FITTED // 2
    return np.concatenate([ranked[:half], ranked[np.linspace(half, len(y) - 1, half).astype(np.int64)]])


def standardise(y: Float64Array) -> tuple[Float64Array, float, float]:
    """(y - center) / spread, and the two; a constant y has spread 1."""
    center, spread = float(y.mean()), float(y.std(ddof=1)) if len(y) > 1 else 0.0
    spread = spread if spread > 1e-12 * max(1.0, abs(center)) else 1.0
    return (y - center) / spread, center, spread


def _maximised(choice: Choice, orders: Int64Array, y: Float64Array, starts: Sequence[tuple[float, float]]) -> Choice:
    """``choice`` with the most likely lengthscale and noise share, its weights as they are."""
    kernel = replace(choice, lengthscale=1.0).covariance(orders.shape[1])
    rows = kernel.features(orders)
    scaled = torch.from_numpy(kernel.scaled_distances(rows, rows))
    bounds = [np.log(LENGTHSCALES), np.log(NOISE_SHARES)]
    found = []
    for start in starts:
        result = minimize(
            _loss,
            np.log(start),
            (scaled, torch.from_numpy(y)),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 30, **CLOSE},
        )
        found.append((float(result.fun), *np.exp(result.x).tolist()))
    loss, lengthscale, noise = min(found)
    return replace(choice, lengthscale=lengthscale, noise_share=noise, loss=loss)


def _weighted(choice: Choice, orders: Int64Array, y: Float64Array) -> Choice:
    """``choice`` with the most likely weights; its loss grows by one unit for each, as Akaike's criterion has it."""
    n = orders.shape[1]
    kept = slice(None, None, max(1, -(-len(y) // MOST_WEIGHED)))
    values = standardise(y[kept])[0]
    kernel = TableCovariance(choice.kernel, n, 1.0)
    rows = kernel.features(orders[kept]).astype(np.float64)
    apart = np.abs(rows.T[:, :, None] - rows.T[:, None, :])
    parts = torch.from_numpy((apart > 0 if choice.kernel == "hamming" else apart) / kernel.largest)
    start = np.concatenate([np.log([choice.lengthscale, choice.noise_share]), np.zeros(n)])
    bounds = [np.log(LENGTHSCALES), np.log(NOISE_SHARES), *[(-WIDEST, WIDEST)] * n]
    result = minimize(
        _loss,
        start,
        (parts, torch.from_numpy(values)),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 25, **CLOSE},
    )
    weights = tuple(np.exp(result.x[2:]).tolist())
    lengthscale, noise = np.exp(result.x[:2]).tolist()
    whole = _maximised(replace(choice, weights=weights), orders, y, [(lengthscale, noise)])
    return replace(whole, loss=whole.loss + n / len(y))


def choose(
    orders: Int64Array, y: Float64Array, kernels: Sequence[str] = tuple(NAMES), last: Choice | None = None
) -> Choice:
    """The kernel of ``kernels`` with the highest marginal likelihood, and its parameters.

    ``orders`` is int64[N, n], ``y`` float64[N] in any unit. ``last``, the choice of a round before, is kept while there
    are few more evaluations, and so is its kernel for longer, its parameters being where their search starts.

    Raises:
        ValueError: if a kernel is unknown.
    """
    for name in kernels:
        if name not in NAMES:
            raise ValueError(f"unknown kernel '{name}' (known: {', '.join(NAMES)})")
    known = last is not None and last.kernel in kernels and len(y) < AGAIN * last.evaluations
    if last and known and len(y) < REFIT * last.fitted:
        return last
    kept, total = _thinned(y), len(y)
    orders, values = orders[kept], standardise(y[kept])[0]
    if last and known:
        start = (last.lengthscale, last.noise_share)
        return replace(_maximised(last, orders, values, [start]), fitted=total)
    found = [_maximised(Choice(name, 1.0, 0.0, total, total), orders, values, STARTS) for name in kernels]
    if len(values) >= WEIGHED * orders.shape[1]:
        found += [_weighted(choice, orders, values) for choice in found if choice.kernel in WEIGHTED]
    best = min(found, key=lambda choice: choice.loss)
    return replace(best, rivals=_rivals(best, found, len(values)))


def _rivals(best: Choice, found: Sequence[Choice], evaluations: int) -> tuple[tuple[str, float, float], ...]:
    """Of each kind of kernel but that of ``best`` the likeliest, if it is nearly as likely."""
    rivals = []
    for kind in KINDS:
        of_kind = [choice for choice in found if choice.kernel in kind and not choice.weights]
        if best.kernel in kind or not of_kind:
            continue
        likeliest = min(of_kind, key=lambda choice: choice.loss)
        if (likeliest.loss - best.loss) * evaluations < NEARLY:
            rivals.append((likeliest.kernel, likeliest.lengthscale, likeliest.noise_share))
    return tuple(rivals)


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A Gaussian process given N evaluations; made by :func:`fit`.

    Inside it y is standardised: ``mean`` and ``sd`` of the posterior are in that unit, ``center + spread * mean`` is
    in the unit of the objective. ``lower`` and ``weights`` are tensors, the Cholesky factor of R + noise and its
    inverse times y - prior_mean. (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 2.)

    Example:
        >>> from bayesopt_perm import PermutationSpace, fit
        >>> orders = PermutationSpace(5).sample(30, seed=0)
        >>> places = orders.argsort(1)[:, 0].astype(float)  # of item 0
        >>> model = fit(orders, places, "position")
        >>> mean, sd = model.predict(orders[:3])
        >>> bool((abs(mean - places[:3]) < 0.1).all()), bool((sd < 0.1).all())
        (True, True)
        >>> model.posterior_covariance(orders[:3]).shape, model.pending(orders[:3]).orders.shape
        ((3, 3), (33, 5))
    """

    covariance: Covariance
    orders: Int64Array  # int64[N, n]
    y: Float64Array  # float64[N] in the unit of the objective
    rows: Any  # of ``orders``, as ``covariance.features`` makes them
    noise: float  # its variance, as a part of ``variance``
    prior_mean: float  # standardised, as are those below
    variance: float
    lower: Any  # float64[N, N]
    weights: Any  # float64[N]
    center: float  # in the unit of the objective, as ``spread``
    spread: float
    choice: Choice | None  # None for a gpytorch kernel

    def means(self, correlations: Float64Array) -> Float64Array:
        """Posterior means from correlations with the evaluated orders (float64[m, N]), float64[m]."""
        means: Float64Array = self.prior_mean + correlations @ self.weights.numpy()
        return means

    def whitened(self, correlations: Float64Array) -> Float64Array:
        """L^-1 R(evaluated, orders), float64[N, m]: posterior covariance is ``variance (R - W^T W)``."""
        white: Float64Array = _solve(self.lower, torch.from_numpy(np.ascontiguousarray(correlations.T))).numpy()
        return white

    def sds(self, rows: Any, correlations: Float64Array) -> Float64Array:
        """Posterior standard deviations (of the objective without noise) of the orders behind ``rows``, float64[m]."""
        left = self.covariance.diagonal(rows) - np.einsum("ij,ij->j", *[self.whitened(correlations)] * 2)
        sds: Float64Array = np.sqrt(self.variance * np.maximum(left, 1e-12))
        return sds

    def predict(self, orders: Int64Array) -> tuple[Float64Array, Float64Array]:
        """(mean, sd) of the objective at ``orders`` (int64[m, n]) in its own unit, float64[m] each."""
        rows = self.covariance.features(orders)
        correlations = self.covariance.between(rows, self.rows)
        return self.center + self.spread * self.means(correlations), self.spread * self.sds(rows, correlations)

    def posterior_covariance(self, orders: Int64Array) -> Float64Array:
        """Of the standardised objective, float64[m, m]."""
        rows = self.covariance.features(orders)
        white = self.whitened(self.covariance.between(rows, self.rows))
        return self.variance * (self.covariance.between(rows, rows) - white.T @ white)

    def pending(self, orders: Int64Array) -> "Surrogate":
        """The same process once ``orders`` (int64[m, n]) come back as expected: its means stay, its variances shrink.

        Takes O(N^2 m): the factor grows by m rows. The weights of the new rows are zero.
        """
        if not len(orders):
            return self
        rows = self.covariance.features(orders)
        white = torch.from_numpy(self.whitened(self.covariance.between(rows, self.rows)))
        corner = torch.from_numpy(self.covariance.between(rows, rows)) - white.T @ white
        corner.diagonal().add_(self.noise)
        old, new = len(self.orders), len(orders)
        lower = torch.zeros(old + new, old + new, dtype=torch.float64)
        lower[:old, :old], lower[old:, :old] = self.lower, white.T
        lower[old:, old:] = torch.linalg.cholesky(corner)
        expected = self.predict(orders)[0]
        return replace(
            self,
            orders=np.concatenate([self.orders, orders]),
            y=np.concatenate([self.y, expected]),
            rows=torch.cat([self.rows, rows]) if isinstance(rows, torch.Tensor) else np.concatenate([self.rows, rows]),
            lower=lower,
            weights=torch.cat([self.weights, torch.zeros(new, dtype=torch.float64)]),
        )

    @cached_property
    def model(self) -> Any:
        """The same process as a botorch ``SingleTaskGP`` over orders divided by n - 1 (its kernel sees ranks only)."""
        from bayesopt_perm.botorch_model import as_botorch

        return as_botorch(self)


def fit(
    orders: Int64Array,
    y: Float64Array,
    kernel: str | Sequence[str] | Any = "auto",
    last: Choice | None = None,
) -> Surrogate:
    """A Gaussian process for ``orders`` (int64[N, n], N >= 1) and their values ``y`` (float64[N], finite).

    ``kernel`` is "auto", a name of ``NAMES``, several of them, or a gpytorch kernel over orders, whose parameters are
    then fitted by botorch. An order may occur more than once, with values that differ: that is noise.
    Takes O(N^3); the two parameters are fitted on at most 320 of the evaluations. The position kernel is that of Oh et
    al., NeurIPS 2022, the Mallows kernel that of Jiao and Vert, ICML 2015.

    Args:
        orders: as above; each row a permutation of 0 .. n - 1 (not checked).
        y: as above, in any unit.
        kernel: as above; of several names the likeliest is used.
        last: the choice of a round before, kept while there are few more evaluations.

    Raises:
        ValueError: if a kernel is unknown, y holds a number that is not finite, or the lengths differ.

    Example:
        >>> from bayesopt_perm import PermutationSpace, fit
        >>> orders = PermutationSpace(6).sample(40, seed=0)
        >>> y = (orders[:, 2] == 3).astype(float)  # whether the third place holds item 3
        >>> fit(orders, y).choice.kernel  # "auto": what holds which item is all that counts
        'hamming'
    """
    orders, y = np.ascontiguousarray(orders, np.int64), np.asarray(y, np.float64)
    if orders.ndim != 2 or y.shape != orders.shape[:1] or not len(y):
        raise ValueError(f"'orders' and 'y' must have shapes [N, n] and [N], N >= 1 (got {orders.shape} and {y.shape})")
    if not np.isfinite(y).all():
        raise ValueError("'y' must hold finite numbers")
    if isinstance(kernel, str):
        kernel = tuple(NAMES) if kernel == "auto" else (kernel,)
    if isinstance(kernel, Sequence):
        return conditioned(choose(orders, y, kernel, last), orders, y)
    from bayesopt_perm.botorch_model import fitted_kernel

    fitted, noise = fitted_kernel(kernel, orders, y)
    return _conditioned(TorchCovariance(fitted), noise, None, orders, y)


def check_kernel(kernel: Any) -> None:
    """Raise ValueError if ``kernel`` is not a gpytorch kernel."""
    from bayesopt_perm.botorch_model import as_kernel

    as_kernel(kernel)


def conditioned(choice: Choice, orders: Int64Array, y: Float64Array) -> Surrogate:
    """The Gaussian process that ``choice`` describes, given ``orders`` (int64[N, n]) and ``y`` (float64[N])."""
    return _conditioned(choice.covariance(orders.shape[1]), choice.noise_share, choice, orders, y)


def _conditioned(
    covariance: Covariance, noise: float, choice: Choice | None, orders: Int64Array, y: Float64Array
) -> Surrogate:
    standard, center, spread = standardise(y)
    rows = covariance.features(orders)
    correlation = torch.from_numpy(covariance.between(rows, rows))
    lower, weights, mean, variance = _profile(correlation, noise, torch.from_numpy(standard))
    return Surrogate(covariance, orders, y, rows, noise, mean, variance, lower, weights, center, spread, choice)
