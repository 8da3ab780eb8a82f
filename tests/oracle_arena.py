"""A slow, obvious twin of the arena planner: pairs of buffers, one by one, and all orders of placing them."""

from itertools import combinations, permutations

from graphs import Kind


def meet(a, b):
    """Whether two half-open intervals share a point."""
    return max(a[0], b[0]) < min(a[1], b[1])


def clashes(buffers, offsets):
    """Pairs of buffers (lower, upper, size) that share a byte at one time."""
    spans = [(offset, offset + buffer[2]) for buffer, offset in zip(buffers, offsets, strict=True)]
    return [
        (i, j)
        for i, j in combinations(range(len(buffers)), 2)
        if meet(buffers[i][:2], buffers[j][:2]) and meet(spans[i], spans[j])
    ]


def arena(buffers, offsets):
    """Bytes up to the highest end of a buffer that is ever there."""
    ends = [o + b[2] for b, o in zip(buffers, offsets, strict=True) if b[0] < b[1] and b[2]]
    return max(ends, default=0)


def bound(buffers):
    """Most bytes alive at once."""
    return max((sum(b[2] for b in buffers if b[0] <= t < b[1]) for t in {b[0] for b in buffers}), default=0)


def smallest(buffers):
    """The smallest arena: in some order, each buffer on top of those before it that it meets, is a best packing."""
    best = None
    for order in permutations(b for b in buffers if b[0] < b[1] and b[2]):
        placed, highest = [], 0
        for lower, upper, size in order:
            top = max((end for other, end in placed if meet(other, (lower, upper))), default=0) + size
            placed.append(((lower, upper), top))
            highest = max(highest, top)
        best = highest if best is None else min(best, highest)
    return best or 0


def graph_buffers(graph, order):
    """(what, lower, upper, size) of every tensor that is counted at some step, and of every scratch."""
    position = {node: step for step, node in enumerate(order)}
    found = []
    for t in range(graph.k):
        kind, writer = Kind(graph.kind[t]), int(graph.writer[t])
        readers = [position[v] for v in range(graph.n) if t in graph.reads.row(v)]
        if kind in (Kind.INPUT, Kind.WEIGHT) or (kind == Kind.DONATED and not readers):
            continue
        lower = position[writer] if writer >= 0 else 0
        upper = graph.n if kind == Kind.OUTPUT else max([lower, *readers]) + 1
        found.append((("tensor", t), lower, upper, int(graph.size[t])))
    for v in range(graph.n):
        if graph.scratch[v]:
            found.append((("scratch", v), position[v], position[v] + 1, int(graph.scratch[v])))
    return found


def tight_buffers(rng, load, steps, most):
    """Buffers that fill ``load`` bytes at every step: what they need above that is seldom nothing."""
    alive, found = [], []
    for step in range(steps + 1):
        ends = [step == steps or rng.random() < 0.5 for _ in alive]
        found += [(start, step, size) for (start, size), end in zip(alive, ends, strict=True) if end]
        alive = [buffer for buffer, end in zip(alive, ends, strict=True) if not end]
        while step < steps and (free := load - sum(size for _, size in alive)):
            alive.append((step, rng.randint(1, min(free, most))))
    return found


def fits(buffers, capacity):
    """Whether there is a packing of at most ``capacity`` bytes: asks CP-SAT."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    times, spans = [], []
    for lower, upper, size in buffers:
        start = model.new_int_var(0, capacity - size, "")
        times.append(model.new_fixed_size_interval_var(lower, upper - lower, ""))
        spans.append(model.new_fixed_size_interval_var(start, size, ""))
    model.add_no_overlap_2d(times, spans)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.INFEASIBLE)
    return status != cp_model.INFEASIBLE
