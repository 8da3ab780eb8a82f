"""Seeded families of synthetic graphs: the published random ones, trees, traps for common rules, test graphs.

A family is a function ``family(nodes, *, seed=0, ...) -> Graph`` of exactly ``nodes`` nodes: the same
arguments give the same graph.
"""

from collections.abc import Callable

from graphs.graph import Graph
from graphs.synthetic.composed import series_parallel, tree
from graphs.synthetic.layers import layered
from graphs.synthetic.mixed import random_graph
from graphs.synthetic.traps import (
    branches_optimum,
    breadth_trap,
    depth_first_optimum,
    depth_first_trap,
    greedy_trap,
)
from graphs.synthetic.wiring import randwire

FAMILIES: dict[str, Callable[..., Graph]] = {
    "layered": layered,
    "randwire": randwire,
    "series_parallel": series_parallel,
    "tree": tree,
    "greedy_trap": greedy_trap,
    "depth_first_trap": depth_first_trap,
    "breadth_trap": breadth_trap,
    "random_graph": random_graph,
}

OPTIMUM: dict[str, Callable[[Graph], int]] = {  # lowest peak, in bytes, where it is known in closed form
    "greedy_trap": branches_optimum,
    "depth_first_trap": depth_first_optimum,
    "breadth_trap": branches_optimum,
}

__all__ = [
    "FAMILIES",
    "OPTIMUM",
    "branches_optimum",
    "breadth_trap",
    "depth_first_optimum",
    "depth_first_trap",
    "greedy_trap",
    "layered",
    "random_graph",
    "randwire",
    "series_parallel",
    "tree",
]
