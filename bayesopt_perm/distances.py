"""Distances between permutations: whole numbers, each the squared (or L1) distance of a feature vector.

That is why ``exp(-nu * distance)`` is positive semi-definite for each of them and every ``nu > 0``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayesopt_perm import _kernels
from bayesopt_perm._kernels import Int16Array, Int32Array, Int64Array

__all__ = ["DISTANCES", "Distance", "distance", "positions"]


def positions(orders: Int64Array) -> Int64Array:
    """The inverse of each row: ``positions(orders)[r, orders[r, t]] = t``, int64[..., n] to int64[..., n]."""
    return np.argsort(orders, axis=-1).astype(np.int64)


def _short_positions(orders: Int64Array) -> Int16Array:
    return positions(orders).astype(np.int16)


@dataclass(frozen=True)
class Distance:
    """A distance as two steps, so that what depends on one permutation only is worked out once.

    ``features`` turns int64[m, n] orders into rows, ``between`` two sets of rows into int32[a, b] distances.
    ``largest(n)`` is a number that no distance of two permutations of n items exceeds.
    """

    features: Callable[[Int64Array], Any]
    between: Callable[[Any, Any], Int32Array]
    largest: Callable[[int], int]
    meaning: str


DISTANCES: dict[str, Distance] = {
    "hamming": Distance(
        lambda orders: orders.astype(np.int16), _kernels.differing_places, lambda n: n, "places with different items"
    ),
    "footrule": Distance(
        _short_positions, _kernels.absolute_differences, lambda n: n * n // 2, "sum over items of |change of place|"
    ),
    "spearman": Distance(
        _short_positions, _kernels.squared_differences, lambda n: n * (n * n - 1) // 3, "sum of (change of place)^2"
    ),
    "kendall": Distance(
        lambda orders: _kernels.pair_bits(_short_positions(orders)),
        _kernels.differing_bits,
        lambda n: n * (n - 1) // 2,
        "pairs of items in the other order",
    ),
    "adjacency": Distance(
        _kernels.edge_bits,
        lambda a, b: _kernels.differing_bits(a, b) // np.int32(2),
        lambda n: n,
        "edges of the closed tour that the other lacks; the same for a turned or mirrored tour",
    ),
    "mergesort": Distance(
        lambda orders: _kernels.merge_bits(_short_positions(orders)),
        _kernels.differing_bits,
        lambda n: n * max(1, (n - 1).bit_length()),
        "different decisions of merge sort, n log n of them (arXiv 2507.13263)",
    ),
}


def distance(a: Int64Array, b: Int64Array, name: str = "kendall") -> Int32Array:
    """Distances of every order in ``a`` (int64[m, n]) to every one in ``b`` (int64[k, n]), int32[m, k].

    ``name`` is a key of ``DISTANCES``. The rows are taken to be permutations of ``0 .. n - 1``.

    Raises:
        ValueError: if the name is unknown.

    >>> distance(np.array([[0, 1, 2]]), np.array([[2, 1, 0], [0, 1, 2]]), "kendall").tolist()
    [[3, 0]]
    """
    if name not in DISTANCES:
        raise ValueError(f"unknown distance '{name}' (known: {', '.join(DISTANCES)})")
    kind = DISTANCES[name]
    return kind.between(
        kind.features(np.ascontiguousarray(a, np.int64)), kind.features(np.ascontiguousarray(b, np.int64))
    )
