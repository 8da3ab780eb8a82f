"""How much an evaluation is worth, from the mean and sd of what it would give; for minimisation, arrays float64[m].

Each takes the posterior of the *standardised* objective and a reference: the best value so far, or for EST the
estimated optimum. ``WEIGHTS`` bounds each for the LAW kernel: positive, increasing, at most about 1.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import erfcx, expit, log_ndtr, ndtr

from bayesopt_perm._kernels import Float64Array

__all__ = ["ACQUISITIONS", "WEIGHTS", "estimated_optimum", "expected_improvement", "log_expected_improvement"]

CONFIDENCE = 2.0  # standard deviations below the mean
LEAST_WEIGHT = 0.01


def _density(z: Float64Array) -> Float64Array:
    density: Float64Array = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return density


def expected_improvement(mean: Float64Array, sd: Float64Array, best: float) -> Float64Array:
    """E[max(0, best - f)]; Jones, Schonlau and Welch 1998, equation 15."""
    z = (best - mean) / sd
    improvement: Float64Array = sd * (z * ndtr(z) + _density(z))
    return improvement


def log_expected_improvement(mean: Float64Array, sd: Float64Array, best: float) -> Float64Array:
    """Its logarithm, also where it underflows; Ament et al. 2023 (arXiv 2310.20708), section 4.1."""
    z = (best - mean) / sd
    far = np.minimum(z, -1.0)
    # z Phi(z) + phi(z) = phi(z) (1 - |z| Mills(|z|)), and beyond 1e4 the bracket is 1 / z^2 to the last digit.
    bracket = np.where(far > -1e4, 1 + far * erfcx(-far / np.sqrt(2)) * np.sqrt(np.pi / 2), far**-2.0)
    below = -0.5 * far * far - 0.5 * np.log(2 * np.pi) + np.log(np.maximum(bracket, 1e-300))
    near = np.maximum(z, -1.0)
    logarithm: Float64Array = np.log(sd) + np.where(z < -1, below, np.log(near * ndtr(near) + _density(near)))
    return logarithm


def confidence_bound(mean: Float64Array, sd: Float64Array, best: float) -> Float64Array:
    """How far ``mean - 2 sd`` lies below the best value."""
    return best - mean + CONFIDENCE * sd


def estimation(mean: Float64Array, sd: Float64Array, optimum: float) -> Float64Array:
    """(optimum - mean) / sd: EST, Wang, Zhou and Jegelka 2016 (arXiv 1510.06423), equation 3."""
    return (optimum - mean) / sd


def estimated_optimum(mean: Float64Array, sd: Float64Array, best: float) -> float:
    """E[min f] over points taken to be independent, at most ``best``; Wang et al. 2016, equation 4."""
    low = min(best, float((mean - 6 * sd).min()))
    grid = np.linspace(low, best, 400)
    nothing_below = np.exp(log_ndtr((mean[None] - grid[:, None]) / sd[None]).sum(axis=1))
    return best - float(np.trapezoid(1 - nothing_below, grid))


ACQUISITIONS: dict[str, Callable[[Float64Array, Float64Array, float], Float64Array]] = {
    "logei": log_expected_improvement,
    "ei": expected_improvement,
    "ucb": confidence_bound,
    "est": estimation,
}
# Of Oh et al. 2022 (arXiv 2102.13382) for EI and EST. EI shrinks to nothing as a search goes on, and then all
# candidates weigh alike and those that nothing is known about win: "logei" has the weight of EI in units of the best.
WEIGHTS: dict[str, Callable[[Float64Array], Float64Array]] = {
    "logei": lambda a: LEAST_WEIGHT + expit(a - a.max()),
    "ei": lambda a: LEAST_WEIGHT + a / (1 + a),
    "ucb": lambda a: LEAST_WEIGHT + (1 - LEAST_WEIGHT) * expit(a),
    "est": lambda a: LEAST_WEIGHT + (1 - LEAST_WEIGHT) * expit(0.2 * a),
}
