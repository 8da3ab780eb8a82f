"""The learned methods on graphs that were kept for tests: gaps to a wide unguided beam and to the optimum.

Set ``layered``: seeds 1000 and on of ``graphs.synthetic.layered``; the reference is the down-set beam of width 1,000.
Controls without a network run the very same search: hand-set and trained weights on the dynamic features, equal for
all nodes, and no weights at all, which is random order with safe moves first. Times are of the processor, so that
other programs do not matter; set OMP_NUM_THREADS to 1 for those of one thread. The last two rows say what there is
to gain at all: the best order that ``auto`` finds, and the bound that it proves, in seconds of the wall. "To the
optimum" is by how much a method's peak is above that order's, "closed" which part of the way to it from "net change",
the best order without a search.

Set ``networks``: traced networks, the learned methods beside the best of those without a network, each for the same
seconds of the wall; peaks in % above that.

Set ``searches``: what the network adds to ``auto`` in equal time, on graphs that ``auto`` may not finish at once.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
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
from topoformer.scheduling import schedule

MEMORY = OBJECTIVES["memory"]
FIRST_SEED = 1000
GRAPHS = ((250, 32), (500, 32), (1000, 8), (2000, 8))  # nodes, and how many graphs of that size
WIDE = 1000
START = "net change"  # the row from which on "closed" is counted
SETS = ("layered", "networks", "searches")
LIMITS = (1.0, 5.0)  # seconds that each method has for a traced network
UNGUIDED = ("auto", "exact", "beam", "local_search")
LEARNED = ("topoformer", "topoformer-sample", "topoformer-beam")
SEARCHES, LONG_LIMITS = ("auto", "topoformer-beam"), (5.0, 30.0)  # seconds
FRESH_SEED, FRESH = 4100, ((1000, 4), (2000, 4))  # nodes, and how many graphs
UNSOLVED = ("randwire_er", "randwire_ba", "tree_lstm", "tree_lstm, unbalanced")
NETWORKS: dict[str, tuple[str, dict[str, int | bool]]] = {  # factory of the zoo, arguments; the irregular ones first
    "randwire_ws": ("randwire_ws", {}),
    "randwire_er": ("randwire_er", {}),
    "randwire_ba": ("randwire_ba", {}),
    "randwire_er, other seed": ("randwire_er", {"seed": 4001}),
    "randwire_ba, other seed": ("randwire_ba", {"seed": 4001}),
    "nasnet_a": ("nasnet_a", {}),
    "pnasnet": ("pnasnet", {}),
    "darts": ("darts", {}),
    "amoebanet": ("amoebanet", {}),
    "tree_lstm": ("tree_lstm", {}),
    "tree_lstm, unbalanced": ("tree_lstm", {"balanced": False, "seed": 4001}),
    "tree_lstm, three children": ("tree_lstm", {"arity": 3}),
    "moe": ("moe", {}),
    "unet_plus_plus": ("unet_plus_plus", {}),
    "hrnet": ("hrnet", {}),
    "lstm": ("lstm", {}),
    "transformer": ("transformer", {}),
}
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
    peaks: tuple[int, ...]
    seconds: tuple[float, ...]

    def above(self, others: Sequence[int]) -> "np.typing.NDArray[np.float64]":
        """By how many per cent of ``others`` the peaks are above them, a number a graph."""
        found: np.typing.NDArray[np.float64] = 100 * (np.array(self.peaks) / np.array(others) - 1)
        return found

    def gap(self, others: Sequence[int]) -> str:
        """The mean of that and its standard error."""
        gaps = self.above(others)
        return f"{gaps.mean():+.2f} ± {gaps.std(ddof=1) / len(gaps) ** 0.5:.2f}"

    @property
    def milliseconds(self) -> str:
        """Median time."""
        return f"{1e3 * float(np.median(self.seconds)):.1f}"


Method = Callable[[Graph], Order]


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--set", dest="wanted", choices=SETS, nargs="*", default=SETS, help="default: all")
    parser.add_argument("--seconds", type=float, default=30.0, help="that auto has for a layered graph (default 30)")


def table(wanted: Sequence[str], seconds: float) -> Iterator[str]:
    """The benchmark's rows, as they come."""
    if "layered" in wanted:
        for method in methods().values():
            method(layered(60, seed=FIRST_SEED - 1))  # compiles
        for nodes, count in GRAPHS:
            yield from _layered(nodes, count, seconds)
    if "networks" in wanted:
        yield from _networks()
    if "searches" in wanted:
        yield from _searches()


def _layered(nodes: int, count: int, seconds: float) -> Iterator[str]:
    made = [layered(nodes, seed=FIRST_SEED + i) for i in range(count)]
    wide = row("reference", partial(unguided, width=WIDE), made)
    found = [schedule(graph, "auto", seconds=seconds) for graph in made]
    took = tuple(result.search_seconds for result in found)
    best = Row(f"optimum or best known (auto, {seconds:g} s)", tuple(x.cost.peak_bytes for x in found), took)
    bound = Row("certified lower bound", tuple(x.bound_bytes for x in found), took)
    proven = sum(result.proven_optimal for result in found)
    yield f"n = {nodes}, {count} graphs: gap in % to the unguided beam of width {WIDE:,} ({wide.milliseconds} ms); the"
    yield f"best order known is proven optimal on {proven} of them."
    yield ""
    yield "| method | gap | to the optimum | closed | ms |"
    yield "|---|---:|---:|---:|---:|"
    rows = [row(name, method, made) for name, method in methods().items()]
    far = next(x for x in rows if x.method == START).above(best.peaks).mean()
    for x in (*rows, best, bound):
        left = x.above(best.peaks).mean()
        closed = f"{1 - left / far:.0%}" if x is not bound else ""
        yield f"| {x.method} | {x.gap(wide.peaks)} | {left:+.2f} | {closed} | {x.milliseconds} |"
    yield ""


def _traced(name: str) -> Graph:
    from graphs.fx import from_fx
    from graphs.models import ZOO
    from topoformer.pytorch import capture

    factory, arguments = NETWORKS[name]
    return from_fx(capture(*ZOO[factory](**arguments)), name=name)


def _networks() -> Iterator[str]:
    for method in (*UNGUIDED, *LEARNED):
        schedule(layered(60, seed=FIRST_SEED - 1), method)  # compiles
    yield f"| network | nodes | seconds | program | best of {', '.join(UNGUIDED)} | " + " | ".join(LEARNED) + " |"
    yield "|---|---:|---:|---:|---:|" + "---:|" * len(LEARNED)
    for graph in map(_traced, NETWORKS):
        for seconds in LIMITS:
            best = min(schedule(graph, method, seconds=seconds).cost.peak_bytes for method in UNGUIDED)
            found = [schedule(graph, method, seconds=seconds).method_cost.peak_bytes for method in LEARNED]
            cells = " | ".join(f"{peak / best - 1:+.2%}" for peak in found)
            yield f"| {graph.name} | {graph.n} | {seconds:g} | {peak_bytes(graph) / best - 1:+.2%} | {best} | {cells} |"


def _searches() -> Iterator[str]:
    for method in SEARCHES:
        schedule(layered(60, seed=FIRST_SEED - 1), method)  # compiles
    groups = {f"layered {nodes}": [layered(nodes, seed=FRESH_SEED + i) for i in range(count)] for nodes, count in FRESH}
    groups["networks"] = [_traced(name) for name in UNSOLVED]
    yield "| graphs | seconds | method | above the best order known, % | certified gap, % | proven | gap closed |"
    yield "|---|---:|---|---:|---:|---:|---:|"
    for name, made in groups.items():
        for seconds in LONG_LIMITS:
            found = {m: [schedule(graph, m, seconds=seconds) for graph in made] for m in SEARCHES}
            peaks = np.array([[result.cost.peak_bytes for result in results] for results in found.values()])
            above = 100 * (peaks / peaks.min(0) - 1).mean(1)
            gaps = [100 * float(np.mean([result.gap for result in results])) for results in found.values()]
            for number, (method, results) in enumerate(found.items()):
                closed = f"{1 - gaps[number] / gaps[0]:+.0%}" if number and gaps[0] else ""
                yield (
                    f"| {name} ({len(made)}) | {seconds:g} | {method} | {above[number]:.3f} | {gaps[number]:.3f} "
                    f"| {sum(result.proven_optimal for result in results)} | {closed} |"
                )


def row(name: str, method: Method, made: list[Graph]) -> Row:
    """``method`` on each graph."""
    peaks, seconds = zip(*(timed(method, graph) for graph in made), strict=True)
    return Row(name, peaks, seconds)


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
