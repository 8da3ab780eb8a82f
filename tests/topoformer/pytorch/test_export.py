"""capture and optimize: what comes back computes the same, bit for bit."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export
from torch.utils._pytree import tree_leaves

import graphs
import topoformer
from bench.tiny import SMALL
from graphs.fx_fingerprint import program_fingerprint
from graphs.models import ZOO
from tests.reality import Case, contents, run
from topoformer.cache import ScheduleCache
from topoformer.cli import main


def bits(value):
    return [contents(leaf) for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


pytestmark = pytest.mark.usefixtures("one_thread")


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


# --- programs of torch.export


class Counting(nn.Module):
    """Changes a buffer and an argument, has a constant, and makes four large tensors of which one is enough."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.register_buffer("calls", torch.zeros(3))
        self.ramp = torch.arange(8.0)

    def forward(self, x, y, *, scale):
        self.calls.add_(1)
        large = [(x * float(i)).exp() for i in range(4)]
        small = [value.sum(1, keepdim=True) for value in large]
        y.mul_(2)
        z = self.layer(x) + self.ramp
        return {"z": z + sum(small) * scale, "rows": x.shape[0], "y": y + 1, "calls": self.calls * 1}


def counting(strict=False, rows=4):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module, x, y = Counting(), torch.randn(rows, 8), torch.randn(rows, 8)
    batch = Dim("batch", min=2, max=64)
    shapes = {"x": {0: batch}, "y": {0: batch}, "scale": None}
    return export(module, (x, y), {"scale": 2.0}, dynamic_shapes=shapes, strict=strict)


def results(program, rows, calls=2):
    """Outputs and changed arguments of calls one after the other, each of which sees what the one before has left."""
    generator = torch.Generator().manual_seed(rows)
    x, y = (torch.randn(rows, 8, generator=generator) for _ in range(2))
    module, found = program.module(), []
    with torch.no_grad():
        module.get_buffer("calls").zero_()
        for _ in range(calls):
            found.append(module(x, y, scale=2.0))
    return list(found[0]), [repr(out["rows"]) for out in found], bits([found, y])


def through_file(program, path):
    torch.export.save(program, path)
    return torch.export.load(path)


def facts(program):
    """What a program is besides the order of its calls."""
    named = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in program.state_dict.items()}
    entries = [(entry.fqn, str(entry.signature)) for entry in program.module_call_graph]
    ranges = {str(symbol): str(span) for symbol, span in program.range_constraints.items()}
    return program.graph_signature, named, list(program.constants), entries, ranges


@pytest.mark.parametrize("strict", [False, True])
def test_a_program_stays_the_program_that_it_was(strict, tmp_path):
    program = counting(strict)
    before = [node.name for node in program.graph.nodes]
    better = topoformer.optimize(program)
    after, found = [node.name for node in better.graph.nodes], better.graph_module.meta["schedule"]
    assert isinstance(better, ExportedProgram)
    assert found.ratio < 1
    assert before != after
    assert sorted(before) == sorted(after)
    assert [node.name for node in program.graph.nodes] == before
    assert "schedule" not in program.graph_module.meta
    assert facts(better) == facts(program)
    assert better.state_dict["layer.weight"] is program.state_dict["layer.weight"]
    loaded = through_file(better, tmp_path / "better.pt2")
    assert facts(loaded) == facts(through_file(program, tmp_path / "program.pt2"))
    assert [node.name for node in loaded.graph.nodes] == after
    decomposed = through_file(better.run_decompositions(), tmp_path / "decomposed.pt2")
    for rows in (2, 4, 64):
        wanted = results(program, rows)
        assert results(better, rows) == results(loaded, rows) == wanted
        assert results(decomposed, rows) == results(topoformer.optimize(decomposed), rows)
        assert results(decomposed, rows) == results(program.run_decompositions(), rows)
    for other in (better, loaded):
        with pytest.raises(Exception, match=r"64"):
            results(other, 65)


def test_the_order_is_what_runs_after_saving_and_decomposing(tmp_path):
    program = counting()
    better = topoformer.optimize(program)
    peak = better.graph_module.meta["schedule"].cost.peak_bytes
    for kept in (better, through_file(better, tmp_path / "better.pt2")):
        assert graphs.peak_bytes(graphs.from_fx(kept)) == peak
    decomposed, was = (graphs.from_fx(p.run_decompositions()) for p in (better, program))
    assert graphs.peak_bytes(decomposed) < graphs.peak_bytes(was)


@pytest.mark.parametrize("strict", [False, True])
def test_the_command_line_does_the_same_with_files(strict, tmp_path, capsys):
    given, better = tmp_path / "m.pt2", tmp_path / "better.pt2"
    program = through_file(counting(strict), given)
    assert main(["schedule", str(given), "--save", str(better), "--quiet"]) == 0
    capsys.readouterr()
    loaded = torch.export.load(better)
    assert facts(loaded) == facts(program)
    assert [node.name for node in loaded.graph.nodes] != [node.name for node in program.graph.nodes]
    for rows in (2, 64):
        assert results(loaded, rows) == results(program, rows)
    with pytest.raises(Exception, match=r"64"):
        results(loaded, 65)


def test_arguments_reach_the_search_of_a_program():
    found = topoformer.optimize(counting(), method="dfs", seed=3, seconds=1.0).graph_module.meta["schedule"]
    assert (found.method, found.seed) == ("dfs", 3)
    with pytest.raises(TypeError, match="'example_inputs' is for a module"):
        topoformer.optimize(counting(), (torch.ones(2, 8),))
    with pytest.raises(TypeError, match=r"'example_inputs' must be a tuple, a dict or a tensor \(got NoneType\)"):
        topoformer.optimize(nn.Linear(3, 4))


class Branches(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


def test_a_program_that_is_not_understood_is_refused_by_name():
    with pytest.raises(topoformer.UnsupportedOp, match="node 'cond'"):
        topoformer.optimize(export(Branches(), (torch.ones(3),)))


def test_a_limit_is_kept_to_or_refused():
    module, program = Counting(), counting()
    best = topoformer.optimize(program).graph_module.meta["schedule"]
    total = best.cost.peak_bytes + best.cost.resident_bytes
    assert best.proven_optimal
    kept = topoformer.optimize(program, memory_limit=total).graph_module.meta["schedule"]
    assert kept.cost == best.cost
    inputs = {"x": torch.ones(4, 8), "y": torch.ones(4, 8), "scale": 2.0}
    for arguments in ((program,), (module, inputs)):
        with pytest.raises(topoformer.MemoryLimitError, match=r"no order of .* fits in") as error:
            topoformer.optimize(*arguments, memory_limit=total - 1)
        assert "test_export.py:" in str(error.value)  # what is alive at the peak, and where it comes from


def test_a_second_time_neither_looks_nor_searches(tmp_path):
    cache = ScheduleCache(tmp_path)
    module, inputs = ZOO["resnet18"](resolution=32)
    first = topoformer.optimize(module, inputs, cache=cache).meta["schedule"]
    again = topoformer.optimize(module, inputs, cache=cache).meta["schedule"]
    assert (first.cached, again.cached) == (False, True)
    assert again.order.tolist() == first.order.tolist()
    assert (again.graph.name, again.graph.sources) == (first.graph.name, first.graph.sources)
    program = counting()
    known = graphs.from_fx(program)
    marked = replace(known, tensor_names=tuple(f"kept {name}" for name in known.tensor_names))
    cache.keep_graph(program_fingerprint(program), marked)
    found = topoformer.optimize(program, cache=cache).graph_module.meta["schedule"]
    assert found.graph.tensor_names == marked.tensor_names  # so it was not captured anew


def test_a_kept_graph_of_other_nodes_is_put_right(tmp_path):
    cache, program = ScheduleCache(tmp_path), counting()
    key = program_fingerprint(program)
    cache.keep_graph(key, graphs.from_fx(export(nn.ReLU(), (torch.ones(3),))))
    assert results(topoformer.optimize(program, cache=cache), 4) == results(program, 4)
    assert cache.graph(key).fingerprint == graphs.from_fx(program).fingerprint
