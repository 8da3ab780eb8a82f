"""The network: attention against PyTorch Geometric's, padding and batches, the copy of it that needs no PyTorch."""

import numpy as np
import pytest
import torch

from graphs.synthetic import layered, tree
from tests.strategies import random_graph
from topoformer import net
from topoformer.net.batch import collate
from topoformer.net.encoder import Encoder
from topoformer.net.features import features
from topoformer.net.model import Attention, Masks, Size, Topoformer
from topoformer.net.pool import item
from topoformer.net.relations import RELATIONS, pairs, relations

SIZE = Size(2, 24, 4, 32)
GRAPHS = [
    layered(50, seed=1),
    tree(30, seed=2),
    layered(37, seed=3),
    *(g for s in range(9) if (g := random_graph(s)).n > 4),
]
CPU = torch.device("cpu")


def network(size=SIZE):
    torch.manual_seed(0)
    made = Topoformer(size)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def test_attention_is_that_of_pytorch_geometric_on_each_relation():
    conv = pytest.importorskip("torch_geometric.nn").TransformerConv
    torch.manual_seed(1)
    attention = Attention(24, 8)
    attention.out = torch.nn.Identity()
    for graph in GRAPHS:
        relation = relations(graph)
        h = torch.randn(graph.n, 24)
        found = attention(h[None], Masks(torch.from_numpy(relation)[None], torch.float32))[0]
        found = found.view(graph.n, len(RELATIONS), 8)
        for number, (rows, columns) in enumerate(pairs(relation)):
            layer = conv(24, 8, root_weight=False)
            weight, bias = attention.qkv.weight.view(3, 7, 8, 24), attention.qkv.bias.view(3, 7, 8)
            for part, linear in enumerate((layer.lin_query, layer.lin_key, layer.lin_value)):
                linear.weight.data, linear.bias.data = weight[part, number].data, bias[part, number].data
            edges = torch.from_numpy(np.stack([columns, rows]))  # messages go from the second row to the first
            torch.testing.assert_close(found[:, number], layer(h, edges), atol=1e-5, rtol=1e-5)


def test_padding_and_batches_change_nothing():
    made, items = network(), [item(graph) for graph in GRAPHS]
    with torch.no_grad():
        together = made(*collate(items, CPU))
        for row, x in enumerate(items):
            alone = made(torch.from_numpy(x.features)[None], torch.from_numpy(x.relation)[None])
            torch.testing.assert_close(together[row, : x.n], alone[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("decoder", ["dynamic", "static"])
def test_inference_without_pytorch_computes_the_same(decoder):
    made = network(Size(2, 24, 4, 32, decoder))
    tensors = {name: value.numpy() for name, value in made.state_dict().items()}
    copy = Encoder(tensors, 2, 4, decoder)
    for graph in GRAPHS:
        x, relation = features(graph), relations(graph)
        with torch.no_grad():
            expected = made(torch.from_numpy(x)[None], torch.from_numpy(relation)[None])[0].numpy()
        np.testing.assert_allclose(copy(x, relation), expected, atol=1e-4)
        policy = copy.policy(graph)
        assert policy.safe == (decoder == "dynamic")
        assert policy.weight.any() == (decoder == "dynamic")


def test_a_row_without_any_pair_gives_no_gradient_that_is_not_a_number():
    made = network()
    out = made(*collate([item(GRAPHS[1])], CPU))
    out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters())


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match=r"'decoder' must be one of dynamic, static \(got 'x'\)"):
        Size(decoder="x")
    with pytest.raises(ValueError, match=r"'layers' must be positive \(got 0\)"):
        Size(layers=0)


def test_priorities_are_one_number_a_node():
    found = net.priorities(GRAPHS[0])
    assert found.shape == (50,)
    assert np.isfinite(found).all()
