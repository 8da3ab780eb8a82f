"""Hot loops over flat arrays, compiled once and cached; callers check what they pass."""

from numba import njit

from graphs.csr import Int32Array, Int64Array


@njit(cache=True)
def live_profile(
    order: Int32Array,
    ptr: Int32Array,
    idx: Int32Array,
    uses: Int32Array,
    size: Int64Array,
    alloc: Int64Array,
    drop: Int64Array,
    start: int,
    during: Int64Array,
    after: Int64Array,
) -> None:
    """Fill ``during`` and ``after``, int64[n]: bytes live while step t runs and once it has ended.

    Rows (``ptr``, ``idx``) hold only reads of tensors that are freed after their last reader.
    """
    left = uses.copy()
    live = start
    for t in range(len(order)):
        node = order[t]
        live += alloc[node]
        during[t] = live
        live -= drop[node]
        for entry in range(ptr[node], ptr[node + 1]):
            tensor = idx[entry]
            left[tensor] -= 1
            if left[tensor] == 0:
                live -= size[tensor]
        after[t] = live


@njit(cache=True)
def peak(
    order: Int32Array,
    ptr: Int32Array,
    idx: Int32Array,
    uses: Int32Array,
    size: Int64Array,
    alloc: Int64Array,
    drop: Int64Array,
    start: int,
) -> int:
    """Highest ``during`` of :func:`live_profile`, without storing the steps; ``start`` where there are none."""
    left = uses.copy()
    live = start
    highest = start
    for node in order:
        live += alloc[node]
        highest = max(highest, live)
        live -= drop[node]
        for entry in range(ptr[node], ptr[node + 1]):
            tensor = idx[entry]
            left[tensor] -= 1
            if left[tensor] == 0:
                live -= size[tensor]
    return highest


@njit(cache=True)
def first_late(position: Int32Array, ptr: Int32Array, idx: Int32Array) -> int:
    """First node that does not come after all of its predecessors (rows ``ptr``, ``idx``), or -1."""
    for node in range(len(position)):
        for entry in range(ptr[node], ptr[node + 1]):
            if position[idx[entry]] >= position[node]:
                return node
    return -1
