"""The Topoformer's methods: the order of its highest scores, and the best of many that are drawn by its scores."""

import time
from functools import partial

import numpy as np

from graphs import Graph, Order, peak_bytes, program_order, simulate
from graphs.bound import cut_bound, footprint_bound
from graphs.cost import OBJECTIVES, Objective
from graphs.cuts import CutNetwork, Witness
from topoformer import net
from topoformer.net import windows
from topoformer.net.decode import MANY, Best, best_of, floor_of, greedy, instance
from topoformer.net.guided import Guided, guided_beam
from topoformer.outcome import Outcome, Phase
from topoformer.schedulers import list_scheduling as ls
from topoformer.schedulers.stopper import Stopper

CHEAP = (ls.program, ls.lpmf, ls.net_change, ls.dfs)
PATIENCE = 4096  # samples without a gain after which there is little hope for more
WORTH_SAYING = 0.5  # seconds of compiling
FIRST = 64  # samples before the first beam
NARROW, WIDER, WIDEST = 32, 2, 1 << 14  # beams: the next one is wider where one found nothing
EASE = 0.02  # of the best peak: by how much less a beam aims at
CUT_SHARE = 0.2  # of the time, at most, goes into the bound, which may end the search at once


def topoformer(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """The trained network's greedy order: near the best in milliseconds."""
    if graph.n <= windows.LARGEST:
        return greedy(instance(graph), net.scores(graph), floor_of(graph)).order
    return _by_stretches(graph, Stopper(float("inf")), samples=1, seed=0)


def sample(graph: Graph, objective: Objective, *, seconds: float, seed: int, steps: int | None = None) -> Outcome:  # noqa: ARG001
    """The best of as many orders as there is time to draw by the trained network's scores."""
    phases = _compiled(graph)
    began = time.monotonic()
    stopper = Stopper(began + seconds)
    if graph.n > windows.LARGEST:
        order = _by_stretches(graph, stopper, samples=64 if steps is None else steps, seed=seed)
        return Outcome(order, footprint_bound(graph))
    policy, inst, floor = net.scores(graph), instance(graph), floor_of(graph)
    first = greedy(inst, policy, floor)
    phases.append(Phase("greedy", time.monotonic() - began, first.peak_bytes, floor))
    proof = _Proof(graph, floor)
    bound = proof.raised(first.order, min(stopper.deadline, time.monotonic() + CUT_SHARE * seconds))
    drawing = time.monotonic()
    draw = partial(best_of, inst, policy, bound, samples=MANY if steps is None else steps, seed=seed, patience=PATIENCE)
    found: Best = stopper.call(lambda stop: draw(stop=stop))
    order = _better(graph, found.order)
    phases.append(Phase(f"{found.samples} samples", time.monotonic() - drawing, peak_bytes(graph, order), bound))
    proof.raised(order, stopper.deadline)
    return Outcome(order, proof.bound, proof.witness, tuple(phases))


def beam(graph: Graph, objective: Objective, *, seconds: float, seed: int, steps: int | None = None) -> Outcome:  # noqa: ARG001
    """A few drawn orders, then wider and wider beams over the moves that the trained network finds likely."""
    phases = _compiled(graph)
    began = time.monotonic()
    stopper = Stopper(began + seconds)
    if graph.n > windows.LARGEST:
        return Outcome(_by_stretches(graph, stopper, samples=FIRST, seed=seed), footprint_bound(graph))
    policy, inst, floor = net.scores(graph), instance(graph), floor_of(graph)
    first: Best = stopper.call(lambda stop: best_of(inst, policy, floor, samples=FIRST, seed=seed, stop=stop))
    order = _better(graph, first.order)
    peak = peak_bytes(graph, order)
    phases.append(Phase(f"{first.samples} samples", time.monotonic() - began, peak, floor))
    proof = _Proof(graph, floor)
    bound = proof.raised(order, min(stopper.deadline, time.monotonic() + CUT_SHARE * seconds))
    width, states = NARROW, 0
    while peak > bound and width <= WIDEST and not stopper.expired and (steps is None or states < steps):
        started = time.monotonic()
        aim = max(bound, int(peak * (1 - EASE)))
        search = partial(guided_beam, inst, policy, width, floor=min(aim, peak - 1), limit=peak - 1)
        found: Guided = stopper.call(lambda stop, search=search: search(stop=stop))  # type: ignore[misc]
        states += max(found.states, 1)
        if found.order is not None:
            order, peak = found.order, found.peak_bytes
        phases.append(Phase(f"beam {width}", time.monotonic() - started, peak, bound))
        if found.order is None:
            width *= WIDER
    proof.raised(order, stopper.deadline)
    return Outcome(order, proof.bound, proof.witness, tuple(phases))


def _compiled(graph: Graph) -> list[Phase]:
    """Have every kernel compiled, or read from the cache, before the clock starts; a phase if that took a while."""
    began = time.monotonic()
    tiny = Graph.build("tiny", "abc", [[], [0], [0, 1]], [0, 1, 2], [1, 1, 1])
    inst, policy = instance(tiny), net.scores(tiny)
    best_of(inst, policy, 0, samples=2, seed=0)
    guided_beam(inst, policy, 1)
    _Proof(tiny, 0).raised(_better(tiny, program_order(tiny)), float("inf"))
    took = time.monotonic() - began
    return [Phase("compiling", took, peak_bytes(graph), floor_of(graph))] if took > WORTH_SAYING else []


def _better(graph: Graph, order: Order) -> Order:
    """The best of ``order`` and the list policies', which cost next to nothing and are hard to beat on large trees."""
    others = (policy(graph, OBJECTIVES["memory"], seconds=1.0, seed=0) for policy in CHEAP)
    return min((order, *others), key=partial(peak_bytes, graph))


class _Proof:
    """What minimum cuts say of a graph so far; none is asked for twice."""

    def __init__(self, graph: Graph, floor: int) -> None:
        self.network, self.bound = CutNetwork(graph), floor
        self.witness: Witness | None = None

    def raised(self, order: Order, deadline: float) -> int:
        """The bound after cuts along ``order``, as many as there is time for."""
        bound, witness = cut_bound(self.network, order, floor=self.bound, deadline=deadline)
        if witness is not None:
            self.bound, self.witness = bound, witness
        return self.bound


def _by_stretches(graph: Graph, stopper: Stopper, *, samples: int, seed: int) -> Order:
    """A cheap order, each of its stretches put in the network's order where that is no worse."""
    profile = windows.base_profile(graph)
    order = profile.order.copy()
    for first, last in windows.stretches(profile):
        if stopper.expired:
            break
        part, nodes = windows.stretch_graph(graph, profile.order, first, last)
        draw = partial(best_of, instance(part), net.scores(part), floor_of(part), samples=samples, seed=seed)
        found: Best = stopper.call(lambda stop, draw=draw: draw(stop=stop))  # type: ignore[misc]
        if found.peak_bytes <= peak_bytes(part, _places(nodes, profile.order[first:last])):
            order[first:last] = nodes[found.order]
    return order if simulate(graph, order).peak_bytes <= profile.peak_bytes else profile.order.copy()


def _places(nodes: Order, order: Order) -> Order:
    """Where in the sorted ``nodes`` each node of ``order`` stands."""
    found: Order = np.searchsorted(nodes, order).astype(np.int32)
    return found
