"""Evaluations on the workers of a Dask cluster, of which some are lost."""

import json
import os

import dask
import pytest
from distributed import Client, LocalCluster

from bayesopt_perm import minimize
from bayesopt_perm.__main__ import main
from bayesopt_perm.workers import DaskExecutor
from tests.bayesopt_perm.workers import PROBLEM, DiesAlways, DiesOnce

OPTIONS = {"budget": 24, "batch_size": 4, "initial": 12, "seed": 5}


@pytest.fixture(scope="module")
def cluster():
    settings = {"distributed.scheduler.allowed-failures": 0}  # it gives up at once
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as started,
    ):
        yield started


def told(result):
    return sorted((evaluation.order.tolist(), evaluation.value) for evaluation in result.history)


def test_a_lost_worker_loses_no_evaluation(cluster, tmp_path):
    with Client(cluster) as client:
        before = set(client.run(os.getpid).values())
        result = minimize(DiesOnce(tmp_path), 9, executor=client.get_executor(pure=False), **OPTIONS)
        client.wait_for_workers(2, timeout=60)
        after = set(client.run(os.getpid).values())
    assert (tmp_path / "died").exists()
    assert len(before) == 2
    assert len(before & after) == 1
    assert [evaluation.failure for evaluation in result.history if evaluation.failure] == []
    assert told(result) == told(minimize(PROBLEM, 9, **OPTIONS))


def test_an_order_that_no_worker_survives_is_a_failed_evaluation(cluster):
    def executor():
        return DaskExecutor(cluster.scheduler_address)

    result = minimize(DiesAlways(), 9, executor=executor, **{**OPTIONS, "budget": 12})
    lost = [evaluation for evaluation in result.history if evaluation.failure]
    assert 3 in [evaluation.order[0] for evaluation in lost]
    assert all(evaluation.failure.startswith("KilledWorker") for evaluation in lost)
    assert len(result.history) == 12


def test_from_the_command_line(cluster, tmp_path, capsys):
    (tmp_path / "measured.py").write_text("def moved(order):\n    return float(sum(abs(order - sorted(order))))\n")
    argv = [f"{tmp_path}/measured.py:moved", "-n", "6", "--budget", "20", "--initial", "10", "--json"]
    assert main([*argv, "--dask", cluster.scheduler_address]) == 0
    distributed = json.loads(capsys.readouterr().out)
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out) == distributed
    assert (distributed["evaluations"], distributed["stopped"]) == (20, "budget")
