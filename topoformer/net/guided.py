"""A beam that tries of each state only the nodes that the network would: narrow, yet better than a wide blind one."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphs import Order
from topoformer.net._rollout_kernels import UNLIMITED
from topoformer.net.decode import Instance, Policy, follow

BRANCHING = 3  # children a state
LEAN = 1.0
CODES_SEED = 0x70F0  # of the Zobrist codes, which decide no order


class Guided(NamedTuple):
    """What one guided beam found."""

    order: Order | None  # int32[n]; None where no order within the limit was found
    peak_bytes: int
    states: int  # that were kept, over all levels


def state_bytes(inst: Instance) -> int:
    """What one state of a guided beam takes."""
    n, k = len(inst.alloc), len(inst.size)
    return 60 * n + 12 * k + 8 * n  # its arrays, and what says how it came about


def guided_beam(
    inst: Instance,
    policy: Policy,
    width: int,
    *,
    floor: int = 0,
    limit: int = UNLIMITED,
    branching: int = BRANCHING,
    lean: float = LEAN,
    stop: npt.NDArray[np.int8] | None = None,
) -> Guided:
    """The best order that a beam of ``width`` states finds when each has at most ``branching`` children.

    Args:
        branching: children of a state at most.
        lean: bytes of the largest step that a state's improbability, in nats, counts as beside its peak.
        floor: bytes; peaks up to it count as equal, and among these fewer live bytes are better.
        limit: bytes; no step may need more.
        stop: int8[1]; another thread ends the beam by setting it.
    """
    from topoformer.net import _guided_kernels

    n = len(inst.alloc)
    order = np.empty(n, np.int32)
    if n == 0 or inst.start > limit:
        return Guided(None if n else order, inst.start, 0)
    codes = np.random.default_rng(CODES_SEED).integers(0, 1 << 64, n, dtype=np.uint64)
    flag = np.zeros(1, np.int8) if stop is None else stop
    floor = min(floor, limit)
    peak, states = _guided_kernels.guided_beam(
        inst, policy.at(1.0), floor, limit, width, branching, lean / inst.unit, codes, flag, order
    )
    if peak < 0:
        return Guided(None, -1, int(states))
    made = follow(inst, order, 0)
    return Guided(made.order, made.peak_bytes, int(states))
