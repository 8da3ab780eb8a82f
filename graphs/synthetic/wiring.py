"""Randomly wired networks: Xie et al., Exploring Randomly Wired Neural Networks, ICCV 2019."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from graphs.errors import GraphError, unknown_name
from graphs.graph import Graph, Kind
from graphs.synthetic._common import generator, weighted_graph

if TYPE_CHECKING:
    import networkx as nx

MODELS = ("ws", "er", "ba")
WS_NEIGHBOURS, WS_REWIRED = 4, 0.75  # WS(4, 0.75), BA(5) and ER(0.2): the paper's best of each
BA_EDGES = 5
ER_CHANCE, ER_DEGREE = 0.2, 6.2  # what 0.2 gives among the paper's 32 nodes; larger stages keep it
STEM_BYTES = 4 * 56 * 56 * 78  # float32 bytes of conv2 in the paper's small regime
LEAST_BYTES = 4 * 78
HEAD = (("conv", 4 * 7 * 7 * 1280), ("pool", 4 * 1280), ("linear", 4 * 1000))
WIRED_OPS = ("sum", "relu", "sepconv")


class _Program(NamedTuple):
    """A network while it is written down: one row a node, one tensor a node."""

    labels: list[str]
    ops: list[str]
    size: list[int]
    before: list[int]  # edges: first node
    node: list[int]  # edges: second node

    def add(self, label: str, op: str, size: int, reads: list[int]) -> int:
        self.labels.append(label)
        self.ops.append(op)
        self.size.append(size)
        index = len(self.size) - 1
        self.before.extend(reads)
        self.node.extend([index] * len(reads))
        return index


def randwire(nodes: int, *, seed: int = 0, model: str = "ws", stages: int = 3) -> Graph:
    """Randomly wired image network: stem, stages of random graphs on ever smaller tensors, head.

    A random graph is oriented from lower to higher number. Each of its nodes becomes three operators with a
    tensor each, written one after the other: ``sum`` of what it reads, ``relu``, ``sepconv`` (batch norm
    folded in). Nodes without predecessors read the stage's input, and their sepconv has stride 2; ``mean`` of
    the nodes without successors is the stage's output. A part that is not connected stays: it runs between
    the same two. The up to two operators that do not fill a wired node precede the linear layer as ``pool``
    and ``conv``.

    Args:
        nodes: operators of the graph, at least ``2 + 4 * stages``.
        model: ``"ws"`` (Watts-Strogatz), ``"er"`` (Erdos-Renyi) or ``"ba"`` (Barabasi-Albert); a stage with
            fewer nodes than the model's neighbours is complete.
        stages: random graphs in a row, at least 1.

    Raises:
        GraphError: too few nodes or stages, an unknown model.
    """
    if model not in MODELS:
        raise GraphError(unknown_name("model", model, MODELS))
    if stages < 1:
        raise GraphError(f"'stages' must be at least 1 (got {stages})")
    rng = generator(nodes, 2 + 4 * stages, seed)
    wired, spare = divmod(nodes - 2 - stages, 3)
    program = _Program([], [], [], [], [])
    last = program.add("stem", "conv", STEM_BYTES, [])
    for stage in range(stages):
        count = wired // stages + (stage < wired % stages)
        last = _add_stage(program, _wiring(rng, count, model), stage, last)
    for op, size in HEAD[len(HEAD) - 1 - spare :]:
        last = program.add(f"head.{op}", op, size, [last])
    kind = np.full(nodes, Kind.TEMPORARY, np.int64)
    kind[last] = Kind.OUTPUT
    return weighted_graph(
        f"randwire_{model}_n{nodes}_s{seed}",
        np.array(program.size),
        np.array(program.before),
        np.array(program.node),
        labels=program.labels,
        ops=program.ops,
        kind=kind,
    )


def _wiring(rng: np.random.Generator, count: int, model: str) -> "nx.Graph[int]":
    import networkx as nx  # costs 0.3 s to import

    seed = int(rng.integers(2**31))
    if model == "er":
        chance = min(ER_CHANCE, ER_DEGREE / max(count - 1, 1))
        return nx.fast_gnp_random_graph(count, chance, seed=seed)
    if count <= (WS_NEIGHBOURS if model == "ws" else BA_EDGES):
        return nx.complete_graph(count)
    if model == "ws":
        return nx.watts_strogatz_graph(count, WS_NEIGHBOURS, WS_REWIRED, seed=seed)
    return nx.barabasi_albert_graph(count, BA_EDGES, seed=seed)


def _add_stage(program: _Program, wiring: "nx.Graph[int]", stage: int, stage_input: int) -> int:
    """Append a stage; returns the operator that writes its output."""
    input_bytes = program.size[stage_input]
    stage_bytes = max(STEM_BYTES >> 2 + stage, LEAST_BYTES)  # each stage has stride 2
    result: list[int] = []  # the sepconv of each wired node
    for v in range(len(wiring)):
        before = sorted(u for u in wiring[v] if u < v)
        reads, size = ([result[u] for u in before], stage_bytes) if before else ([stage_input], input_bytes)
        for op, bytes_ in zip(WIRED_OPS, (size, size, stage_bytes), strict=True):
            reads = [program.add(f"stage{stage}.{v}.{op}", op, bytes_, reads)]
        result.extend(reads)
    ends = [result[v] for v in range(len(wiring)) if all(w < v for w in wiring[v])]
    return program.add(f"stage{stage}.mean", "mean", stage_bytes, ends)
