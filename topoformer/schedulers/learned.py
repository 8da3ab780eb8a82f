"""The Topoformer's methods: the order of its highest scores, and the best of many that are drawn by its scores."""

import time
from functools import partial

import numpy as np

from graphs import Graph, Order, peak_bytes, program_order, simulate
from graphs.bound import cut_bound
from graphs.cost import OBJECTIVES, Objective
from graphs.cuts import CutNetwork, Witness
from topoformer import net
from topoformer.net import windows
from topoformer.net.decode import MANY, Best, best_of, floor_of, greedy, instance
from topoformer.net.guided import Guided, guided_beam
from topoformer.outcome import Outcome, Phase
from topoformer.schedulers import list_scheduling as ls
from topoformer.schedulers.beam import UNLIMITED
from topoformer.schedulers.search import TINY, WORTH_SAYING
from topoformer.schedulers.stopper import Stopper

CHEAP = (ls.program, ls.lpmf, ls.net_change, ls.dfs)
PATIENCE = 4096  # samples without a gain after which there is little hope for more
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
    answer = _Answer(graph, seconds)
    with answer.stopper.kept():
        answer.start()
        if graph.n > windows.LARGEST:
            answer.order = _by_stretches(graph, answer.stopper, samples=64 if steps is None else steps, seed=seed)
        else:
            _sample(answer, MANY if steps is None else steps, seed)
    return answer.outcome()


def _sample(answer: "_Answer", most: int, seed: int) -> None:
    graph = answer.graph
    policy, inst = net.scores(graph), instance(graph)
    answer.order = greedy(inst, policy, answer.bound).order
    answer.phase("greedy")
    answer.prove(CUT_SHARE)
    draw = partial(best_of, inst, policy, answer.bound, samples=most, seed=seed, patience=PATIENCE)
    found: Best = answer.stopper.call(lambda stop: draw(stop=stop))
    answer.order = _better(graph, found.order)
    answer.phase(f"{found.samples} samples")
    answer.prove()


def beam(graph: Graph, objective: Objective, *, seconds: float, seed: int, steps: int | None = None) -> Outcome:  # noqa: ARG001
    """A few drawn orders, then wider and wider beams over the moves that the trained network finds likely."""
    answer = _Answer(graph, seconds)
    with answer.stopper.kept():
        answer.start()
        if graph.n > windows.LARGEST:
            answer.order = _by_stretches(graph, answer.stopper, samples=FIRST, seed=seed)
        else:
            _beam(answer, UNLIMITED if steps is None else steps, seed)
    return answer.outcome()


def _beam(answer: "_Answer", most: int, seed: int) -> None:
    graph, stopper = answer.graph, answer.stopper
    policy, inst, bound = net.scores(graph), instance(graph), answer.bound
    first: Best = stopper.call(lambda stop: best_of(inst, policy, bound, samples=FIRST, seed=seed, stop=stop))
    answer.order = _better(graph, first.order)
    answer.phase(f"{first.samples} samples")
    answer.prove(CUT_SHARE)
    peak, width, states = peak_bytes(graph, answer.order), NARROW, 0
    while peak > answer.bound and width <= WIDEST and not stopper.expired and states < most:
        aim = max(answer.bound, int(peak * (1 - EASE)))
        search = partial(guided_beam, inst, policy, width, floor=min(aim, peak - 1), limit=peak - 1)
        found: Guided = stopper.call(lambda stop, search=search: search(stop=stop))  # type: ignore[misc]
        states += max(found.states, 1)
        if found.order is not None:
            answer.order, peak = found.order, found.peak_bytes
        answer.phase(f"beam {width}")
        if found.order is None:
            width *= WIDER
    answer.prove()


def _compile() -> None:
    inst, policy = instance(TINY), net.scores(TINY)
    best_of(inst, policy, 0, samples=2, seed=0)
    guided_beam(inst, policy, 1)
    cut_bound(CutNetwork(TINY), _better(TINY, program_order(TINY)))


def _better(graph: Graph, order: Order) -> Order:
    """The best of ``order`` and the list policies', which cost next to nothing and are hard to beat on large trees."""
    others = (policy(graph, OBJECTIVES["memory"], seconds=1.0, seed=0) for policy in CHEAP)
    return min((order, *others), key=partial(peak_bytes, graph))


class _Answer:
    """The order so far, what minimum cuts say of the graph, none of them asked for twice, and the phases; a clock."""

    def __init__(self, graph: Graph, seconds: float) -> None:
        self.graph, self.seconds, self.order = graph, seconds, program_order(graph)
        self.bound = floor_of(graph)
        self.witness: Witness | None = None
        self.phases: list[Phase] = []
        self.began = time.monotonic()
        self.stopper = Stopper(float("inf"))
        self._network: CutNetwork | None = None

    def start(self) -> None:
        """Have the kernels compiled, or read from the cache; then the clock starts."""
        _compile()
        if time.monotonic() - self.began > WORTH_SAYING:
            self.phase("compiling")
        self.began = time.monotonic()
        self.stopper.deadline = self.began + self.seconds

    def phase(self, name: str) -> None:
        """Record what is known now, and the time since the last phase."""
        now = time.monotonic()
        self.phases.append(Phase(name, now - self.began, peak_bytes(self.graph, self.order), self.bound))
        self.began = now

    def prove(self, share: float = 1.0) -> None:
        """Raise the bound by cuts along the order, as many as there is time for."""
        self._network = self._network or CutNetwork(self.graph)
        deadline = min(self.stopper.deadline, time.monotonic() + share * self.seconds)
        bound, witness = cut_bound(self._network, self.order, floor=self.bound, deadline=deadline)
        if witness is not None:
            self.bound, self.witness = bound, witness
        self.began = time.monotonic()

    def outcome(self) -> Outcome:
        """What the method returns."""
        return Outcome(self.order, self.bound, self.witness, tuple(self.phases), self.stopper.interrupted)


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
