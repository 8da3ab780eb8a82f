"""The trained network's part in a search: orders drawn by its scores, and beams over moves that it finds likely."""

import time
from functools import partial

from graphs import program_order
from topoformer import net
from topoformer.net.decode import MANY, Best, best_of, floor_of, greedy, instance
from topoformer.net.guided import Guided, guided_beam, state_bytes
from topoformer.schedulers.beam import MEMORY
from topoformer.schedulers.search import TINY, Search

PATIENCE = 4096  # samples without a gain after which there is little hope for more
FIRST = 64  # samples before the first beam
AGAIN = 128  # in each round of them
NARROW, WIDER, WIDEST = 32, 2, 256  # beams: the next one is wider where one found nothing, up to a point
SAMPLE_STEPS, BEAM_STEPS = 200, 3  # what a sample and a state of a guided beam count as, in states of a beam
SHARE = 0.25  # of the time left, at most, goes into samples
EASE = 0.02  # of the best peak: by how much less a beam aims at


class Guide:
    """The network's scores of one graph, of no more nodes than it can look at whole, and what they find."""

    def __init__(self, search: Search) -> None:
        search.compile(_compile)
        self.search, self.width, self.drawn = search, NARROW, 0
        with search.phase("network"):
            self.policy, self.inst = net.scores(search.graph), instance(search.graph)

    def greedy(self) -> None:
        """The order of the highest scores: what the method ``topoformer`` says."""
        with self.search.phase("greedy"):
            self.search.offer(greedy(self.inst, self.policy, floor_of(self.search.graph)).order)

    def sample(self, most: int = MANY) -> None:
        """The best of up to ``most`` orders, most of which keep the beginning of the best one known.

        They end once none has been better for long, or with a share of the time or of the steps.
        """
        search, until = self.search, float("inf")
        if search.steps is None:
            until = time.monotonic() + SHARE * search.stopper.left
        else:
            most = min(most, 1 + int(SHARE * (search.steps - search.spent)) // SAMPLE_STEPS)
        draw = partial(
            best_of, self.inst, self.policy, search.bound, samples=most, seed=search.seed + self.drawn,
            patience=PATIENCE, known=search.order,
        )  # fmt: skip
        with search.phase("samples"):
            found: Best = search.stopper.call(lambda stop: draw(stop=stop), until=until)
            search.spent += SAMPLE_STEPS * found.samples
            self.drawn += found.samples
            search.offer(found.order)

    def round(self) -> bool:
        """One beam for less than the best peak; False once the next one would be too wide for time, memory or steps."""
        search, width = self.search, self.width
        if width > WIDEST or width * state_bytes(self.inst) > MEMORY:
            return False
        if search.steps is not None and BEAM_STEPS * width * search.graph.n > search.steps - search.spent:
            return False
        aim = max(search.bound, int(search.peak * (1 - EASE)))
        beam = partial(
            guided_beam, self.inst, self.policy, width, floor=min(aim, search.peak - 1), limit=search.peak - 1
        )
        with search.phase(f"guided beam {width}"):
            found: Guided = search.stopper.call(lambda stop: beam(stop=stop))
            search.spent += BEAM_STEPS * max(found.states, 1)
            if found.order is None or not search.offer(found.order):
                self.width *= WIDER
        return True


class Samples:
    """More samples from time to time: what other parts of the search find is a new beginning for them."""

    def __init__(self, guide: Guide) -> None:
        self.guide = guide

    def round(self) -> bool:
        """Some more, which there is always use for."""
        self.guide.sample(AGAIN)
        return True


def _compile() -> None:
    inst, policy = instance(TINY), net.scores(TINY)
    best_of(inst, policy, 0, samples=2, seed=0, known=program_order(TINY))
    guided_beam(inst, policy, 1)
