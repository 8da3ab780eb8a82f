"""Recurrent networks unrolled into plain operators: an LSTM over time and a TreeLSTM over a tree."""

import random
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from graphs.models._common import Network, check_at_least, seeded

State = tuple[Tensor, Tensor]
Children = tuple[tuple[int, ...], ...]


class LSTMCell(nn.Module):
    """One step: x (batch, inputs) and the state (h, c), both (batch, hidden), to the next state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(inputs, 4 * hidden)
        self.from_hidden = nn.Linear(hidden, 4 * hidden, bias=False)

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = (self.from_input(x) + self.from_hidden(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class LSTM(nn.Module):
    """Layers of one cell each, a layer run over all steps before the next; a linear layer on each step."""

    def __init__(self, inputs: int, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.cells = nn.ModuleList(LSTMCell(hidden if layer else inputs, hidden) for layer in range(layers))
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        steps = list(x.unbind(dim=1))
        for cell in self.cells:
            h = c = x.new_zeros(x.shape[0], self.hidden)
            outputs = []
            for step in steps:
                h, c = cell(step, (h, c))
                outputs.append(h)
            steps = outputs
        out: Tensor = self.head(torch.stack(steps, dim=1))
        return out


def balanced_tree(leaves: int, arity: int) -> Children:
    """Children of the inner nodes, numbered after the leaves: each joins the oldest parentless nodes."""
    inner: list[tuple[int, ...]] = []
    nodes = leaves
    start = 0
    while nodes - start > 1:
        inner.append(tuple(range(start, min(start + arity, nodes))))
        start += arity
        nodes += 1
    return tuple(inner)


def random_tree(leaves: int, arity: int, rng: random.Random) -> Children:
    """Children of the inner nodes, numbered after the leaves: each joins a random run of adjacent nodes."""
    inner: list[tuple[int, ...]] = []
    roots = list(range(leaves))
    while len(roots) > 1:
        start = rng.randrange(max(1, len(roots) - arity + 1))
        inner.append(tuple(roots[start : start + arity]))
        roots[start : start + arity] = [leaves + len(inner) - 1]
    return tuple(inner)


def levels_of(leaves: int, children: Children) -> list[list[int]]:
    """Inner nodes by height: those over leaves only, those over them, and so on."""
    height = [0] * leaves
    for below in children:
        height.append(1 + max(height[child] for child in below))
    inner = sorted(range(leaves, len(height)), key=height.__getitem__)
    return [list(level) for _, level in groupby(inner, key=height.__getitem__)]


class ChildSumCell(nn.Module):
    """The state of a node from those of its children, each (batch, hidden): one forget gate per child."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(hidden, 3 * hidden)
        self.forget = nn.Linear(hidden, hidden)

    def forward(self, below: Sequence[State]) -> State:
        h = below[0][0]
        for child_h, _ in below[1:]:
            h = h + child_h
        i, o, u = self.gates(h).chunk(3, dim=1)
        c = torch.sigmoid(i) * torch.tanh(u)
        for child_h, child_c in below:
            c = c + torch.sigmoid(self.forget(child_h)) * child_c
        return torch.sigmoid(o) * torch.tanh(c), c


class TreeLSTM(nn.Module):
    """All leaves first, then the tree level by level, then a linear layer on the root."""

    def __init__(self, leaves: int, children: Children, vocabulary: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.leaves = leaves
        self.children_of = children
        self.levels = levels_of(leaves, children)
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.leaf = nn.Linear(hidden, 3 * hidden)
        self.cell = ChildSumCell(hidden)
        self.head = nn.Linear(hidden, classes)

    def leaf_state(self, token: Tensor) -> State:
        """State of one leaf of each tree: tokens (batch,) to (h, c), both (batch, hidden)."""
        i, o, u = self.leaf(self.embedding(token)).chunk(3, dim=1)
        c = torch.sigmoid(i) * torch.tanh(u)
        return torch.sigmoid(o) * torch.tanh(c), c

    def forward(self, tokens: Tensor) -> Tensor:
        states = {leaf: self.leaf_state(tokens[:, leaf]) for leaf in range(self.leaves)}
        for level in self.levels:
            for node in level:
                states[node] = self.cell([states[child] for child in self.children_of[node - self.leaves]])
        root, _ = states[self.leaves + len(self.children_of) - 1]
        out: Tensor = self.head(root)
        return out


def lstm(
    *,
    seed: int = 0,
    batch: int = 16,
    steps: int = 32,
    inputs: int = 64,
    hidden: int = 256,
    layers: int = 2,
    classes: int = 64,
) -> Network:
    """LSTM (Hochreiter and Schmidhuber, 1997): vectors (batch, steps, inputs) to (batch, steps, classes)."""
    check_at_least(1, batch=batch, steps=steps, inputs=inputs)
    check_at_least(1, hidden=hidden, layers=layers, classes=classes)
    with seeded(seed):
        return LSTM(inputs, hidden, layers, classes).eval(), (torch.randn(batch, steps, inputs),)


def tree_lstm(
    *,
    seed: int = 0,
    batch: int = 16,
    leaves: int = 64,
    arity: int = 2,
    balanced: bool = True,
    hidden: int = 256,
    vocabulary: int = 1000,
    classes: int = 5,
) -> Network:
    """Child-sum TreeLSTM (Tai et al., ACL 2015): tokens (batch, leaves) to (batch, classes).

    All sentences have the same tree, whose inner nodes have ``arity`` children; its shape is random unless
    it is ``balanced``.
    """
    check_at_least(1, batch=batch, hidden=hidden, vocabulary=vocabulary, classes=classes)
    check_at_least(2, leaves=leaves, arity=arity)
    rng = random.Random(seed)
    children = balanced_tree(leaves, arity) if balanced else random_tree(leaves, arity, rng)
    with seeded(seed):
        net = TreeLSTM(leaves, children, vocabulary, hidden, classes)
        return net.eval(), (torch.randint(vocabulary, (batch, leaves)),)
