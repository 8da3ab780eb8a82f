"""The order of Inductor's fused kernels: a pass over its scheduler nodes that runs after its own memory pass.

Inductor's nodes and buffers become a :class:`~graphs.Graph` whose live bytes are those of Inductor's own estimate, so
that an order that is better for one is better for the other. All of Inductor's types are private; where they are not
as expected, the order stays as it is given.
"""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import graphs
import topoformer
from graphs import Graph, Kind
from graphs.errors import UnsupportedOp
from topoformer.pytorch.ordering import Search, uninterrupted
from topoformer.text import schedule_line

LOG = logging.getLogger("topoformer")


@dataclass(frozen=True)
class NodePass:
    """For ``torch._inductor.config.reorder_for_compute_comm_overlap_passes``, as the last of the list.

    Takes the nodes of a graph that is being compiled and returns them in an order that Inductor's estimate finds
    better, or as they came. Collectives keep their order, as Inductor makes each depend on the one before it.

    Inductor's cache of compiled graphs takes the fields of this object into its key.
    """

    search: Search
    source: str = field(init=False)

    def __post_init__(self) -> None:
        # A cache knows a function by its name only, which does not tell what it does: such a pass equals no other.
        found = secrets.token_hex() if callable(self.search.method) else source_digest()
        object.__setattr__(self, "source", found)

    def __deepcopy__(self, memo: dict[int, Any]) -> "NodePass":
        return self

    def __call__(self, nodes: list[Any]) -> list[Any]:
        """The nodes of a graph (each a ``BaseSchedulerNode``) in an order that needs no more by Inductor's estimate."""
        try:
            plan = plan_of(nodes)
        except Exception as error:  # whatever has moved in this version of torch
            LOG.warning("Inductor's kernels stay in their order: %s: %s", type(error).__name__, _first_line(error))
            return nodes
        found = uninterrupted(self.search.schedule(plan.graph))
        picked = [nodes[i] for i in found.order.tolist()]
        LOG.info("Inductor's kernels of %s", schedule_line(found))
        return picked if plan.estimate(picked) < plan.estimate(nodes) else nodes


class Plan(NamedTuple):
    """Inductor's scheduler nodes as a graph, in the order given, and what its own estimate takes."""

    graph: Graph  # its peak and its resident bytes together are Inductor's estimate
    freeable: dict[str, Any]  # input buffers that the compiled program may free, by name
    outputs: Any  # names of the buffers that it returns

    def estimate(self, nodes: list[Any]) -> int:
        """Bytes that Inductor expects this order to need at its peak."""
        from torch._inductor.memory import estimate_peak_memory

        return int(estimate_peak_memory(nodes, self.freeable, self.outputs)[0])


def plan_of(nodes: list[Any]) -> Plan:
    """The graph of Inductor's nodes, with all that its memory pass knows; while ``V.graph`` is being compiled.

    Raises:
        UnsupportedOp: a buffer has not as much memory when it is freed as when it is allocated.
        Exception: Inductor's types are not those that we know.
    """
    from torch._inductor.memory import prepare_planning_info
    from torch._inductor.virtualized import V
    from torch.utils._ordered_set import OrderedSet

    inputs, outputs = OrderedSet(V.graph.graph_inputs), OrderedSet(V.graph.get_output_names())
    known = V.graph.scheduler
    # Done by Inductor's memory pass before, but that may be switched off, and other passes may have changed the nodes.
    _, freeable = prepare_planning_info(nodes, known.name_to_buf, known.name_to_fused_node, inputs, outputs)
    return Plan(_graph(nodes, freeable, outputs), freeable, outputs)


class _Tensor(NamedTuple):
    name: str
    bytes: int
    kind: Kind
    writer: int
    readers: set[int]


def _graph(nodes: Sequence[Any], freeable: dict[str, Any], outputs: Any) -> Graph:
    position = {node: i for i, node in enumerate(nodes)}
    tensors = [*_donated(freeable, outputs, position), *_written(nodes, outputs, position)]
    reads: list[list[int]] = [[] for _ in nodes]
    for t, tensor in enumerate(tensors):
        for reader in tensor.readers - {tensor.writer}:
            reads[reader].append(t)
    return Graph.build(
        name=program_name(),
        labels=[node.get_name() for node in nodes],
        ops=[type(node).__name__ for node in nodes],
        reads=reads,
        writer=[tensor.writer for tensor in tensors],
        size=[tensor.bytes for tensor in tensors],
        kind=[tensor.kind for tensor in tensors],
        after=sorted((position[u], v) for v, node in enumerate(nodes) for u in node.mpi_node.pred_nodes),
        tensor_names=[tensor.name for tensor in tensors],
    )


def _donated(freeable: dict[str, Any], outputs: Any, position: dict[Any, int]) -> list[_Tensor]:
    """Inputs that are freed after their last reader; those that are returned count as resident instead."""
    return [
        _Tensor(
            name,
            buffer.mpi_buffer.size_free,
            Kind.INPUT if name in outputs else Kind.DONATED,
            -1,
            {position[reader] for reader in buffer.mpi_buffer.succ_nodes},
        )
        for name, buffer in freeable.items()
    ]


def _written(nodes: Sequence[Any], outputs: Any, position: dict[Any, int]) -> list[_Tensor]:
    """What the nodes allocate: an operator with several results allocates them all, nodes that unpack it nothing."""
    made = {buffer.get_name(): (i, buffer) for i, node in enumerate(nodes) for buffer in node.get_outputs()}
    unclaimed = {name: buffer.mpi_buffer.size_alloc for name, (_, buffer) in made.items()}
    tensors = []
    for name, (i, buffer) in made.items():
        size = buffer.mpi_buffer.size_free
        if not size:
            continue
        source = name
        while source in made and not made[source][1].mpi_buffer.size_alloc:
            source = made[source][1].node.inputs[0].get_name()
        unclaimed[source] -= size
        kind = Kind.OUTPUT if name in outputs else Kind.TEMPORARY
        readers = {position[reader] for reader in buffer.mpi_buffer.succ_nodes}
        tensors.append(_Tensor(name, size, kind, made[source][0], readers | {i}))
    if wrong := next((name for name, size in unclaimed.items() if size), None):
        raise UnsupportedOp(f"buffer '{wrong}' is allocated {unclaimed[wrong]} bytes more than are freed")
    return tensors


def program_name() -> str:
    """What PyTorch calls the program that it is compiling, such as "model__0_forward_1"."""
    try:
        from torch._functorch.aot_autograd import get_graph_being_compiled
    except ImportError:
        return "program"
    return str(get_graph_being_compiled())


@cache
def source_digest() -> str:
    """sha256 (hex) of the source and the weights of ``graphs`` and ``topoformer``: others may find other orders."""
    digest = sha256()
    for package in (graphs, topoformer):
        folder = Path(package.__path__[0])
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            digest.update(f"{package.__name__} {path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:300]
