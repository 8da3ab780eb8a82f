"""The Topoformer: a pre-LN Transformer encoder whose attention heads are split over seven relations of the nodes.

Gagrani et al., Neural Topological Ordering for Computation Graphs, NeurIPS 2022. With r(i, j) the relation of node j
to node i, and a head of its own for each relation r,

    head_r(i) = sum over j with r(i, j) = r of softmax_j(q_r(i) . k_r(j) / sqrt(d)) v_r(j)      (0 without such j)
    h'  = h + W [head_0 .. head_6](LN(h))
    h'' = h' + MLP(LN(h'))

As the relations are disjoint, all heads together look at each pair once. The paper's decoder is one priority a node;
the default one here has beside it the weights of dynamic features, so that the score of node v at step t is
``priority[v] + weight[v] . phi(v, t)``.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from topoformer.net._rollout_kernels import DYNAMIC
from topoformer.net.features import FEATURES
from topoformer.net.relations import RELATIONS

DECODERS = ("dynamic", "static")
FAR = -1e4  # added to the scores of pairs that a head does not see: enough for exp to be 0, and exact to 1e-3 beside it
START = {"NET": -2.0, "UNLOCKS": -1.0, "EXCESS": -2.0, "SHARE": 1.0}  # a fair hand-set score to begin with


@dataclass(frozen=True)
class Size:
    """Constructor arguments of :class:`Topoformer`."""

    layers: int = 6
    width: int = 128
    head: int = 16  # numbers a head; there is one for each relation
    hidden: int = 256  # of the MLP
    decoder: str = "dynamic"

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise ValueError(f"'decoder' must be one of {', '.join(DECODERS)} (got {self.decoder!r})")
        for name in ("layers", "width", "head", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name!r} must be positive (got {getattr(self, name)})")

    @property
    def outputs(self) -> int:
        """Numbers a node: the priority, and the weights if the decoder is dynamic."""
        return 1 + DYNAMIC * (self.decoder == "dynamic")

    def to_json(self) -> dict[str, Any]:
        """The arguments as a dictionary."""
        return asdict(self)


class Masks:
    """What attention needs of the relations of a padded batch: made once, used by every layer.

    Args:
        relation: uint8[b, n, n], ``SELF`` where there is no pair, padding included.
        dtype: of the scores.
    """

    def __init__(self, relation: Tensor, dtype: torch.dtype) -> None:
        numbers = torch.arange(len(RELATIONS), device=relation.device, dtype=relation.dtype)
        sees = relation[:, None] == numbers[:, None, None]
        some = sees.any(
            -1, keepdim=True
        )  # [b, relations, n, 1]: a row without any pair sees all, and counts for nothing
        self.bias = torch.zeros(sees.shape, device=relation.device, dtype=dtype).masked_fill_(~sees & some, FAR)
        self.any = some.to(dtype)


class Attention(nn.Module):
    """One head for each relation, side by side: float[b, n, width] to float[b, n, width]."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.head = head
        inner = len(RELATIONS) * head
        self.qkv = nn.Linear(width, 3 * inner)
        self.out = nn.Linear(inner, width)

    def forward(self, h: Tensor, masks: Masks) -> Tensor:
        """Attend along the relations in ``masks``."""
        b, n, _ = h.shape
        q, k, v = self.qkv(h).view(b, n, 3, len(RELATIONS), self.head).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=masks.bias.to(q.dtype)) * masks.any.to(q.dtype)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and an MLP, each on a normalised copy of the stream that it adds to."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.attention = Attention(size.width, size.head)
        self.up, self.down = nn.Linear(size.width, size.hidden), nn.Linear(size.hidden, size.width)

    def forward(self, h: Tensor, masks: Masks) -> Tensor:
        """float[b, n, width] to the same."""
        h = h + self.attention(self.norm1(h), masks)
        return h + self.down(F.relu(self.up(self.norm2(h))))


class Topoformer(nn.Module):
    """Features and relations of a batch of graphs to priorities and weights of their nodes."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.embed = nn.Linear(len(FEATURES), size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, size.outputs)
        self._start_from_a_hand_set_score()

    def _start_from_a_hand_set_score(self) -> None:
        from topoformer.net import _rollout_kernels as kernels

        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()
            for block in self.blocks:
                block.attention.out.weight.mul_(0.5)
                block.down.weight.mul_(0.5)
            if self.size.decoder == "dynamic":
                for name, value in START.items():
                    self.head.bias[1 + getattr(kernels, name)] = value

    def forward(self, features: Tensor, relation: Tensor) -> Tensor:
        """Priorities and weights.

        Args:
            features: float[b, n, features], anything in rows of padding.
            relation: uint8[b, n, n], ``SELF`` for pairs with padding.

        Returns:
            float[b, n, 1 + DYNAMIC], or float[b, n, 1] from a static decoder; meaningless in rows of padding.
        """
        h = self.embed(features)
        masks = Masks(relation, torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else h.dtype)
        for block in self.blocks:
            h = block(h, masks)
        return self.head(self.norm(h)).float()
