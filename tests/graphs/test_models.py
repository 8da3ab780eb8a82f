"""Every factory of the zoo keeps its contract, and its network is the one that its paper describes."""

import random
import re
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphs.models import ZOO
from graphs.models.cells import FactorizedReduce
from graphs.models.randwire import Stage
from graphs.models.recurrent import ChildSumCell
from graphs.models.transformer import MixtureOfExperts

RANDWIRE: dict[str, Any] = {"resolution": 32, "channels": 8, "nodes": 10, "classes": 7}
CELLS: dict[str, Any] = {"resolution": 32, "layers": 3, "channels": 8, "classes": 7}
IMAGES: dict[str, Any] = {"resolution": 32, "channels": 8, "classes": 7}
TOKENS: dict[str, Any] = {"length": 6, "dim": 16, "heads": 2, "layers": 2, "vocabulary": 11}

SMALL: dict[str, dict[str, Any]] = {
    "randwire_ws": RANDWIRE,
    "randwire_er": RANDWIRE | {"p": 0.4},
    "randwire_ba": RANDWIRE | {"m": 3},
    "nasnet_a": {"resolution": 32, "cells": 1, "filters": 8, "classes": 7},
    "pnasnet": {"resolution": 32, "cells": 2, "filters": 8, "classes": 7},
    "darts": CELLS,
    "amoebanet": CELLS,
    "unet_plus_plus": {"resolution": 16, "channels": 4, "depth": 4, "classes": 2},
    "hrnet": {"resolution": 32, "channels": 4, "modules": (1, 1, 1), "blocks": 1, "classes": 7},
    "bifpn": {"resolution": 128, "channels": 8, "layers": 2},
    "moe": TOKENS | {"experts": 3},
    "transformer": TOKENS,
    "resnet18": IMAGES,
    "mobilenet": IMAGES,
    "densenet": {"resolution": 32, "growth": 4, "blocks": (2, 3, 2), "classes": 7},
    "inception": IMAGES,
    "lstm": {"batch": 2, "steps": 4, "inputs": 3, "hidden": 8, "classes": 7},
    "tree_lstm": {"batch": 2, "leaves": 9, "hidden": 8, "vocabulary": 11},
}

OUTPUT: dict[str, tuple[int, ...]] = {
    "unet_plus_plus": (1, 2, 16, 16),
    "hrnet": (1, 7, 8, 8),
    "moe": (1, 6, 11),
    "transformer": (1, 6, 11),
    "lstm": (2, 4, 7),
    "tree_lstm": (2, 5),
}

# Millions of weights that the papers or their authors' code give for the defaults here and the
# tolerance: none where the exact count is known.
PUBLISHED = {
    "randwire_ws": (5.6, 0.05),
    "nasnet_a": (5.3, 0.05),
    "pnasnet": (5.1, 0.05),
    "darts": (4.718752, 1e-7),
    "resnet18": (11.689512, 1e-7),
    "mobilenet": (3.504872, 1e-7),
    "densenet": (7.978856, 1e-7),
    "inception": (7.0, 0.05),
    "hrnet": (3.9, 0.05),
}

# Convolutions and linear layers in the small networks' exported programs, counted by hand from the papers.
PRODUCTS = {
    "randwire_ws": 2 + 3 * 10 * 2 + 1 + 1,
    "unet_plus_plus": 2 * 10 + 1,
    "resnet18": 1 + 16 + 3 + 1,
    "mobilenet": 1 + 2 + 16 * 3 + 1 + 1,
    "densenet": 1 + 2 * 7 + 2 + 1,
    "inception": 3 + 9 * 6 + 1,
    "transformer": 2 * 4 + 1,
    "moe": 2 * (2 + 1 + 3 * 2) + 1,
    "lstm": 2 * 4 * 2 + 1,
    "tree_lstm": 9 + 8 * 3 + 1,
}

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("randwire_ws", {"k": 3}, "'k' must be a positive multiple of 2 (got 3)"),
    ("randwire_ws", {"nodes": 4}, "'nodes' must be at least 5 (got 4)"),
    ("randwire_ws", {"p": 1.5}, "'p' must be in [0, 1] (got 1.5)"),
    ("randwire_er", {"p": -0.1}, "'p' must be in [0, 1] (got -0.1)"),
    ("randwire_er", {"p": 0.0}, "raise 'p'"),
    ("randwire_ba", {"m": 0}, "'m' must be positive (got 0)"),
    ("randwire_ba", {"channels": 7}, "'channels' must be a positive multiple of 2 (got 7)"),
    ("nasnet_a", {"cells": 0}, "'cells' must be positive (got 0)"),
    ("pnasnet", {"filters": 4}, "'filters' must be at least 8 (got 4)"),
    ("darts", {"layers": 2}, "'layers' must be at least 3 (got 2)"),
    ("amoebanet", {"batch": 0}, "'batch' must be positive (got 0)"),
    ("unet_plus_plus", {"resolution": 100}, "'resolution' must be a positive multiple of 16 (got 100)"),
    ("unet_plus_plus", {"depth": 1}, "'depth' must be at least 2 (got 1)"),
    ("hrnet", {"modules": ()}, "'modules' must be positive (got 0)"),
    ("hrnet", {"resolution": 16}, "'resolution' must be a positive multiple of 32 (got 16)"),
    ("bifpn", {"resolution": 0}, "'resolution' must be a positive multiple of 128 (got 0)"),
    ("moe", {"experts": 0}, "'experts' must be positive (got 0)"),
    ("transformer", {"dim": 6}, "'dim' must be a positive multiple of 4 (got 6)"),
    ("transformer", {"heads": 0}, "'heads' must be positive (got 0)"),
    ("resnet18", {"channels": -1}, "'channels' must be positive (got -1)"),
    ("mobilenet", {"classes": 0}, "'classes' must be positive (got 0)"),
    ("densenet", {"blocks": (2, 0)}, "'blocks' must be positive (got 0)"),
    ("inception", {"channels": 0}, "'channels' must be positive (got 0)"),
    ("lstm", {"steps": 0}, "'steps' must be positive (got 0)"),
    ("tree_lstm", {"arity": 1}, "'arity' must be at least 2 (got 1)"),
    ("tree_lstm", {"leaves": 1}, "'leaves' must be at least 2 (got 1)"),
]

named = pytest.mark.parametrize("name", ZOO)


def small(name: str, **changes: Any) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return ZOO[name](**(SMALL[name] | changes))


def outputs(net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        out = net(*inputs)
    return out if isinstance(out, tuple) else (out,)


@named
def test_outputs_are_finite_and_depend_on_the_inputs(name: str) -> None:
    net, inputs = small(name)
    assert not net.training
    out = outputs(net, inputs)
    _, others = small(name, seed=1)
    for here, there in zip(out, outputs(net, others), strict=True):
        assert here.isfinite().all()
        assert (here - there).abs().max() > 1e-4 * here.abs().max()
    if name != "bifpn":
        assert out[0].shape == OUTPUT.get(name, (1, 7))


@named
def test_same_seed_same_network_and_no_global_state_touched(name: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    net, inputs = small(name)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    torch.rand(3)
    np.random.rand(3)
    random.random()
    again, same_inputs = small(name)
    assert all(map(torch.equal, inputs, same_inputs))
    assert all(map(torch.equal, outputs(net, inputs), outputs(again, inputs)))


@named
def test_another_seed_draws_other_weights_and_inputs(name: str) -> None:
    net, inputs = small(name)
    other, other_inputs = small(name, seed=1)
    assert not torch.equal(inputs[0], other_inputs[0])
    for here, there in zip(outputs(net, inputs), outputs(other, inputs), strict=True):
        assert not torch.allclose(here, there)


@named
def test_export_has_the_layers_and_computes_the_same(name: str) -> None:
    net, inputs = small(name)
    program = torch.export.export(net, inputs)
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    products = sum(target.startswith(("aten.conv2d", "aten.linear")) for target in targets)
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules())
    assert products == PRODUCTS.get(name, layers)
    assert len(targets) > 1.5 * products
    for here, there in zip(outputs(net, inputs), outputs(program.module(), inputs), strict=True):
        torch.testing.assert_close(here, there)


@named
def test_default_network_can_be_built_and_run_on_meta(name: str) -> None:
    with torch.device("meta"):
        net, inputs = ZOO[name]()
        out = outputs(net, inputs)
    assert all(tensor.is_meta for tensor in (*net.state_dict().values(), *inputs, *out))
    bytes_of_weights = sum(p.numel() * p.element_size() for p in net.parameters())
    assert bytes_of_weights < 100e6
    if name in PUBLISHED:
        millions, tolerance = PUBLISHED[name]
        assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=tolerance)


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_wrong_parameter_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ZOO[name](**arguments)


@pytest.mark.parametrize(
    ("name", "edges"),
    [("randwire_ws", 32 * 4 // 2), ("randwire_ba", 5 * (32 - 5)), ("randwire_er", None)],
)
def test_randwire_stages_are_three_different_connected_graphs(name: str, edges: int | None) -> None:
    net, _ = ZOO[name](resolution=8, channels=2)
    stages = [module for module in net.modules() if isinstance(module, Stage)]
    assert len({stage.predecessors for stage in stages}) == 3
    for stage in stages:
        arcs = [(u, v) for v, before in enumerate(stage.predecessors) for u in before]
        graph = nx.DiGraph(arcs)
        assert len(graph) == len(stage.nodes) == 32
        assert nx.is_weakly_connected(graph)
        assert all(u < v for u, v in arcs)
        assert stage.sinks == tuple(v for v in range(32) if graph.out_degree(v) == 0)
        assert edges is None or len(arcs) == edges
        for v, node in enumerate(stage.nodes):
            # Only the nodes that read the stage's input halve the resolution and leave it intact.
            entry = graph.in_degree(v) == 0
            assert node.conv[0].stride == ((2, 2) if entry else (1, 1))
            assert node.relu.inplace == (not entry)


def test_randwire_stage_is_weighted_sums_and_a_plain_mean_of_the_sinks() -> None:
    stage = Stage(((), (), (0, 1), (1,)), 4, 4).eval()
    x = torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        states = [node.conv(x.relu()) for node in stage.nodes[:2]]
        for node, before in zip(stage.nodes[2:], stage.predecessors[2:], strict=True):
            weight = node.edges.sigmoid()
            total = sum(w * states[u] for w, u in zip(weight, before, strict=True))
            states.append(node.conv(total.relu()))
        torch.testing.assert_close(stage(x), (states[2] + states[3]) / 2)


@pytest.mark.parametrize("side", [7, 8])
def test_factorized_reduction_reads_even_and_odd_pixels(side: int) -> None:
    reduce = FactorizedReduce(1, 2).eval()
    for conv in (reduce.even, reduce.odd):
        nn.init.ones_(conv.weight)
    reduce.bn.eps = 1e-30  # changes nothing; not every version of torch takes 0
    x = torch.arange(1.0, side * side + 1).reshape(1, 1, side, side)
    out = reduce(x).detach()[0]
    assert torch.equal(out[0], x[0, 0, ::2, ::2])
    odd = x[0, 0, 1::2, 1::2]
    assert torch.equal(out[1, : len(odd), : len(odd)], odd)


def test_darts_reads_the_map_that_its_stem_overwrites() -> None:
    net, (image,) = small("darts")
    older, _ = outputs(net.stem, (image,))
    assert (older >= 0).all()
    assert (net.stem.quarter(image) < 0).any()


def test_hrnet_stages_gain_a_branch_each_at_half_the_resolution() -> None:
    net, inputs = small("hrnet", resolution=64)
    shapes: list[list[torch.Size]] = []
    for stage in net.stages:
        stage.register_forward_hook(lambda _, __, maps: shapes.append([m.shape for m in maps]))
    (out,) = outputs(net, inputs)
    assert out.shape == (1, 7, 16, 16)
    sizes = [(1, 4, 16, 16), (1, 8, 8, 8), (1, 16, 4, 4), (1, 32, 2, 2)]
    assert shapes == [sizes[:2], sizes[:3], sizes]


def test_bifpn_layer_joins_every_level_into_every_level() -> None:
    net, inputs = small("bifpn", resolution=256)
    assert [m.shape for m in outputs(net, inputs)] == [(1, 8, side, side) for side in (32, 16, 8, 4, 2)]
    maps = [torch.randn(1, 8, 2 << i, 2 << i, requires_grad=True) for i in reversed(range(5))]
    for out in net.layers[0](maps):
        gradients = torch.autograd.grad(out.sum(), maps, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_mixture_sums_all_experts_with_the_gate() -> None:
    mixture = MixtureOfExperts(8, 3)
    x = torch.randn(2, 5, 8)
    gate = mixture.gate(x).softmax(dim=-1)
    expected = sum(gate[..., i : i + 1] * expert(x) for i, expert in enumerate(mixture.experts))
    torch.testing.assert_close(mixture(x), expected)


@pytest.mark.parametrize("name", ["transformer", "moe"])
def test_decoder_is_causal(name: str) -> None:
    net, (tokens,) = small(name)
    changed = tokens.clone()
    changed[0, 3] = (tokens[0, 3] + 1) % 11
    (before,), (after,) = outputs(net, (tokens,)), outputs(net, (changed,))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert ((before - after)[0, 3:].abs().amax(dim=-1) > 1e-4).all()


def test_lstm_agrees_with_that_of_torch() -> None:
    net, (x,) = small("lstm")
    reference = nn.LSTM(3, 8, num_layers=2, batch_first=True)
    with torch.no_grad():
        for layer, cell in enumerate(net.cells):
            getattr(reference, f"weight_ih_l{layer}").copy_(cell.from_input.weight)
            getattr(reference, f"bias_ih_l{layer}").copy_(cell.from_input.bias)
            getattr(reference, f"weight_hh_l{layer}").copy_(cell.from_hidden.weight)
            getattr(reference, f"bias_hh_l{layer}").zero_()
        torch.testing.assert_close(net(x), net.head(reference(x)[0]))


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize(("leaves", "arity", "inner"), [(64, 2, 63), (27, 3, 13), (10, 4, 3), (5, 9, 1)])
def test_tree_nodes_have_one_parent_each(leaves: int, arity: int, inner: int, balanced: bool) -> None:
    net, _ = ZOO["tree_lstm"](leaves=leaves, arity=arity, balanced=balanced, hidden=2)
    assert len(net.children_of) == inner
    assert sorted(child for below in net.children_of for child in below) == list(range(leaves + inner - 1))
    done = set(range(leaves))
    for level in net.levels:
        assert all(done.issuperset(net.children_of[node - leaves]) for node in level)
        done.update(level)
    assert len(done) == leaves + inner


def test_balanced_tree_is_shallow_and_random_ones_differ() -> None:
    assert [len(level) for level in ZOO["tree_lstm"]()[0].levels] == [32, 16, 8, 4, 2, 1]
    trees = {ZOO["tree_lstm"](seed=seed, balanced=False, hidden=2)[0].children_of for seed in range(4)}
    assert len(trees) == 4


def test_tree_cell_sums_children_and_forgets_each_by_its_own_gate() -> None:
    cell = ChildSumCell(4)
    h, c = torch.randn(2, 3, 1, 4)
    i, o, u = cell.gates(h.sum(dim=0)).chunk(3, dim=1)
    expected = i.sigmoid() * u.tanh() + (cell.forget(h).sigmoid() * c).sum(dim=0)
    out_h, out_c = cell(list(zip(h, c, strict=True)))
    torch.testing.assert_close(out_c, expected)
    torch.testing.assert_close(out_h, o.sigmoid() * expected.tanh())
