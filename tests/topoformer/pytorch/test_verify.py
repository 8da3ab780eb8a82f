"""verify: what is not so is found out, nothing of the user's is changed, and what cannot be run is said in one line."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

import graphs
import topoformer
from graphs.pt2 import load_pt2, save_pt2
from tests.reality import contents, rand, random_orders, run, traced
from tests.reality_cases import CASES
from topoformer import capture
from topoformer.pytorch.scratch import measure_scratch
from topoformer.pytorch.scratch_cache import ScratchCache
from topoformer.pytorch.verify import copies, flat_inputs, same_bits, storage_run, verify


class Everything(nn.Module):
    """Draws random numbers, updates a buffer, takes keywords, and has a better order than its own."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(64)
        self.scale = nn.Parameter(torch.rand(64))

    def forward(self, x, *, extras):
        wide = [F.dropout(x, 0.5).repeat(1, 8) * k for k in (1.0, 2.0, 3.0)]
        small = [w.sum(dim=1, keepdim=True) for w in wide]
        return {"sum": self.norm(x) * self.scale + small[0] + small[1] + small[2], "one": extras[0] + 1, "two": 2}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def everything():
    torch.manual_seed(0)
    module = Everything()
    return module, capture(module, {"x": torch.rand(8, 64), "extras": (torch.rand(3), torch.rand(2))})


def scheduled(program, **options):
    return topoformer.schedule(graphs.from_fx(program), **{"method": "lpmf"} | options)


def test_what_is_so_holds_and_nothing_is_changed(everything):
    module, program = everything
    found = scheduled(program)
    before = [contents(value) for value in [*module.state_dict().values(), *flat_inputs(program)]]
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    verification = verify(program, found)
    assert torch.equal(torch.rand(4), wanted)
    assert verification.holds
    assert verification.outputs_equal
    assert verification.program.storage_bytes == found.program_cost.peak_bytes
    assert verification.new.storage_bytes == found.cost.peak_bytes < found.program_cost.peak_bytes
    assert verification.new.allocated_bytes < verification.program.allocated_bytes
    assert verification.new.predicted_allocated_bytes is None
    assert [contents(value) for value in [*module.state_dict().values(), *flat_inputs(program)]] == before


def test_with_scratch_the_allocators_peak_is_predicted_too(everything):
    _, program = everything
    graph = measure_scratch(program, graphs.from_fx(program), cache=ScratchCache(None))
    found = topoformer.schedule(graph, "lpmf")
    verification = verify(program, found, with_scratch=True)
    assert verification.holds
    assert verification.new.predicted_allocated_bytes == verification.new.allocated_bytes == found.cost.peak_bytes
    wrong = dataclasses.replace(graph, scratch=graph.scratch + 8)
    verification = verify(program, dataclasses.replace(found, graph=wrong), with_scratch=True)
    assert not verification.holds
    assert verification.new.storage_bytes == verification.new.predicted_storage_bytes
    assert verify(program, dataclasses.replace(found, graph=wrong)).holds


def test_bytes_that_are_not_so_are_found_out(everything):
    _, program = everything
    found = scheduled(program)
    wrong = dataclasses.replace(found.graph, size=found.graph.size + 4)
    verification = verify(program, dataclasses.replace(found, graph=wrong))
    assert (verification.holds, verification.outputs_equal) == (False, True)
    assert verification.to_json()["holds"] is False


def test_other_outputs_are_found_out():
    program = capture(Twice(), torch.ones(100))
    found = scheduled(program, method="program")
    assert verify(program, found).holds
    swapped = np.array([1, 0, *range(2, found.graph.n)], np.int32)
    verification = verify(program, dataclasses.replace(found, order=swapped))
    assert (verification.holds, verification.outputs_equal) == (False, False)


class Twice(nn.Module):
    """The order of its two draws is all that tells its outputs apart."""

    def forward(self, x):
        return F.dropout(x, 0.5), F.dropout(x, 0.5)


def test_a_program_from_a_file_with_its_inputs(everything, tmp_path):
    _, program = everything
    save_pt2(program, tmp_path / "p.pt2")
    loaded = load_pt2(tmp_path / "p.pt2")
    assert verify(loaded, scheduled(loaded)).holds


def test_a_program_that_does_nothing():
    program = capture(nn.Identity(), torch.ones(3))
    assert verify(program, scheduled(program)).holds


# ---------------------------------------------------------------- what cannot be run


def test_no_example_inputs():
    program = capture(nn.Linear(2, 2), torch.ones(1, 2))
    program._example_inputs = None
    with pytest.raises(ValueError, match="has no example inputs to run on"):
        verify(program, scheduled(program))


@pytest.mark.parametrize("what", ["weights", "inputs"])
def test_nothing_to_run_on_the_meta_device(what):
    module, x = nn.Linear(2, 2, bias=False, device="meta"), torch.ones(1, 2)
    if what == "inputs":
        module, x = nn.ReLU(), x.to("meta")
    program = capture(module, x)
    with pytest.raises(ValueError, match=r"'(weight|input)' is on the meta device and has no data"):
        verify(program, scheduled(program))


def test_a_program_that_fails_on_its_example():
    class Table(nn.Module):
        def forward(self, x, table):
            return F.embedding(x, table)

    program = capture(Table(), (torch.tensor([7]), torch.ones(3, 2)))
    with pytest.raises(ValueError, match=r"^'Table' fails when it is run: IndexError: index out of range"):
        verify(program, topoformer.schedule(graphs.from_fx(program, name="Table"), "lpmf"))
    assert not torch.autograd._profiler_enabled()


# ---------------------------------------------------------------- the probe


@pytest.mark.parametrize("name", ["given_away", "backward_graph", "aliased_mutation", "multi_output"])
def test_the_probe_agrees_with_that_of_the_tests(name):
    case = CASES[name]()
    graph = graphs.from_fx(case.module, donated=case.donated)
    order = random_orders(graph, 1)[0]
    inputs = [contents(value) for value in case.inputs]
    seen = storage_run(graphs.apply_order(case.module, order), case.inputs, donated=case.donated)
    assert seen.step_bytes == run(case, graphs.apply_order(case.module, order)).steps
    assert seen.peak_bytes == max(seen.step_bytes) == graphs.peak_bytes(graph, order) + graph.resident_bytes
    assert [contents(value) for value in case.inputs] == inputs


def test_donated_inputs_are_freed_and_others_kept():
    case = traced(lambda x, y: (x * y).exp() + 1, rand(1000), rand(1001)[1:])
    names = [node.name for node in case.module.graph.find_nodes(op="placeholder")]
    kept, given = (
        storage_run(graphs.apply_order(case.module, range(3)), case.inputs, donated=donated)
        for donated in ((), names[:1])
    )
    assert kept.step_bytes == [4000 + 4004 + size for size in (4000, 8000, 8000)]
    assert given.step_bytes == [4000 + 4004 + 4000, 4004 + 8000, 4004 + 8000]
    assert kept.allocated_bytes - given.allocated_bytes == 4000
    assert torch.equal(kept.outputs[0], given.outputs[0])


def test_a_module_of_nested_inputs_is_given_one_value_for_each_placeholder(everything):
    _, program = everything
    args, kwargs = program.example_inputs
    seen = storage_run(program.module(), tree_leaves((args, kwargs)))
    assert len(seen.outputs) == 3
    assert len(seen.step_bytes) > 10


def test_arguments_of_the_probe():
    case = traced(lambda x: x + x, rand(3))
    with pytest.raises(ValueError, match=r"one for each of the program's 1 placeholders \(got 2\)"):
        storage_run(case.module, [*case.inputs, 1])
    with pytest.raises(ValueError, match="'donated' names 'nobody'"):
        storage_run(case.module, case.inputs, donated=("nobody",))


def test_copies_share_memory_as_the_originals_do():
    x = torch.rand(4, 4, dtype=torch.complex64)
    a, b, other, number = copies([x, x.conj()[1:], torch.ones(2, requires_grad=True), 3])
    assert a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    assert b.is_conj()
    assert torch.equal(b, x.conj()[1:])
    assert (other.requires_grad, number) == (True, 3)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), True),
        (torch.tensor([0.0]), torch.tensor([-0.0]), False),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), False),
        (torch.ones(2, 3), torch.ones(3, 2).t(), False),
        (torch.ones(2, 1), torch.ones(2), False),
        (torch.ones(0), torch.ones(0), True),
        (torch.tensor(True), torch.tensor(True), True),
        (torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.complex64), True),
        (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16), True),
        (float("nan"), float("nan"), True),
        (1, 1.0, False),
        (None, None, True),
        (None, torch.ones(1), False),
    ],
)
def test_same_bits(one, other, same):
    assert same_bits(one, other) is same
