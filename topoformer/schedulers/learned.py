"""The Topoformer's methods: the order of its highest scores, and searches in which it takes part."""

import time
from functools import partial

import numpy as np

from graphs import Graph, MemoryProfile, Order, simulate
from graphs.cost import Objective
from topoformer import net
from topoformer.net import windows
from topoformer.net.decode import MANY, Best, best_of, floor_of, greedy, instance
from topoformer.outcome import Outcome, Progress
from topoformer.schedulers.guide import FIRST, Guide, Samples
from topoformer.schedulers.portfolio import NARROW, WIDER, Part, run, take_turns, usual_parts
from topoformer.schedulers.search import Search
from topoformer.schedulers.stopper import Stopper

WIDTHS, SHARE = (NARROW // WIDER**2, NARROW // WIDER, NARROW), 0.5  # of the time left, at most, for each
CUT_SHARE = 0.1  # of the time left, at most, goes into the first bound, which may end the search at once
GUIDED_SHARE, SAMPLES_SHARE = 0.25, 0.1  # of the steps, for each of those that the rest has


def topoformer(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """The trained network's greedy order: near the best in milliseconds."""
    if graph.n <= windows.LARGEST:
        return greedy(instance(graph), net.scores(graph), floor_of(graph)).order
    return _by_stretches(windows.base_profile(graph), Stopper(float("inf")), samples=1, seed=0)


def sample(
    graph: Graph,
    objective: Objective,
    *,
    seconds: float,
    seed: int,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Orders drawn by the trained network while they get better, then what auto does, in turns."""
    return run(
        Search(graph, objective, seconds, seed, steps, progress),
        Search.policies,
        _unguided,
        partial(_guided, beams=False),
    )


def _unguided(search: Search) -> None:
    """What cheap beams find without the network, which may know little of graphs like this one."""
    search.cuts(CUT_SHARE)
    before, took = search.peak, 0.0
    for width in WIDTHS:
        tasks, began = search.whole_beams(width), time.monotonic()
        # How long the first one takes is a guess, and a high one; the others are wider by a known factor.
        first = width == WIDTHS[0] or search.steps is not None
        if search.over or not (search.fits(tasks, SHARE) if first else WIDER * took < SHARE * search.stopper.left):
            break
        with search.phase(f"beam {width}"):
            search.take_all(tasks)
        took = time.monotonic() - began
    if search.peak < before:
        search.cuts(CUT_SHARE)


def beam(
    graph: Graph,
    objective: Objective,
    *,
    seconds: float,
    seed: int,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """What auto does, in turns with beams over moves that the trained network finds likely."""
    return run(
        Search(graph, objective, seconds, seed, steps, progress),
        Search.policies,
        _unguided,
        partial(_guided, beams=True),
    )


def _guided(search: Search, *, beams: bool) -> None:
    """What the network finds, and then what ``auto`` does from the best order so far on, in turns with more of it."""
    parts: dict[Part, float] = {}
    if search.graph.n > windows.LARGEST:
        _stretches(search)
    else:
        guide = Guide(search)
        guide.greedy()
        guide.sample(FIRST if beams else MANY)
        parts = {Samples(guide): SAMPLES_SHARE}
        if beams:
            parts = {guide: GUIDED_SHARE, **parts}
    search.cuts(CUT_SHARE)
    if not search.over:
        take_turns(search, parts | usual_parts(search))


def _stretches(search: Search) -> None:
    with search.phase("stretches"):
        profile = simulate(search.graph, search.order)
        search.offer(_by_stretches(profile, search.stopper, samples=FIRST, seed=search.seed))


def _by_stretches(profile: MemoryProfile, stopper: Stopper, *, samples: int, seed: int) -> Order:
    """An order whose stretches are drawn anew by the network's scores where that is better; one sample is greedy."""
    graph, order = profile.graph, profile.order.copy()
    for first, last in windows.stretches(profile):
        if stopper.expired:
            break
        part, nodes = windows.stretch_graph(graph, profile.order, first, last)
        known = _places(nodes, profile.order[first:last])
        draw = partial(
            best_of, instance(part), net.scores(part), floor_of(part), samples=samples, seed=seed, known=known
        )
        found: Best = stopper.call(lambda stop, draw=draw: draw(stop=stop))  # type: ignore[misc]
        order[first:last] = nodes[found.order]
    return order if simulate(graph, order).peak_bytes <= profile.peak_bytes else profile.order.copy()


def _places(nodes: Order, order: Order) -> Order:
    """Where in the sorted ``nodes`` each node of ``order`` stands."""
    found: Order = np.searchsorted(nodes, order).astype(np.int32)
    return found
