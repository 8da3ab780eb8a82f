"""The search inside a round: climbs the acquisition over neighbourhoods and keeps the best candidates that it met."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bayesopt_perm import _kernels
from bayesopt_perm._kernels import Float64Array, Int64Array
from bayesopt_perm.space import PermutationSpace
from bayesopt_perm.surrogate import Surrogate

__all__ = ["NATURAL_MOVES", "Candidates", "Scorer", "candidates", "every_candidate"]

# The moves that change least in the eyes of each kernel.
NATURAL_MOVES = {
    "hamming": ("swap",),
    "adjacency": ("reverse", "insert"),
    "position": ("insert", "swap"),
    "mallows": ("insert", "swap"),
    "spearman": ("insert", "swap"),
    "mergesort": ("insert", "swap"),
}
EXACT = 24  # neighbours whose standard deviation is worked out; the others are known to be worth less, or nearly
MOST_NEIGHBOURS = (
    2000  # of a step, for all moves; of more a random part, or n = 200 would take 20 times what n = 45 does
)
MOST_STEPS = 3  # far from what was evaluated the model promises more than it keeps
MOST_KEPT = 1000
BEST_STARTS, DRAWN_STARTS, DRAWN = 8, 2, 500


@dataclass(frozen=True, eq=False)
class Candidates:
    """Orders (int64[m, n]) not evaluated yet, best acquisition first, and the posterior there, float64[m] each."""

    orders: Int64Array
    mean: Float64Array
    sd: Float64Array
    value: Float64Array


@dataclass(frozen=True, eq=False)
class Scorer:
    """The acquisition of orders under a surrogate: ``acquisition(mean, sd, reference)``."""

    surrogate: Surrogate
    acquisition: Callable[[Float64Array, Float64Array, float], Float64Array]
    reference: float

    def __call__(self, orders: Int64Array, exact: int | None = None) -> Candidates:
        """The best ``exact`` of ``orders`` by an upper bound of the acquisition, then scored exactly; None for all.

        The bound takes for the variance that which the nearest evaluated order alone would leave.
        """
        model = self.surrogate
        rows = model.covariance.features(orders)
        correlations = model.covariance.between(rows, model.rows)
        mean = model.means(correlations)
        keep = np.arange(len(orders))
        if exact is not None and len(orders) > exact:
            own = model.covariance.diagonal(rows)
            left = own - correlations.max(axis=1) ** 2 / (own + model.noise)
            bound = self.acquisition(mean, np.sqrt(model.variance * np.maximum(left, 1e-12)), self.reference)
            keep = np.argpartition(-bound, exact)[:exact]
        sd = model.sds(rows[keep], correlations[keep])
        value = self.acquisition(mean[keep], sd, self.reference)
        ranked = np.argsort(-value, kind="stable")
        keep = keep[ranked]
        return Candidates(orders[keep], mean[keep], sd[ranked], value[ranked])


class Unseen:
    """Leaves out orders that were seen, by fingerprints of 64 bits: very rarely one too many."""

    def __init__(self, seen: Iterable[bytes], n: int) -> None:
        known = np.frombuffer(b"".join(seen), np.int64).reshape(-1, n)
        self.table = np.random.default_rng(0).integers(0, 1 << 64, (n, n), np.uint64)
        self.known = np.sort(_kernels.fingerprints(known, self.table))

    def __call__(self, orders: Int64Array) -> Int64Array:
        """The rows of ``orders`` that were not seen."""
        unseen: Int64Array = orders[_kernels.absent(_kernels.fingerprints(orders, self.table), self.known)]
        return unseen


def every_candidate(scorer: Scorer, space: PermutationSpace, seen: set[bytes]) -> Candidates:
    """All members of a small space that are not ``seen``."""
    rest = [order for order in space if order.tobytes() not in seen]
    return scorer(np.array(rest, np.int64).reshape(-1, space.n))


def candidates(
    scorer: Scorer, space: PermutationSpace, moves: Sequence[str], seen: set[bytes], rng: np.random.Generator
) -> Candidates:
    """The most valuable unseen orders met by steepest ascent from several starts; those in ``seen`` are passed over.

    Starts are the best evaluated orders and the best of a random sample. A step looks at all neighbours under ``moves``
    (a random part of them where there are very many) and goes to the best, if it is better.
    """
    model, unseen = scorer.surrogate, Unseen(seen, space.n)
    drawn = scorer(unseen(space.sample(DRAWN if not space.precedence else DRAWN_STARTS, rng)), DRAWN_STARTS)
    best = model.orders[np.argsort(model.y, kind="stable")]
    best = best[np.sort(np.unique(best, axis=0, return_index=True)[1])[:BEST_STARTS]]
    kept: dict[bytes, tuple[Int64Array, float, float, float]] = {}
    visited: set[bytes] = set()
    starts = [(order, -np.inf) for order in best] + list(zip(drawn.orders, drawn.value.tolist(), strict=True))
    for start, start_value in starts:
        order, value = start, start_value
        for _ in range(MOST_STEPS):
            if order.tobytes() in visited:
                break
            visited.add(order.tobytes())
            met = scorer(unseen(_neighbours(space, order, moves, rng)), EXACT)
            for row in zip(met.orders, met.mean.tolist(), met.sd.tolist(), met.value.tolist(), strict=True):
                kept[row[0].tobytes()] = row
            if not len(met.value) or met.value[0] <= value:
                break
            order, value = met.orders[0], float(met.value[0])
    for row in zip(drawn.orders, drawn.mean.tolist(), drawn.sd.tolist(), drawn.value.tolist(), strict=True):
        kept[row[0].tobytes()] = row
    ranked = sorted(kept.values(), key=lambda row: -row[3])[:MOST_KEPT]
    columns = [np.array([row[part] for row in ranked]) for part in (1, 2, 3)]
    return Candidates(np.array([row[0] for row in ranked], np.int64).reshape(-1, space.n), *columns)


def _neighbours(
    space: PermutationSpace, order: Int64Array, moves: Sequence[str], rng: np.random.Generator
) -> Int64Array:
    return np.concatenate([space.neighbours(order, move, MOST_NEIGHBOURS // len(moves), rng) for move in moves])
