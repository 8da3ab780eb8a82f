"""Simulated annealing (Kirkpatrick et al., 1983) of whole orders, for objectives that ideals do not decide."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from graphs import Graph, Order
from graphs.cost import Objective
from graphs.csr import Float64Array
from graphs.latency import concurrent, latency_arrays
from graphs.memory import memory_model
from graphs.traffic import traffic_arrays
from topoformer.schedulers.stopper import Flag, Stopper

HOT, COLD = 0.01, 0.00001  # temperatures at the beginning and in the end, as parts of the energy
SLICE_SECONDS, SLICE_TRIES = 0.05, 200  # after which the clock is looked at; tries of the first slice
PENALTY = 2.0  # what the limit, exceeded by itself, counts as, in energies of the start


class Annealing:
    """One chain: an order that is changed again and again, and the best that was met.

    ``heat`` is the temperature to begin with, as a part of the usual one.
    """

    def __init__(self, graph: Graph, objective: Objective, order: Order, seed: int, heat: float = 1.0) -> None:
        from topoformer.schedulers import _anneal_kernels

        self.preds, self.succs = tuple(graph.preds), tuple(graph.succs)
        self.current, self.best = order.astype(np.int32), order.astype(np.int32)
        model = model_of(graph, objective)
        self.seed, self.slices, self.hot = seed, 0, heat * HOT
        self.values: Float64Array = np.array(2 * _anneal_kernels.energy(self.current, *model))  # of both orders
        self.energy = max(float(self.values[0]), 1e-300)
        self.model = (*model, PENALTY * self.energy / max(objective.peak_limit or 0, 1))

    def slice(self, begun: float, ended: float, tries: int, stop: Flag) -> None:
        """Try so many moves while the temperature falls as it does from ``begun`` to ``ended``, parts of the whole."""
        from topoformer.schedulers import _anneal_kernels

        temperatures = tuple(self.energy * self.hot * (COLD / self.hot) ** part for part in (begun, ended))
        seed = (self.seed * 1_000_003 + self.slices) % (1 << 32)
        self.slices += 1
        _anneal_kernels.anneal(
            self.current, self.best, self.values, self.preds, self.succs, self.model, temperatures, tries, seed, stop
        )


def model_of(graph: Graph, objective: Objective) -> tuple[Any, ...]:
    """What the kernels need to know to tell the energy of an order; the objective's arena counts as memory."""
    scales, device = objective.scales or {}, objective.device
    weights = np.zeros(3)
    for name, weight in objective.weights.items():
        weights[{"memory": 0, "arena": 0, "latency": 1, "traffic": 2}[name]] += weight / scales.get(name, 1.0)
    if device is None:
        timing: Any = (*graph.preds, np.zeros(graph.n), np.zeros(graph.n, np.int32), 1)
        chip = (0, 0.0, False)
    else:
        timing = tuple(latency_arrays(graph, device))
        chip = (device.on_chip_bytes, 1.0 / device.bandwidth, concurrent(graph, device))
    limit = -1 if objective.peak_limit is None else objective.peak_limit
    memory, touching = tuple(memory_model(graph).simulator), tuple(traffic_arrays(graph))
    return weights, limit, memory, timing, touching, chip


def anneal(chains: Sequence[Annealing], stopper: Stopper, seconds: float, tries: int | None) -> None:
    """Cool ``chains`` down, each in a thread, within ``seconds`` or, where given, in so many ``tries`` of each."""
    stopper.map([partial(_cool, chain, seconds, tries) for chain in chains])


def _cool(chain: Annealing, seconds: float, tries: int | None, stop: Flag) -> None:
    begun, size = time.monotonic(), SLICE_TRIES
    part = 0.0
    done = 0
    while part < 1.0 and not stop[0]:
        if tries is not None:
            size = min(SLICE_TRIES, tries - done)
            after = (done + size) / tries
        else:
            after = min(1.0, (time.monotonic() - begun + SLICE_SECONDS) / seconds)
        began = time.monotonic()
        chain.slice(part, after, size, stop)
        done += size
        took = time.monotonic() - began
        if tries is None:
            size = max(1, int(size * min(4.0, SLICE_SECONDS / max(took, 1e-6))))
            after = max(after, (time.monotonic() - begun) / seconds)
        part = after
