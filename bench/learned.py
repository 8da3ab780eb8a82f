"""The learned methods on layered graphs that were kept for tests: gap to a wide unguided beam, and milliseconds.

Seeds 1000 and on of ``graphs.synthetic.layered``; the reference is the down-set beam of width 1,000.
Controls without a network run the very same search: hand-set and trained weights on the dynamic features, equal for
all nodes, and no weights at all, which is random order with safe moves first. Times are
of the processor, so that other programs do not matter; set OMP_NUM_THREADS to 1 for those of one thread.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from graphs import Graph, check_order, peak_bytes
from graphs.cost import OBJECTIVES
from graphs.graph import Order
from graphs.synthetic import layered
from topoformer import net
from topoformer.net import _rollout_kernels as kernels
from topoformer.net.decode import Policy, best_of, floor_of, greedy, instance
from topoformer.net.guided import guided_beam
from topoformer.schedulers import list_scheduling as ls
from topoformer.schedulers.beam import UNLIMITED, run_beam
from topoformer.schedulers.problem import whole

MEMORY = OBJECTIVES["memory"]
FIRST_SEED = 1000
GRAPHS = ((250, 32), (500, 32), (1000, 8), (2000, 8))  # nodes, and how many graphs of that size
WIDE = 1000
HAND_SET = {"NET": -4.0, "EXCESS": -4.0, "UNLOCKS": -2.0, "SHARE": 2.0}
TRAINED = (
    -4.36,
    3.58,
    9.53,
    -4.78,
    3.4,
    0.19,
    2.34,
    -3.5,
    0.49,
    -4.32,
    7.69,
)  # by REINFORCE on layered graphs of 100 to 400 nodes, as the network was


class Row(NamedTuple):
    """One method on the graphs of one size."""

    method: str
    gaps: list[float]  # peak / reference - 1
    seconds: list[float]

    def __str__(self) -> str:
        gaps = 100 * np.array(self.gaps)
        error = gaps.std(ddof=1) / len(gaps) ** 0.5
        return f"| {self.method} | {gaps.mean():+.2f} ± {error:.2f} | {1e3 * float(np.median(self.seconds)):.1f} |"


Method = Callable[[Graph], Order]


def table() -> Iterator[str]:
    """The benchmark's rows, as they come."""
    for method in methods().values():
        method(layered(60, seed=FIRST_SEED - 1))  # compiles
    for nodes, count in GRAPHS:
        made = [layered(nodes, seed=FIRST_SEED + i) for i in range(count)]
        reference, seconds = zip(*(timed(partial(unguided, width=WIDE), graph) for graph in made), strict=True)
        yield f"n = {nodes}, {count} graphs: gap in % to the unguided beam of width {WIDE:,}"
        yield f"({1e3 * float(np.median(seconds)):.0f} ms), standard error, median ms"
        yield ""
        yield "| method | gap | ms |"
        yield "|---|---:|---:|"
        for name, method in methods().items():
            yield str(row(name, method, made, reference))
        yield ""


def row(name: str, method: Method, made: list[Graph], reference: tuple[int, ...]) -> Row:
    """``method`` on each graph, against the reference's peaks."""
    peaks, seconds = zip(*(timed(method, graph) for graph in made), strict=True)
    return Row(name, [peak / best - 1 for peak, best in zip(peaks, reference, strict=True)], list(seconds))


def timed(method: Method, graph: Graph) -> tuple[int, float]:
    """(peak of the checked order, processor seconds) of one method on a copy of ``graph`` with nothing cached."""
    fresh = layered(graph.n, seed=int(graph.name.rsplit("_s", 1)[1]))
    began = time.process_time()
    order = method(fresh)
    took = time.process_time() - began
    return peak_bytes(graph, check_order(graph, order)), took


def unguided(graph: Graph, width: int) -> Order:
    """The down-set beam."""
    found = run_beam(whole(graph), width, floor=0, limit=UNLIMITED, stop=np.zeros(1, np.int8))
    assert found.nodes is not None
    return found.nodes


def methods() -> dict[str, Method]:
    """What is compared, by the name of its row."""
    found: dict[str, Method] = {name: partial(list_policy, policy) for name, policy in _POLICIES.items()}
    found |= {f"unguided beam {width}": partial(unguided, width=width) for width in (32, 100)}
    controls = {"no weights": no_weights, "hand-set weights": hand_set, "trained weights": trained}
    found |= {f"{name}, best of 64": partial(sampled, policy, 64) for name, policy in controls.items()}
    for decoder in ("static", "dynamic"):
        scores = partial(net.scores, decoder=decoder)
        found |= {f"{decoder} network, greedy": partial(decoded, scores)}
        found |= {f"{decoder} network, best of {n}": partial(sampled, scores, n) for n in (16, 64, 256)}
    found |= {f"network, guided beam {width}": partial(guided, net.scores, width) for width in (32, 100)}
    found |= {f"trained weights, guided beam {width}": partial(guided, trained, width) for width in (32, 100)}
    return found


_POLICIES = {"LPMF": ls.lpmf, "net change": ls.net_change, "BFS": ls.bfs, "DFS": ls.dfs}


def list_policy(policy: ls.Policy, graph: Graph) -> Order:
    """A list policy's order."""
    return policy(graph, MEMORY, seconds=1.0, seed=0)


def decoded(scores: Callable[[Graph], Policy], graph: Graph) -> Order:
    """The greedy order of a network or a control."""
    return greedy(instance(graph), scores(graph), floor_of(graph)).order


def sampled(scores: Callable[[Graph], Policy], count: int, graph: Graph) -> Order:
    """The best of its greedy order and some samples."""
    return best_of(instance(graph), scores(graph), floor_of(graph), samples=count, seed=0).order


def guided(scores: Callable[[Graph], Policy], width: int, graph: Graph) -> Order:
    """What a beam finds that tries its likeliest moves."""
    found = guided_beam(instance(graph), scores(graph), width, floor=floor_of(graph))
    assert found.order is not None
    return found.order


def no_weights(graph: Graph) -> Policy:
    """Every ready node as likely as any other."""
    return _alike(graph, np.zeros(kernels.DYNAMIC))


def hand_set(graph: Graph) -> Policy:
    """A score that a person would write down."""
    weight = np.zeros(kernels.DYNAMIC)
    for name, value in HAND_SET.items():
        weight[getattr(kernels, name)] = value
    return _alike(graph, weight)


def trained(graph: Graph) -> Policy:
    """The best weights that are the same for all nodes of all graphs."""
    return _alike(graph, np.array(TRAINED))


def _alike(graph: Graph, weight: "np.typing.NDArray[np.float64]") -> Policy:
    return Policy(np.zeros(graph.n, np.float32), np.tile(weight.astype(np.float32), (graph.n, 1)))
