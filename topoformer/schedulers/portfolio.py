"""Methods that search, each a sequence of phases under one deadline, ended by the first proof."""

import math
import time
from collections.abc import Callable
from typing import Protocol

from graphs import Graph, Order, peak_bytes
from graphs.cost import Objective, objective_bound
from graphs.implied import MOST, total_bytes
from topoformer.outcome import Outcome, Progress, Standing
from topoformer.schedulers.local_search import Windows
from topoformer.schedulers.search import Search
from topoformer.schedulers.squeeze import Squeeze
from topoformer.schedulers.tradeoff import tradeoff

NARROW, WIDER = 64, 4  # first beam over the whole graph, and by how much the next one is wider
WINDOWS_SHARE = 0.25  # of the steps, where budgets can be squeezed too
AUTO_SHARE = 0.3  # of the time of "bo", for the order that it starts from
LARGEST = 20_000  # nodes: what a budget implies takes memory by the square of them


def auto(
    graph: Graph,
    objective: Objective,
    *,
    seconds: float,
    seed: int,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """All of these in turn, cheapest first, until one proves the order optimal or time is over."""
    if not objective.is_memory:
        return tradeoff(graph, objective, seconds=seconds, seed=seed, steps=steps, progress=progress, memory_first=auto)
    search = Search(graph, objective, seconds, seed, steps, progress)
    return run(search, Search.policies, Search.cuts, _narrow_beam, _squeeze_and_windows)


def exact(
    graph: Graph,
    objective: Objective,
    *,
    seconds: float,
    seed: int,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Budgets between bound and best, each refuted or searched, until the optimum is proven."""
    return run(Search(graph, objective, seconds, seed, steps, progress), Search.policies, Search.cuts, _squeeze)


def beam(
    graph: Graph,
    objective: Objective,
    *,
    seconds: float,
    seed: int,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Beams over the whole graph from both ends, wider and wider, and minimum cuts for the bound."""
    return run(Search(graph, objective, seconds, seed, steps, progress), Search.policies, Search.cuts, _beams)


def local_search(
    graph: Graph,
    objective: Objective,
    *,
    seconds: float,
    seed: int,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Stretches around the peak, found again by beams; annealing where not only memory counts."""
    if not objective.is_memory:
        return tradeoff(graph, objective, seconds=seconds, seed=seed, steps=steps, progress=progress)
    return run(Search(graph, objective, seconds, seed, steps, progress), Search.policies, Search.cuts, _windows)


def cuts(
    graph: Graph,
    objective: Objective,
    *,
    seconds: float,
    seed: int,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """The best list policy, bounded by minimum cuts: a proof in milliseconds where none is better."""
    return run(Search(graph, objective, seconds, seed, steps, progress), Search.policies, Search.cuts)


def bo(
    graph: Graph,
    objective: Objective,
    *,
    seconds: float,
    seed: int,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Bayesian optimisation of few evaluations, from what auto finds: for costs that are dear."""
    share, deadline = AUTO_SHARE * seconds, time.monotonic() + seconds
    first = auto(graph, objective, seconds=share, seed=seed, steps=steps, progress=progress)
    floor = objective_bound(objective, graph, first.bound_bytes)
    if first.interrupted or graph.n < 2 or (floor is not None and objective(graph, first.order)[1] <= floor):
        return first
    from topoformer.schedulers.bayes import POLICIES, refine_order  # which loads torch and scipy

    starts = [first.order, *(one(graph, objective, seconds=share, seed=seed) for one in POLICIES)]

    def value(order: Order) -> float:
        over, cost, _ = objective(graph, order)
        return cost if not over else math.inf

    def told(count: int, lowest: float) -> None:
        if progress is not None:
            left = max(0.0, deadline - time.monotonic())
            peak = peak_bytes(graph, first.order)
            progress(Standing(f"evaluation {count}", lowest, peak, first.bound_bytes, left))

    try:
        found = refine_order(graph, value, starts, seed=seed, seconds=seconds - share, progress=told)
    except ValueError:  # nothing can be moved, all orders cost the same, or there was no time for one
        return first
    better = objective(graph, found.order) < objective(graph, first.order)
    interrupted = found.stopped == "interrupted"
    return first._replace(order=found.order if better else first.order, interrupted=interrupted)


def run(search: Search, *phases: Callable[[Search], None]) -> Outcome:
    """One phase after the other until the search is over; what was found by then is the answer."""
    with search.stopper.kept():
        for phase in phases:
            if search.over or not (search.searchable or phase is Search.policies):
                break
            phase(search)
    return search.outcome()


def _narrow_beam(search: Search) -> None:
    tasks = search.whole_beams(NARROW)
    if search.fits(tasks, 0.5):
        with search.phase(f"beam {NARROW}"):
            search.take_all(tasks)
        search.cuts()


def _beams(search: Search) -> None:
    width = NARROW
    while not search.over and search.fits(search.whole_beams(width)):
        with search.phase(f"beam {width}"):
            search.take_all(search.whole_beams(width))
        width *= WIDER


def _squeezable(graph: Graph) -> bool:
    return graph.n <= LARGEST and total_bytes(graph) <= MOST


def _squeeze(search: Search) -> None:
    if not _squeezable(search.graph):
        _beams(search)
        return
    squeeze = Squeeze(search)
    while not search.over and squeeze.round():
        pass


def _windows(search: Search) -> None:
    windows = Windows(search)
    while not search.over and windows.round():
        pass


def _squeeze_and_windows(search: Search) -> None:
    take_turns(search, usual_parts(search))


class Part(Protocol):
    """What can be repeated, each time with more effort."""

    def round(self) -> bool:
        """Do it once more; False where there is no use in doing it again."""


def usual_parts(search: Search) -> dict[Part, float]:
    """Squeezing where memory allows for it, and local search, with their shares of the steps."""
    windows: dict[Part, float] = {Windows(search): WINDOWS_SHARE}
    if _squeezable(search.graph):
        return {Squeeze(search): 1.0 - WINDOWS_SHARE, **windows}
    return windows


def take_turns(search: Search, parts: dict[Part, float]) -> None:
    """Rounds of all ``parts``, each with more effort than its last: always of the one that had least of its share."""
    left, spent = dict(parts), dict.fromkeys(parts, 0)
    while left and not search.over:
        part = min(left, key=lambda part: spent[part] / parts[part])
        before = search.spent
        if not part.round():
            del left[part]
        spent[part] += search.spent - before
