"""Randomly wired networks: each stage is a random graph whose every node is a small convolution."""

import random
from collections.abc import Callable
from functools import partial

import networkx as nx
import torch
from torch import Tensor, nn

from graphs.models._common import (
    Network,
    check_at_least,
    check_fraction,
    check_multiple,
    classifier,
    conv_bn,
    conv_bn_relu,
    images,
    initialised,
    seeded,
)

Predecessors = tuple[tuple[int, ...], ...]
Wiring = Callable[[random.Random], nx.Graph]

STAGES = 3
TRIES = 1000
HEAD_CHANNELS = 1280


def connected(wiring: Wiring, rng: random.Random) -> nx.Graph:
    """First connected graph that ``wiring`` draws; ValueError when none comes up."""
    for _ in range(TRIES):
        graph = wiring(rng)
        if nx.is_connected(graph):
            return graph
    raise ValueError(f"no connected graph in {TRIES} draws: raise 'p'")


def oriented(graph: nx.Graph) -> Predecessors:
    """Neighbours of lower index of each node: every edge goes from the lower index to the higher."""
    return tuple(tuple(sorted(u for u in graph[v] if u < v)) for v in range(len(graph)))


class Node(nn.Module):
    """Sigmoid-weighted sum of the inputs, ReLU, separable 3x3 convolution, batch norm."""

    def __init__(self, fan_in: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.edges = nn.Parameter(torch.randn(fan_in)) if fan_in else None
        # An entry node reads the stage's input, which others read too; only its own sum may be overwritten.
        self.relu = nn.ReLU(inplace=fan_in > 0)
        depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.conv = nn.Sequential(depthwise, *conv_bn(inputs, outputs, 1))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        total = inputs[0]
        if self.edges is not None:
            weight = torch.sigmoid(self.edges)
            total = weight[0] * inputs[0]
            for i in range(1, len(inputs)):
                total = total + weight[i] * inputs[i]
        out: Tensor = self.conv(self.relu(total))
        return out


class Stage(nn.Module):
    """A random graph: its entry nodes halve the resolution, its output is the mean of its sinks."""

    def __init__(self, predecessors: Predecessors, inputs: int, outputs: int) -> None:
        super().__init__()
        self.predecessors = predecessors
        read = {u for before in predecessors for u in before}
        self.sinks = tuple(v for v in range(len(predecessors)) if v not in read)
        self.nodes = nn.ModuleList()
        for before in predecessors:
            node = Node(len(before), outputs, outputs, 1) if before else Node(0, inputs, outputs, 2)
            self.nodes.append(node)

    def forward(self, x: Tensor) -> Tensor:
        states: list[Tensor] = []
        for node, before in zip(self.nodes, self.predecessors, strict=True):
            states.append(node([states[u] for u in before] if before else [x]))
        total = states[self.sinks[0]]
        for v in self.sinks[1:]:
            total = total + states[v]
        return total / len(self.sinks)


class RandWire(nn.Module):
    """The small regime of the paper: two strided convolutions, three random stages, 1x1 convolution, head."""

    def __init__(self, wirings: list[Predecessors], channels: int, classes: int) -> None:
        super().__init__()
        half = channels // 2
        self.stem = nn.Sequential(conv_bn_relu(3, half, 3, 2), conv_bn(half, channels, 3, 2))
        widths = [channels, *(channels << s for s in range(len(wirings)))]
        self.stages = nn.ModuleList(Stage(w, widths[s], widths[s + 1]) for s, w in enumerate(wirings))
        self.head = nn.Sequential(
            nn.ReLU(), conv_bn_relu(widths[-1], HEAD_CHANNELS, 1), classifier(HEAD_CHANNELS, classes)
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
        out: Tensor = self.head(x)
        return out


def build(wiring: Wiring, seed: int, batch: int, resolution: int, channels: int, classes: int) -> Network:
    """The network of three graphs drawn one after another from ``wiring``, and its images."""
    check_at_least(1, batch=batch, resolution=resolution, classes=classes)
    check_multiple(2, channels=channels)
    rng = random.Random(seed)
    wirings = [oriented(connected(wiring, rng)) for _ in range(STAGES)]
    with seeded(seed):
        return initialised(RandWire(wirings, channels, classes)), (images(batch, resolution),)


def randwire_ws(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 224,
    channels: int = 78,
    nodes: int = 32,
    k: int = 4,
    p: float = 0.75,
    classes: int = 1000,
) -> Network:
    """RandWire-WS (Xie et al., ICCV 2019): images (batch, 3, r, r) to (batch, classes).

    Each stage is a Watts-Strogatz ring of ``nodes``, each joined to ``k`` others, rewired with chance ``p``.
    """
    check_multiple(2, k=k)
    check_at_least(k + 1, nodes=nodes)
    check_fraction(p=p)
    return build(partial(nx.watts_strogatz_graph, nodes, k, p), seed, batch, resolution, channels, classes)


def randwire_er(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 224,
    channels: int = 78,
    nodes: int = 32,
    p: float = 0.2,
    classes: int = 1000,
) -> Network:
    """RandWire-ER (Xie et al., ICCV 2019): images (batch, 3, r, r) to (batch, classes).

    Each stage is a connected Erdos-Renyi graph of ``nodes``, each pair joined with chance ``p``.
    """
    check_at_least(1, nodes=nodes)
    check_fraction(p=p)
    return build(partial(nx.gnp_random_graph, nodes, p), seed, batch, resolution, channels, classes)


def randwire_ba(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 224,
    channels: int = 78,
    nodes: int = 32,
    m: int = 5,
    classes: int = 1000,
) -> Network:
    """RandWire-BA (Xie et al., ICCV 2019): images (batch, 3, r, r) to (batch, classes).

    Each stage is a Barabasi-Albert graph of ``nodes``, each new one joined to ``m`` earlier ones.
    """
    check_at_least(1, m=m)
    check_at_least(m + 1, nodes=nodes)
    return build(partial(nx.barabasi_albert_graph, nodes, m), seed, batch, resolution, channels, classes)
