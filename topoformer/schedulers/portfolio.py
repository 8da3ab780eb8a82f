"""Several methods under one deadline, cheapest first, until one of them is proven right."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from graphs import Graph, Order, peak_bytes, simulate
from graphs.bound import cut_bound, footprint_bound
from graphs.cost import Objective
from graphs.cuts import CutNetwork, Witness
from topoformer.outcome import Outcome, Phase
from topoformer.schedulers import list_scheduling as ls
from topoformer.schedulers.beam import Found, Problem, run_beam, state_cost, whole, widest, window
from topoformer.schedulers.stopper import Stopper

CHEAP = (ls.program, ls.lpmf, ls.net_change, ls.dfs, ls.bfs, ls.smallest, ls.critical_path, ls.random)
NARROW, WIDER = 64, 4  # first beam, and by how much the next one is wider
BISECTIONS = 4  # budgets tried between bound and best after each beam
WINDOWS = (48, 96, 192, 384, 768, 1536)
WORTH_SAYING = 0.5  # seconds of compiling
CUT_SHARE = 0.3  # of the time, at most, goes into the first bound
SPEED = 2e9  # units of state_cost a second, a low guess; replaced by what is measured


def auto(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Outcome:
    """List policies, a minimum-cut bound, beams, then windows around the peak, until proven or time is up."""
    compiling = _compile(objective)
    search = _Search(graph, objective, seconds, seed)
    if compiling > WORTH_SAYING:
        search.phases.append(Phase("compiling", compiling, search.peak, search.bound))
    try:
        search.policies()
        if objective.name == "memory" and graph.n:
            search.cuts(CUT_SHARE)
            search.beams()
            search.windows()
    except KeyboardInterrupt:
        pass  # what was found so far is an answer
    return Outcome(search.order, search.bound, search.witness, tuple(search.phases))


def _compile(objective: Objective) -> float:
    """Seconds that it took to have every kernel compiled or read from the cache, before the clock of a search starts.

    A first run on a machine compiles for longer than many a search is given.
    """
    began = time.monotonic()
    tiny = Graph.build("tiny", "abc", [[], [0], [0, 1]], [0, 1, 2], [1, 1, 1])
    for policy in CHEAP:
        policy(tiny, objective, seconds=1.0, seed=0)
    order = simulate(tiny).order
    peak_bytes(tiny, order)
    cut_bound(CutNetwork(tiny), order)
    for problem in (whole(tiny), window(tiny, order, 0, 3, 0)):
        run_beam(problem, 2, floor=0, limit=tiny.k, stop=np.zeros(1, np.int8))
    return time.monotonic() - began


class _Search:
    def __init__(self, graph: Graph, objective: Objective, seconds: float, seed: int) -> None:
        self.graph, self.objective, self.seconds, self.seed = graph, objective, seconds, seed
        self.began = time.monotonic()
        self.stopper = Stopper(self.began + seconds)
        self.rng = np.random.default_rng(seed)
        self.order: Order = CHEAP[0](graph, objective, seconds=seconds, seed=seed)
        self.bound = footprint_bound(graph)
        self.peak = peak_bytes(graph, self.order)
        self.witness: Witness | None = None
        self.phases: list[Phase] = []
        self.speed = SPEED

    @property
    def over(self) -> bool:
        """Whether there is nothing left to find, or no time to find it."""
        return self.peak <= self.bound or self.stopper.expired

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases.append(Phase(name, time.monotonic() - began, self.peak, self.bound))

    def policies(self) -> None:
        """Ties keep the earlier one, so that the program's order stays where nothing is gained."""
        with self._phase("policies"):
            lowest = self.objective(self.graph, self.order)
            for policy in CHEAP[1:]:
                if self.over:
                    break
                order = policy(self.graph, self.objective, seconds=self.seconds, seed=self.seed)
                value = self.objective(self.graph, order)
                if value < lowest:
                    lowest, self.order, self.peak = value, order, peak_bytes(self.graph, order)

    def cuts(self, share: float) -> None:
        """Raise the bound by minimum cuts along the best order."""
        if self.over:
            return
        with self._phase("cuts"):
            self.network = CutNetwork(self.graph)
            self._cut(min(self.stopper.deadline, time.monotonic() + share * self.seconds))

    def _cut(self, deadline: float) -> None:
        bound, witness = cut_bound(self.network, self.order, floor=self.bound, deadline=deadline)
        if witness is not None:
            self.bound, self.witness = bound, witness

    def beams(self) -> None:
        """Wider and wider beams over the whole graph, each also under budgets between bound and best."""
        problem, width = whole(self.graph), NARROW
        while not self.over and width <= widest(problem) and self._fits(problem, width, 0.5):
            with self._phase(f"beam {width}"):
                self._try(problem, width, floor=self.bound, limit=self.peak - 1)
                low = self.bound
                for _ in range(BISECTIONS):
                    if self.over or self.peak - low < 2 or not self._fits(problem, width, 0.5):
                        break
                    budget = (low + self.peak) // 2
                    if self._try(problem, width, floor=budget, limit=budget).nodes is None:
                        low = budget
                    low = max(low, self.bound)
            width *= WIDER

    def _fits(self, problem: Problem, width: int, share: float) -> bool:
        left = self.stopper.deadline - time.monotonic()
        return len(problem.waits) * width * state_cost(problem) / self.speed <= share * left

    def _try(self, problem: Problem, width: int, *, floor: int, limit: int) -> Found:
        """One beam over the whole graph: a better order, or a higher bound where it leaves nothing out."""
        found = self._run(problem, width, floor, limit)
        if found.nodes is not None:
            self._take(found.nodes)
        if found.complete:
            proven = limit + 1 if found.nodes is None else found.peak_bytes if floor <= self.bound else 0
            if min(proven, self.peak) > self.bound:
                self.bound, self.witness = min(proven, self.peak), None
        return found

    def _run(self, problem: Problem, width: int, floor: int, limit: int) -> Found:
        began = time.monotonic()
        found: Found = self.stopper.call(run_beam, problem, width, floor=floor, limit=limit)
        took = time.monotonic() - began
        if took > 0.05:
            self.speed = found.states * state_cost(problem) / took
        return found

    def _take(self, order: Order) -> None:
        self.order, self.peak = order, peak_bytes(self.graph, order)
        if self.peak > self.bound and not self.stopper.expired:
            self._cut(self.stopper.deadline)

    def windows(self) -> None:
        """Find stretches of the order around its peak again, each with a beam: small ones first, then wider beams."""
        with self._phase("windows"):
            width = 4 * NARROW
            while not self.over and self._sweep(width):
                width *= WIDER

    def _sweep(self, width: int) -> bool:
        """Windows of every size at the first peak, until none of them helps; whether there was room for any."""
        size, tried = 0, False
        while size < len(WINDOWS) and WINDOWS[size] < self.graph.n and not self.over:
            outcome = self._improve(WINDOWS[size], width)
            tried = tried or outcome is not None
            size = 0 if outcome else size + 1
        return tried

    def _improve(self, length: int, width: int) -> bool | None:
        """Whether a window of ``length`` steps got better; None where memory or time do not allow for the beam."""
        profile = simulate(self.graph, self.order)
        before = int(self.rng.integers(length // 4, length - length // 4 + 1))
        first = min(max(profile.peak_step - before, 0), self.graph.n - length)
        last = first + length
        live = int(profile.live_bytes[first - 1]) if first else whole(self.graph).live
        problem = window(self.graph, self.order, first, last, live)
        if width > widest(problem) or not self._fits(problem, width, 1.0):
            return None
        found = self._run(problem, width, self.bound, self.peak - 1)
        if found.nodes is None:
            return False
        order = np.concatenate([self.order[:first], found.nodes, self.order[last:]])
        better = peak_bytes(self.graph, order) < self.peak
        if better:
            self._take(order)
        else:
            self.order = order  # one of several peaks is gone
        return True
