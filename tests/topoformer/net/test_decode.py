"""The rollout loop against one that is written from the definitions, and the probabilities that it states."""

import math

import numpy as np
import pytest

from graphs import check_order, peak_bytes
from graphs.synthetic import layered
from tests import oracle
from tests.strategies import random_graph
from tests.topoformer.net.common import renumbered
from topoformer import net
from topoformer.net import _rollout_kernels as kernels
from topoformer.net.decode import Policy, best_of, floor_of, follow, greedy, instance, log_likelihood, race, samples
from topoformer.net.guided import guided_beam

GRAPHS = [g for seed in range(25) if (g := random_graph(seed, max_nodes=12)).n] + [layered(40, seed=1)]


def policy(graph, seed, *, safe=True):
    rng = np.random.default_rng(seed)
    return Policy(
        rng.normal(size=graph.n).astype(np.float32),
        rng.normal(size=(graph.n, kernels.DYNAMIC)).astype(np.float32),
        safe,
    )


class State:
    """A rollout from the definitions: sets and sums, nothing kept up to date."""

    def __init__(self, graph, floor):
        self.graph, self.done, self.peak, self.ready_since = graph, [], floor, {}
        self.start = sum(int(graph.size[t]) for t in range(graph.k) if graph.kind[t] == 4 and len(graph.readers.row(t)))
        self.peak = max(floor, self.start)
        self.unit = 1 / max(*map(self.alloc, range(graph.n)), 1)
        self.see()

    def see(self):
        for v in self.ready():
            self.ready_since.setdefault(v, len(self.done))

    def ready(self, done=None):
        done = set(self.done if done is None else done)
        return [v for v in range(self.graph.n) if v not in done and set(self.graph.preds.row(v).tolist()) <= done]

    def alloc(self, v):
        return int(self.graph.size[self.graph.writer == v].sum() + self.graph.scratch[v])

    def live(self, done):
        graph, total = self.graph, 0
        for t in range(graph.k):
            writer, kind = int(graph.writer[t]), int(graph.kind[t])
            readers = set(graph.readers.row(t).tolist())
            if kind == 1:
                total += int(graph.size[t]) * (writer in done)
            elif kind == 4 or (kind == 0 and writer in done):
                total += int(graph.size[t]) * bool(readers - done)
        return total

    def net(self, v, done=None):
        """Change of live bytes: tensors that ``v`` alone is still to read go, its own come."""
        graph, done = self.graph, set(self.done if done is None else done)
        total = 0
        for t in range(graph.k):
            kind, readers = int(graph.kind[t]), set(graph.readers.row(t).tolist())
            if graph.writer[t] == v and (kind == 1 or readers):
                total += int(graph.size[t])
            if kind in (0, 4) and readers - done == {v}:
                total -= int(graph.size[t])
        return total

    def phi(self, v):
        graph, done, t = self.graph, set(self.done), len(self.done)
        share = 0.0
        for tensor in graph.reads.row(v).tolist():
            left = len(set(graph.readers.row(tensor).tolist()) - done)
            if graph.kind[tensor] in (0, 4):
                share += int(graph.size[tensor]) / 2.0 ** math.ceil(math.log2(left))
        opens = [s for s in graph.succs.row(v).tolist() if set(graph.preds.row(s).tolist()) - done == {v}]
        best = min((self.net(s) for s in opens), default=0)
        live = self.live(done)
        over, age = live + self.alloc(v) - self.peak, t - self.ready_since[v]
        return np.array([
            self.net(v) * self.unit, self.net(v) <= 0, share * self.unit, best * self.unit, min(len(opens), 4) / 4,
            self.alloc(v) * self.unit, bool(opens) and self.net(v) + best <= 0, max(over, 0) * self.unit, over <= 0,
            live / max(self.peak, 1), age / (age + 16),
        ])  # fmt: skip

    def safe(self):
        live = self.live(set(self.done))
        return [v for v in self.ready() if self.net(v) <= 0 and live + self.alloc(v) <= self.peak]

    def run(self, v):
        self.peak = max(self.peak, self.live(set(self.done)) + self.alloc(v))
        self.done.append(v)
        self.see()


def choices(graph, chosen, order, floor):
    """(log-likelihood, its gradient) of the choices along ``order``, from the definitions."""
    state, total = State(graph, floor), 0.0
    gradient = np.zeros((graph.n, 1 + kernels.DYNAMIC))
    for v in order.tolist():
        ready, safe = state.ready(), state.safe() if chosen.safe else []
        assert not safe or v in safe
        if not safe and len(ready) > 1:
            phi = np.array([state.phi(u) for u in ready])
            score = np.array([chosen.priority[u] + chosen.weight[u] @ phi[i] for i, u in enumerate(ready)])
            p = np.exp(score - score.max())
            p /= p.sum()
            total += math.log(p[ready.index(v)])
            for i, u in enumerate(ready):
                gradient[u] += ((u == v) - p[i]) * np.concatenate([[1.0], phi[i]])
        state.run(v)
    return total, gradient


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("graph", GRAPHS)
def test_likelihood_and_gradient_are_those_of_the_definitions(graph, safe):
    inst, chosen, floor = instance(graph), policy(graph, 1, safe=safe), floor_of(graph) if graph.n % 2 else 0
    orders, _ = samples(inst, chosen, floor, count=3, seed=5)
    for order in orders:
        check_order(graph, order)
        expected, slope = choices(graph, chosen, order, floor)
        found, gradient = log_likelihood(inst, chosen, order, floor)
        assert found == pytest.approx(expected, abs=1e-3)
        np.testing.assert_allclose(gradient, slope, atol=2e-3)


@pytest.mark.parametrize("graph", GRAPHS)
def test_greedy_runs_a_node_of_the_highest_score(graph):
    inst, chosen = instance(graph), policy(graph, 2)
    made = greedy(inst, chosen, 0)
    state = State(graph, 0)
    for v in made.order.tolist():
        if safe := state.safe():
            assert v in safe
            assert state.net(v) == min(map(state.net, safe))
        else:
            scores = {u: chosen.priority[u] + chosen.weight[u] @ state.phi(u) for u in state.ready()}
            assert scores[v] >= max(scores.values()) - 1e-3
        state.run(v)
    assert made.peak_bytes == peak_bytes(graph, made.order)


def test_samples_have_the_probability_that_they_state():
    graph = random_graph(3, max_nodes=7)
    for safe in (True, False):
        inst, chosen, count = instance(graph), policy(graph, 3, safe=safe), 40_000
        orders, peaks = samples(inst, chosen, 0, count=count, seed=1)
        assert [peak_bytes(graph, order) for order in orders[:50]] == peaks[:50].tolist()
        found, times = np.unique(orders, axis=0, return_counts=True)
        stated = np.array([math.exp(log_likelihood(inst, chosen, order, 0)[0]) for order in found])
        assert stated.sum() == pytest.approx(1.0, abs=1e-3)
        assert np.abs(times / count - stated).sum() / 2 < 0.01  # total variation


def test_the_exponential_race_draws_a_static_policy_exactly():
    graph = random_graph(3, max_nodes=7)
    priority, count = np.random.default_rng(4).normal(size=graph.n).astype(np.float32), 40_000
    inst = instance(graph)
    static = Policy(priority, np.zeros((graph.n, kernels.DYNAMIC), np.float32), safe=False)
    found, times = np.unique(race(inst, priority, count=count, seed=1), axis=0, return_counts=True)
    stated = np.array([math.exp(log_likelihood(inst, static, order, 0)[0]) for order in found])
    assert stated.sum() == pytest.approx(1.0, abs=1e-3)
    assert np.abs(times / count - stated).sum() / 2 < 0.01
    for graph in GRAPHS:
        for order in race(instance(graph), np.zeros(graph.n, np.float32), count=5, seed=graph.n):
            check_order(graph, order)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_replayed_order_takes_safe_moves_first_and_is_never_worse(graph):
    inst = instance(graph)
    for seed in range(3):
        other, place = renumbered(graph, seed)
        order = np.argsort(place).astype(np.int32)
        made = follow(inst, order, 0)
        assert made.peak_bytes == peak_bytes(graph, check_order(graph, made.order)) <= peak_bytes(graph, order)
        assert follow(inst, order, 0, safe=False).order.tolist() == order.tolist()
        assert follow(inst, made.order, 0).order.tolist() == made.order.tolist()
        assert other.n == graph.n


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_best_of_many_is_legal_and_found_on_small_graphs(graph):
    inst, chosen = instance(graph), policy(graph, 4)
    found = best_of(inst, chosen, 0, samples=2000, seed=3)
    assert found.peak_bytes == peak_bytes(graph, check_order(graph, found.order))
    if graph.n <= 12:
        assert found.peak_bytes == oracle.best_peak(graph)
    again = best_of(inst, chosen, 0, samples=2000, seed=3)
    assert again.order.tolist() == found.order.tolist()


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_best_of_many_begins_with_the_better_of_greedy_and_a_known_order(graph):
    inst, chosen = instance(graph), policy(graph, 4)
    orders, _ = samples(inst, chosen, 0, count=30, seed=2)
    peaks = [peak_bytes(graph, order) for order in orders]
    first = greedy(inst, chosen, 0).peak_bytes
    for number in (int(np.argmin(peaks)), int(np.argmax(peaks))):
        found = best_of(inst, chosen, 0, samples=1, seed=3, known=orders[number])
        assert found.peak_bytes == peak_bytes(graph, found.order) == min(first, peaks[number])
        more = best_of(inst, chosen, 0, samples=50, seed=3, known=orders[number])
        assert more.peak_bytes == peak_bytes(graph, check_order(graph, more.order)) <= found.peak_bytes
    assert min(peaks) == peak_bytes(graph, orders[int(np.argmin(peaks))])  # what is known is left as it is


def test_the_best_of_many_ends_at_the_floor_and_when_patience_is_over():
    graph = layered(40, seed=1)
    inst, chosen = instance(graph), policy(graph, 4)
    first = greedy(inst, chosen, 0)
    assert best_of(inst, chosen, first.peak_bytes, samples=50, seed=1).samples == 1
    assert best_of(inst, chosen, 0, samples=10**6, patience=30, seed=1).samples < 10**4
    assert best_of(inst, chosen, 0, samples=50, seed=1, stop=np.ones(1, np.int8)).samples == 1


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_guided_beam_that_leaves_nothing_out_is_exact(graph):
    inst, chosen = instance(graph), policy(graph, 5)
    found = guided_beam(inst, chosen, 4096 if graph.n <= 12 else 8, branching=graph.n)
    assert found.peak_bytes == peak_bytes(graph, check_order(graph, found.order))
    if graph.n <= 12:
        assert found.peak_bytes == (best := oracle.best_peak(graph))
        assert guided_beam(inst, chosen, 4096, branching=graph.n, limit=best - 1).order is None
        assert guided_beam(inst, chosen, 4096, branching=graph.n, floor=best, limit=best).peak_bytes == best
    assert guided_beam(inst, chosen, 4, stop=np.ones(1, np.int8)).order is None


def test_a_narrow_guided_beam_is_legal_and_better_than_greedy_on_average():
    gains = []
    for seed in range(8):
        graph = layered(120, seed=800_000 + seed)
        inst, chosen = instance(graph), net.scores(graph)
        found = guided_beam(inst, chosen, 16)
        assert found.peak_bytes == peak_bytes(graph, check_order(graph, found.order))
        gains.append(found.peak_bytes / greedy(inst, chosen, 0).peak_bytes)
    assert np.mean(gains) < 1.0


@pytest.mark.parametrize("decoder", ["dynamic", "static"])
def test_renumbering_changes_neither_scores_nor_the_greedy_peak(decoder):
    for number, graph in enumerate(
        [layered(120, seed=900_001), *(g for s in range(12) if (g := random_graph(s, max_nodes=30)).n)]
    ):
        other, place = renumbered(graph, number)
        one, two = net.scores(graph, decoder), net.scores(other, decoder)
        np.testing.assert_allclose(two.priority[place], one.priority, atol=1e-4)
        np.testing.assert_allclose(two.weight[place], one.weight, atol=1e-4)
        peaks = [greedy(instance(g), p, floor_of(g)).peak_bytes for g, p in ((graph, one), (other, two))]
        assert peaks[0] == peaks[1]
