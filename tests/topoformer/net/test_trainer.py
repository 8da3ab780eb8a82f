"""Training: exact restarts, several processes that add up to one, losses that fall."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from graphs.synthetic import layered
from topoformer.net._rollout_kernels import DYNAMIC
from topoformer.net.losses import Goal, loss
from topoformer.net.model import Size
from topoformer.net.pool import item
from topoformer.net.trainer import Recipe, Trainer

ROOT = Path(__file__).parents[3]
RECIPE = Recipe(
    Size(1, 16, 4, 16), seed=3, steps=12, samples=4, micro_batches=2, graphs=3, pairs=10**6, imitation=0.4, subset=2,
    warm_up=5, rate=1e-2,
)  # fmt: skip


def pool():
    made = []
    for seed in range(6):
        graph = layered(20 + 5 * seed, seed=seed)
        made.append(item(graph, seed, 10**9, np.arange(graph.n, dtype=np.int32)))
    return made[::-1]


def trainer(threads):
    return Trainer(RECIPE, pool(), torch.device("cpu"), threads)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as made:
        yield made


def weights(made):
    return torch.cat([p.detach().flatten() for p in made.net.parameters()])


def test_a_restart_repeats_the_run_bit_for_bit(threads, tmp_path):
    one = trainer(threads)
    for step in range(8):
        if step == 5:
            one.save(tmp_path / "checkpoint.pt")
        one.advance(step / 8)
    two = trainer(threads)
    two.load(tmp_path / "checkpoint.pt")
    assert two.step == 5
    for step in range(5, 8):
        two.advance(step / 8)
    assert torch.equal(weights(one), weights(two))
    assert [x.best_peak for x in one.pool] == [x.best_peak for x in two.pool]


def test_training_lowers_cost_and_loss(threads):
    made = trainer(threads)
    losses = [made.advance(0.1).imitation for _ in range(40)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert all(x.best_peak == 10**9 for x in made.pool)  # imitation samples nothing
    made.advance(0.9)
    assert any(x.best_peak < 10**9 for x in made.pool)


def test_without_reinforcement_samples_are_labels_and_nothing_else(threads):
    x = pool()[0]
    found = loss(x, np.zeros((x.n, 1 + DYNAMIC), np.float32), Goal(0.0, 0.0, 4), 1)
    assert not found.gradient.any()
    assert found.best.peak_bytes < x.best_peak
    made = Trainer(replace(RECIPE, reinforcement=0.0, recall=1.0), pool(), torch.device("cpu"), threads)
    goals = [made._phase(progress)[0] for progress in (0.1, 0.9)]
    assert [(g.imitation, g.reinforcement, g.samples) for g in goals] == [(1.0, 0.0, 0), (1.0, 0.0, 4)]


def gradient(made):
    made.gradients(Goal(0.5, 1.0, 4, 0.5))
    return torch.cat([p.grad.flatten() for p in made.net.parameters()])


WORKER = """
import sys, torch
from concurrent.futures import ThreadPoolExecutor
from tests.topoformer.net.test_trainer import gradient, trainer
torch.distributed.init_process_group("gloo")
with ThreadPoolExecutor(1) as threads:
    made = trainer(threads)
    found = gradient(made)
    assert made.agreed(float(made.ranks[0])) == 0.0
    torch.save((found, [x.best_peak for x in made.pool]), sys.argv[1] + str(made.ranks[0]))
torch.distributed.barrier()  # one that leaves while the other still talks to it aborts that one
torch.distributed.destroy_process_group()
"""


def test_two_processes_give_the_gradient_of_one(threads, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, str(tmp_path / "rank")]
    workers = [subprocess.Popen(command, env=shared | {"RANK": str(rank)}, cwd=ROOT) for rank in range(2)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    made = trainer(threads)
    expected = gradient(made)
    for rank in range(2):
        found, peaks = torch.load(tmp_path / f"rank{rank}")
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
        assert peaks == [x.best_peak for x in made.pool]
