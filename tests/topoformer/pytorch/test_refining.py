"""Orders refined by costs that are measured on real modules, in this process and in others."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import graphs
import topoformer
from graphs.models import unet_plus_plus
from topoformer.cli import main
from topoformer.pytorch.costs import KINDS, MeasuredCost, heap_bytes
from topoformer.pytorch.measure import Event
from topoformer.pytorch.refining import refine
from topoformer.pytorch.verify import verify


class Branches(nn.Module):
    """Branches of different sizes: their sequence decides what is alive."""

    def forward(self, x):
        made = [(x * k).repeat(k).relu().sum() for k in range(1, 7)]
        return torch.stack(made).sum()


INPUTS = (torch.ones(1000),)


def size_of_places(module, inputs):
    """Runs the module, and has a cost that no simulator knows: late large branches are dear."""
    module(*inputs)
    names = [node.name for node in module.graph.nodes if "repeat" in node.name]
    return float(sum(place * (1 + len(name)) for place, name in enumerate(names)) + names.index("repeat"))


def often_fails(module, inputs):
    """Fails, or ends its process, for some of the orders."""
    names = [node.name for node in module.graph.nodes if "repeat" in node.name]
    if names[0] == "repeat_2":
        os._exit(3)
    if names[0] == "repeat_3":
        raise MemoryError("out of memory")
    return float(sum(place * int(name.partition("_")[2] or 0) for place, name in enumerate(names)))


def asked(**more):
    return {"evaluations": 24, "batch_size": 4, "seconds": 1.0, "seed": 3, "workers": 0} | more


@pytest.mark.parametrize("cost", KINDS)
def test_every_measured_cost(cost):
    found = refine(Branches(), INPUTS, cost=cost, **asked(evaluations=6))
    assert found.value <= min(found.start_value, found.program_value) or cost == "seconds"
    assert found.schedule.objective.name == f"measured {cost}"
    assert len(found.trials) <= 6
    assert torch.equal(found.module(*INPUTS), Branches()(*INPUTS))
    assert graphs.check_order(found.schedule.graph, found.schedule.order) is not None


def test_a_function_of_ones_own_gets_the_reordered_module():
    found = refine(Branches(), INPUTS, cost=size_of_places, **asked())
    assert found.value <= found.start_value
    assert found.value < found.program_value
    assert found.value == size_of_places(found.module, INPUTS)
    assert found.schedule.objective.name == "measured size_of_places"


def test_the_heap_of_a_real_network_gets_smaller():
    module, inputs = unet_plus_plus(resolution=32, channels=8, depth=4)
    found = refine(module, inputs, cost="heap", **asked(evaluations=30))
    cost = MeasuredCost(found.program, "heap")
    assert found.value <= min(found.start_value, found.program_value)
    own = graphs.program_order(found.schedule.graph)
    assert cost(own) == found.value  # the program handed back is in that order


def test_a_candidate_that_ends_its_process_is_a_failed_evaluation():
    found = refine(Branches(), INPUTS, cost=often_fails, **asked(workers=1, evaluations=20, seconds=0.5))
    reasons = {trial.failure.split(":")[0] for trial in found.trials if trial.failure}
    assert found.value <= found.start_value
    assert len(found.trials) >= 18
    assert reasons
    assert reasons <= {"MemoryError", "its worker was lost 2 times"}


def test_a_journal_goes_on(tmp_path):
    journal = tmp_path / "tried.jsonl"
    seen = []

    def stop(count, best):
        seen.append(count)
        if count == 9:
            raise KeyboardInterrupt

    first = refine(Branches(), INPUTS, cost=size_of_places, journal=journal, progress=stop, **asked())
    assert first.stopped == "interrupted"
    second = refine(Branches(), INPUTS, cost=size_of_places, journal=journal, **asked())
    whole = refine(Branches(), INPUTS, cost=size_of_places, **asked())
    assert second.value == whole.value
    assert [t.order.tolist() for t in second.trials] == [t.order.tolist() for t in whole.trials]


def test_what_is_refused():
    with pytest.raises(ValueError, match="unknown measured cost 'peek'; did you mean 'peak'"):
        refine(Branches(), INPUTS, cost="peek", **asked())
    with pytest.raises(ValueError, match="'workers' must not be negative"):
        refine(Branches(), INPUTS, **asked(workers=-1))

    def fails(module, inputs):
        raise RuntimeError("no device")

    with pytest.raises(ValueError, match="in the order given: RuntimeError: no device"):
        refine(Branches(), INPUTS, cost=fails, **asked())
    assert topoformer.refine is refine


def test_a_program_with_one_order_is_given_back():
    found = refine(nn.Sequential(nn.ReLU(), nn.Tanh()), (torch.ones(3),), **asked())
    assert found.value == found.program_value
    assert "can be moved" in found.stopped


def replay(*events):
    inside = [Event("", address, size) for address, size in events]
    return heap_bytes([Event("", 99, 640), Event("begin", 0, 0), *inside, Event("end", 0, 0), Event("", 98, 640)])


def test_a_heap_by_hand():
    """Blocks of 64: a hole of 2 takes one of 2, not one of 3; neighbours join; the last block grows."""
    assert replay() == 0
    assert replay((1, 1), (2, 64), (3, 65)) == 4 * 64
    assert replay((1, 128), (2, 64), (1, -128), (3, 192)) == 6 * 64
    assert replay((1, 128), (2, 64), (1, -128), (3, 128)) == 3 * 64
    assert replay((1, 64), (2, 64), (3, 64), (1, -64), (2, -64), (4, 128)) == 3 * 64
    assert replay((1, 64), (2, 64), (2, -64), (3, 128)) == 3 * 64
    assert replay((7, -64), (1, 64)) == 64


def test_the_heap_holds_at_least_what_is_alive():
    rng = np.random.default_rng(0)
    for _ in range(200):
        events, alive, top = [], {}, 0
        for step in range(60):
            if alive and rng.random() < 0.5:
                address = int(rng.choice(list(alive)))
                events.append((address, -alive.pop(address)))
            else:
                alive[step] = int(rng.integers(1, 500))
                events.append((step, alive[step]))
            top = max(top, sum(-(-size // 64) * 64 for size in alive.values()))
        assert top <= replay(*events) <= 3 * top


def test_on_the_command_line(tmp_path, capsys, monkeypatch):
    source = tmp_path / "net.py"
    source.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n"
        "        return torch.stack([(x * k).repeat(k).relu().sum() for k in range(1, 6)]).sum()\n\n\n"
        "def make():\n    return Net(), torch.ones(500)\n"
    )
    command = ["schedule", f"{source}:make", "--method", "bo", "--seconds", "1"]
    measured = [*command, "--cost", "measured", "--evaluations", "16", "--workers", "0"]
    assert main([*measured, "--objective", "arena", "--journal", str(tmp_path / "j.jsonl")]) == 0
    out, err = capsys.readouterr()
    assert "measured heap" in out
    assert "measured " in err
    assert (tmp_path / "j.jsonl").exists()
    for extra, text in (
        (["--evaluations", "5"], "--evaluations goes with --method bo --cost measured"),
        (["--cost", "measured", "--objective", "traffic"], "knows memory, arena and latency"),
        (["--cost", "measured", "--memory-limit", "1GiB"], "--memory-limit does not go with"),
    ):
        assert main([*command, *extra]) == 2
        assert text in capsys.readouterr().err
    assert main(["schedule", f"{source}:make", "--cost", "measured"]) == 2
    assert "needs --method bo" in capsys.readouterr().err


def test_a_limit_holds_when_the_program_is_run():
    """Least traffic within a limit on memory: what is measured keeps within it, to the byte as predicted."""
    module, inputs = unet_plus_plus(resolution=32, channels=8, depth=4)
    program = topoformer.capture(module, inputs)
    graph = graphs.from_fx(program)
    chip = replace(graphs.DEVICES["cortex-m7"], on_chip_bytes=graphs.peak_bytes(graph) // 4)
    asked = {"objective": "traffic", "device": chip, "seconds": 20.0, "steps": 1500}
    free = topoformer.schedule(graph, **asked)
    least = topoformer.schedule(graph, seconds=5.0).cost.peak_bytes
    limit = max(least, free.cost.peak_bytes - 1)
    held = topoformer.schedule(graph, memory_limit=graph.resident_bytes + limit, **asked)
    measured = verify(program, held)
    assert measured.holds
    assert measured.new.storage_bytes == held.cost.peak_bytes <= limit
    assert held.cost.traffic_bytes <= held.program_cost.traffic_bytes or held.program_cost.peak_bytes > limit


def test_a_dask_cluster_measures():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        found = refine(Branches(), INPUTS, cost="heap", dask=cluster.scheduler_address, **asked(evaluations=12))
    assert found.value <= found.start_value
    assert len(found.trials) == 12
