"""Every entry about a kernel's memory is needed: a small program obeys the reality law only with it."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import graphs
from graphs import fx_kernels
from tests.reality import disagreements, rand, traced

aten = torch.ops.aten
IDS, STARTS = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 2])


def gapped(x: torch.Tensor) -> torch.Tensor:
    return x.exp()[:, ::2]


def loss(function: Callable[..., torch.Tensor]) -> tuple[Any, ...]:
    return lambda x, y: function(x, y) + 1, rand(6, 4).sigmoid(), rand(4, 6).t().sigmoid()


def bag(op: Any) -> tuple[Any, ...]:
    return lambda table, ids, starts: op(table, ids, starts, False, 1)[0] + 1, rand(9, 4), IDS, STARTS


LAYER = (rand(5, 2, 8), rand(64, 8), rand(64, 16), rand(64), rand(64), rand(2, 16))  # input, weights, state


def lstm(x: torch.Tensor, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    state = weights[-1]
    return aten.mkldnn_rnn_layer.default(x, *weights, state, False, [], 2, 16, 1, True, False, True, True)


def lstm_backward(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    *results, workspace = lstm(x, *weights)
    given = (x, *weights, weights[-1], *results, torch.ones_like(results[0]), None, None)
    flags = (False, 2, 16, 1, True, True, False, [], True)
    return sum(g.sum() for g in aten.mkldnn_rnn_layer_backward.default(*given, *flags, workspace))


# For each operator of graphs.fx_kernels a program and its inputs.
PROGRAMS: dict[str, tuple[Any, ...]] = {
    "mse_loss": loss(F.mse_loss),
    "smooth_l1_loss": loss(F.smooth_l1_loss),
    "soft_margin_loss": loss(F.soft_margin_loss),
    "binary_cross_entropy": loss(F.binary_cross_entropy),
    "col2im": (lambda x: F.fold(x, (6, 6), 3) + 1, rand(1, 9, 16)),
    "select_scatter": (lambda x, y: torch.select_scatter(gapped(x), y, 0, 1) + 1, rand(6, 8), rand(4)),
    "slice_scatter": (lambda x, y: torch.slice_scatter(gapped(x), y, 0, 0, 2) + 1, rand(6, 8), rand(2, 4)),
    "diagonal_scatter": (lambda x, y: torch.diagonal_scatter(gapped(x), y) + 1, rand(6, 8), rand(4)),
    "kaiser_window": (lambda x: aten.kaiser_window.periodic(64, True) + x.sum(), rand(3)),
    "_embedding_bag": bag(aten._embedding_bag.default),
    "_embedding_bag_forward_only": bag(aten._embedding_bag_forward_only.default),
    "mkldnn_rnn_layer": (lambda *given: lstm(*given)[0] + 1, *LAYER),
    "mkldnn_rnn_layer_backward": (lstm_backward, *LAYER),
    "native_dropout": (lambda x: aten.native_dropout.default(x.exp(), 0.5, False)[0].sin() + x, rand(4, 5)),
    "native_channel_shuffle": (lambda x: aten.native_channel_shuffle.default(x.exp(), 1).sin() + x, rand(1, 4, 3, 3)),
    "uniform": (lambda x: aten.uniform.default(gapped(x)) + 1, rand(4, 6)),
    "_functional_assert_async": (
        lambda x, token: aten._functional_assert_async.msg(x.sum() < 1e9, "large", token.exp()).sin(),
        rand(3),
        rand(5),
    ),
    "_functional_sym_constrain_range": (
        lambda token: aten._functional_sym_constrain_range.default(3, 0, 9, token.exp()).sin(),
        rand(5),
    ),
    "_functional_sym_constrain_range_for_size": (
        lambda token: aten._functional_sym_constrain_range_for_size.default(3, 0, 9, token.exp()).sin(),
        rand(5),
    ),
}


WITH_GRADIENTS = {"mkldnn_rnn_layer", "mkldnn_rnn_layer_backward"}  # without, they keep nothing for a backward pass
ACCELERATORS = {"_scaled_dot_product_cudnn_attention"}  # not to be run on a CPU; a test below for each


def test_every_entry_has_a_program() -> None:
    assert {f"aten::{name}" for name in {*PROGRAMS, *ACCELERATORS}} == {*fx_kernels.RULES, *fx_kernels.ANEW}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_law_needs_the_entry(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.set_grad_enabled(name in WITH_GRADIENTS):
        case = traced(*PROGRAMS[name])
    case.gradients = name in WITH_GRADIENTS
    assert disagreements(case, graphs.from_fx(case.module), 5) == []
    full = f"aten::{name}"
    monkeypatch.setattr(fx_kernels, "RULES", {key: rule for key, rule in fx_kernels.RULES.items() if key != full})
    monkeypatch.setattr(fx_kernels, "ANEW", tuple(key for key in fx_kernels.ANEW if key != full))
    assert disagreements(case, graphs.from_fx(case.module), 5) != []


@pytest.mark.parametrize("wanted", [False, True])
def test_cudnn_attention_makes_its_sums_on_request(wanted: bool) -> None:
    """As an H100 did: 2 x 3 x 8 sums of 4 bytes each, or none."""
    graph = fx.Graph()
    query = graph.placeholder("query")
    query.meta["val"] = torch.empty(2, 3, 8, 4, dtype=torch.float16)
    call = aten._scaled_dot_product_cudnn_attention.default
    several = graph.call_function(call, (query, query, query, None, wanted))
    graph.output(graph.call_function(operator.getitem, (several, 0)))
    seen = graphs.from_fx(fx.GraphModule(nn.Module(), graph))
    assert seen.size[seen.writer == 0].tolist()[:2] == [384, 192 if wanted else 0]


def test_elements_that_share_memory_get_their_own_in_a_copy() -> None:
    """Before torch 2.13 the stand-in of such a copy had one element for all of them."""
    with FakeTensorMode():
        expanded = torch.empty(1, device="cpu").expand(6, 4)
        stand_in = torch.empty(1, device="cpu").expand(6, 4)
        call = aten.slice_scatter.default, (expanded, torch.empty(2, 4), 0, 0, 2), {}
        result = fx_kernels.with_kernel_memory(*call, stand_in)
    assert result.untyped_storage().nbytes() == 6 * 4 * 4
