"""The training graphs as PyTorch Geometric has them: ``Data``, a dataset for its ``DataLoader``, Laplacian encodings.

For networks built of that library's layers; the Topoformer itself takes all pairs of nodes, see ``batch.collate``.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, Dataset
from torch_geometric.transforms import AddLaplacianEigenvectorPE, BaseTransform

from topoformer.net.pool import Item
from topoformer.net.relations import SELF

EDGES = 4  # relations below it are edges of the graph, in one direction or the other
ENCODING = 8  # eigenvectors


def data_of(x: Item) -> Data:
    """One graph with all of its edges in both directions.

    Returns:
        ``x`` float32[n, features]; ``edge_index`` int64[2, 2m], messages go from the first row to the second;
        ``edge_type`` int64[2m], the number of the relation; ``laplacian`` float32[n, ENCODING]; ``seed``.
    """
    target, source = np.nonzero(x.relation < EDGES)
    made = Data(
        x=torch.from_numpy(x.features),
        edge_index=torch.from_numpy(np.stack([source, target])),
        edge_type=torch.from_numpy(x.relation[target, source].astype(np.int64)),
        num_nodes=x.n,
        seed=x.seed,
    )
    made.laplacian = _eigenvectors(made)
    return made


def _eigenvectors(data: Data) -> Tensor:
    """Of the normalised Laplacian, those of the lowest eigenvalues but the first, columns of zeros where there are few.

    Dwivedi et al., Benchmarking Graph Neural Networks, JMLR 2023, section 3.
    """
    n, generator = (
        data.num_nodes,
        np.random.default_rng(0),
    )  # its iteration begins with a random vector: always the same
    count = max(0, min(ENCODING, n - 1))
    found = torch.zeros(n, ENCODING)
    if count:
        with torch.random.fork_rng(devices=[]):  # the sign that the transform draws is no business of the training's
            made = AddLaplacianEigenvectorPE(count, "pe", is_undirected=True, v0=generator.normal(size=n))(data.clone())
        found[:, :count] = made.pe.float() * n**0.5  # a mean square of 1 whatever the size of the graph
    return found


def random_signs(encoding: Tensor) -> Tensor:
    """Each eigenvector, a column of float[..., n, ENCODING], times 1 or -1: neither sign means anything."""
    shape = (*encoding.shape[:-2], 1, encoding.shape[-1])
    return encoding * (2.0 * torch.randint(0, 2, shape, device=encoding.device) - 1.0)


class RandomSigns(BaseTransform):
    """A transform that gives the eigenvectors of a graph other signs each time it is looked at."""

    def forward(self, data: Data) -> Data:
        """A copy of ``data`` with other signs."""
        made = copy(data)
        made.laplacian = random_signs(data.laplacian)
        return made


class Graphs(Dataset):
    """Training graphs, encoded once, for a ``torch_geometric.loader.DataLoader``."""

    def __init__(self, items: Iterable[Item], *, train: bool = False) -> None:
        super().__init__(transform=RandomSigns() if train else None)
        self._made = [data_of(x) for x in items]

    def len(self) -> int:
        """How many there are."""
        return len(self._made)

    def get(self, idx: int) -> Data:
        """One of them, before the transform."""
        return self._made[idx]


def widened(x: Item) -> Item:
    """``x`` with its encoding as further features: for networks that take dense batches."""
    wide = np.concatenate([x.features, data_of(x).laplacian.numpy()], axis=1)
    return replace(x, features=wide)


def real_nodes(relation: Tensor) -> Tensor:
    """bool[b, n]: which rows of a padded batch are nodes; relations uint8[b, n, n], of graphs of two nodes or more."""
    return (relation != SELF).any(-1)


def unpadded(features: Tensor, relation: Tensor) -> Batch:
    """A padded batch, as ``batch.collate`` makes it, as one of PyTorch Geometric without the padding."""
    real = real_nodes(relation)
    number = real.flatten().cumsum(0).view(real.shape) - 1
    graph, target, source = torch.nonzero(relation < EDGES, as_tuple=True)
    return Batch(
        x=features[real],
        edge_index=torch.stack([number[graph, source], number[graph, target]]),
        edge_type=relation[graph, target, source].long(),
        batch=torch.nonzero(real, as_tuple=True)[0],
    )
