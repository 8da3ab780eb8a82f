"""From the network's numbers to orders: one greedy order, the best of many samples, a given order's likelihood."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphs import Graph, Order
from graphs.bound import footprint_bound
from graphs.csr import CSR, Float64Array, Int32Array, Int64Array, transposed
from graphs.memory import memory_model
from topoformer.net.features import canonical_ranks

Float32Array = npt.NDArray[np.float32]
RESTART = 0.25  # of the samples begin anew, the others change the best order from some step before its peak on
MANY = 1 << 40  # more samples than there is time for


class Instance(NamedTuple):
    """A graph as the rollout kernels take it: fixed rows, and the state before the first step."""

    succ_ptr: Int32Array
    succ_idx: Int32Array
    ptr: Int32Array  # n rows of the freed tensors that each node reads
    idx: Int32Array
    readers_ptr: Int32Array  # k rows of their readers
    readers_idx: Int32Array
    size: Int64Array  # int64[k]
    alloc: Int64Array  # int64[n]
    rank: Int32Array  # int32[n] canonical rank, which settles ties
    waits: Int32Array  # int32[n] predecessors still to run
    uses: Int32Array  # int32[k] readers still to run
    net: Int64Array  # int64[n] bytes by which running the node changes what is live afterwards
    share: Float64Array  # float64[n] bytes read, each tensor over its readers left (up to a power of two)
    best: Int64Array  # int64[n] lowest net change among the nodes that wait for this one alone
    unlocked: Int32Array  # int32[n] how many those are
    last_pred: Int64Array  # int64[n] sum of the numbers of the predecessors still to run: the last one's in the end
    last_reader: Int64Array  # int64[k] likewise of the readers
    start: int  # bytes live before the first step
    unit: float  # 1 / bytes of the largest step: what dynamic features are multiplied by


class Policy(NamedTuple):
    """What the network says of a graph: ``priority`` and ``weight`` of each node; safe moves go first if ``safe``."""

    priority: Float32Array  # float32[n]
    weight: Float32Array  # float32[n, DYNAMIC] on the dynamic features of _rollout_kernels
    safe: bool = True

    def at(self, temperature: float) -> tuple[Float32Array, Float32Array, np.float32]:
        """The triple that the kernels take: scores are divided by ``temperature``."""
        return self.priority, self.weight, np.float32(1.0 / temperature)


def instance(graph: Graph) -> Instance:
    """The arrays of ``graph`` that rollouts need; O(n + entries)."""
    steps = memory_model(graph).steps
    n, k = graph.n, graph.k
    node = np.repeat(np.arange(n), np.diff(steps.ptr))
    size, uses = steps.size, steps.uses
    net = steps.alloc - steps.drop - np.bincount(node, (size * (uses == 1))[steps.idx], n).astype(np.int64)
    rounded = 2.0 ** np.ceil(np.log2(np.maximum(uses, 1)))
    preds = graph.preds
    single = np.flatnonzero(preds.lengths == 1)
    only = preds.idx[preds.ptr[single]]
    best = np.full(n, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(best, only, net[single])
    succs, readers = graph.succs, transposed(CSR(steps.ptr, steps.idx), k)
    own = np.array  # a copy that can be written to: kernels compile for one kind of array
    return Instance(
        succ_ptr=own(succs.ptr),
        succ_idx=own(succs.idx),
        ptr=own(steps.ptr),
        idx=own(steps.idx),
        readers_ptr=own(readers.ptr),
        readers_idx=own(readers.idx),
        size=own(size),
        alloc=own(steps.alloc),
        rank=canonical_ranks(graph),
        waits=preds.lengths.astype(np.int32),
        uses=own(uses),
        net=net,
        share=np.asarray(np.bincount(node, (size / rounded)[steps.idx], n), np.float64),
        best=best,
        unlocked=np.bincount(only, minlength=n).astype(np.int32),
        last_pred=np.bincount(preds.row_of, preds.idx, n).astype(np.int64),
        last_reader=np.bincount(steps.idx, node, k).astype(np.int64),
        start=int(steps.start),
        unit=1.0 / max(float(steps.alloc.max(initial=0)), 1.0),
    )


class Rollout(NamedTuple):
    """A finished order, the larger of its peak and the floor, and the first step that reaches it."""

    order: Order  # int32[n]
    peak_bytes: int
    peak_step: int


def floor_of(graph: Graph) -> int:
    """A peak that no order can beat: below it nothing is worth avoiding."""
    return footprint_bound(graph)


def greedy(inst: Instance, policy: Policy, floor: int) -> Rollout:
    """The order of the highest scores; ties by canonical rank."""
    from topoformer.net import _rollout_kernels as kernels

    n = len(inst.alloc)
    order = np.empty(n, np.int32)
    peak, at = kernels.rollout(
        inst, policy.at(1.0), kernels.GREEDY, policy.safe, floor, kernels.UNLIMITED, inst.rank, 0, order
    )
    return Rollout(order, int(peak), int(at))


def follow(inst: Instance, order: Order, floor: int, *, safe: bool = True) -> Rollout:
    """``order`` with every safe move taken as soon as there is one: never a higher peak than its own."""
    from topoformer.net import _rollout_kernels as kernels

    n = len(inst.alloc)
    nothing = Policy(np.zeros(n, np.float32), np.zeros((n, kernels.DYNAMIC), np.float32))
    position, made = np.empty(n, np.int32), np.empty(n, np.int32)
    position[order] = np.arange(n, dtype=np.int32)
    peak, at = kernels.rollout(inst, nothing.at(1.0), kernels.FOLLOW, safe, floor, kernels.UNLIMITED, position, 0, made)
    return Rollout(made, int(peak), int(at))


class Best(NamedTuple):
    """The best of several orders."""

    order: Order  # int32[n]
    peak_bytes: int
    samples: int  # orders begun, the greedy one included


def best_of(
    inst: Instance,
    policy: Policy,
    floor: int,
    *,
    samples: int,
    seed: int,
    patience: int = MANY,
    temperature: float = 1.0,
    restart: float = RESTART,
    known: Order | None = None,
    stop: npt.NDArray[np.int8] | None = None,
) -> Best:
    """The best of the greedy order and up to ``samples - 1`` sampled ones, each tried only as far as it can be better.

    It ends early where the peak reaches ``floor``, bytes, after ``patience`` samples without a gain, or when another
    thread sets ``stop[0]``, int8[1]. A share ``restart`` of the samples begins anew; the others keep the beginning of
    the best order. Scores are divided by ``temperature``. ``known`` is a legal order to begin with, if it is better
    than the greedy one.
    """
    from topoformer.net import _rollout_kernels as kernels

    best = np.empty(len(inst.alloc), np.int32) if known is None else known.astype(np.int32)
    flag = np.zeros(1, np.int8) if stop is None else stop
    peak, done = kernels.best_of(
        inst, policy.at(temperature), policy.safe, floor, samples, patience, restart, seed % (1 << 32), flag,
        known is not None, best,
    )  # fmt: skip
    return Best(best, int(peak), int(done))


def samples(inst: Instance, policy: Policy, floor: int, *, count: int, seed: int) -> tuple[Int32Array, Int64Array]:
    """Independent orders, int32[count, n], and their peaks, int64[count].

    Each has the probability prod over its choices of exp(score) / sum of the ready nodes' exp(score).
    """
    from topoformer.net import _rollout_kernels as kernels

    orders, peaks = np.empty((count, len(inst.alloc)), np.int32), np.empty(count, np.int64)
    kernels.sample(inst, policy.at(1.0), policy.safe, floor, seed % (1 << 32), orders, peaks)
    return orders, peaks


def log_likelihood(inst: Instance, policy: Policy, order: Order, floor: int) -> tuple[float, Float32Array]:
    """Logarithm of that probability for an ``order`` that :func:`follow` or :func:`samples` made, and its gradient.

    The gradient, float32[n, 1 + DYNAMIC], is by the priority and the weights of each node.
    """
    from topoformer.net import _rollout_kernels as kernels

    gradient = np.zeros((len(order), 1 + kernels.DYNAMIC), np.float32)
    total = kernels.likelihood(inst, policy.at(1.0), order, len(order), policy.safe, floor, 1.0, gradient)
    return float(total), gradient


def race(inst: Instance, priority: Float32Array, *, count: int, seed: int) -> Int32Array:
    """Independent orders of a static policy, int32[count, n], by an exponential race; O((n + m) log n) each.

    They are distributed as those of :func:`samples` with ``Policy(priority, 0, safe=False)``. A fixed random number a
    node, added once to its priority, would not do: that is another distribution.
    """
    from topoformer.net import _race_kernels

    orders = np.empty((count, len(inst.alloc)), np.int32)
    _race_kernels.race(inst.waits, inst.succ_ptr, inst.succ_idx, priority, seed % (1 << 32), orders)
    return orders
