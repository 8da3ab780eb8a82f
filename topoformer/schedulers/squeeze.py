"""Closing the gap from both sides: budgets between bound and best, with what each implies, are refuted or searched.

A low budget implies many precedences, so that a short search finds what a long one misses without them; or it is
refuted, by what it implies or by a search that left nothing out, and the bound rises.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from graphs import program_order
from graphs.implied import Implied, Refutation
from graphs.reductions import EARLY, IMPLIED, LATE, TWIN
from topoformer.schedulers.attempt import Attempt
from topoformer.schedulers.dive import Dive
from topoformer.schedulers.problem import whole
from topoformer.schedulers.search import TINY, Search, Task
from topoformer.schedulers.stopper import Flag

WIDTH, WIDER = 256, 2
FIRST = (0.0, 0.25, 0.5, 0.75, 1.0)  # budgets that are dived for at first, between bound and best peak
DIVES, BEAMS = (0.5, 1.0), (0.15, 0.35, 0.6, 0.8, 1.0)  # budgets of later dives and of beams
RISE = 0.1  # of the gap: a bound that rose so much is tried to be raised again at once
FINENESS = 1000  # refutation raises the bound to within 1/FINENESS of where it ends, finer in each round
LOPSIDED = 2  # how many times as many ideals there must be from one end for it to be given up
DIVE = 16  # states that a dive enters, for each state of a level of the beam
FLOW_STEPS = 8  # what one flow counts as, in states of a beam
SHARE = 0.3  # of the time left, at most, goes into refutation before searches are tried again

Maker = Callable[[Attempt, tuple[int, int]], list[Dive | Task]]


class Squeeze:
    """Rounds of refutation and search over one graph, each with longer dives and wider beams than the last."""

    def __init__(self, search: Search) -> None:
        search.compile(_compile)
        self.search = search
        self.width, self.fineness, self.room = WIDTH, FINENESS, True
        self.ways: tuple[bool, ...] = (True, False)  # beams from the end backwards, and from the start
        self.top = self._begin()  # what holds in every order that is better than the best one known
        self.open: list[Implied] = []  # budgets that are not refuted, highest first
        self.until = float("inf")  # when refutation is to end

    def _begin(self) -> Implied:
        search = self.search
        until = time.monotonic() + SHARE * search.stopper.left if search.steps is None else float("inf")
        return search.stopper.call(lambda stop: Implied(search.graph, stop=stop), until=until)

    def round(self) -> bool:
        """Raise the bound, then search every budget; False once there is no room for more than was tried."""
        search, better = self.search, True
        with search.phase(f"squeeze {self.width}"):
            while better and not search.over:
                self._refute()
                places = FIRST if self.width == WIDTH else DIVES
                better = self._try(self._dives, places) or self._try(self._beams, BEAMS)
        search.narrowed = self._narrowed()
        self.width *= WIDER
        self.fineness *= WIDER
        return search.over or self.room

    def _narrowed(self) -> str:
        """How much there is left to choose, in words."""
        top, n = self.top, self.search.graph.n
        counts = [(top.count(LATE), "late"), (top.count(EARLY), "early"), (top.count(TWIN), "twins")]
        free = ", ".join(f"{count:,} {name}" for count, name in counts if count) or "none"
        parts = top.parts()
        return (
            f"precedences that cost nothing: {free}; implied by a lower peak: {top.count(IMPLIED):,}; "
            f"pairs left to order: {top.open_pairs:,} of {top.open_pairs_before:,}; "
            f"{len(parts):,} parts, the largest of {max(map(len, parts)):,} of {n:,} nodes"
        )

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

    def _try(self, make: Maker, places: Sequence[float]) -> bool:
        """Search at each of the budgets, the lowest first; whether a better order or a much better bound was found."""
        search, bound, gap = self.search, self.search.bound, self.search.peak - 1 - self.search.bound
        budgets = sorted({bound + int(place * gap) for place in places})
        states = {True: 0, False: 0}  # made from either end
        for first in range(0, len(budgets), search.group):
            if search.over or not self.room:
                return False
            attempts = [
                self._attempt(budget) for budget in budgets[first : first + search.group] if budget >= search.bound
            ]
            made = [[make(attempt, span) for span in attempt.spans] for attempt in attempts]
            wanted = [task for spans in made for tasks in spans for task in tasks]
            tasks = self._fitting(wanted)
            if wanted and not tasks:
                return False
            found = search.run(tasks)
            for task, result in zip(tasks, found, strict=True):
                states[task.problem.backwards] += result.states
            results = iter(found)
            per_span = [[[next(results) for _ in tasks] for tasks in spans] for spans in made]
            better = [attempt.take(spans) for attempt, spans in zip(attempts, per_span, strict=True)]
            if any(better):
                return True
        if all(states.values()) and max(states.values()) > LOPSIDED * min(states.values()):
            self.ways = (min(states, key=states.__getitem__),)  # the end from which there are fewer ideals
        return search.bound - bound > RISE * gap

    def _dives(self, attempt: Attempt, span: tuple[int, int]) -> list[Dive | Task]:
        """From the end, from where the ideals to choose from are far fewer: what was written is not undone in vain."""
        problem = attempt.problem(span, backwards=True)
        return [Dive(problem, attempt.budget, DIVE * self.width)]

    def _beams(self, attempt: Attempt, span: tuple[int, int]) -> list[Dive | Task]:
        problems = [attempt.problem(span, backwards=way) for way in self.ways]
        budget = attempt.budget
        return [Task(problem, self.width, budget, budget, climbs=int(problem.backwards)) for problem in problems]

    def _fitting(self, tasks: list[Dive | Task]) -> list[Dive | Task]:
        """The tasks, smaller if need be; none if there is no room for more than what was tried before."""
        scale, fitting = 1.0, tasks
        while not self.search.fits(fitting):
            self.room, scale = False, 0.75 * scale
            if scale <= 1 / WIDER:
                return []
            fitting = [task.scaled(scale) for task in tasks]
        return fitting

    def _attempt(self, budget: int) -> Attempt:
        """With what is known to be implied by a budget: by the lowest one above it."""
        above = [implied for implied in (self.top, *self.open) if implied.budget >= budget]
        return Attempt(self.search, budget, min(above, key=lambda implied: implied.budget))


def _compile() -> None:
    implied, go_on = Implied(TINY), np.zeros(1, np.int8)
    implied.learn(program_order(TINY))
    implied.tighten(3, stop=go_on)
    Dive(whole(TINY, backwards=True), 3, 9).run(go_on)
