"""Graphs on which a common rule of thumb is far from the best order, whose peak is known in closed form.

All three are in-trees, so that the closed forms follow from Liu, An application of generalized tree pebbling
to sparse matrix factorization, 1987: among independent branches, each a hill (most bytes while it runs) and
then a valley (bytes it leaves), run them by falling hill - valley.
"""

import numpy as np

from graphs.csr import Int64Array
from graphs.graph import Graph
from graphs.synthetic._common import KIB, generator, weighted_graph

LARGE = 1024 * KIB  # the big tensors have a half to all of it
SMALL = KIB  # results that are kept for later
STEPS = 3  # operators of a branch


def greedy_trap(nodes: int, *, seed: int = 0) -> Graph:
    """Branches whose cheap start leaves a big tensor alive: the step of least growth is the wrong one.

    ``k = (nodes - 1) // 3`` branches start -> work -> finish, read by one sink. Start i writes S_i bytes,
    work i S_i + 1 MiB + 1 KiB, finish i 1 KiB; S_i is in [0.5, 1] MiB. Every start grows memory by less than
    any work does, so greedy (by net change, or by bytes of the step) runs all starts first and reaches at
    least ``sum(S) + min(S) + 1 MiB``. Best is a branch at a time, largest S first:
    ``max over j = 0 .. k - 1 of 2 S_(j) + 1 MiB + (j + 1) KiB``. The program runs level by level. The up to
    two nodes left over follow the sink.

    Args:
        nodes: nodes of the graph, at least 7.

    Raises:
        GraphError: too few nodes.
    """
    rng = generator(nodes, 1 + 2 * STEPS, seed)
    start = _large(rng, (nodes - 1) // STEPS)
    return _branches(f"greedy_trap_n{nodes}_s{seed}", nodes, start, start + LARGE + SMALL)


def breadth_trap(nodes: int, *, seed: int = 0) -> Graph:
    """Independent branches with a high hump each: level by level, as the program runs, holds all humps.

    ``k = (nodes - 1) // 3`` branches start -> hump -> finish, read by one sink. Starts and finishes write 1
    KiB, hump i H_i in [0.5, 1] MiB. Breadth first reaches ``sum(H) + 1 KiB``. Best is a branch at a time,
    largest H first: ``max over j = 0 .. k - 1 of H_(j) + (j + 1) KiB``. The up to two nodes left over follow
    the sink.

    Args:
        nodes: nodes of the graph, at least 7.

    Raises:
        GraphError: too few nodes.
    """
    rng = generator(nodes, 1 + 2 * STEPS, seed)
    hump = _large(rng, (nodes - 1) // STEPS)
    return _branches(f"breadth_trap_n{nodes}_s{seed}", nodes, np.full(len(hump), SMALL), hump)


def branches_optimum(graph: Graph) -> int:
    """Lowest peak of a :func:`greedy_trap` or :func:`breadth_trap`, in bytes; O(n log n)."""
    k = (graph.n - 1) // STEPS
    hills = np.sort(graph.size[:k] + graph.size[k : 2 * k])[::-1]
    return int((hills + SMALL * np.arange(k)).max())


def _large(rng: np.random.Generator, count: int) -> Int64Array:
    return rng.integers(LARGE // KIB // 2, LARGE // KIB + 1, count) * KIB


def _branches(name: str, nodes: int, first: Int64Array, second: Int64Array) -> Graph:
    """Branches (first, second, small), level by level; a sink that reads all; a chain of the rest."""
    k = len(first)
    size = np.concatenate([first, second, np.full(nodes - 2 * k, SMALL)])
    sink = STEPS * k
    before = np.arange(nodes - 1)
    node = before + k
    node[2 * k :] = np.maximum(sink, before[2 * k :] + 1)
    return weighted_graph(name, size, before, node)


def depth_first_trap(nodes: int, *, seed: int = 0) -> Graph:
    """Nested harpoons: finishing one branch before the next piles up half a big tensor a level.

    Harpoon 0 is a leaf that writes M bytes and a node that shrinks them to e = 1 KiB. Harpoon l is two
    harpoons l - 1, the result of each expanded to M / 2, and a node that reads both and writes e. Any
    depth-first order (a post-order such as the program's) has peak ``M + L M / 2 + e`` with L levels. Best is
    to expand late: ``M + (L + 1) e``. The graph has ``L = floor(log2((nodes + 3) / 5))`` levels; the nodes
    left over sit in random places where e bytes are handed on. From Jacquelin et al., On optimal tree
    traversals for sparse matrix factorization, IPDPS 2011.

    Args:
        nodes: nodes of the graph, at least 7.

    Raises:
        GraphError: too few nodes.
    """
    rng = generator(nodes, 7, seed)
    levels = _harpoon_levels(nodes)
    leaves = 2**levels  # harpoons are numbered as in a heap: 1 the outermost, h holds 2 h and 2 h + 1
    large = 2 * int(_large(rng, 1)[0])
    spare = nodes - (5 * leaves - 3)
    extra = rng.multinomial(spare, np.full(2 * leaves - 1, 1 / (2 * leaves - 1))).tolist()
    size: list[int] = []
    before: list[int] = []
    after: list[int] = []
    result = [0] * (2 * leaves)  # last node of each harpoon
    for h in _post_order(leaves):
        if h < leaves:
            before += result[2 * h : 2 * h + 2]
            after += [len(size)] * 2
            chain = []
        else:
            chain = [large]
        chain += [SMALL] * (1 + extra[h - 1]) + [large // 2] * (h > 1)
        before += range(len(size), len(size) + len(chain) - 1)
        after += range(len(size) + 1, len(size) + len(chain))
        size += chain
        result[h] = len(size) - 1
    name = f"depth_first_trap_n{nodes}_s{seed}"
    return weighted_graph(name, np.array(size), np.array(before), np.array(after))


def depth_first_optimum(graph: Graph) -> int:
    """Lowest peak of a :func:`depth_first_trap`, in bytes; O(n)."""
    return int(graph.size.max()) + (_harpoon_levels(graph.n) + 1) * SMALL


def _harpoon_levels(nodes: int) -> int:
    return ((nodes + 3) // 5).bit_length() - 1


def _post_order(leaves: int) -> list[int]:
    """A complete binary heap of ``leaves`` leaves, children before parents."""
    order, stack = [], [1]  # pre-order, right before left, is post-order read backwards
    while stack:
        h = stack.pop()
        order.append(h)
        if h < leaves:
            stack += (2 * h, 2 * h + 1)
    return order[::-1]
