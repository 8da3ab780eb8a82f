"""Training graphs: one integer seed decides the family, the size, the bytes, everything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

import graphs
from graphs import Graph
from graphs.synthetic import FAMILIES

TRAIN_SEEDS = 1_000_000  # training seeds start here
VALID_SEEDS = 500_000  # validation seeds start here and stay below the training ones
LEAST = 12  # nodes: every family can be drawn from here on
TRACED = "traced"
SHARES = {  # of the families among the graphs drawn
    "layered": 0.62,
    "randwire": 0.08,
    "series_parallel": 0.06,
    "tree": 0.04,
    "greedy_trap": 0.02,
    "breadth_trap": 0.02,
    "depth_first_trap": 0.02,
    "random_graph": 0.04,
    TRACED: 0.10,
}
SPREADS = (0.0, 0.3, 1.0)  # of the logarithm of a traced network's tensor sizes


@dataclass(frozen=True)
class Draw:
    """A distribution of graphs: ``draw(seed)`` is one of them, the same for the same seed.

    Sizes are log-uniform in [low, high] nodes, families as in :data:`SHARES`; ``layered_only`` leaves the others out.
    """

    low: int = 60
    high: int = 500
    layered_only: bool = False
    traced: str = ""  # folder of graph JSON files, "" for none

    def __post_init__(self) -> None:
        if not LEAST <= self.low <= self.high:
            raise ValueError(f"sizes must satisfy {LEAST} <= low <= high (got {self.low} and {self.high})")

    def __call__(self, seed: int) -> Graph:
        """The graph of ``seed``, which must be a training or a validation seed.

        Raises:
            ValueError: the seed is kept for tests.
        """
        if seed < VALID_SEEDS:
            raise ValueError(f"seeds below {VALID_SEEDS} are kept for tests (got {seed})")
        rng = np.random.default_rng(seed)
        nodes = round(float(np.exp(rng.uniform(np.log(self.low), np.log(self.high)))))
        family = "layered" if self.layered_only else _pick(rng, bool(self.traced))
        if family == TRACED:
            found = [path for path, n in _traced(self.traced) if n <= self.high]
            if found:
                return perturbed(_load(found[int(rng.integers(len(found)))]), rng)
            family = "layered"
        return FAMILIES[family](nodes, seed=seed, **_options(family, rng))


def _pick(rng: np.random.Generator, traced: bool) -> str:
    names = [name for name in SHARES if traced or name != TRACED]
    share = np.array([SHARES[name] for name in names])
    return names[int(rng.choice(len(names), p=share / share.sum()))]


def _options(family: str, rng: np.random.Generator) -> dict[str, str]:
    if family == "randwire":
        return {"model": ("ws", "er", "ba")[int(rng.integers(3))]}
    if family == "tree":
        return {"direction": ("in", "out")[int(rng.integers(2))]}
    return {}


@cache
def _traced(folder: str) -> tuple[tuple[str, int], ...]:
    """(file, nodes) of the traced graphs in ``folder``, by name."""
    return tuple((str(path), graphs.load(path).n) for path in sorted(Path(folder).glob("*.json.gz")))


@cache
def _load(path: str) -> Graph:
    return graphs.load(path)


def perturbed(graph: Graph, rng: np.random.Generator) -> Graph:
    """``graph`` with other tensor sizes: each times a log-normal factor, equal sizes at times kept equal."""
    spread = SPREADS[int(rng.integers(len(SPREADS)))]
    distinct, place = np.unique(graph.size, return_inverse=True)
    alike = rng.random() < 0.5
    noise = rng.normal(0.0, spread, len(distinct))[place] if alike else rng.normal(0.0, spread, graph.k)
    return replace(graph, size=np.rint(graph.size * np.exp(noise)).astype(np.int64))


def save_traced(folder: Path, variants: Sequence[tuple[str, Callable[[], Graph]]]) -> None:
    """Write graphs that are slow to make into ``folder`` once, for :class:`Draw` to read."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in variants:
        path = folder / f"{name}.json.gz"
        if not path.exists():
            graphs.save(make(), path)
