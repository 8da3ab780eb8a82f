"""How close to optimal, and how certainly: peaks, bounds and seconds of a searching method, a row a graph.

Sets of graphs: ``published`` (the layered graphs in ``--data``), ``layered`` (twelve fresh ones of 250 nodes, twelve of
500, and two each of 1,000 and 2,000), ``irregular`` (randomly wired networks, NAS cells, a tree),
``huggingface`` (models of that library, shallow where that only repeats layers) and ``scale`` (layered
graphs of 3,000 to 100,000 nodes, whose edges grow faster than their nodes, and series-parallel ones of 1,000 to
1,000,000). Their seeds are used for nothing else. The first answer is the best of all list policies.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median

import networkx as nx

import graphs
from graphs import Graph
from graphs.bound import check_bound, footprint_bound
from graphs.synthetic import FAMILIES, layered
from topoformer.scheduling import Schedule, schedule

SEEDS = range(4000, 4012)
IRREGULAR = ("randwire_ws", "randwire_er", "randwire_ba", "nasnet_a", "pnasnet", "amoebanet", "darts", "tree_lstm")
LAYERED = (3_000, 10_000, 30_000, 100_000)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
SETS = ("published", "layered", "irregular", "huggingface", "scale")


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--set", dest="wanted", choices=SETS, nargs="*", default=SETS[1:], help="default: all but one")
    parser.add_argument("--data", type=Path, help="folder of the published layered graphs, node-link JSON")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each graph (default 30)")
    parser.add_argument("--out", type=Path, help="append a JSON line for each row")


def table(wanted: list[str], data: Path | None, method: str, seconds: float, out: Path | None) -> Iterator[str]:
    """The benchmark's rows in Markdown, as they come, and the means of each set."""
    schedule(layered(60, seed=1), method, seconds=5.0)  # compiles
    yield "| graph | nodes | program | peak | bound | gap | seconds | first answer | proof checked |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---|"
    for group, made in groups(wanted, data):
        results = []
        for graph in made:
            result = schedule(graph, method, seconds=seconds)
            results.append(result)
            if out:
                with out.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(line(group, result, seconds)) + "\n")
            yield row(result)
        if results:
            proven = sum(result.proven_optimal for result in results)
            yield (
                f"| **{group}** | {len(results)} graphs | | | | mean {mean(r.gap for r in results):.2%} "
                f"| median {median(r.search_seconds for r in results):.2f} | | {proven} proven optimal |"
            )


def groups(wanted: list[str], data: Path | None) -> Iterator[tuple[str, Iterator[Graph]]]:
    """Names of groups and their graphs."""
    if "published" in wanted:
        if data is None:
            raise SystemExit("--set published needs --data FOLDER")
        yield "published", (published(path) for path in sorted(data.glob("*.json")))
    if "layered" in wanted:
        for nodes, seeds in ((250, SEEDS), (500, SEEDS), (1_000, SEEDS[:2]), (2_000, SEEDS[:2])):
            yield f"layered {nodes}", (layered(nodes, seed=seed) for seed in seeds)
    if "irregular" in wanted:
        yield "irregular", map(network, IRREGULAR)
    if "huggingface" in wanted:
        from bench.huggingface import MODELS, graph_of

        yield "huggingface", map(graph_of, MODELS)
    if "scale" in wanted:
        yield "layered, large", (layered(nodes, seed=SEEDS[0]) for nodes in LAYERED)
        yield "series-parallel, large", (FAMILIES["series_parallel"](nodes, seed=SEEDS[0]) for nodes in SIZES)


def published(path: Path) -> Graph:
    """A graph of the paper's data: node-link JSON whose nodes hold the bytes that they write."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    made = nx.DiGraph(name=f"published_{len(stored['nodes'])}")
    made.add_nodes_from((node["name"], {"bytes": node["out_cost"]}) for node in stored["nodes"])
    made.add_edges_from((link["0"], link["1"]) for link in stored["links"])
    return graphs.from_networkx(made)


def network(name: str) -> Graph:
    """A traced network of the zoo."""
    from graphs.fx import from_fx
    from graphs.models import ZOO
    from topoformer.pytorch import capture

    return from_fx(capture(*ZOO[name]()), name=name)


def row(result: Schedule) -> str:
    """One graph's row."""
    graph, checked = result.graph, "by exhaustion"
    if result.witness is not None:
        began = time.perf_counter()
        sound = check_bound(graph, result.witness)
        checked = f"{'yes' if sound else 'NO'}, {time.perf_counter() - began:.2f} s"
    elif result.bound_bytes <= footprint_bound(graph):
        checked = "one node's own bytes"
    return (
        f"| {graph.name} | {graph.n} | {result.program_cost.peak_bytes} | {result.cost.peak_bytes} "
        f"| {result.bound_bytes} | {result.gap:.2%} | {result.search_seconds:.2f} "
        f"| {result.phases[0].seconds if result.phases else 0:.2f} | {checked} |"
    )


def line(group: str, result: Schedule, seconds: float) -> dict[str, object]:
    """One run as JSON: what was asked, what came of it, and on which machine."""
    return {
        "set": group,
        **{key: value for key, value in result.to_json().items() if key not in ("order", "format", "version")},
        "gap": result.gap,
        "nodes": result.graph.n,
        "budget_seconds": seconds,
        "phases": [list(phase) for phase in result.phases],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
