"""The learned scheduler: an attention network over the graph whose scores of ready nodes make the order.

``scores`` and ``priorities`` are what other searches may use of it; they need no PyTorch.
"""

from functools import cache

from graphs import Graph
from topoformer.net.decode import Float32Array, Policy
from topoformer.net.encoder import Encoder
from topoformer.net.stored import WeightsError, load_encoder

__all__ = ["Encoder", "Policy", "WeightsError", "encoder", "priorities", "scores"]


@cache
def encoder(decoder: str = "dynamic") -> Encoder:
    """The shipped network, read once a process."""
    return load_encoder(decoder)


def scores(graph: Graph, decoder: str = "dynamic") -> Policy:
    """Priorities of the nodes of ``graph`` and their weights on dynamic features; O(n^2) time and bytes."""
    return encoder(decoder).policy(graph)


def priorities(graph: Graph) -> Float32Array:
    """One number a node, float32[n]: of two ready nodes the one with the higher number had better run first.

    They come from the static decoder, whose only output they are; those of the default one mean little by themselves.
    """
    return scores(graph, "static").priority
