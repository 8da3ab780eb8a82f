"""Covariances of many orders at once, for the search inside a round: what is fixed is looked up."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bayesopt_perm import _kernels
from bayesopt_perm._kernels import Float64Array, Int32Array, Int64Array
from bayesopt_perm.distances import DISTANCES

__all__ = ["NAMES", "WEIGHTED", "Covariance", "TableCovariance", "TorchCovariance", "WeightedCovariance"]

# The kernels that a surrogate chooses from, and the distance that each is exp(-d / (c lengthscale)) of.
NAMES = {
    "hamming": "hamming",
    "position": "footrule",
    "mallows": "kendall",
    "spearman": "spearman",
    "adjacency": "adjacency",
    "mergesort": "mergesort",
}

# Those whose distance is a sum over the entries of a row, and the weighted sum.
WEIGHTED = {"hamming": _kernels.weighted_places, "position": _kernels.weighted_changes}


class Covariance(Protocol):
    """A covariance function of orders in two steps: what depends on one order only, then every two of them."""

    def features(self, orders: Int64Array) -> Any: ...

    def between(self, a: Any, b: Any) -> Float64Array: ...

    def diagonal(self, a: Any) -> Float64Array: ...


@dataclass(frozen=True)
class TableCovariance:
    """``exp(-d / (c(n) lengthscale))`` for a kernel of ``NAMES``; the same numbers as its gpytorch kernel gives.

    A distance is a whole number, so the exponential is taken once for each value that it can have.
    """

    name: str
    n: int
    lengthscale: float

    @property
    def largest(self) -> int:
        """The normaliser c(n)."""
        return max(1, DISTANCES[NAMES[self.name]].largest(self.n))

    def features(self, orders: Int64Array) -> Any:
        return DISTANCES[NAMES[self.name]].features(np.ascontiguousarray(orders, np.int64))

    def distances(self, a: Any, b: Any) -> Int32Array:
        """Distances of the rows that ``features`` made, int32[len(a), len(b)]."""
        return DISTANCES[NAMES[self.name]].between(a, b)

    def scaled_distances(self, a: Any, b: Any) -> Float64Array:
        """Distances over c(n), float64[len(a), len(b)]."""
        return self.distances(a, b) / self.largest

    def between(self, a: Any, b: Any) -> Float64Array:
        """Correlations, float64[len(a), len(b)]."""
        distance = self.distances(a, b)
        if self.largest > 1_000_000:  # spearman at n > 144: more values than entries to look up
            return np.asarray(np.exp(distance / (-self.largest * self.lengthscale)))
        table = np.exp(np.arange(self.largest + 1) / (-self.largest * self.lengthscale))
        correlations: Float64Array = _kernels.look_up(distance, table)
        return correlations

    def diagonal(self, a: Any) -> Float64Array:
        """Of each row with itself, float64[len(a)]: 1."""
        return np.ones(len(a))


@dataclass(frozen=True)
class WeightedCovariance(TableCovariance):
    """As its base, the entries of a row counted by ``weights``: places for "hamming", items for "position"."""

    weights: tuple[float, ...]

    def scaled_distances(self, a: Any, b: Any) -> Float64Array:
        return np.asarray(WEIGHTED[self.name](a, b, np.array(self.weights) / self.largest))

    def between(self, a: Any, b: Any) -> Float64Array:
        """Correlations, float64[len(a), len(b)]."""
        scale = np.array(self.weights) / (self.largest * self.lengthscale)
        return np.asarray(np.exp(-WEIGHTED[self.name](a, b, scale)))


class TorchCovariance:
    """Any gpytorch kernel over orders, its parameters as they are."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def features(self, orders: Int64Array) -> Any:
        import torch

        return torch.as_tensor(np.asarray(orders) / max(1, orders.shape[-1] - 1), dtype=torch.float64)

    def between(self, a: Any, b: Any) -> Float64Array:
        import torch

        with torch.no_grad():
            covariance: Float64Array = self.kernel(a, b).to_dense().numpy()
        return covariance

    def diagonal(self, a: Any) -> Float64Array:
        import torch

        with torch.no_grad():
            variances: Float64Array = self.kernel(a, diag=True).numpy()
        return variances
