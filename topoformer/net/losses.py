"""Losses of a batch and their gradients by the network's outputs: rollouts run on the CPU, a thread a graph.

A loss hands back the derivative by the outputs: what crosses between the accelerator and the CPU is 1 + F numbers a
node, and PyTorch differentiates the network alone.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from graphs.csr import Int64Array
from topoformer.net import _rollout_kernels, _training_kernels
from topoformer.net.decode import Float32Array, Policy, Rollout, follow
from topoformer.net.pool import NONE, Item

BASELINES = ("mean", "greedy")  # of REINFORCE: of a graph's samples, or the paper's greedy rollout


@dataclass(frozen=True)
class Goal:
    """What is learned from a graph.

    ``imitation`` and ``reinforcement`` weigh the log-likelihood of the best order known and the expected cost of
    ``samples`` orders, the best of which may become the best known. ``targets`` is the chance that the graph's floor
    is raised to near the best peak known: the policy learns to aim at a budget, as search will ask it to.
    """

    imitation: float
    reinforcement: float
    samples: int
    targets: float = 0.5
    baseline: str = "mean"
    subset: int = 1  # the cost is that of the best of so many samples


@dataclass(frozen=True)
class Result:
    """What one graph taught."""

    gradient: Float32Array  # float32[n, outputs] of the loss by the network's outputs
    imitation: float  # negative log-likelihood of the order imitated, a node; 0 where there was none
    cost: float  # mean cost of the samples over the best peak known; 0 without samples
    best: Rollout | None  # a better order than the one known


def policy_of(out: Float32Array) -> Policy:
    """Priorities and weights from the outputs of one graph, float32[n, outputs]; a static one has no weights."""
    n, outputs = out.shape
    static = outputs == 1
    weight = np.zeros((n, _rollout_kernels.DYNAMIC), np.float32) if static else np.ascontiguousarray(out[:, 1:])
    return Policy(np.ascontiguousarray(out[:, 0]), weight, safe=not static)


def loss(x: Item, out: Float32Array, goal: Goal, seed: int) -> Result:
    """One graph's loss and gradient by ``out``, float32[n, outputs]."""
    policy, n = policy_of(out), x.n
    rng = np.random.default_rng(seed)
    floor = x.floor
    if x.best_peak != NONE and rng.random() < goal.targets:
        floor = max(floor, int(x.best_peak * rng.uniform(0.97, 1.01)))
    gradient = np.zeros((n, 1 + _rollout_kernels.DYNAMIC), np.float32)
    arguments = policy.at(1.0)
    order, nll = np.empty(n, np.int32), 0.0
    if goal.imitation and x.best_order is not None:
        position = np.empty(n, np.int32)
        position[x.best_order] = np.arange(n, dtype=np.int32)
        scale = goal.imitation / n
        nll = _training_kernels.imitate(x.inst, arguments, position, policy.safe, floor, scale, gradient, order) / n
    peaks: Int64Array = np.empty(goal.samples, np.int64)
    best: Rollout | None = None
    if len(peaks):
        scale = goal.reinforcement / n**0.5
        baseline = BASELINES.index(goal.baseline)
        _training_kernels.reinforce(
            x.inst,
            arguments,
            policy.safe,
            floor,
            len(peaks),
            goal.subset,
            seed % (1 << 32),
            scale,
            baseline,
            gradient,
            order,
            peaks,
        )
        if x.best_peak == NONE or peaks.min() <= max(floor, x.best_peak - 1):  # costs up to the floor are not peaks
            made = follow(x.inst, order, 0)
            best = made if x.best_peak == NONE or made.peak_bytes < x.best_peak else None
    cost = float(peaks.mean()) / max(x.best_peak, floor, 1) if len(peaks) else 0.0
    return Result(gradient[:, : out.shape[1]], float(nll), cost, best)


def losses(
    items: Sequence[Item], outs: Sequence[Float32Array], goal: Goal, seeds: Sequence[int], threads: Executor
) -> Iterator[Result]:
    """:func:`loss` of each graph, side by side; all are under way when this returns."""
    return threads.map(loss, items, outs, repeat(goal), seeds)
