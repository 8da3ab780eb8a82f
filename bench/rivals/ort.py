"""ONNX Runtime's orders of execution: our graph as an ONNX model, run once with its profiler on.

A node is a sum of one-element tensors, one for each node that it must follow; optimisations are off. ONNX Runtime
orders by the nodes' numbers and edges alone, so sizes are not told. Its default is a depth-first search from the
program's ends; by priority it runs, of what is ready, the node that comes first in the program, which is then the
program's own order wherever no node is more urgent than others.
"""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.rivals import NotApplicable
from graphs import Graph, Order
from graphs.cost import OBJECTIVES, Objective

MOST_NODES = 100_000
OPSET, IR = 13, 8  # versions that any ONNX Runtime since 2022 reads
NAME = "node"
EVENT = "_kernel_time"  # how the profiler names what a node's kernel takes
SOURCE = "start"  # the model's only input


def default(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """ONNX Runtime's usual order, int32[n].

    Raises:
        NotApplicable: more than ``MOST_NODES`` nodes.
    """
    return _executed(graph, "DEFAULT")


def priority(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """ONNX Runtime's order by priority, int32[n].

    Raises:
        NotApplicable: more than ``MOST_NODES`` nodes.
    """
    return _executed(graph, "PRIORITY_BASED")


@cache
def missing() -> str:
    """Why ONNX Runtime cannot be run here, or "" where it can."""
    tiny = Graph.build("tiny", "abc", [[], [0], [0]], [0, 1, 2], [1, 1, 1], after=[(1, 2)])
    try:
        for method in (default, priority):
            method(tiny, OBJECTIVES["memory"], seconds=1.0, seed=0)
    except ImportError as error:
        return f"{error.name} is not installed"
    except Exception as error:  # whatever has moved or changed
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


def _executed(graph: Graph, order: str) -> Order:
    import onnxruntime

    if graph.n > MOST_NODES:
        raise NotApplicable(f"ONNX Runtime takes minutes for more than {MOST_NODES} nodes (got {graph.n})")
    if not graph.n:
        return np.zeros(0, np.int32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.execution_order = getattr(onnxruntime.ExecutionOrder, order)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model(graph), options, providers=["CPUExecutionProvider"])
        session.run(None, {SOURCE: np.zeros(1, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _order(events)


def _order(events: list[dict[str, Any]]) -> Order:
    """Nodes as the profiler lists them: one after the other has run, as there is one thread."""
    ran = [event["name"] for event in events if event.get("name", "").endswith(EVENT)]
    return np.array([int(name.removeprefix(NAME).removesuffix(EVENT)) for name in ran], np.int32)


def model(graph: Graph) -> bytes:
    """The precedences of ``graph`` as an ONNX model, serialised."""
    from onnx import TensorProto, helper

    nodes = []
    for v in range(graph.n):
        before = [f"value{u}" for u in graph.preds.row(v).tolist()]
        nodes.append(helper.make_node("Sum", before or [SOURCE], [f"value{v}"], name=f"{NAME}{v}"))
    ends = np.flatnonzero(graph.succs.lengths == 0).tolist()
    outputs = [helper.make_tensor_value_info(f"value{v}", TensorProto.FLOAT, [1]) for v in ends]
    source = helper.make_tensor_value_info(SOURCE, TensorProto.FLOAT, [1])
    made = helper.make_model(
        helper.make_graph(nodes, "graph", [source], outputs),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    serialised: bytes = made.SerializeToString()
    return serialised
