"""Other encoders in the place of the Topoformer's, for the ablation: fewer relations, or PyTorch Geometric's layers.

All map (features float[b, n, f], relations uint8[b, n, n]) to float[b, n, outputs], as ``topoformer.net.model`` does.
"""

from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Tensor, nn

from topoformer.net.features import FEATURES
from topoformer.net.model import Size, Topoformer
from topoformer.net.relations import RELATIONS, SELF

EDGES = 4  # relations below it are edges of the graph, in one direction or the other


class Dropped(Topoformer):
    """The Topoformer without some of its relations; without all of them it is an MLP on the nodes."""

    def __init__(self, size: Size, without: Collection[int]) -> None:
        super().__init__(size)
        self.without = torch.tensor(sorted(without), dtype=torch.uint8)

    def forward(self, features: Tensor, relation: Tensor) -> Tensor:
        """As the Topoformer's."""
        return super().forward(features, relation.masked_fill(torch.isin(relation, self.without), SELF))


class Convolutions(nn.Module):
    """Layers of PyTorch Geometric along the edges, both ways, each added to the stream."""

    def __init__(self, size: Size, layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.size = size
        self.embed = nn.Linear(len(FEATURES), size.width)
        self.layers = nn.ModuleList(layer(size.width) for _ in range(size.layers))
        self.norms = nn.ModuleList(nn.LayerNorm(size.width) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, size.outputs)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(Topoformer(size).head.bias)  # the same fair start

    def forward(self, features: Tensor, relation: Tensor) -> Tensor:
        """As the Topoformer's."""
        b, n, _ = features.shape
        graph, row, column = torch.nonzero(relation < EDGES, as_tuple=True)
        edges = torch.stack([graph * n + column, graph * n + row])
        h = self.embed(features).reshape(b * n, -1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = h + layer(norm(h), edges)
        return self.head(self.norm(h)).view(b, n, -1)


def gatv2(size: Size) -> nn.Module:
    """Brody et al., How Attentive are Graph Attention Networks?, ICLR 2022."""
    from torch_geometric.nn import GATv2Conv

    return Convolutions(size, lambda width: GATv2Conv(width, width // 4, heads=4, add_self_loops=False))


def gin(size: Size) -> nn.Module:
    """Xu et al., How Powerful are Graph Neural Networks?, ICLR 2019."""
    from torch_geometric.nn import GINConv

    def layer(width: int) -> nn.Module:
        return GINConv(nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)))

    return Convolutions(size, layer)


def encoders() -> dict[str, Callable[[Size], nn.Module]]:
    """What the ablation compares, by the name of its row."""
    every = set(range(len(RELATIONS)))
    pairs = {"reduction": (0, 1), "redundant edges": (2, 3), "closure only": (4, 5), "incomparable": (6,)}
    found: dict[str, Callable[[Size], nn.Module]] = {"Topoformer": Topoformer}
    found |= {f"without {name}": partial(Dropped, without=numbers) for name, numbers in pairs.items()}
    found |= {"edges only": partial(Dropped, without=(4, 5, 6)), "no relation (MLP)": partial(Dropped, without=every)}
    return found | {"GATv2 on the edges": gatv2, "GIN on the edges": gin}
