"""XLA's memory scheduler for CPUs, run as it is on our graphs: they are compiled, and the schedule is read back.

A node is a custom call whose results are ``u8`` arrays of its tensors' bytes, and one of its scratch; an order without
a read is the read of one more result of a byte, the least for which XLA keeps it. Inputs, weights and donated tensors
are left out: XLA's schedulers count nothing of a program's parameters. Outputs are the program's result, and so is a
byte of each node that nothing else keeps. Of XLA's schedulers jaxlib itself has what the CPU backend uses: for least
memory a depth-first post-order, that goes first where most reads and then most bytes hang on (``DFSMemoryScheduler``),
and for concurrency a breadth-first order. ``bench/rivals/xla_gpu.py`` runs the one that other backends use.
"""

import os
import re
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from bench.rivals import NotApplicable
from graphs import Graph, Kind, Order
from graphs.cost import OBJECTIVES, Objective

TARGET = "topoformer_node"  # of the custom calls; it is never run
CALL = f'custom_call_target="{TARGET}", api_version=API_VERSION_TYPED_FFI'
TYPE = "xla_cpu_scheduler_type"
OPTIONS = (("xla_disable_all_hlo_passes", "True"),)  # the program that is scheduled is the one that is given
QUIET = ("TF_CPP_MIN_LOG_LEVEL", "3")  # or it tells of its devices on the standard error stream
MOST_NODES = 20_000  # about a minute; it is quadratic
LEAST = 1  # bytes of a result: XLA takes those of none to be constants, which depend on nothing
ROW = re.compile(r"^ *(?:ROOT )?%n(\d+)\S* = .* custom-call\(", re.MULTILINE)


def xla(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """The order of XLA's scheduler for least memory on the CPU, int32[n].

    Raises:
        NotApplicable: more than ``MOST_NODES`` nodes.
    """
    return _scheduled(graph, "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED")


def concurrent(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """The order of XLA's scheduler for most concurrency on the CPU, int32[n]: breadth first.

    Raises:
        NotApplicable: more than ``MOST_NODES`` nodes.
    """
    return _scheduled(graph, "CPU_SCHEDULER_TYPE_CONCURRENCY_OPTIMIZED")


@cache
def missing() -> str:
    """Why XLA cannot be run here, or "" where it can: its Python bindings are not a public interface."""
    kind = [Kind.TEMPORARY, Kind.TEMPORARY, Kind.OUTPUT, Kind.DONATED]
    tiny = Graph.build("tiny", "abc", [[3], [], [0, 1]], [0, 1, 2, -1], [1, 9, 2, 9], kind=kind, scratch=[0, 7, 0])
    try:
        order = xla(tiny, OBJECTIVES["memory"], seconds=1.0, seed=0)
    except ImportError:
        return "jaxlib is not installed"
    except Exception as error:  # whatever has moved or changed
        return f"jaxlib {version('jaxlib')}: {type(error).__name__}: {str(error).splitlines()[0]}"
    wrong = order.tolist() != [1, 0, 2]
    return f"jaxlib {version('jaxlib')} takes no heed of {TYPE}" if wrong else ""


def _scheduled(graph: Graph, scheduler: str) -> Order:
    if graph.n > MOST_NODES:
        raise NotApplicable(f"XLA takes minutes to compile more than {MOST_NODES} calls (got {graph.n})")
    if not graph.n:
        return np.zeros(0, np.int32)
    client = _client()
    from jaxlib import _hlo, _jax, xla_client

    module = _hlo.hlo_module_from_text(program(graph))
    computation = _hlo.XlaComputation(module.as_serialized_hlo_module_proto())
    options = xla_client.CompileOptions()
    options.env_option_overrides = [(TYPE, scheduler), *OPTIONS]
    text = _jax.mlir.xla_computation_to_mlir_module(computation).encode()
    compiled = client.compile_and_load(text, xla_client.DeviceList(tuple(client.local_devices()[:1])), options)
    return executed(compiled)


def executed(compiled: Any) -> Order:
    """The order, int32[n], in which an executable of :func:`program` runs the nodes."""
    return np.array(ROW.findall(compiled.hlo_modules()[0].to_string()), np.int32)


@cache
def _client() -> Any:
    """XLA's client for the CPU, with a target for the calls: it must be registered, and any one will do."""
    os.environ.setdefault(*QUIET)
    from jaxlib import lapack, xla_client

    client = xla_client.make_cpu_client()
    _, function, api = lapack.registrations()["cpu"][0]
    xla_client.register_custom_call_target(TARGET, function, platform="cpu", api_version=api)
    return client


def program(graph: Graph) -> str:
    """``graph`` as the text of an HLO module."""
    digits = len(str(graph.n))  # XLA breaks ties by name: the earlier one of the program first
    sizes, place = _results(graph)
    names = [f"n{v:0{digits}d}" for v in range(graph.n)]
    pairs = zip(graph.after[0].tolist(), graph.after[1].tolist(), strict=True)
    operands = [[(int(graph.writer[t]), place[t]) for t in graph.reads.row(v).tolist() if graph.writer[t] >= 0]
                for v in range(graph.n)]  # fmt: skip
    for u, v in pairs:
        if all(node != u for node, _ in operands[v]):
            operands[v].append((u, len(sizes[u]) - 1))
    kept = [(int(graph.writer[t]), place[t]) for t in np.flatnonzero(graph.kind == Kind.OUTPUT).tolist()]
    kept += [(v, len(sizes[v]) - 1) for v in _idle_ends(graph)]
    used = {result for row in operands for result in row} | set(kept)

    def value(result: tuple[int, int]) -> str:
        node, i = result
        return names[node] if len(sizes[node]) == 1 else f"{names[node]}r{i}"

    lines = []
    for v, row in enumerate(sizes):
        shapes = [f"u8[{size}]" for size in row]
        shape = shapes[0] if len(row) == 1 else f"({', '.join(shapes)})"
        lines.append(f"{names[v]} = {shape} custom-call({', '.join(map(value, operands[v]))}), {CALL}")
        if len(row) > 1:  # what is not used is not taken out of the tuple: nothing would keep it in the program
            lines += [f"{value((v, i))} = {s} get-tuple-element({names[v]}), index={i}"
                      for i, s in enumerate(shapes) if (v, i) in used]  # fmt: skip
    shapes = [f"u8[{sizes[v][i]}]" for v, i in kept]
    lines.append(f"ROOT end = ({', '.join(shapes)}) tuple({', '.join(map(value, kept))})")
    return "HloModule graph\n\nENTRY main {\n  " + "\n  ".join(lines) + "\n}\n"


def _results(graph: Graph) -> tuple[list[list[int]], list[int]]:
    """(bytes of each node's results, place of each tensor among its writer's).

    A node has one more result where another one must follow it without reading, or where nothing else keeps it.
    """
    place, sizes = [0] * graph.k, []
    waited = {*graph.after[0].tolist(), *_idle_ends(graph)}
    for v in range(graph.n):
        written = graph.writes.row(v).tolist()
        for i, t in enumerate(written):
            place[t] = i
        row = [max(LEAST, int(graph.size[t])) for t in written]
        row += [int(graph.scratch[v])] * bool(graph.scratch[v])
        row += [LEAST] * (v in waited or not row)
        sizes.append(row)
    return sizes, place


def _idle_ends(graph: Graph) -> list[int]:
    """Nodes that nothing follows and that write no output."""
    outputs = set(graph.writer[graph.kind == Kind.OUTPUT].tolist())
    return [v for v in np.flatnonzero(graph.succs.lengths == 0).tolist() if v not in outputs]
