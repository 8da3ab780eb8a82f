"""Local search: stretches of the order around its peak are found again, each by a beam within the best peak."""

import numpy as np

from graphs import Order, peak_bytes, simulate
from topoformer.schedulers.problem import window
from topoformer.schedulers.search import WORKERS, Search, Task

LENGTHS = (48, 96, 192, 384, 768, 1536)
WIDTH, WIDER = 256, 4


class Windows:
    """Sweeps over windows of every length around the peak, with wider and wider beams."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.width = WIDTH

    def round(self) -> bool:
        """Windows of every length, until none of them helps; False if there is no room even for narrow ones."""
        search, lengths = self.search, [length for length in LENGTHS if length < self.search.graph.n]
        place, tried = 0, False
        with search.phase("windows"):
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
        for _ in range(WORKERS):
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
