"""Other encoders in the place of the Topoformer's, for the ablation: fewer relations, or PyTorch Geometric's layers.

All map (features float[b, n, f], relations uint8[b, n, n]) to float[b, n, outputs], as ``topoformer.net.model`` does.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, GINConv, GPSConv

from topoformer.net.features import FEATURES
from topoformer.net.geometric import ENCODING, random_signs, real_nodes, unpadded
from topoformer.net.model import Size, Topoformer
from topoformer.net.relations import RELATIONS, SELF


@dataclass(frozen=True)
class Variant:
    """An encoder of the ablation."""

    make: Callable[[Size], nn.Module]
    encoding: bool = False  # whether its features are followed by the Laplacian encoding


class Dropped(Topoformer):
    """The Topoformer without some of its relations; without all of them it is an MLP on the nodes."""

    def __init__(self, size: Size, without: Collection[int]) -> None:
        super().__init__(size)
        self.without = torch.tensor(sorted(without), dtype=torch.uint8)

    def forward(self, features: Tensor, relation: Tensor) -> Tensor:
        """As the Topoformer's."""
        return super().forward(features, relation.masked_fill(torch.isin(relation, self.without), SELF))


class Encoded(nn.Module):
    """A network whose features end with the Laplacian encoding, its signs drawn anew at each step of training.

    A linear layer maps both to as many features as the network expects.
    """

    def __init__(self, size: Size, make: Callable[[Size], nn.Module]) -> None:
        super().__init__()
        self.encode = nn.Linear(ENCODING, len(FEATURES), bias=False)
        self.network = make(size)

    def forward(self, features: Tensor, relation: Tensor) -> Tensor:
        """As the Topoformer's, of float[b, n, f + ENCODING]."""
        plain, encoding = features.split([len(FEATURES), ENCODING], dim=-1)
        found: Tensor = self.network(
            plain + self.encode(random_signs(encoding) if self.training else encoding), relation
        )
        return found


class Convolutions(nn.Module):
    """Layers of PyTorch Geometric along the edges, both ways; ``layer`` makes one of a width."""

    def __init__(self, size: Size, layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Linear(len(FEATURES), size.width)
        self.layers = nn.ModuleList(layer(size.width) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, size.outputs)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(Topoformer(size).head.bias)  # the same fair start

    def forward(self, features: Tensor, relation: Tensor) -> Tensor:
        """As the Topoformer's."""
        graphs = unpadded(features, relation)
        h = self.embed(graphs.x)
        for layer in self.layers:
            h = layer(h, graphs.edge_index, graphs.batch)
        out = self.head(self.norm(h))
        return out.new_zeros(*features.shape[:2], out.shape[-1]).masked_scatter(real_nodes(relation)[..., None], out)


class Added(nn.Module):
    """A convolution of the normalised stream, added to it."""

    def __init__(self, convolution: Callable[[int], nn.Module], width: int) -> None:
        super().__init__()
        self.norm, self.convolution = nn.LayerNorm(width), convolution(width)

    def forward(self, h: Tensor, edges: Tensor, batch: Tensor) -> Tensor:  # noqa: ARG002 - GPSConv wants it
        """float[nodes, width] to the same."""
        found: Tensor = h + self.convolution(self.norm(h), edges)
        return found


def gatv2(width: int) -> nn.Module:
    """Brody et al., How Attentive are Graph Attention Networks?, ICLR 2022."""
    return GATv2Conv(width, width // 4, heads=4, add_self_loops=False)


def gin(width: int) -> nn.Module:
    """Xu et al., How Powerful are Graph Neural Networks?, ICLR 2019."""
    return GINConv(nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)))


def gps(width: int) -> nn.Module:
    """Rampášek et al., Recipe for a General, Powerful, Scalable Graph Transformer, NeurIPS 2022."""
    return GPSConv(width, gatv2(width), heads=4, norm="layer_norm", norm_kwargs={"mode": "node"})


def encoders() -> dict[str, Variant]:
    """What the ablation compares, by the name of its row."""
    every = set(range(len(RELATIONS)))
    pairs = {"reduction": (0, 1), "redundant edges": (2, 3), "closure only": (4, 5), "incomparable": (6,)}
    attention_too = partial(Convolutions, layer=gps)
    made = {
        "Topoformer": Variant(Topoformer),
        "GATv2 on the edges": Variant(partial(Convolutions, layer=partial(Added, gatv2))),
        "GPS (GATv2 on the edges, and attention)": Variant(attention_too),
        "no relation (MLP)": Variant(partial(Dropped, without=every)),
    }
    made |= {f"without {name}": Variant(partial(Dropped, without=numbers)) for name, numbers in pairs.items()}
    return made | {
        "edges only": Variant(partial(Dropped, without=(4, 5, 6))),
        "Topoformer with Laplacian encoding": Variant(partial(Encoded, make=Topoformer), encoding=True),
        "GPS with Laplacian encoding": Variant(partial(Encoded, make=attention_too), encoding=True),
        "GIN on the edges": Variant(partial(Convolutions, layer=partial(Added, gin))),
    }
