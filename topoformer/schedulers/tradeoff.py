"""The search for objectives other than the peak of one stream: latency, traffic, arenas, sums, memory limits.

Orders that need little memory come first, then list policies, and from the best of all of these simulated annealing.
"""

import time
from collections.abc import Callable

from graphs import Graph, Order
from graphs.bound import cut_bound, footprint_bound
from graphs.cost import OBJECTIVES, Objective
from graphs.cuts import CutNetwork, Witness
from graphs.implied import Refutation
from graphs.latency import order_matters
from topoformer.outcome import Outcome, Phase, Progress, Standing
from topoformer.schedulers import list_scheduling as ls
from topoformer.schedulers.annealing import PENALTY, Annealing, anneal
from topoformer.schedulers.search import CHEAP, GROUP, TINY, WORKERS
from topoformer.schedulers.stopper import Stopper

MEMORY_SHARE, BOUND_SHARE = 0.25, 0.1  # of the time, for orders that need little memory, or for a bound of it only
ROUNDS = ((0.6, 1.0), (0.4, 0.05))  # parts of the time for annealing, and how hot each begins
LARGEST = 200_000  # nodes: with more, too few moves are tried to be worth the time


def tradeoff(
    graph: Graph,
    objective: Objective,
    *,
    seconds: float,
    seed: int,
    steps: int | None,
    progress: Progress | None = None,
    memory_first: Callable[..., Outcome] | None = None,
) -> Outcome:
    """The best order by ``objective`` of policies, of ``memory_first`` where given, and of annealing from these.

    A step is one order that is looked at. The bound is one of memory, as everywhere.
    """
    search = _Tradeoff(graph, objective, seconds, seed, steps, progress)
    with search.stopper.kept():
        search.prove(memory_first)
        search.policies()
        if objective.custom is None and can_gain(graph, objective):
            search.anneal()
    return search.outcome()


def can_gain(graph: Graph, objective: Objective) -> bool:
    """Whether an order can matter to ``objective``: the latency of one stream is that of any other order."""
    alone = set(objective.weights) == {"latency"}
    return not alone or (objective.device is not None and order_matters(graph, objective.device))


class _Tradeoff:
    def __init__(
        self,
        graph: Graph,
        objective: Objective,
        seconds: float,
        seed: int,
        steps: int | None,
        progress: Progress | None,
    ) -> None:
        self.graph, self.objective, self.seconds, self.seed, self.steps = graph, objective, seconds, seed, steps
        self.progress = progress
        began = time.monotonic()
        self.stopper = Stopper(began + seconds)
        self.bound = footprint_bound(graph)
        self.witness: Witness | Refutation | None = None
        self.phases: list[Phase] = []
        self.found: list[tuple[tuple[float, float, float], Order]] = []  # of different keys, best first
        self.offer(ls.program(graph, objective, seconds=seconds, seed=seed))
        self._tell("compiling")
        _compile(objective)
        took = time.monotonic() - began
        self.stopper.deadline += took
        if took > 0.5:
            self._phase("compiling", time.monotonic() - took)

    def offer(self, order: Order) -> None:
        """Remember ``order`` unless one of the same cost is known."""
        key = self.objective(self.graph, order)
        if all(key != other for other, _ in self.found):
            self.found.append((key, order))
            self.found.sort(key=lambda pair: pair[0])

    def outcome(self) -> Outcome:
        """The answer so far."""
        order = self.found[0][1]
        return Outcome(order, self.bound, self.witness, tuple(self.phases), self.stopper.interrupted)

    def _tell(self, doing: str) -> None:
        """Say what begins, and how far the search is."""
        if self.progress is not None:
            (_, value, held), _ = self.found[0]
            self.progress(Standing(doing, value, int(held), self.bound, self.stopper.left))

    def _phase(self, name: str, began: float) -> None:
        held = int(self.found[0][0][2])  # the last part of a key
        self.phases.append(Phase(name, time.monotonic() - began, held, self.bound))

    def prove(self, memory_first: Callable[..., Outcome] | None) -> None:
        """A bound of the memory and, with a search for it, an order that needs little."""
        began = time.monotonic()
        self._tell("memory")
        if memory_first is None:
            deadline = began + BOUND_SHARE * self.seconds
            network = CutNetwork(self.graph)
            self.bound, self.witness = cut_bound(network, self.found[0][1], floor=self.bound, deadline=deadline)
        else:
            steps = None if self.steps is None else max(1, int(MEMORY_SHARE * self.steps))
            share = MEMORY_SHARE * self.seconds
            first = memory_first(self.graph, OBJECTIVES["memory"], seconds=share, seed=self.seed, steps=steps)
            self.bound, self.witness = first.bound_bytes, first.witness
            self.offer(first.order)
            self.stopper.interrupted |= first.interrupted
            compiling = sum(phase.seconds for phase in first.phases if phase.name == "compiling")
            self.stopper.deadline += compiling  # on a new machine that takes longer than many a search is given
        self._phase("memory", began)

    def policies(self) -> None:
        """All list policies."""
        began = time.monotonic()
        self._tell("policies")
        for policy in (*CHEAP[1:], ls.streams):
            if self.stopper.expired:
                return
            self.offer(policy(self.graph, self.objective, seconds=self.seconds, seed=self.seed))
        self._phase("policies", began)

    def _starts(self) -> list[Order]:
        """The best order, then the others, those that exceed the limit at the price at which annealing does."""
        limit = max(self.objective.peak_limit or 0, 1)

        def price(found: tuple[tuple[float, float, float], Order]) -> float:
            over, value, _ = found[0]
            return abs(value) * PENALTY * over / limit + value

        return [self.found[0][1], *(order for _, order in sorted(self.found[1:], key=price))]

    def anneal(self) -> None:
        """Chains from the best orders known; then, less hot, from the best of all."""
        if self.stopper.expired or not 2 <= self.graph.n <= LARGEST:
            return
        began, left = time.monotonic(), self.stopper.left
        count = WORKERS if self.steps is None else GROUP
        for number, (share, heat) in enumerate(ROUNDS):
            if not self.stopper.left:
                break
            self._tell("annealing")
            starts = self._starts() if number == 0 else [self.found[0][1]]
            chains = [
                Annealing(self.graph, self.objective, starts[i % len(starts)], self.seed + 1000 * number + i, heat)
                for i in range(count)
            ]
            tries = None if self.steps is None else max(1, int(share * self.steps / count))
            with self.stopper.kept():
                anneal(chains, self.stopper, share * left, tries)
            for chain in chains:
                self.offer(chain.best)
        self._phase("annealing", began)


def _compile(objective: Objective) -> None:
    """Before the clock starts; what depends on the device is compiled for any."""
    for policy in (*CHEAP, ls.streams):
        policy(TINY, objective, seconds=1.0, seed=0)
    if objective.custom is None:  # which may know one graph only
        objective(TINY, ls.program(TINY, objective, seconds=1.0, seed=0))
        anneal(
            [Annealing(TINY, objective, ls.program(TINY, objective, seconds=1.0, seed=0), 0, 1.0)],
            Stopper(time.monotonic() + 60),
            1.0,
            1,
        )
