"""Seven relations that split all ordered pairs of nodes, each of which gets attention heads of its own.

Gagrani et al., Neural Topological Ordering for Computation Graphs, NeurIPS 2022, section 3: the transitive reduction,
the edges that it leaves out, the other pairs of the transitive closure, each forward and backward, and the pairs
neither of which must run before the other.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from graphs import Graph

RELATIONS = (
    "reduction", "reduction reversed", "redundant edge", "redundant edge reversed",
    "closure only", "closure only reversed", "incomparable",
)  # fmt: skip
SELF = len(RELATIONS)  # what a node is to itself

Relations = npt.NDArray[np.uint8]  # uint8[n, n]: index into RELATIONS of what column u is to row v; SELF where u is v
Bits = npt.NDArray[np.uint64]  # uint64[n, words]: bit u of row v is set where u must run before v


def ancestor_bits(graph: Graph) -> Bits:
    """Which nodes must run before each node; O(n m / 64)."""
    from topoformer.net import _encode_kernels

    bits: Bits = _encode_kernels.ancestors(*graph.preds)
    return bits


def relations(graph: Graph, bits: Bits | None = None) -> Relations:
    """The relation of every ordered pair of nodes; O(n m / 64 + n^2).

    The pair (row v, column u) has an even number where v runs before u, so that v attends to its future there.
    """
    from topoformer.net import _encode_kernels

    known = ancestor_bits(graph) if bits is None else bits
    found: Relations = _encode_kernels.relation_ids(*graph.preds, known)
    return found


def pairs(relation: Relations) -> list[npt.NDArray[Any]]:
    """Of each relation its pairs (row, column), int64[2, pairs]: for sparse encoders and for tests."""
    return [np.stack(np.nonzero(relation == number)) for number in range(len(RELATIONS))]
