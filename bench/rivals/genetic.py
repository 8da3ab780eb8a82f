"""A biased random-key genetic algorithm, the search that REGAL (Paliwal et al., ICLR 2020) builds on and is beside.

As in Goncalves and Resende (Journal of Heuristics, 2011): an individual is a key in [0, 1) for each node, decoded by
list scheduling, the ready node with the smallest key first. A generation keeps its elite, adds mutants, which are
random anew, and fills up with children of one of the elite and one of the rest, each key the elite's with probability
``BIAS``. Shares and bias are within the ranges that they recommend. Of the settings tried in two rounds (eleven, and
five) on layered graphs, trees, randomly wired and series-parallel graphs of 250 to 1,000 nodes, for 3 and 6 seconds
with one seed each, these were the best of the second round, and in the first within 1 % of its best.
"""

import math
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphs import Graph, Order
from graphs.cost import Objective
from graphs.memory import memory_model

POPULATION = 300
ELITE, MUTANTS = 0.2, 0.1  # shares of a population; recommended are 0.10-0.25 and 0.10-0.30
BIAS = 0.7  # recommended are 0.5-0.8
GENERATIONS = 20_000  # at most
AT_ONCE = 20_000  # nodes that are decoded between two looks at the clock
UNKNOWN = np.iinfo(np.int64).max

Keys = npt.NDArray[np.float32]


class Settings(NamedTuple):
    """What can be varied."""

    population: int = POPULATION
    elite: float = ELITE
    mutants: float = MUTANTS
    bias: float = BIAS
    generations: int = GENERATIONS


USUAL = Settings()


class Found(NamedTuple):
    """The best individual and how much was searched."""

    order: Order
    peak_bytes: int
    decoded: int  # individuals


def genetic(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """The order of lowest peak that the genetic algorithm finds in ``seconds``, int32[n]."""
    return evolve(graph, seconds=seconds, seed=seed).order


def evolve(graph: Graph, *, seconds: float, seed: int, settings: Settings = USUAL) -> Found:
    """As :func:`genetic`; the same on any machine that has the time for all generations."""
    rng = np.random.default_rng(seed)
    decoder = _Decoder(graph)
    deadline = decoder.deadline = time.perf_counter() + seconds
    elite = max(1, round(settings.elite * settings.population))
    mutants = round(settings.mutants * settings.population)
    keys = rng.random((settings.population, graph.n), np.float32)
    peaks = decoder.peaks(keys)
    for _ in range(settings.generations - 1):
        best_first = np.argsort(peaks, kind="stable")
        keys, peaks = keys[best_first], peaks[best_first]
        if time.perf_counter() >= deadline:
            break
        fresh = rng.random((mutants, graph.n), np.float32)
        children = _children(keys, elite, len(keys) - elite - mutants, settings.bias, rng)
        keys[elite:] = np.concatenate([fresh, children])
        peaks[elite:] = decoder.peaks(keys[elite:])
    best = keys[np.argmin(peaks)]
    return Found(decoder.order(best), int(peaks.min()), decoder.decoded)


def missing() -> str:
    """Never anything: it is made of the package's own parts."""
    return ""


def _children(keys: Keys, elite: int, count: int, bias: float, rng: np.random.Generator) -> Keys:
    """float32[count, n]: each of one parent among the first ``elite`` of ``keys``, and one among the rest."""
    better = keys[rng.integers(0, elite, count)]
    worse = keys[rng.integers(elite, len(keys), count)]
    return np.where(rng.random(better.shape, np.float32) < bias, better, worse)


class _Decoder:
    """Decodes individuals until the time is up; the first of all is always decoded."""

    deadline = math.inf

    def __init__(self, graph: Graph) -> None:
        steps = memory_model(graph).steps
        self.arrays = (graph.preds.lengths.astype(np.int32), graph.succs.ptr, graph.succs.idx, *steps)
        self.buffer = np.empty(graph.n, np.int32)
        self.at_once = max(1, AT_ONCE // max(1, graph.n))
        self.decoded = 0
        self.order(np.zeros(graph.n, np.float32))  # compiles, the first time on a machine

    def peaks(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Bytes, int64[p]; ``UNKNOWN`` for those there was no time for."""
        from bench.rivals._genetic_kernels import decode

        found = np.full(len(keys), UNKNOWN)
        for first in range(0, len(keys), self.at_once):
            if self.decoded and time.perf_counter() >= self.deadline:
                break
            some = keys[first : first + self.at_once]
            found[first : first + len(some)] = decode(some, *self.arrays, self.buffer)
            self.decoded += len(some)
        return found

    def order(self, key: Keys) -> Order:
        """The order, int32[n], of one individual."""
        from bench.rivals._genetic_kernels import decode

        decode(key[None], *self.arrays, self.buffer)
        return self.buffer.copy()
