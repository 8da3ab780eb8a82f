"""gpytorch kernels over permutations, given as orders in the last dimension of float tensors, [..., n].

Only the ranks of the entries count, so any real vector will do: ``argsort`` of an order is its position vector.
Distances are whole numbers that no gradient flows through; nothing is cached between calls.
"""

from math import ceil, log2
from typing import Any

import torch
from gpytorch.constraints import Positive
from gpytorch.kernels import Kernel
from torch import Tensor

__all__ = [
    "KERNELS",
    "AdjacencyKernel",
    "HammingKernel",
    "KendallKernel",
    "MallowsKernel",
    "MergeSortKernel",
    "PermutationKernel",
    "PositionKernel",
    "SpearmanKernel",
]

PAIRS_AT_ONCE = 8192  # features of Mallows held at once: 64 MiB for a thousand orders in float64


def _positions(x: Tensor) -> Tensor:
    return x.argsort(dim=-1)


class PermutationKernel(Kernel):
    """``exp(-d(x1, x2) / (c(n) * lengthscale))``: what the subclasses have in common.

    d is a distance of permutations and c(n) about the largest it takes, so a lengthscale of 1 means the same thing at
    every n. A long lengthscale gives nearly 1 - d / (c lengthscale): with a constant mean that is a linear model in the
    features behind d; shorter ones add their products.
    """

    has_lengthscale = True
    distance_name = ""  # the key in bayesopt_perm.distances.DISTANCES

    def distances(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Distances of the rows, [..., a, n] and [..., b, n] to [..., a, b], in the dtype of ``x1``."""
        raise NotImplementedError

    @staticmethod
    def largest(n: int) -> int:
        """The normaliser c(n), at least 1."""
        raise NotImplementedError

    def scaled_distances(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.distances(x1, x2) / (self.largest(x1.shape[-1]) * self.lengthscale)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Covariances, [..., a, b]; with ``diag`` those of equal rows, [..., a]."""
        if not diag:
            return torch.exp(-self.scaled_distances(x1, x2))
        apart = self.distances(x1.unsqueeze(-2), x2.unsqueeze(-2))[..., 0, 0]
        return torch.exp(-apart / (self.largest(x1.shape[-1]) * self.lengthscale[..., 0]))


class _EntrywiseKernel(PermutationKernel):
    """A distance that is a sum over entries, so that each may have a lengthscale of its own (``ard_num_dims=n``)."""

    def entries(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def apart(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError

    def weighted(self, x1: Tensor, x2: Tensor, weight: Tensor | None) -> Tensor:
        """sum over t of weight[..., t] * apart(x1[..., t], x2[..., t]), a term at a time to stay within memory."""
        a, b = self.entries(x1), self.entries(x2)
        total: Any = 0.0
        for t in range(x1.shape[-1]):
            term = self.apart(a[..., :, None, t], b[..., None, :, t]).to(x1.dtype)
            total = total + (term if weight is None else term * weight[..., t, None, None])
        return total

    def distances(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.weighted(x1, x2, None)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        if self.ard_num_dims is None:
            return super().forward(x1, x2, diag, **params)
        weight = 1 / (self.largest(x1.shape[-1]) * self.lengthscale[..., 0, :])
        if not diag:
            return torch.exp(-self.weighted(x1, x2, weight))
        return torch.exp(-self.weighted(x1.unsqueeze(-2), x2.unsqueeze(-2), weight.unsqueeze(-2))[..., 0, 0])


class HammingKernel(_EntrywiseKernel):
    """d = places that hold different items: for assignments. With ARD each place has its lengthscale."""

    distance_name = "hamming"

    def entries(self, x: Tensor) -> Tensor:
        return _positions(_positions(x))

    def apart(self, a: Tensor, b: Tensor) -> Tensor:
        return a != b

    @staticmethod
    def largest(n: int) -> int:
        return max(1, n)


class PositionKernel(_EntrywiseKernel):
    """d = sum over items of |change of place|. With ARD each item has its lengthscale.

    The position kernel ``exp(-nu d / n)`` of Oh et al. 2022 (arXiv 2102.13382) has ``lengthscale = 2 / (nu n)``.
    """

    distance_name = "footrule"

    def entries(self, x: Tensor) -> Tensor:
        return _positions(x)

    def apart(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs()

    def distances(self, x1: Tensor, x2: Tensor) -> Tensor:
        return torch.cdist(_positions(x1).to(x1.dtype), _positions(x2).to(x1.dtype), p=1.0)

    @staticmethod
    def largest(n: int) -> int:
        return max(1, n * n // 2)


class SpearmanKernel(PermutationKernel):
    """d = sum over items of (change of place)^2: a Gaussian kernel on the places."""

    distance_name = "spearman"

    def distances(self, x1: Tensor, x2: Tensor) -> Tensor:
        n = x1.shape[-1]
        # Places are centred first: products then stay small, and exact also in float32.
        a, b = (_positions(x).to(x1.dtype) - (n - 1) / 2 for x in (x1, x2))
        return n * (n * n - 1) / 6 - 2 * (a @ b.mT)

    @staticmethod
    def largest(n: int) -> int:
        return max(1, n * (n * n - 1) // 3)


def _discordant(x1: Tensor, x2: Tensor) -> Tensor:
    """Pairs of items that stand in the other order, [..., a, b]."""
    n = x1.shape[-1]
    p, q = _positions(x1), _positions(x2)
    u, v = torch.triu_indices(n, n, 1, device=x1.device)
    agreement = torch.zeros((), dtype=x1.dtype, device=x1.device)
    for low, high in zip(u.split(PAIRS_AT_ONCE), v.split(PAIRS_AT_ONCE), strict=True):
        a, b = ((place[..., low] - place[..., high]).sign().to(x1.dtype) for place in (p, q))
        agreement = agreement + a @ b.mT
    if not len(u):
        return (p[..., :1] - q[..., :1].mT).to(x1.dtype)
    return (len(u) - agreement) / 2


class MallowsKernel(PermutationKernel):
    """d = pairs of items in the other order (Kendall's tau distance); Jiao and Vert 2015, equation 3."""

    distance_name = "kendall"

    def distances(self, x1: Tensor, x2: Tensor) -> Tensor:
        return _discordant(x1, x2)

    @staticmethod
    def largest(n: int) -> int:
        return max(1, n * (n - 1) // 2)


class KendallKernel(Kernel):
    """``variance * tau``, tau = 1 - 2 d / (n (n - 1) / 2) from -1 to 1: linear in "u before v"; Jiao and Vert 2015."""

    has_lengthscale = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_parameter("raw_variance", torch.nn.Parameter(torch.zeros(*self.batch_shape, 1, 1)))
        self.register_constraint("raw_variance", Positive())
        self.initialize(raw_variance=self.raw_variance_constraint.inverse_transform(torch.tensor(1.0)))

    @property
    def variance(self) -> Tensor:
        """The value for two equal permutations, [..., 1, 1]."""
        return self.raw_variance_constraint.transform(self.raw_variance)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Covariances, [..., a, b]; with ``diag`` those of equal rows, [..., a]."""
        share = 4 / max(2, x1.shape[-1] * (x1.shape[-1] - 1))
        if not diag:
            return self.variance * (1 - share * _discordant(x1, x2))
        apart = _discordant(x1.unsqueeze(-2), x2.unsqueeze(-2))[..., 0, 0]
        return self.variance[..., 0] * (1 - share * apart)


class AdjacencyKernel(PermutationKernel):
    """d = edges of one closed tour that the other lacks: the same for a turned or mirrored tour."""

    distance_name = "adjacency"

    def distances(self, x1: Tensor, x2: Tensor) -> Tensor:
        (after, _), (follows, leads) = _around(x1), _around(x2)
        shared: Any = 0
        for item in range(x1.shape[-1]):
            mine = after[..., :, None, item]
            shared = shared + ((mine == follows[..., None, :, item]) | (mine == leads[..., None, :, item])).to(x1.dtype)
        return x1.shape[-1] - shared

    @staticmethod
    def largest(n: int) -> int:
        return max(1, n)


def _around(x: Tensor) -> tuple[Tensor, Tensor]:
    """For each item the one after and the one before it in the closed tour, int64[..., n] each."""
    place = _positions(x)
    order = _positions(place)
    n = x.shape[-1]
    return order.gather(-1, (place + 1) % n), order.gather(-1, (place - 1) % n)


class MergeSortKernel(PermutationKernel):
    """d = different decisions of merge sort, n log2 n of them: for n in the hundreds; arXiv 2507.13263."""

    distance_name = "mergesort"

    def distances(self, x1: Tensor, x2: Tensor) -> Tensor:
        a, b = _decisions(x1), _decisions(x2)
        return (a.shape[-1] - a @ b.mT) / 2

    @staticmethod
    def largest(n: int) -> int:
        return max(1, n * ceil(log2(n))) if n > 1 else 1


def _decisions(x: Tensor) -> Tensor:
    """Per level and slot +1 where merge sort of the positions takes from the right run and -1 elsewhere."""
    n = x.shape[-1]
    levels = (n - 1).bit_length()
    work = _positions(x)
    # Filling up to a power of two with what sorts last changes no decision about the first n slots.
    filler = torch.arange(n, 1 << levels, device=x.device).expand(*x.shape[:-1], -1)
    work = torch.cat([work, filler], dim=-1)
    found = []
    for level in range(levels):
        runs = work.unflatten(-1, (-1, 2 << level))
        source = runs.argsort(dim=-1)
        found.append((source >= 1 << level).flatten(-2)[..., :n])
        work = runs.gather(-1, source).flatten(-2)
    if not found:
        return torch.zeros(*x.shape[:-1], 0, dtype=x.dtype, device=x.device)
    return torch.cat(found, dim=-1).to(x.dtype) * 2 - 1


# What a surrogate chooses from; the linear Kendall kernel is the Mallows kernel with a long lengthscale.
KERNELS: dict[str, type[PermutationKernel]] = {
    "hamming": HammingKernel,
    "position": PositionKernel,
    "mallows": MallowsKernel,
    "spearman": SpearmanKernel,
    "adjacency": AdjacencyKernel,
    "mergesort": MergeSortKernel,
}
