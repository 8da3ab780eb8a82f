"""OR-Tools' CP-SAT on the whole problem: what an exact, general solver makes of a graph.

A node's place in the order is an integer, no two are equal, and edges order them. A tensor is an interval of places,
from its writer's to the last of its readers', that takes its bytes of a cumulative resource; a node's scratch takes
them for one place. The resource's capacity is the peak, which is minimised. The program's order is the hint.
"""

import math
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from ortools.sat.python import cp_model

from bench.rivals import NotApplicable
from graphs import Graph, Kind, Order, peak_bytes, program_order
from graphs.cost import Objective
from graphs.memory import lifetimes

MOST_NODES = 500  # above, it finds little that is better than the hint within a minute
MOST_BYTES = 1 << 58  # of all tensors together: its sums are of 64 bits
WORKERS = 2  # which search beside each other: orders differ from run to run, proven peaks do not


class Solution(NamedTuple):
    """What the solver knows when it ends."""

    order: Order
    bound: int  # bytes: no order has a lower peak
    optimal: bool


class Model(NamedTuple):
    """The problem as the solver sees it; bytes are counted in units of their greatest common divisor."""

    model: Any
    places: list[Any]
    capacity: Any
    unit: int


def cp_sat(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """The best order that CP-SAT finds in ``seconds``, int32[n].

    Raises:
        NotApplicable: more than ``MOST_NODES`` nodes or ``MOST_BYTES`` bytes, or no order was found in time.
    """
    return solve(graph, seconds=seconds, seed=seed).order


def solve(graph: Graph, *, seconds: float, seed: int) -> Solution:
    """As :func:`cp_sat`, with what is proven."""
    if graph.n > MOST_NODES:
        raise NotApplicable(f"CP-SAT finds little in graphs of more than {MOST_NODES} nodes (got {graph.n})")
    if (total := int(graph.size.sum() + graph.scratch.sum())) > MOST_BYTES:
        raise NotApplicable(f"CP-SAT cannot count more than {MOST_BYTES} bytes (got {total})")
    if not graph.n:
        return Solution(program_order(graph), 0, True)
    made = _model(graph)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = WORKERS
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.random_seed = seed % (1 << 31)
    solver.parameters.cp_model_probing_level = 0  # probing and symmetries take seconds here, and find nothing
    solver.parameters.symmetry_level = 0
    status = solver.solve(made.model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise NotApplicable(f"CP-SAT found no order of {graph.n} nodes in {seconds:g} s")
    order = np.argsort([solver.value(place) for place in made.places]).astype(np.int32)
    bound = int(solver.response_proto.inner_objective_lower_bound) * made.unit
    return Solution(order, bound, status == cp_model.OPTIMAL)


def missing() -> str:
    """Never anything: OR-Tools is one of the package's own dependencies."""
    return ""


def _model(graph: Graph) -> Model:
    model, n = cp_model.CpModel(), graph.n
    unit = math.gcd(*graph.size.tolist(), *graph.scratch.tolist()) or 1
    first, last = _windows(graph)
    places = [model.new_int_var(first[v], last[v], f"place {v}") for v in range(n)]
    model.add_all_different(places)
    for u, v in graph.edges.T.tolist():
        model.add(places[u] < places[v])
    for v, place in enumerate(places):
        model.add_hint(place, v)
    held = _tensors(graph, model, places)
    scratch = np.flatnonzero(graph.scratch).tolist()
    held += [(model.new_fixed_size_interval_var(places[v], 1, f"scratch {v}"), int(graph.scratch[v])) for v in scratch]
    capacity = model.new_int_var(0, peak_bytes(graph) // unit, "peak")
    model.add_cumulative([interval for interval, _ in held], [size // unit for _, size in held], capacity)
    model.add_hint(capacity, peak_bytes(graph) // unit)
    model.minimize(capacity)
    return Model(model, places, capacity, unit)


def _windows(graph: Graph) -> tuple[list[int], list[int]]:
    """First and last place that each node can have, by how many must run before and after it."""
    before = [0] * graph.n  # sets of nodes, as the bits of integers
    behind = [0] * graph.n
    for v in range(graph.n):
        before[v] = reduce(lambda all_, u: all_ | before[u] | 1 << u, graph.preds.row(v).tolist(), 0)
    for v in reversed(range(graph.n)):
        behind[v] = reduce(lambda all_, u: all_ | behind[u] | 1 << u, graph.succs.row(v).tolist(), 0)
    return [bits.bit_count() for bits in before], [graph.n - 1 - bits.bit_count() for bits in behind]


def _tensors(graph: Graph, model: Any, places: list[Any]) -> list[tuple[Any, int]]:
    """(interval of places, bytes) of each tensor that takes any; hinted is where the program's order has it."""
    held, n = [], graph.n
    first, last = lifetimes(graph, program_order(graph))
    for t in np.flatnonzero((graph.size > 0) & (last > first)).tolist():
        kind, readers = Kind(graph.kind[t]), graph.readers.row(t).tolist()
        start = 0 if kind == Kind.DONATED else places[int(graph.writer[t])]
        end: Any = start + 1  # of what nobody reads
        if kind == Kind.OUTPUT:
            end = n
        elif readers:
            end = model.new_int_var(1, n, f"end {t}")
            model.add_hint(end, int(last[t]))
            model.add_max_equality(end, [places[v] + 1 for v in readers])
        life = model.new_int_var(1, n, f"life {t}")
        model.add_hint(life, int(last[t] - first[t]))
        held.append((model.new_interval_var(start, life, end, f"tensor {t}"), int(graph.size[t])))
    return held
