"""Models that the onnx package ships for its own tests: real architectures whose weights are left out."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from graphs import Graph, Kind

FILLED = "ConstantOfShape"  # what stands in the files for a weight


def folder() -> Path | None:
    """Where the package has them; None where it is not installed."""
    found = find_spec("onnx")
    return Path(found.origin).parent / "backend/test/data/light" if found and found.origin else None


def names() -> list[str]:
    """Their names, as in ``squeezenet``."""
    where = folder()
    return sorted(path.stem.removeprefix("light_") for path in where.glob("light_*.onnx")) if where else []


def graph_of(name: str) -> Graph:
    """The model of that name, its weights there from the start as in a model with weights."""
    from graphs.onnx import from_onnx

    where = folder()
    assert where is not None  # it has been named by names()
    return with_weights(from_onnx(where / f"light_{name}.onnx", name=f"onnx_{name}"))


def with_weights(graph: Graph) -> Graph:
    """``graph`` without the nodes that only fill a weight: no order of a real model has them to place."""
    filling = np.array([op == FILLED and not len(graph.preds.row(v)) for v, op in enumerate(graph.ops)], np.bool_)
    kept = np.flatnonzero(~filling)
    place = np.full(graph.n + 1, -1, np.int32)  # the last: of tensors that no node writes
    place[kept] = np.arange(len(kept), dtype=np.int32)
    weight = (graph.writer >= 0) & filling[graph.writer]
    after = place[graph.after].T
    return Graph.build(
        graph.name,
        [graph.labels[v] for v in kept],
        [graph.reads.row(int(v)) for v in kept],
        place[graph.writer],
        graph.size,
        ops=[graph.ops[v] for v in kept],
        kind=np.where(weight, Kind.WEIGHT, graph.kind),
        after=after[(after >= 0).all(1)],
        scratch=graph.scratch[kept],
        flops=graph.flops[kept],
        tensor_names=graph.tensor_names,
        types=graph.types,
    )
