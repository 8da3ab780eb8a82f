"""Local search around the peak: single nodes move across it, and stretches of the order are found again by beams."""

import numpy as np

from graphs import Order, peak_bytes, simulate
from graphs.cost import OBJECTIVES
from graphs.csr import CSR, transposed
from graphs.memory import memory_model
from topoformer.schedulers.problem import window
from topoformer.schedulers.search import TINY, Search, Task
from topoformer.schedulers.stopper import Flag

REACH, TRIES = 200, 20_000  # how far a node may move, and how many moves are tried in a round
TRY_STEPS = 0.1  # what one counts as, in states of a beam
LENGTHS = (48, 96, 192, 384, 768, 1536)
WIDTH, WIDER = 256, 4


def shifted(search: Search, order: Order, tries: int) -> Order:
    """``order`` after moves of single nodes across its peak, each of them no worse than before."""
    from topoformer.schedulers import _shift_kernels

    graph, profile = search.graph, simulate(search.graph, order)
    steps = memory_model(graph).steps
    readers = transposed(CSR(steps.ptr, steps.idx), graph.k)
    found, during, after = order.copy(), profile.step_bytes.copy(), profile.live_bytes.copy()
    rows = (tuple(graph.preds), tuple(graph.succs), tuple(readers))
    seed = int(search.rng.integers(1 << 31))

    def work(stop: Flag) -> int:
        limits = (search.bound, REACH, tries, seed, stop)
        return int(_shift_kernels.shift(found, during, after, tuple(steps), *rows, *limits))

    search.stopper.call(work)
    search.spent += int(TRY_STEPS * tries)
    return found


def _compile() -> None:
    search = Search(TINY, OBJECTIVES["memory"], 60.0, 0)
    shifted(search, search.order.copy(), 1)


class Windows:
    """Sweeps over windows of every length around the peak, with wider and wider beams, after moves of single nodes."""

    def __init__(self, search: Search) -> None:
        search.compile(_compile)
        self.search = search
        self.width = WIDTH

    def round(self) -> bool:
        """Windows of every length, until none of them helps; False if there is no room even for narrow ones."""
        search, lengths = self.search, [length for length in LENGTHS if length < self.search.graph.n]
        place, tried = 0, False
        with search.phase("windows"):
            if not search.over and search.graph.n > 1:
                order = shifted(search, search.order, TRIES)
                if not search.offer(order):
                    search.order = order  # of the same peak, lower beside it
            while place < len(lengths) and not search.over:
                better = self._improve(lengths[place])
                tried = tried or better is not None
                place = 0 if better else place + 1
        if tried:
            self.width *= WIDER
            return True
        narrow, self.width = self.width <= WIDTH, WIDTH  # again, elsewhere: windows are placed at random
        return bool(lengths) and not narrow

    def _improve(self, length: int) -> bool | None:
        """Whether a window of ``length`` steps got better; None where memory or time do not allow for the beam."""
        search = self.search
        profile = simulate(search.graph, search.order)
        spans, tasks = [], []
        for _ in range(search.group):
            before = int(search.rng.integers(length // 4, length - length // 4 + 1))
            first = min(max(profile.peak_step - before, 0), search.graph.n - length)
            problem = window(search.graph, search.order, first, first + length)
            spans.append((first, first + length))
            tasks.append(Task(problem, self.width, search.bound, search.peak - 1))
        if not search.fits(tasks):
            return None
        orders: list[Order] = []
        for (first, last), found in zip(spans, search.run(tasks), strict=True):
            if found.nodes is not None:
                orders.append(np.concatenate([search.order[:first], found.nodes, search.order[last:]]))
        if not orders:
            return False
        best = min(orders, key=lambda order: peak_bytes(search.graph, order))
        if not search.offer(best):
            search.order = best  # one of several peaks is gone
        return True
