"""Training graphs, labels and the command that trains."""

import signal

import numpy as np
import pytest
import torch

import graphs
from graphs import check_order, peak_bytes
from graphs.models import ZOO
from graphs.synthetic import layered
from topoformer.net import traced, train
from topoformer.net.data import TRAIN_SEEDS, VALID_SEEDS, Draw, perturbed, save_traced
from topoformer.net.labels import label, labels, load_labels, mixed, save_labels
from topoformer.net.pool import item, items, slices, tasks
from topoformer.net.stored import load_encoder


def test_a_seed_gives_one_graph_and_test_seeds_none():
    draw = Draw(20, 60)
    made = [draw(TRAIN_SEEDS + i) for i in range(40)]
    assert [g.fingerprint for g in made] == [draw(TRAIN_SEEDS + i).fingerprint for i in range(40)]
    assert all(20 <= g.n <= 60 for g in made)
    assert len({g.name.split("_n")[0] for g in made}) >= 4
    with pytest.raises(ValueError, match=r"seeds below 500000 are kept for tests \(got 1016\)"):
        draw(1016)
    with pytest.raises(ValueError, match="12 <= low <= high"):
        Draw(5, 60)


def test_traced_graphs_are_read_and_perturbed(tmp_path):
    save_traced(tmp_path, [("net", lambda: layered(40, seed=1))])
    save_traced(tmp_path, [("net", lambda: pytest.fail("made twice"))])
    base = graphs.load(tmp_path / "net.json.gz")
    sizes = [perturbed(base, np.random.default_rng(s)).size for s in range(12)]
    assert any((size != base.size).any() for size in sizes)
    assert any((size == base.size).all() for size in sizes)
    drawn = [Draw(20, 60, traced=str(tmp_path))(VALID_SEEDS + i) for i in range(60)]
    assert any(g.labels == base.labels and (g.preds.idx == base.preds.idx).all() for g in drawn if g.n == base.n)


def test_labels_are_legal_good_and_come_back_from_disk(tmp_path):
    draw = Draw(20, 40)
    made = [label(TRAIN_SEEDS + i, draw, 20) for i in range(6)]
    for x in made:
        graph = draw(x.seed)
        assert peak_bytes(graph, check_order(graph, x.order)) == x.peak_bytes <= peak_bytes(graph)
    mine, width = mixed(TRAIN_SEEDS, "")
    assert mixed(TRAIN_SEEDS + 9, "x")[0].traced == "x"
    (again,) = labels([TRAIN_SEEDS], "", processes=1)
    assert (again.peak_bytes, again.low) == (label(TRAIN_SEEDS, mine, width).peak_bytes, mine.low)
    save_labels(tmp_path / "labels.npz", made)
    back = load_labels(tmp_path / "labels.npz")
    assert [(x.seed, x.low, x.high, x.peak_bytes, x.order.tolist()) for x in back] == [
        (x.seed, x.low, x.high, x.peak_bytes, x.order.tolist()) for x in made
    ]


def test_slices_are_neighbours_in_size_within_the_limits():
    pool = items(tasks(range(TRAIN_SEEDS, TRAIN_SEEDS + 20), Draw(20, 60)), 0)
    assert [x.n for x in pool] == sorted((x.n for x in pool), reverse=True)
    rng = np.random.default_rng(0)
    for _ in range(50):
        part = slices(pool, 4 * 60**2, 7, rng)
        assert 1 <= len(part) <= 7
        assert max(x.n for x in part) ** 2 * len(part) <= 4 * 60**2 or len(part) == 1


def test_an_item_keeps_the_best_order():
    x = item(layered(20, seed=1))
    x.learn(10, np.arange(20, dtype=np.int32))
    x.learn(12, np.zeros(20, np.int32))
    assert (x.best_peak, x.best_order.tolist()) == (10, list(range(20)))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The whole recipe, as small as it gets, but for the folder and the number of steps."""
    monkeypatch.setattr(train.validation, "GROUPS", {"layered": (2, Draw(20, 20, layered_only=True))})
    monkeypatch.setattr(train.validation, "EXAMPLES", 1)
    return [
        "--labels", str(tmp_path / "labels.npz"), "--label-count", "4", "--graphs", "3",
        "--ranges", "12-20,20-30,30-40", "--references", str(tmp_path / "beam.json"), "--layers", "1", "--width", "8",
        "--samples", "2", "--micro-batches", "1", "--graphs-a-batch", "2", "--threads", "1", "--device", "cpu",
    ]  # fmt: skip


def test_the_whole_recipe_runs_and_goes_on_where_it_stopped(tmp_path, command, capfd):
    run = [*command, "--out", str(tmp_path / "run")]
    assert train.main([*run, "--steps", "3"]) == 0
    assert "step 3" in capfd.readouterr().err
    assert train.main([*run, "--steps", "5"]) == 0
    assert "step 5" in capfd.readouterr().err
    assert len((tmp_path / "run" / "curve.jsonl").read_text().splitlines()) == 2
    assert load_encoder(folder=tmp_path / "run").policy(layered(30, seed=1)).priority.shape == (30,)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_asked_to_end_goes_on_as_if_nothing_had_been(tmp_path, command, monkeypatch, capfd, number):
    advance = train.Trainer.advance

    def asked_at_the_third(self, progress):
        if self.step == 2:
            signal.raise_signal(number)
        return advance(self, progress)

    handler = signal.getsignal(number)
    assert train.main([*command, "--steps", "6", "--out", str(tmp_path / "one")]) == 0
    monkeypatch.setattr(train.Trainer, "advance", asked_at_the_third)
    assert train.main([*command, "--steps", "6", "--out", str(tmp_path / "two")]) == 0
    assert "interrupted after step 3: the same command goes on" in capfd.readouterr().err
    assert signal.getsignal(number) == handler
    monkeypatch.setattr(train.Trainer, "advance", advance)
    assert train.main([*command, "--steps", "6", "--out", str(tmp_path / "two")]) == 0
    one, two = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=False) for name in ("one", "two"))
    assert one["step"] == two["step"] == 6
    assert all(torch.equal(one["net"][name], two["net"][name]) for name in one["net"])
    assert one["notes"][:2] == two["notes"][:2]


def test_worse_weights_do_not_replace_better_ones_after_a_restart(tmp_path, command):
    run = [*command, "--out", str(tmp_path / "run")]
    assert train.main([*run, "--steps", "2"]) == 0
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=False)
    torch.save(state | {"notes": (-1.0, 0, 5.0)}, checkpoint)  # better than anything can be
    before = (tmp_path / "run" / "dynamic.safetensors").read_bytes()
    assert train.main([*run, "--steps", "4"]) == 0
    assert (tmp_path / "run" / "dynamic.safetensors").read_bytes() == before
    assert torch.load(checkpoint, weights_only=False)["notes"][:2] == (-1.0, 1)


def test_variants_of_the_zoo_trace():
    assert traced.trace("resnet").n > 30
    assert {factory for factory, _ in traced.VARIANTS.values()} <= set(ZOO)
