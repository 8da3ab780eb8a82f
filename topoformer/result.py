"""What a search returns: an order that has been checked, what it costs, and how far from the best it can be."""

import math
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from graphs import Graph, MemoryProfile, Order, simulate
from graphs.cost import ARENA_EFFORT, Cost, Objective, objective_bound
from graphs.cuts import Witness
from graphs.implied import Refutation
from topoformer.outcome import Phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from graphs.arena import ArenaPlan


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """A checked order of ``graph`` with its cost and a certified bound; only :func:`topoformer.schedule` makes one.

    Example:
        >>> from graphs import Graph
        >>> from graphs.bound import check_bound
        >>> from topoformer import schedule
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> found = schedule(graph, seconds=1)
        >>> found.order.tolist(), found.cost.peak_bytes, found.program_cost.peak_bytes
        ([0, 2, 1, 3, 4], 120, 210)
        >>> found.proven_optimal, found.bound_bytes, found.gap, round(found.ratio, 3)
        (True, 120, 0.0, 0.571)
        >>> found.profile.step_bytes.tolist(), found.arena.arena_bytes, found.to_json()["peak_bytes"]
        ([100, 110, 110, 120, 21], 256, 120)
    """

    graph: Graph
    order: Order  # int32[n]
    cost: Cost
    program_cost: Cost  # of the order in which the graph was given
    method_cost: Cost  # of the order that the method found: higher than `cost` where the program's own was kept
    bound_bytes: int  # certified: no legal order has a lower peak
    # its proof, where it is a minimum cut or follows from such; graphs.bound.check_bound goes through it
    witness: Witness | Refutation | None
    objective: Objective  # what was minimised
    method: str
    seed: int
    search_seconds: float  # that the search took, whenever that was
    phases: tuple[Phase, ...] = ()  # what each phase of the search contributed
    interrupted: bool = False  # by the user, before the search was over
    narrowed: str = ""  # by how much precedences narrowed the search, in words
    cached: bool = False  # whether it was searched before, and found again on disk

    @property
    def proven_optimal(self) -> bool:
        """Whether no order can have a lower peak."""
        return self.cost.peak_bytes == self.bound_bytes

    @property
    def ratio(self) -> float:
        """Peak over the program's own peak; 1 where both are 0."""
        before = self.program_cost.peak_bytes
        return self.cost.peak_bytes / before if before else 1.0

    @property
    def gap(self) -> float:
        """By which part of the bound the peak could at most be too high; 0 where it is proven optimal."""
        above = self.cost.peak_bytes - self.bound_bytes
        return above / self.bound_bytes if above and self.bound_bytes else math.inf if above else 0.0

    @property
    def value_ratio(self) -> float:
        """What was minimised, over the program's own; 1 where both are 0."""
        value, before = self.objective.value(self.cost), self.objective.value(self.program_cost)
        return value / before if before else 1.0

    @cached_property
    def value_bound(self) -> float | None:
        """What was minimised can be no lower for any order; None for sums and measures of the caller's."""
        return objective_bound(self.objective, self.graph, self.bound_bytes)

    @cached_property
    def arena(self) -> "ArenaPlan":
        """Offsets of all tensors in one arena, multiples of 64; where arenas were compared, those of the comparison.

        They are searched for a second at most otherwise.
        """
        from graphs.arena import plan

        return plan(self.graph, self.order, **(ARENA_EFFORT if "arena" in self.objective.weights else {}))

    @cached_property
    def profile(self) -> MemoryProfile:
        """Live bytes of every step, and what is alive at the peak."""
        return simulate(self.graph, self.order)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw live bytes before and after, both peaks and the bound, on ``ax`` or a figure of its own.

        Raises:
            ModuleNotFoundError: Matplotlib is not installed (``pip install 'topoformer[plot]'``).
        """
        from topoformer.report.plot import plot

        return plot(self, ax)

    def report(self, path: "str | os.PathLike[str]") -> None:
        """Write a page (``.html``) or a picture (``.svg``, ``.png``, ``.pdf``) of it, whole or not at all.

        Raises:
            ValueError: the file's name ends in something else.
            ModuleNotFoundError: Matplotlib, which draws ``.png`` and ``.pdf``, is not installed.
            OSError: the file cannot be written.
        """
        from topoformer.report.files import write_report

        write_report(self, path)

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture of the report."""
        from topoformer.report import svg

        return f'<div style="max-width:800px">{svg(self)}</div>'

    def to_json(self) -> dict[str, Any]:
        """The dictionary of schedule JSON, version 1."""
        return {
            "format": "topoformer.schedule",
            "version": 1,
            "graph": self.graph.name,
            "graph_sha256": self.graph.fingerprint,
            "method": self.method,
            "seed": self.seed,
            "order": self.order.tolist(),
            "program_peak_bytes": self.program_cost.peak_bytes,
            "peak_bytes": self.cost.peak_bytes,
            "bound_bytes": self.bound_bytes,
            "proven_optimal": self.proven_optimal,
            "resident_bytes": self.cost.resident_bytes,
            "search_seconds": self.search_seconds,
            **self._costs_to_json(),
        }

    def _costs_to_json(self) -> dict[str, Any]:
        """What is known beside memory, of the program and of the schedule."""
        device = self.objective.device
        known: dict[str, Any] = {}
        if not self.objective.is_memory:
            known = {"objective": self.objective.name, "value_bound": self.value_bound}
        known |= {} if device is None else {"device": device.to_json()}
        for name in ("latency_seconds", "traffic_bytes", "arena_bytes", "concurrent_peak_bytes"):
            if (value := getattr(self.cost, name)) is not None:
                known |= {name: value, f"program_{name}": getattr(self.program_cost, name)}
        if "arena" in self.__dict__:  # it has been planned
            known["arena_bytes"] = self.arena.arena_bytes
        return known

    def __repr__(self) -> str:
        if not self.objective.is_memory:
            value = (
                f"{self.objective.name} {self.objective.value(self.cost):.6g}, {self.value_ratio:.3f} of the program's"
            )
            return f"<Schedule of {self.graph.name!r} by {self.method}: {value}, peak {self.cost.peak_bytes:,} bytes>"
        proof = "optimal" if self.proven_optimal else f"at most {self.gap:.1%} above the optimum"
        return (
            f"<Schedule of {self.graph.name!r} by {self.method}: peak {self.cost.peak_bytes:,} bytes, "
            f"{self.ratio:.3f} of the program's, {proof}>"
        )
