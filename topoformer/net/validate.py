"""How good a network is on graphs that it does not train on: gaps to the peaks of a wide beam."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphs import Graph
from topoformer.net.data import VALID_SEEDS, Draw
from topoformer.net.decode import Float32Array, best_of, greedy
from topoformer.net.losses import policy_of
from topoformer.net.pool import Item, item
from topoformer.schedulers.beam import UNLIMITED, run_beam
from topoformer.schedulers.problem import whole

SAMPLES = (16, 64)
WIDTH = 1000  # of the beam that gaps are to
EXAMPLES = 8  # graphs whose peaks are recorded one by one
GROUPS = {  # of validation graphs: how many, and which
    "layered 500": (24, Draw(500, 500, layered_only=True)),
    "layered 250": (12, Draw(250, 250, layered_only=True)),
    "layered 1000": (6, Draw(1000, 1000, layered_only=True)),
    "mixed": (40, Draw(80, 500)),
}


@dataclass(frozen=True)
class Gaps:
    """Means over the graphs of peak / beam's peak - 1, by group of graphs and by method."""

    table: dict[str, dict[str, float]]

    @property
    def score(self) -> float:
        """What checkpoints are chosen by: the methods that ship, sampling twice as much as greedy."""
        return float(np.mean([(row["greedy"] + 2 * row[f"best of {SAMPLES[-1]}"]) / 3 for row in self.table.values()]))

    def __str__(self) -> str:
        return "; ".join(
            f"{group}: " + " ".join(f"{method} {100 * gap:+.2f}%" for method, gap in row.items())
            for group, row in self.table.items()
        )


def beam_peak(graph: Graph) -> int:
    """Peak of the unguided beam of width 1,000."""
    return run_beam(whole(graph), WIDTH, floor=0, limit=UNLIMITED, stop=np.zeros(1, np.int8)).peak_bytes


def _reference(task: tuple[str, int]) -> int:
    group, seed = task
    return beam_peak(GROUPS[group][1](seed))


def references(path: Path, processes: int) -> dict[str, list[int]]:
    """Peaks of the beam on the validation graphs, by group: read from ``path``, or made and written there."""
    if path.exists():
        known: dict[str, list[int]] = json.loads(path.read_text())
        return known
    todo = [(group, VALID_SEEDS + i) for group, (count, _) in GROUPS.items() for i in range(count)]
    with ProcessPoolExecutor(processes) as pool:
        peaks = list(pool.map(_reference, todo))
    found: dict[str, list[int]] = {group: [] for group in GROUPS}
    for (group, _), peak in zip(todo, peaks, strict=True):
        found[group].append(peak)
    path.write_text(json.dumps(found))
    return found


def validation_items(reference: dict[str, list[int]]) -> dict[str, list[Item]]:
    """The validation graphs, encoded, each with the beam's peak as the best one known."""
    return {
        group: [item(GROUPS[group][1](VALID_SEEDS + i), VALID_SEEDS + i, peak) for i, peak in enumerate(peaks)]
        for group, peaks in reference.items()
    }


def validate(
    network: Callable[[Sequence[Item]], list[Float32Array]], groups: dict[str, list[Item]], threads: Executor
) -> Gaps:
    """Gaps of greedy decoding and of the best of a few samples, with the outputs that ``network`` gives."""
    table = {}
    for group, items in groups.items():
        peaks = np.array(list(threads.map(_peaks, items, network(items))), np.float64)
        gaps = peaks / np.array([x.best_peak for x in items])[:, None] - 1
        names = ["greedy", *(f"best of {count}" for count in SAMPLES)]
        table[group] = dict(zip(names, gaps.mean(0).tolist(), strict=True))
    return Gaps(table)


def _peaks(x: Item, out: Float32Array) -> list[int]:
    policy = policy_of(out)
    found = [greedy(x.inst, policy, x.floor).peak_bytes]
    return found + [best_of(x.inst, policy, x.floor, samples=count, seed=0).peak_bytes for count in SAMPLES]


def examples(network: Callable[[Sequence[Item]], list[Float32Array]]) -> list[dict[str, int]]:
    """Peaks on a few small validation graphs, for a test to find again: nodes, seed, greedy peak, best of 64."""
    found = []
    for number in range(EXAMPLES):
        nodes, seed = 100 + 20 * number, VALID_SEEDS + 1000 + number
        x = item(Draw(nodes, nodes, layered_only=True)(seed), seed)
        peaks = _peaks(x, network([x])[0])
        found.append({"nodes": nodes, "seed": seed, "greedy": peaks[0], f"best of {SAMPLES[-1]}": peaks[-1]})
    return found
