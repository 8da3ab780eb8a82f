"""Several schedulers under one deadline, of which the best order counts."""

import time

from graphs import Graph, Order
from graphs.cost import Objective
from topoformer.schedulers import list_scheduling as ls

CHEAP = (ls.program, ls.lpmf, ls.net_change, ls.dfs, ls.bfs, ls.smallest, ls.critical_path, ls.random)


def auto(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:
    """The best of all list policies, the program's own order included; the one to use."""
    deadline = time.monotonic() + seconds
    best = CHEAP[0](graph, objective, seconds=seconds, seed=seed)
    lowest = objective(graph, best)
    try:
        for policy in CHEAP[1:]:
            if time.monotonic() > deadline:
                break
            order = policy(graph, objective, seconds=seconds, seed=seed)
            value = objective(graph, order)
            if value < lowest:  # ties keep the earlier one, so that the program's order stays where nothing is gained
                best, lowest = order, value
    except KeyboardInterrupt:
        pass  # what was found so far is an answer
    return best
