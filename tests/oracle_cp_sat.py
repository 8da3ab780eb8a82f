"""Lowest peak by constraint programming, for graphs too large for the other oracle; from section 1 of the theory.

A node's place in the order is an integer; a tensor is an interval of places that takes its bytes of a resource whose
capacity is the peak. Shares no code with the package: only the stored columns of a graph are read.
"""

from ortools.sat.python import cp_model

from graphs import Kind
from tests.oracle import peak, preds_of, readers_of


def lowest_peak(graph, *, below=None, seconds=10.0):
    """The lowest peak of any legal order, in bytes, as CP-SAT proves it; None where time is up before the proof.

    With ``below`` only orders with a peak below that many bytes count, and the result is ``below`` where there is none:
    a proof that nothing beats a known order takes less time than finding one.
    """
    if not graph.n or below == 0:
        return 0
    model, places, capacity = _model(graph, below)
    model.minimize(capacity)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = seconds
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        assert below is not None, "every graph has an order"
        return below
    if status != cp_model.OPTIMAL:
        return None
    order = sorted(range(graph.n), key=lambda v: solver.value(places[v]))
    assert peak(graph, order) == solver.value(capacity)  # the order that is claimed exists
    return solver.value(capacity)


def _model(graph, below):
    """(model, place of each node, peak)."""
    model, n, preds = cp_model.CpModel(), graph.n, preds_of(graph)
    before, behind = _closure(preds), _closure(_reversed(preds))
    places = [model.new_int_var(len(before[v]), n - 1 - len(behind[v]), f"place {v}") for v in range(n)]
    model.add_all_different(places)
    model.add_no_overlap([model.new_fixed_size_interval_var(place, 1, "step") for place in places])
    for v in range(n):
        for u in preds[v]:
            model.add(places[u] < places[v])
    held = [(model.new_fixed_size_interval_var(places[v], 1, f"scratch {v}"), int(graph.scratch[v])) for v in range(n)]
    for x, readers in enumerate(readers_of(graph)):
        kind = Kind(graph.kind[x])
        if kind in (Kind.INPUT, Kind.WEIGHT) or (kind == Kind.DONATED and not readers):
            continue
        start = 0 if kind == Kind.DONATED else places[int(graph.writer[x])]
        if kind == Kind.OUTPUT:
            end = n
        elif readers:
            end = model.new_int_var(1, n, f"end {x}")
            model.add_max_equality(end, [places[v] + 1 for v in readers])
        else:
            end = start + 1
        length = model.new_int_var(1, n, f"life {x}")
        held.append((model.new_interval_var(start, length, end, f"tensor {x}"), int(graph.size[x])))
    most = int(graph.size.sum()) + int(graph.scratch.max(initial=0))
    capacity = model.new_int_var(0, most if below is None else below - 1, "peak")
    model.add_cumulative([interval for interval, _ in held], [size for _, size in held], capacity)
    return model, places, capacity


def _closure(preds):
    """For each node all that must run before it."""
    closed = {}
    for v in range(len(preds)):
        waiting, closed[v] = [v], set()
        while waiting:
            for u in preds[waiting.pop()] - closed[v]:
                closed[v].add(u)
                waiting.append(u)
    return closed


def _reversed(preds):
    succs = [set() for _ in preds]
    for v, before in enumerate(preds):
        for u in before:
            succs[u].add(v)
    return succs
