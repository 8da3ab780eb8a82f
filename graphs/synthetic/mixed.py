"""Small random graphs that use every feature of the type: food for property tests."""

from dataclasses import dataclass, field

import numpy as np

from graphs.graph import Graph, Kind
from graphs.synthetic._common import generator

VIEW, ORDERED, SCRATCH = 0.2, 0.1, 0.25  # chance that a node is a view, has one more "after", uses scratch
ZERO, UNREAD, OUTPUT = 0.1, 0.1, 0.15  # chance that a written tensor has no bytes, no readers, is kept
RECENT = 0.5  # chance that a read is of one of the last few tensors: makes chains, not only bushes
GIVEN = (Kind.INPUT, Kind.WEIGHT, Kind.DONATED)
SCALES = (8, 1000, 1 << 40)  # most bytes of a tensor: few values make ties, large ones leave int32


@dataclass
class _Draft:
    """A graph while it is drawn."""

    scale: int
    writer: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    kind: list[Kind] = field(default_factory=list)
    reads: list[list[int]] = field(default_factory=list)
    after: list[tuple[int, int]] = field(default_factory=list)
    handles: list[tuple[int, int]] = field(default_factory=list)  # (tensor, view it is read through or -1)

    def add_tensor(self, rng: np.random.Generator, writer: int, kind: Kind) -> int:
        self.writer.append(writer)
        self.size.append(0 if rng.random() < ZERO else int(rng.integers(1, self.scale + 1)))
        self.kind.append(kind)
        return len(self.writer) - 1

    def read(self, rng: np.random.Generator, node: int) -> tuple[int, int] | None:
        """Let ``node`` read some tensor; through a view it also comes after the view."""
        if not self.handles:
            return None
        newest = len(self.handles)
        oldest = max(newest - 4, 0) if rng.random() < RECENT else 0
        tensor, view = self.handles[int(rng.integers(oldest, newest))]
        self.reads[node].append(tensor)
        if view >= 0:
            self.after.append((view, node))
        return tensor, view


def random_graph(nodes: int, *, seed: int = 0) -> Graph:
    """Random graph with every feature there is; its program order is the order of drawing; O(nodes).

    Nodes with several written tensors and with none, views (consumers read the base tensor and come after the
    view), other "after" pairs, kept outputs, inputs, weights, donated tensors, scratch bytes, tensors of zero
    bytes, temporaries that nobody reads. The largest tensor has 8, 1,000 or 2**40 bytes, as the seed decides.

    Args:
        nodes: nodes of the graph, at least 1.

    Raises:
        GraphError: too few nodes.
    """
    rng = generator(nodes, 1, seed)
    draft = _Draft(scale=SCALES[int(rng.integers(len(SCALES)))])
    for kind in GIVEN:
        for _ in range(int(rng.integers(0, 2 + nodes // 8))):
            draft.handles.append((draft.add_tensor(rng, -1, kind), -1))
    for node in range(nodes):
        draft.reads.append([])
        _draw_node(rng, draft, node)
    scratch = np.where(rng.random(nodes) < SCRATCH, rng.integers(1, draft.scale + 1, nodes), 0)
    return Graph.build(
        f"random_graph_n{nodes}_s{seed}",
        map(str, range(nodes)),
        draft.reads,
        draft.writer,
        draft.size,
        kind=draft.kind,
        after=draft.after,
        scratch=scratch,
    )


def _draw_node(rng: np.random.Generator, draft: _Draft, node: int) -> None:
    if node and rng.random() < ORDERED:
        draft.after.append((int(rng.integers(node)), node))
    if rng.random() < VIEW:
        base = draft.read(rng, node)
        if base is not None:
            draft.handles.append((base[0], node))
        return
    for _ in range(int(rng.integers(0, 4))):
        draft.read(rng, node)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        kind = Kind.OUTPUT if rng.random() < OUTPUT else Kind.TEMPORARY
        tensor = draft.add_tensor(rng, node, kind)
        if rng.random() >= UNREAD:
            draft.handles.append((tensor, -1))
