"""capture and optimize: what comes back computes the same, bit for bit."""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import graphs
import topoformer
from graphs.models import ZOO
from tests.reality import Case, contents, run

SMALL = {
    "randwire_ws": {"nodes": 8, "resolution": 32},
    "randwire_er": {"nodes": 8, "p": 0.4, "resolution": 32},
    "randwire_ba": {"nodes": 8, "m": 3, "resolution": 32},
    "nasnet_a": {"cells": 1, "filters": 48, "resolution": 64},
    "pnasnet": {"cells": 1, "resolution": 64},
    "darts": {"layers": 4, "resolution": 64},
    "amoebanet": {"layers": 4, "resolution": 64},
    "unet_plus_plus": {"resolution": 64},
    "hrnet": {"resolution": 64},
    "bifpn": {"resolution": 128},
    "lstm": {"steps": 6},
    "tree_lstm": {"leaves": 12},
}


def bits(value):
    return [contents(leaf) for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_equal_bit_for_bit_and_simulated_to_the_byte(name):
    module, inputs = ZOO[name](**SMALL.get(name, {}))
    better = topoformer.optimize(module, inputs)
    with torch.no_grad():
        assert bits(better(*inputs)) == bits(module(*inputs))
    graph, result = graphs.from_fx(better), better.meta["schedule"]
    assert graphs.peak_bytes(graph) == result.cost.peak_bytes <= result.program_cost.peak_bytes
    assert max(run(Case(better, inputs), better).steps) == result.cost.peak_bytes + result.cost.resident_bytes


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x, *, scale, extras):
        return {"sum": self.layer(x) * scale + extras[0], "rest": [extras[1].exp(), None]}


def test_nested_inputs_and_outputs():
    module = Keywords()
    inputs = {"x": torch.randn(2, 3), "scale": torch.tensor(2.0), "extras": (torch.ones(3), torch.zeros(4))}
    better = topoformer.optimize(module, inputs)
    wanted, got = module(**inputs), better(**inputs)
    assert list(got) == list(wanted)
    assert got["rest"][1] is None
    assert bits(got) == bits(wanted)


@pytest.mark.parametrize("inputs", [torch.ones(2, 3), (torch.ones(2, 3),), [torch.ones(2, 3)]])
def test_example_inputs_of_every_form(inputs):
    module = nn.Linear(3, 4)
    assert torch.equal(topoformer.optimize(module, inputs)(torch.ones(2, 3)), module(torch.ones(2, 3)))


def test_parameters_and_buffers_are_shared():
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    better = topoformer.optimize(module, torch.randn(4, 3))
    assert {name: id(p) for name, p in better.named_parameters()} == {n: id(p) for n, p in module.named_parameters()}
    assert better.state_dict().keys() == module.state_dict().keys()
    x = torch.randn(4, 3)
    torch.manual_seed(1)
    first = better(x)
    assert int(module[1].num_batches_tracked) == 1
    module[1].reset_running_stats()
    torch.manual_seed(1)
    assert torch.equal(first, module(x))
    with torch.no_grad():
        module[0].weight.zero_()
    assert not better.get_parameter("0.weight").any()


def test_method_and_seed_reach_the_scheduler():
    module, inputs = ZOO["resnet18"](resolution=32)
    assert topoformer.optimize(module, inputs, method="dfs", seed=4).meta["schedule"].method == "dfs"
    with pytest.raises(ValueError, match="unknown method 'nope'"):
        topoformer.optimize(module, inputs, method="nope")


def test_other_shapes_are_refused_by_the_module():
    better = topoformer.optimize(nn.Linear(3, 4), torch.ones(2, 3))
    with pytest.raises(Exception, match=r"size|shape|Guard"):
        better(torch.ones(5, 3))


@pytest.mark.parametrize(
    ("module", "inputs", "text"),
    [
        (3, (torch.ones(1),), "'module' must be a torch.nn.Module .got int."),
        (nn.ReLU(), 3, "'example_inputs' must be a tuple, a dict or a tensor .got int."),
        (nn.ReLU(), {1: torch.ones(1)}, "must have argument names as keys .got 1."),
    ],
)
def test_arguments_of_other_types(module, inputs, text):
    with pytest.raises(TypeError, match=text):
        topoformer.optimize(module, inputs)


class DataDependent(nn.Module):
    def forward(self, x):
        return x.sin() if x.sum() > 0 else x.cos()


class Raising(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of\ncheese")


@pytest.mark.parametrize("module", [DataDependent(), Raising(), nn.Linear(7, 7)])
def test_what_does_not_trace_is_one_line(module):
    with pytest.raises(topoformer.UnsupportedOp, match=f"^{type(module).__name__} does not trace") as error:
        topoformer.optimize(module, torch.ones(2, 3))
    assert "\n" not in str(error.value)


def test_a_model_on_the_meta_device_is_captured_as_it_would_be_on_the_cpu():
    real, inputs = ZOO["transformer"](batch=1)
    with torch.device("meta"):
        empty, empty_inputs = ZOO["transformer"](batch=1)
    assert all(p.is_meta for p in empty.parameters())
    wanted = graphs.from_fx(topoformer.capture(real, inputs))
    got = graphs.from_fx(topoformer.capture(empty, empty_inputs))
    assert got.fingerprint == wanted.fingerprint
    assert all(p.is_meta for p in empty.parameters())  # the caller's module is as it was
