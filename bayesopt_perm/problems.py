"""Classical problems whose answer is a permutation: objectives to minimise, and instances that need no data files."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesopt_perm import _problem_kernels
from bayesopt_perm._kernels import Float64Array, Int64Array
from bayesopt_perm.space import PermutationSpace

__all__ = [
    "Problem",
    "TaillardRandom",
    "flow_shop",
    "linear_ordering",
    "quadratic_assignment",
    "random_flow_shop",
    "random_linear_ordering",
    "random_quadratic_assignment",
    "random_traveling_salesman",
    "traveling_salesman",
]


@dataclass(frozen=True, eq=False)
class Problem:
    """An objective over permutations, to be minimised.

    ``problem(order)`` with int64[n] is a float; ``problem.evaluate(orders)`` with int64[b, n] is float64[b].
    ``optimum`` is the published best value, None where not known.
    """

    name: str
    n: int
    kernel: Callable[..., Float64Array]
    data: tuple[Float64Array, ...]
    optimum: float | None = None

    @property
    def space(self) -> PermutationSpace:
        return PermutationSpace(self.n)

    def evaluate(self, orders: ArrayLike) -> Float64Array:
        """Values of ``orders``, int64[b, n], as float64[b].

        Raises:
            ValueError: if a row is not a permutation of n items.
        """
        return self.kernel(self.space.check(orders), *self.data)

    def __call__(self, order: ArrayLike) -> float:
        return float(self.evaluate(order)[0])


def _matrix(name: str, values: ArrayLike, square: bool = True) -> Float64Array:
    matrix = np.ascontiguousarray(values, np.float64)
    if matrix.ndim != 2 or not matrix.size or (square and matrix.shape[0] != matrix.shape[1]):
        wanted = "square matrix" if square else "matrix"
        raise ValueError(f"'{name}' must be a {wanted} (got an array of shape {matrix.shape})")
    if not np.isfinite(matrix).all():
        raise ValueError(f"'{name}' must hold finite numbers")
    matrix.setflags(write=False)
    return matrix


def quadratic_assignment(
    flow: ArrayLike, distance: ArrayLike, name: str = "qap", optimum: float | None = None
) -> Problem:
    """Quadratic assignment: facility i goes to place order[i], cost sum flow[i, j] * distance[order[i], order[j]].

    Raises:
        ValueError: if the two are not finite square matrices of one size.
    """
    a, b = _matrix("flow", flow), _matrix("distance", distance)
    if a.shape != b.shape:
        raise ValueError(f"'flow' and 'distance' must have one size (got {len(a)} and {len(b)})")
    return Problem(name, len(a), _problem_kernels.assignment_cost, (a, b), optimum)


def flow_shop(times: ArrayLike, name: str = "flow shop", optimum: float | None = None) -> Problem:
    """Permutation flow shop: every machine works the jobs in one order; the value is the makespan.

    ``times`` is [jobs, machines], the machines in the order in which a job visits them.
    """
    matrix = _matrix("times", times, square=False)
    return Problem(name, len(matrix), _problem_kernels.makespan, (matrix,), optimum)


def traveling_salesman(distance: ArrayLike, name: str = "tsp", optimum: float | None = None) -> Problem:
    """Traveling salesman: the order is a closed tour, the value its length under the matrix ``distance``."""
    matrix = _matrix("distance", distance)
    return Problem(name, len(matrix), _problem_kernels.tour_length, (matrix,), optimum)


def linear_ordering(weight: ArrayLike, name: str = "lop", optimum: float | None = None) -> Problem:
    """Linear ordering: the sum of weight[v, u] over all u that come before v, to be minimised.

    The literature maximises what is above the diagonal instead: the sum of all entries off the diagonal minus this.
    """
    matrix = _matrix("weight", weight)
    return Problem(name, len(matrix), _problem_kernels.backward_weight, (matrix,), optimum)


class TaillardRandom:
    """The generator behind Taillard's benchmark instances: x <- 16807 x mod (2^31 - 1), as published.

    E. Taillard, Benchmarks for basic scheduling problems, EJOR 64 (1993), section 2.

    Raises:
        ValueError: if the seed is not from 1 to 2^31 - 2.
    """

    modulus = 2**31 - 1

    def __init__(self, seed: int) -> None:
        if not 1 <= seed < self.modulus:
            raise ValueError(f"'seed' must be from 1 to {self.modulus - 1} (got {seed})")
        self.state = seed

    def integer(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included."""
        self.state = self.state * 16807 % self.modulus
        return low + math.floor(self.state / self.modulus * (high - low + 1))

    def matrix(self, rows: int, columns: int, low: int = 1, high: int = 99) -> Int64Array:
        """Such numbers row by row, int64[rows, columns]."""
        return np.array([[self.integer(low, high) for _ in range(columns)] for _ in range(rows)], np.int64)


def random_flow_shop(jobs: int, machines: int, seed: int) -> Problem:
    """Taillard's flow shop: times uniform on 1 .. 99, drawn machine by machine (20 x 5, seed 873654221, is ta001)."""
    return flow_shop(TaillardRandom(seed).matrix(machines, jobs).T, f"flow shop {jobs}x{machines} seed {seed}")


def random_quadratic_assignment(n: int, seed: int) -> Problem:
    """Uniform symmetric flows and distances on 0 .. 99, zero diagonals; distances are drawn first."""
    rng = TaillardRandom(seed)
    distance, flow = (_symmetric(rng.matrix(n, n, 0, 99)) for _ in range(2))
    return quadratic_assignment(flow, distance, f"qap {n} seed {seed}")


def random_traveling_salesman(n: int, seed: int) -> Problem:
    """Tours of n points with whole coordinates uniform on 1 .. 1000; Euclidean lengths, not rounded."""
    points = TaillardRandom(seed).matrix(n, 2, 1, 1000)
    return traveling_salesman(np.linalg.norm(points[:, None] - points[None], axis=-1), f"tsp {n} seed {seed}")


def random_linear_ordering(n: int, seed: int) -> Problem:
    """Weights uniform on 0 .. 99."""
    return linear_ordering(TaillardRandom(seed).matrix(n, n, 0, 99), f"lop {n} seed {seed}")


def _symmetric(matrix: Any) -> Any:
    upper = np.triu(matrix, 1)
    return upper + upper.T
