"""Closing the gap from both sides: budgets between bound and best, with what each implies, are refuted or searched.

A low budget implies many precedences, so that a narrow beam finds what a wide one misses without them; or it is
refuted, by what it implies or by a beam that left nothing out, and the bound rises.
"""

import time

import numpy as np

from graphs import inverse, program_order, simulate
from graphs.implied import Implied, Refutation
from topoformer.schedulers.problem import window
from topoformer.schedulers.search import TINY, Search, Task
from topoformer.schedulers.stopper import Flag

WIDTH, WIDER = 256, 2
FRACTIONS = (0.0, 0.25, 0.5, 0.75)  # of the way from the best peak down to the bound: budgets that are searched
FINENESS = 1000  # refutation raises the bound to within 1/FINENESS of where it ends, finer in each round
FLOW_STEPS = 8  # what one flow counts as, in states of a beam
SHARE = 0.3  # of the time left, at most, goes into refutation before beams are tried again


class Squeeze:
    """Rounds of refutation and search over one graph, with wider and wider beams."""

    def __init__(self, search: Search) -> None:
        search.compile(_compile)
        self.search = search
        self.width, self.fineness, self.room = WIDTH, FINENESS, True
        self.top = Implied(search.graph)  # what holds in every order that is better than the best one known
        self.open: list[Implied] = []  # budgets that are not refuted, highest first
        self.until = float("inf")  # when refutation is to end

    def round(self) -> bool:
        """Raise the bound, then search every budget; False once there is no room for beams of this width."""
        search, better = self.search, True
        with search.phase(f"squeeze {self.width}"):
            while better and not search.over:
                self._refute()
                better = not search.over and self._search()
        self.width *= WIDER
        self.fineness *= WIDER
        return search.over or self.room

    def _refute(self) -> None:
        """The best order's own budget first; then bisect between the bound and the lowest budget that stays open."""
        search = self.search
        self.until = time.monotonic() + SHARE * search.stopper.left if search.steps is None else float("inf")
        if search.peak - 1 < self.top.budget:
            self.top.learn(search.order)
            self._tighten(self.top, search.peak - 1)
            self.open = [implied for implied in self.open if implied.budget < search.peak - 1]
        lowest = self.open[-1] if self.open else self.top
        while not search.over and time.monotonic() < self.until:
            if lowest.budget - search.bound <= max(search.unit, search.bound // self.fineness):
                break
            lower = lowest.copy()
            if not self._tighten(lower, (lowest.budget + search.bound) // 2):
                lowest = lower
                self.open.append(lower)

    def _tighten(self, implied: Implied, budget: int) -> bool:
        """Whether ``budget`` is refuted; if not, ``implied`` says what it implies."""
        search, before = self.search, implied.flows

        def work(stop: Flag) -> Refutation | None:
            return implied.tighten(budget, stop=stop)

        proof = search.stopper.call(work, until=self.until)
        search.spent += FLOW_STEPS * (implied.flows - before)
        if proof is not None:
            search.prove(proof.bytes, proof)
        return proof is not None

    def _search(self) -> bool:
        """Beams at each of the budgets, the higher ones first; whether one found a better order."""
        search = self.search
        for fraction in FRACTIONS:
            budget = search.peak - 1 - int(fraction * (search.peak - 1 - search.bound))
            better = self._search_within(budget, self._implied_at(budget))
            if better or search.over or not self.room:
                return better
        return False

    def _search_within(self, budget: int, implied: Implied) -> bool:
        """Whether there is an order within ``budget``: beams from both ends of each part that is not within it yet."""
        search = self.search
        position = inverse(search.order)
        parts = [part[np.argsort(position[part])] for part in implied.parts()]
        order = np.concatenate(parts)
        step_bytes = simulate(search.graph, order).step_bytes
        ends = np.cumsum([len(part) for part in parts])
        spans = [(int(end - len(part)), int(end)) for part, end in zip(parts, ends, strict=True)]
        tasks, over = [], [(first, last) for first, last in spans if step_bytes[first:last].max() > budget]
        for first, last in over:
            for way in (True, False):
                problem = window(search.graph, order, first, last, implied.pairs, backwards=way)
                tasks.append(Task(problem, self.width, budget, budget, climbs=int(way)))
        self.room = search.fits(tasks)
        if not self.room:
            return False
        within = True
        found = search.run(tasks)
        for (first, last), ways in zip(over, zip(found[::2], found[1::2], strict=True), strict=True):
            good = [way.nodes for way in ways if way.nodes is not None]
            if good:
                order[first:last] = good[0]
            elif any(way.complete for way in ways):
                search.prove(budget + 1)
            within = within and bool(good)
        return within and search.offer(order)

    def _implied_at(self, budget: int) -> Implied:
        """What is known to be implied by a budget: by the lowest one above it."""
        above = [implied for implied in (self.top, *self.open) if implied.budget >= budget]
        return min(above, key=lambda implied: implied.budget)


def _compile() -> None:
    implied = Implied(TINY)
    implied.learn(program_order(TINY))
    implied.tighten(3, stop=np.zeros(1, np.int8))
