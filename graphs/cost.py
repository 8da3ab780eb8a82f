"""What an order costs, and which number of it is to be small."""

from collections.abc import Callable
from dataclasses import dataclass

from graphs.errors import unknown_name
from graphs.graph import Graph, Order
from graphs.memory import peak_bytes


@dataclass(frozen=True)
class Cost:
    """Costs of one legal order."""

    peak_bytes: int  # most bytes of non-resident tensors and scratch alive during any step
    resident_bytes: int  # inputs and weights, the same for every order


@dataclass(frozen=True)
class Objective:
    """How to measure a legal order (not checked) and the scalar of the result that is minimised."""

    name: str
    measure: Callable[[Graph, Order], Cost]
    value: Callable[[Cost], float]

    def __call__(self, graph: Graph, order: Order) -> float:
        """The scalar of one order: lower is better."""
        return self.value(self.measure(graph, order))


def _measure_memory(graph: Graph, order: Order) -> Cost:
    return Cost(peak_bytes(graph, order), graph.resident_bytes)


def _peak(cost: Cost) -> int:
    return cost.peak_bytes


OBJECTIVES = {"memory": Objective("memory", _measure_memory, _peak)}


def objective_named(name: str) -> Objective:
    """The objective of that name.

    Raises:
        ValueError: there is none; names the nearest and lists all.
    """
    if name not in OBJECTIVES:
        raise ValueError(unknown_name("objective", name, OBJECTIVES))
    return OBJECTIVES[name]
