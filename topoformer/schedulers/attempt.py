"""An order within a budget, put together from the parts of the best one that are within it and others found anew."""

from collections.abc import Sequence

import numpy as np

from graphs import inverse, simulate
from graphs.implied import Implied
from topoformer.schedulers.beam import Found
from topoformer.schedulers.problem import Problem, window
from topoformer.schedulers.search import Search


class Attempt:
    """The stretches of the best order that exceed a budget, as problems; what is found for them, put in their place.

    Between nodes that have one place only, given what the budget implies, an order can be found part by part.
    """

    def __init__(self, search: Search, budget: int, implied: Implied) -> None:
        self.search, self.budget, self._pairs = search, budget, implied.pairs
        position = inverse(search.order)
        parts = [part[np.argsort(position[part])] for part in implied.parts()]
        self._order = np.concatenate(parts)
        step_bytes = simulate(search.graph, self._order).step_bytes
        ends = np.cumsum([len(part) for part in parts]).tolist()
        spans = [(end - len(part), end) for part, end in zip(parts, ends, strict=True)]
        self.spans = [(first, last) for first, last in spans if step_bytes[first:last].max() > budget]

    def problem(self, span: tuple[int, int], *, backwards: bool) -> Problem:
        """One of the ``spans`` as a problem."""
        return window(self.search.graph, self._order, *span, self._pairs, backwards=backwards)

    def take(self, found: Sequence[Sequence[Found]]) -> bool:
        """Whether all spans were found, and the order is better; ``found`` has what was tried for each span.

        Where a search left nothing out and found no order for a span, there is none within the budget.
        """
        within = True
        for (first, last), results in zip(self.spans, found, strict=True):
            good = [result.nodes for result in results if result.nodes is not None]
            if good:
                self._order[first:last] = good[0]
            elif any(result.complete for result in results):
                self.search.prove(self.budget + 1)
            within = within and bool(good)
        return within and self.search.offer(self._order)
