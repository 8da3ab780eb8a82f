"""Pre-norm transformers: a small decoder, and one whose feed-forward layers are mixtures of experts."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.models._common import Network, check_at_least, check_multiple, seeded

EXPANSION = 4


def mlp(dim: int) -> nn.Sequential:
    """Two linear layers with a GELU between them."""
    return nn.Sequential(nn.Linear(dim, EXPANSION * dim), nn.GELU(), nn.Linear(EXPANSION * dim, dim))


class CausalAttention(nn.Module):
    """Multi-head self-attention in which no token sees a later one."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        split = (batch, length, self.heads, dim // self.heads)
        q, k, v = (part.view(split).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return out


class MixtureOfExperts(nn.Module):
    """Every expert on every token, summed with the softmax of a linear gate."""

    def __init__(self, dim: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, experts)
        self.experts = nn.ModuleList(mlp(dim) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.gate(x), dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=-1)
        return (outputs * weights.unsqueeze(-2)).sum(dim=-1)


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a layer norm and added to its input."""

    def __init__(self, dim: int, heads: int, feed_forward: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = CausalAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.feed_forward = feed_forward

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.feed_forward(self.norm2(x))
        return out


class Decoder(nn.Module):
    """Token and position embeddings, blocks, layer norm, linear layer to the vocabulary."""

    def __init__(self, vocabulary: int, length: int, dim: int, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(torch.randn(length, dim))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position
        out: Tensor = self.head(self.norm(self.blocks(x)))
        return out


def build(
    feed_forward: Callable[[], nn.Module],
    seed: int,
    batch: int,
    length: int,
    dim: int,
    heads: int,
    layers: int,
    vocabulary: int,
) -> Network:
    """A decoder of ``layers`` blocks, each with a new ``feed_forward``, and its tokens."""
    check_at_least(1, batch=batch, length=length, heads=heads, layers=layers, vocabulary=vocabulary)
    check_multiple(heads, dim=dim)
    with seeded(seed):
        blocks: list[nn.Module] = [Block(dim, heads, feed_forward()) for _ in range(layers)]
        net = Decoder(vocabulary, length, dim, blocks)
        return net.eval(), (torch.randint(vocabulary, (batch, length)),)


def transformer(
    *,
    seed: int = 0,
    batch: int = 1,
    length: int = 128,
    dim: int = 256,
    heads: int = 4,
    layers: int = 6,
    vocabulary: int = 1000,
) -> Network:
    """Pre-norm decoder (Radford et al., 2019): tokens (batch, length) to (batch, length, vocabulary)."""
    return build(lambda: mlp(dim), seed, batch, length, dim, heads, layers, vocabulary)


def moe(
    *,
    seed: int = 0,
    batch: int = 1,
    length: int = 128,
    dim: int = 256,
    heads: int = 4,
    layers: int = 4,
    experts: int = 8,
    vocabulary: int = 1000,
) -> Network:
    """Dense mixture of experts (Jacobs et al., 1991): tokens (batch, length) to (batch, length, vocabulary).

    A decoder whose feed-forward layers evaluate all ``experts``, not only the best few.
    """
    check_at_least(1, experts=experts)
    return build(lambda: MixtureOfExperts(dim, experts), seed, batch, length, dim, heads, layers, vocabulary)
