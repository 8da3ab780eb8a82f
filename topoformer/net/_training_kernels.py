"""Gradients of the training losses by a network's priorities and weights, one graph a call, compiled."""

import numpy as np
from numba import njit

from topoformer.net._rollout_kernels import FOLLOW, GREEDY, SAMPLE, UNLIMITED, likelihood, rollout

SPREAD = (
    0.002  # least standard deviation of relative costs: below it the samples are level, and there is little to learn
)


@njit(cache=True, nogil=True)
def imitate(g, policy, position, safe, floor, scale, gradient, order):
    """Negative log-likelihood of following ``position``; adds ``scale`` times its gradient. ``order`` is filled."""
    rollout(g, policy, FOLLOW, safe, floor, UNLIMITED, position, 0, order)
    return -likelihood(g, policy, order, len(order), safe, floor, -scale, gradient)


@njit(cache=True, nogil=True)
def best_of_subsets(costs, size):
    """Of each sample the mean, over the subsets of ``size`` samples that hold it, of the subset's lowest cost.

    The derivative of the expected best of ``size`` samples weighs log-likelihoods by these; with 1 they are the costs.
    """
    count = len(costs)
    means = np.zeros(count)
    before, chance = 0.0, 1.0  # what better samples contribute; chance that the other members are all worse
    for rank, sample in enumerate(np.argsort(costs)):
        means[sample] = before + costs[sample] * chance
        others = count - 1 - rank  # ranked worse than this sample
        if others > 0:
            # The subset of a later sample has this one as its best: it is in, and all others are worse than it.
            before += costs[sample] * chance * (size - 1) / others if others >= size - 1 else 0.0
            chance *= max(others - size + 1, 0) / others
    return means


@njit(cache=True, nogil=True)
def reinforce(g, policy, safe, floor, samples, subset, seed, scale, baseline, gradient, best, peaks):
    """Sample orders and add the gradient of their expected cost, max(peak, floor), times ``scale`` to ``gradient``.

    A sample's log-likelihood is cut after the step that first reaches its peak: what comes later does not matter. Its
    advantage is its cost less the mean of all (``baseline`` 0) or less the greedy order's (1), over their deviation;
    with ``subset`` above 1 the cost is that of the best of so many samples, which keeps them from growing alike.
    ``best`` becomes the best order, ``peaks``, int64[samples], the costs.
    """
    n = len(best)
    np.random.seed(seed)
    orders, steps = np.empty((samples, n), np.int32), np.empty(samples, np.int64)
    for s in range(samples):
        peak, steps[s] = rollout(g, policy, SAMPLE, safe, floor, UNLIMITED, g.rank, 0, orders[s])
        peaks[s] = max(peak, floor)
    best[:] = orders[np.argmin(peaks)]
    costs = best_of_subsets(peaks, subset)
    mean = costs.mean()
    spread = max(costs.std() / max(mean, 1.0), SPREAD / subset) * max(mean, 1.0)
    if baseline == 1:
        greedy, _ = rollout(g, policy, GREEDY, safe, floor, UNLIMITED, g.rank, 0, np.empty(n, np.int32))
        mean = np.float64(max(greedy, floor))
    for s in range(samples):
        advantage = (costs[s] - mean) / spread
        if abs(advantage) > 1e-3:
            likelihood(g, policy, orders[s], steps[s] + 1, safe, floor, scale * advantage / samples, gradient)
