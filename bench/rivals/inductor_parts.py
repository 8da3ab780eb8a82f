"""The three sorts of which PyTorch Inductor's memory pass takes the best, each as a rival of its own."""

from bench.rivals.inductor import missing, parts
from graphs import Graph, Order
from graphs.cost import Objective

__all__ = ["bfs", "dfs", "lpmf", "missing"]


def lpmf(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """Inductor's least-peak-memory-first, int32[n]."""
    return parts()["lpmf"](graph)


def bfs(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """Inductor's breadth-first sort, int32[n]."""
    return parts()["bfs"](graph)


def dfs(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """Inductor's depth-first sort, int32[n]."""
    return parts()["dfs"](graph)
