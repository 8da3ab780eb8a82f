"""PyTorch Geometric's view of the training graphs, and networks of its layers, beside the padded batches."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import TransformerConv

from bench.encoders import encoders
from graphs.synthetic import layered, tree
from topoformer.net.batch import collate
from topoformer.net.geometric import ENCODING, Graphs, data_of, random_signs, unpadded, widened
from topoformer.net.model import Attention, Masks, Size
from topoformer.net.pool import item
from topoformer.net.relations import RELATIONS
from topoformer.net.trainer import Recipe, Trainer

ITEMS = [item(g, seed) for seed, g in enumerate((layered(50, seed=1), tree(30, seed=2), layered(120, seed=3)))]
SMALL = item(layered(5, seed=1))
CPU = torch.device("cpu")


def sorted_edges(data):
    rows = torch.cat([data.edge_index, data.edge_type[None]]).T.tolist()
    return sorted(map(tuple, rows))


def test_edges_are_the_graph_s_own_both_ways():
    for x in ITEMS:
        edges = [(int(u), v) for v in range(x.n) for u in x.preds.row(v)]
        found = sorted_edges(data_of(x))
        assert sorted((u, v) for u, v, kind in found if kind % 2) == sorted(edges)  # from what runs before
        assert sorted((v, u) for u, v, kind in found if kind % 2 == 0) == sorted(edges)


def test_the_encoding_consists_of_eigenvectors():
    for x in [*ITEMS, SMALL]:
        data, n = data_of(x), x.n
        adjacent = np.zeros((n, n))
        adjacent[tuple(data.edge_index.numpy())] = 1
        scale = 1 / np.sqrt(np.maximum(adjacent.sum(0), 1))
        laplacian = np.diag(adjacent.sum(0) > 0) - scale[:, None] * adjacent * scale
        lowest = np.linalg.eigvalsh(laplacian)
        for number, vector in enumerate(data.laplacian.numpy().T):
            if number + 1 < n:
                assert np.square(vector).mean() == pytest.approx(1.0, abs=1e-4)
                np.testing.assert_allclose(laplacian @ vector, lowest[number + 1] * vector, atol=2e-3)
            else:
                assert not vector.any()
        assert torch.equal(data.laplacian, data_of(x).laplacian)
        assert np.array_equal(widened(x).features[:, -ENCODING:], data.laplacian.numpy())


def test_signs_are_random_in_training_only():
    state = torch.random.get_rng_state()
    still, moving = Graphs(ITEMS), Graphs(ITEMS, train=True)
    assert torch.equal(state, torch.random.get_rng_state())  # encoding draws nothing that training would miss
    plain = still[0].laplacian
    assert torch.equal(plain, still[0].laplacian)
    signs = torch.stack([(moving[0].laplacian / plain).nanmedian(0).values for _ in range(40)])
    assert torch.equal(signs.abs(), torch.ones(40, ENCODING))
    assert (signs.std(0) > 0).all()
    assert len(signs.unique(dim=0)) > 10  # each vector has a sign of its own
    assert torch.equal(moving.get(0).laplacian, plain)
    one, two = random_signs(torch.ones(2, 7, ENCODING)).unbind()
    assert (one == one[0]).all()
    assert (two == two[0]).all()


def test_what_is_validated_has_the_same_signs_each_time():
    make = encoders()["Topoformer with Laplacian encoding"].make
    pool = [widened(x) for x in ITEMS]
    recipe = Recipe(Size(1, 16, 4, 16), graphs=2, micro_batches=1)
    with ThreadPoolExecutor(1) as threads:
        trainer = Trainer(recipe, pool, CPU, threads, make)
        trainer.advance(0.5)
        one, two = trainer.outputs(pool), trainer.outputs(pool)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_loader_s_batch_is_the_padded_one_without_the_padding():
    batch = next(iter(DataLoader(Graphs(ITEMS), len(ITEMS))))
    found = unpadded(*collate(ITEMS, CPU))
    assert torch.equal(found.x, batch.x)
    assert torch.equal(found.batch, batch.batch)
    assert sorted_edges(found) == sorted_edges(batch)


def test_attention_of_a_padded_batch_is_that_of_pytorch_geometric_on_a_loader_s():
    torch.manual_seed(1)
    attention = Attention(24, 8)
    attention.out = torch.nn.Identity()
    batch = next(iter(DataLoader(Graphs(ITEMS), len(ITEMS))))
    features, relation = collate(ITEMS, CPU)
    embed = torch.nn.Linear(features.shape[-1], 24)
    padded = attention(embed(features), Masks(relation, torch.float32)).view(*features.shape[:2], len(RELATIONS), 8)
    found = torch.cat([padded[row, : x.n] for row, x in enumerate(ITEMS)])
    for number in range(4):
        layer = TransformerConv(24, 8, root_weight=False)
        weight, bias = attention.qkv.weight.view(3, 7, 8, 24), attention.qkv.bias.view(3, 7, 8)
        for part, linear in enumerate((layer.lin_query, layer.lin_key, layer.lin_value)):
            linear.weight.data, linear.bias.data = weight[part, number].data, bias[part, number].data
        edges = batch.edge_index[:, batch.edge_type == number]
        torch.testing.assert_close(found[:, number], layer(embed(batch.x), edges), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", encoders())
def test_padding_and_batches_change_nothing_for_the_ablation_s_encoders(name):
    torch.manual_seed(0)
    variant = encoders()[name]
    network = variant.make(Size(2, 16, 4, 16)).eval()
    items = [widened(x) for x in ITEMS] if variant.encoding else ITEMS
    with torch.no_grad():
        together = network(*collate(items, CPU))
        for row, x in enumerate(items):
            alone = network(torch.from_numpy(x.features)[None], torch.from_numpy(x.relation)[None])
            torch.testing.assert_close(together[row, : x.n], alone[0], atol=2e-5, rtol=1e-4)
    if variant.encoding:
        network.train()
        assert not torch.equal(network(*collate(items, CPU)), network(*collate(items, CPU)))
