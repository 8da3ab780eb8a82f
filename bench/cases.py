"""The graphs that schedulers are compared on, by suite; each is made where it is needed, from its name alone."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import graphs
from graphs import Graph
from graphs.synthetic import FAMILIES

FIRST_SEED = 8000  # of what is reported: neither trained nor tuned on
SIZES = (100, 250, 500, 1_000, 2_000)
SCALE = {"layered": (1_000, 3_000, 10_000, 30_000, 100_000), "series_parallel": (1_000, 10_000, 100_000, 1_000_000)}
SPARSE = 30_000  # nodes from which a layered graph has fewer of the possible edges, or they would not fit into memory
CELLS = ("nasnet_a", "pnasnet", "darts", "amoebanet")
WIRED = ("randwire_ws", "randwire_er", "randwire_ba")
TRAPS = ("greedy_trap", "depth_first_trap", "breadth_trap")
JOINT = ("randwire_ws", "nasnet_a", "unet_plus_plus", "hrnet", "moe", "densenet", "inception", "tree_lstm")


class Case(NamedTuple):
    """One graph of a suite."""

    suite: str
    name: str
    make: Callable[[], Graph]


def cases(suite: str, seeds: int, data: Path | None = None) -> list[Case]:
    """The graphs of ``suite``, those drawn at random for each of ``seeds`` seeds; published ones where ``data`` is."""
    return [Case(suite, name, make) for name, make in SUITES[suite](range(FIRST_SEED, FIRST_SEED + seeds), data)]


Made = Iterator[tuple[str, Callable[[], Graph]]]


def _quick(seeds: range, _: Path | None) -> Made:
    for seed in seeds:
        yield from (
            _drawn(family, nodes, seed) for family, nodes in (("layered", 100), ("randwire", 150), ("tree", 80))
        )
    yield "unet_plus_plus", partial(network, "unet_plus_plus")
    yield "moe", partial(network, "moe")


def _layered(seeds: range, data: Path | None) -> Made:
    for path in sorted((data / "layered").glob("*.json")) if data else ():
        yield path.stem, partial(published, path)
    yield from (_drawn("layered", nodes, seed) for nodes in SIZES for seed in seeds)


def _networks(_: range, __: Path | None) -> Made:
    from bench.huggingface import MODELS
    from bench.onnx_models import names
    from graphs.models import ZOO

    yield from ((name, partial(network, name)) for name in ZOO)
    yield from ((f"hf_{name}", partial(huggingface, name)) for name in MODELS)
    yield from ((f"onnx_{name}", partial(onnx_model, name)) for name in names())


def _training(_: range, __: Path | None) -> Made:
    from bench.training_setups import SETUPS

    yield from ((f"step_{name}", partial(step, name)) for name in SETUPS)
    yield from ((f"joint_{name}", partial(joint, name)) for name in JOINT)


def _irregular(seeds: range, _: Path | None) -> Made:
    yield from ((name, partial(network, name)) for name in CELLS)
    for seed in seeds:
        yield from ((f"{name}_{seed}", partial(network, name, seed=seed)) for name in WIRED)
        yield from (_drawn("randwire", 600, seed, model=model) for model in ("ws", "er", "ba"))
        yield from (_drawn(family, 400, seed) for family in (*TRAPS, "series_parallel"))
        yield from (_drawn("tree", 400, seed, direction=way) for way in ("in", "out"))
        yield _drawn("random_graph", 200, seed)
    yield "tree_lstm", partial(network, "tree_lstm")


def _scale(seeds: range, _: Path | None) -> Made:
    for family, sizes in SCALE.items():
        for nodes in sizes:
            sparse = {"rho_edge": 0.2 * SPARSE / nodes} if family == "layered" and nodes > SPARSE else {}
            yield from (_drawn(family, nodes, seed, **sparse) for seed in seeds)


SUITES: dict[str, Callable[[range, Path | None], Made]] = {
    "quick": _quick,
    "layered": _layered,
    "networks": _networks,
    "training": _training,
    "irregular": _irregular,
    "scale": _scale,
}


# ---------------------------------------------------------------- how each is made


def _drawn(family: str, nodes: int, seed: int, **options: str | float) -> tuple[str, Callable[[], Graph]]:
    said = "".join(f"_{value}" for value in options.values() if isinstance(value, str))
    return f"{family}{said}_{nodes}_{seed}", partial(FAMILIES[family], nodes, seed=seed, **options)


def published(path: Path) -> Graph:
    """A graph of Gagrani et al.'s data: node-link JSON whose nodes hold the bytes that they write."""
    import networkx as nx

    stored = json.loads(path.read_text(encoding="utf-8"))
    made = nx.DiGraph(name=path.stem)
    made.add_nodes_from((node["name"], {"bytes": node["out_cost"]}) for node in stored["nodes"])
    made.add_edges_from((link["0"], link["1"]) for link in stored["links"])
    return graphs.from_networkx(made)


def network(name: str, **options: int) -> Graph:
    """A network of the zoo, traced at its default size."""
    from graphs.fx import from_fx
    from graphs.models import ZOO
    from topoformer.pytorch import capture

    return from_fx(capture(*ZOO[name](**options)), name=name)


def huggingface(name: str) -> Graph:
    """A model of Hugging Face's, shallow where that only repeats layers."""
    from bench.huggingface import graph_of

    return graph_of(name)


def onnx_model(name: str) -> Graph:
    """A model that the onnx package ships."""
    from bench.onnx_models import graph_of

    return graph_of(name)


def step(name: str) -> Graph:
    """A whole training step: forward, backward, update."""
    import topoformer
    from bench.training_setups import setup

    given = setup(name)
    optimizer = given.optimizer(given.model.parameters())
    made = topoformer.compile_train_step(
        given.model, given.loss_fn, optimizer, given.batch, method="program", seconds=1.0
    )
    return made.schedule.graph


def joint(name: str) -> Graph:
    """Forward and backward of a small network of the zoo in one graph, gradients returned."""
    from bench.joint import joint_graph
    from bench.tiny import SMALL
    from graphs.models import ZOO

    return joint_graph(*ZOO[name](**{**SMALL.get(name, {}), "batch": 2}), name=name)
