"""Choosing several candidates at once: the acquisition-weighted kernel (LAW) and its rivals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayesopt_perm._kernels import Float64Array, Int64Array
from bayesopt_perm.acquisition import WEIGHTS
from bayesopt_perm.search import Candidates
from bayesopt_perm.surrogate import Surrogate

__all__ = ["BATCH_RULES", "Round", "greedy_determinant"]

JOINTLY = 400  # candidates that are sampled together
SAMPLES = 256
JITTER = 1e-8


@dataclass(frozen=True, eq=False)
class Round:
    """What a batch rule may look at; ``best`` is the lowest standardised value so far."""

    surrogate: Surrogate
    candidates: Candidates
    acquisition: str
    best: float
    rng: np.random.Generator


def greedy_determinant(covariance: Float64Array, weight: Float64Array, first: int, count: int) -> list[int]:
    """Indices of a set with a large determinant of ``weight[i] covariance[i, j] weight[j]``, ``first`` being in it.

    Greedy MAP of the determinantal point process: the next one is where weight times the standard deviation that the
    chosen ones leave is largest. The Cholesky factor grows by a row each time: O(m count^2) (Chen et al. 2018).
    """
    left = covariance.diagonal().copy()
    factor = np.zeros((count, len(left)))
    chosen = [first]
    for size in range(1, min(count, len(left))):
        last = chosen[-1]
        column = covariance[:, last] - factor[: size - 1, last] @ factor[: size - 1]
        factor[size - 1] = column / np.sqrt(max(left[last], JITTER))
        left -= factor[size - 1] ** 2
        score = weight * np.sqrt(np.maximum(left, 0))
        score[chosen] = -1.0
        chosen.append(int(np.argmax(score)))
    return chosen


def law(state: Round, count: int) -> list[int]:
    """Acquisition-weighted posterior covariance; Oh et al. 2022 (arXiv 2102.13382), section 3."""
    weight = WEIGHTS[state.acquisition](state.candidates.value)
    return greedy_determinant(state.surrogate.posterior_covariance(state.candidates.orders), weight, 0, count)


def law_prior(state: Round, count: int) -> list[int]:
    """As ``law`` with the covariance before any evaluation."""
    rows = state.surrogate.covariance.features(state.candidates.orders)
    weight = WEIGHTS[state.acquisition](state.candidates.value)
    return greedy_determinant(state.surrogate.covariance.between(rows, rows), weight, 0, count)


def determinant(state: Round, count: int) -> list[int]:
    """The best by acquisition, then those that the posterior knows least about: a plain DPP, without weights."""
    covariance = state.surrogate.posterior_covariance(state.candidates.orders)
    return greedy_determinant(covariance, np.ones(len(covariance)), 0, count)


def _samples(state: Round) -> Float64Array:
    """Joint posterior samples at the JOINTLY best candidates, float64[SAMPLES, at most JOINTLY]."""
    orders, mean = state.candidates.orders[:JOINTLY], state.candidates.mean[:JOINTLY]
    values, vectors = np.linalg.eigh(state.surrogate.posterior_covariance(orders))
    noise = state.rng.standard_normal((SAMPLES, len(orders)))
    samples: Float64Array = mean + noise * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return samples


def joint_improvement(state: Round, count: int) -> list[int]:
    """Greedy q-EI with those chosen pending: the most further improvement on average over joint samples."""
    samples = _samples(state)
    best = np.full(len(samples), state.best)
    chosen: list[int] = []
    for _ in range(min(count, samples.shape[1])):
        gain = np.maximum(best[:, None] - samples, 0).mean(axis=0)
        gain[chosen] = -1.0
        pick = int(np.argmax(gain)) if gain.max() > 0 else min(set(range(samples.shape[1])) - set(chosen))
        chosen.append(pick)
        best = np.minimum(best, samples[:, pick])
    return chosen


def thompson(state: Round, count: int) -> list[int]:
    """The best of as many joint samples, each without those chosen before."""
    chosen: list[int] = []
    for sample in _samples(state)[: min(count, len(state.candidates.mean))]:
        sample[chosen] = np.inf
        chosen.append(int(np.argmin(sample)))
    return chosen


def top(state: Round, count: int) -> list[int]:
    """The best by acquisition, however alike."""
    return list(range(min(count, len(state.candidates.value))))


def arbitrary(state: Round, count: int) -> list[int]:
    """The best by acquisition, then any."""
    rest = 1 + state.rng.permutation(len(state.candidates.value) - 1)
    return [0, *rest[: count - 1].tolist()]


BATCH_RULES: dict[str, Callable[[Round, int], list[int]]] = {
    "law": law,
    "law-prior": law_prior,
    "qei": joint_improvement,
    "dpp": determinant,
    "thompson": thompson,
    "top": top,
    "random": arbitrary,
}


def pick(rule: str, state: Round, count: int) -> Int64Array:
    """The orders that ``rule`` (a key of BATCH_RULES) chooses, int64[at most count, n]."""
    if len(state.candidates.orders) <= count:
        return state.candidates.orders
    return state.candidates.orders[BATCH_RULES[rule](state, count)]
