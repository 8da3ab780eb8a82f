"""Closing the gap from both sides: budgets between bound and best, with what each implies, are refuted or searched.

A low budget implies many precedences, so that a narrow beam finds what a wide one misses without them; or it is
refuted, by what it implies or by a beam that left nothing out, and the bound rises.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphs import Order, inverse, program_order, simulate
from graphs.implied import Implied, Refutation
from topoformer.schedulers.beam import Found
from topoformer.schedulers.problem import window
from topoformer.schedulers.search import TINY, WORKERS, Search, Task
from topoformer.schedulers.stopper import Flag

WIDTH, WIDER = 256, 2
FRACTIONS = (0.0, 0.25, 0.5, 0.75)  # of the way from the best peak down to the bound: budgets that are searched
FINENESS = 1000  # refutation raises the bound to within 1/FINENESS of where it ends, finer in each round
LOPSIDED = 2  # how many times as many ideals there must be from one end for it to be given up
FLOW_STEPS = 8  # what one flow counts as, in states of a beam
SHARE = 0.3  # of the time left, at most, goes into refutation before beams are tried again


class Squeeze:
    """Rounds of refutation and search over one graph, with wider and wider beams."""

    def __init__(self, search: Search) -> None:
        search.compile(_compile)
        self.search = search
        self.width, self.fineness, self.room = WIDTH, FINENESS, True
        self.ways: tuple[bool, ...] = (True, False)  # from the end backwards, from the start
        self.top = Implied(search.graph)  # what holds in every order that is better than the best one known
        self.open: list[Implied] = []  # budgets that are not refuted, highest first
        self.until = float("inf")  # when refutation is to end

    def round(self) -> bool:
        """Raise the bound, then search every budget; False once there is no room for wider beams than the last ones."""
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
        search, gap = self.search, self.search.peak - 1 - self.search.bound
        budgets = [search.peak - 1 - int(fraction * gap) for fraction in FRACTIONS]
        at_once = max(1, WORKERS // len(self.ways))
        states = dict.fromkeys(self.ways, 0)
        for first in range(0, len(budgets), at_once):
            attempts = [self._attempt(budget) for budget in budgets[first : first + at_once]]
            tasks = self._fitting([task for attempt in attempts for task in attempt.tasks])
            if not tasks:
                return False
            found = search.run(tasks)
            for task, result in zip(tasks, found, strict=True):
                states[task.problem.backwards] += result.states
            better = False
            for attempt in attempts:
                better = self._take(attempt, found[: len(attempt.tasks)]) or better
                found = found[len(attempt.tasks) :]
            if better or search.over:
                return better
        if len(states) > 1 and max(states.values()) > LOPSIDED * min(states.values()):
            self.ways = (min(states, key=states.__getitem__),)  # the end from which there are fewer ideals
        return False

    def _attempt(self, budget: int) -> "Attempt":
        """Beams for each part of the best order that is not within ``budget`` yet."""
        implied = self._implied_at(budget)
        position = inverse(self.search.order)
        parts = [part[np.argsort(position[part])] for part in implied.parts()]
        order = np.concatenate(parts)
        step_bytes = simulate(self.search.graph, order).step_bytes
        ends = np.cumsum([len(part) for part in parts])
        spans = [(int(end) - len(part), int(end)) for part, end in zip(parts, ends, strict=True)]
        over = [(first, last) for first, last in spans if step_bytes[first:last].max() > budget]
        tasks = []
        for span in over:
            for way in self.ways:
                problem = window(self.search.graph, order, *span, implied.pairs, backwards=way)
                tasks.append(Task(problem, self.width, budget, budget, climbs=int(way)))
        return Attempt(budget, order, over, tasks)

    def _fitting(self, tasks: list[Task]) -> list[Task]:
        """The tasks, of a smaller width if need be; none if there is no room for more than what was tried before."""
        width = self.width
        while not self.search.fits(tasks):
            self.room, width = False, width * 3 // 4
            if width <= self.width // WIDER:
                return []
            tasks = [task._replace(width=width) for task in tasks]
        return tasks

    def _take(self, attempt: "Attempt", found: Sequence[Found]) -> bool:
        """Whether every part was found within the budget, and the order is better; else the budget may be refuted."""
        order, within, ways = attempt.order, True, len(self.ways)
        for place, (first, last) in enumerate(attempt.spans):
            results = found[place * ways : (place + 1) * ways]
            good = [result.nodes for result in results if result.nodes is not None]
            if good:
                order[first:last] = good[0]
            elif any(result.complete for result in results):
                self.search.prove(attempt.budget + 1)
            within = within and bool(good)
        return within and self.search.offer(order)

    def _implied_at(self, budget: int) -> Implied:
        """What is known to be implied by a budget: by the lowest one above it."""
        above = [implied for implied in (self.top, *self.open) if implied.budget >= budget]
        return min(above, key=lambda implied: implied.budget)


class Attempt(NamedTuple):
    """The search for an order within a budget: the spans of ``order`` that exceed it, and beams for each of them."""

    budget: int
    order: Order
    spans: list[tuple[int, int]]
    tasks: list[Task]


def _compile() -> None:
    implied = Implied(TINY)
    implied.learn(program_order(TINY))
    implied.tighten(3, stop=np.zeros(1, np.int8))
