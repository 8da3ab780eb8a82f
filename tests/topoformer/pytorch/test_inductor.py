"""Our pass over the programs that Inductor compiles, and what users write to have both passes."""

import copy
import logging
import operator
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._inductor import config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import graphs
import topoformer
from graphs import Graph, Order
from graphs.cost import OBJECTIVES
from tests.reality import run
from tests.reality_cases import CASES
from tests.reality_programs import random_program
from tests.topoformer.pytorch.inductor_programs import BETTER, KERNELS, OPERANDS, QUICK, products, said
from topoformer.pytorch import inductor, inductor_nodes
from topoformer.pytorch.inductor import GraphPass, inductor_options, inductor_pass
from topoformer.pytorch.inductor_nodes import NodePass
from topoformer.pytorch.ordering import Search
from topoformer.schedulers import list_scheduling

aten = torch.ops.aten


def order_of(graph: fx.Graph) -> list[str]:
    return [node.name for node in graph.nodes]


def test_programs_are_reordered_in_place_and_do_the_same() -> None:
    changed = 0
    for case in [*(make() for make in CASES.values()), *(random_program(seed) for seed in range(20))]:
        module = copy.deepcopy(case.module)
        nodes = {id(node) for node in module.graph.nodes}
        inductor_pass(**QUICK)(module.graph)
        module.recompile()
        assert {id(node) for node in module.graph.nodes} == nodes
        assert run(case, module).seen == run(case, case.module).seen
        assert [n.name for n in module.graph.nodes if n.op == "placeholder"] == [
            n.name for n in case.module.graph.nodes if n.op == "placeholder"
        ]
        changed += order_of(module.graph) != order_of(case.module.graph)
        for node in module.graph.nodes:
            if node.target is operator.getitem:
                assert node.prev is node.args[0] or node.prev.target is operator.getitem
    assert changed > 10


def test_a_small_gain_is_not_worth_another_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "topoformer")

    def program(arg_x: Tensor, arg_y: Tensor) -> Tensor:  # with such names Inductor does not free them
        small = arg_y.cos()
        return arg_x.exp().log().sum() + small

    for columns, gain in ((2_000, True), (200_000, False)):
        module = make_fx(program, tracing_mode="fake")(torch.empty(columns), torch.empty(1_000))
        before = order_of(module.graph)
        caplog.clear()
        inductor_pass(**QUICK)(module.graph)
        assert (order_of(module.graph) != before) == gain
        assert ("too little" in caplog.text) == (not gain)


def falling_chain(length: int) -> fx.GraphModule:
    """Products of ever fewer columns, and a large tensor that is made long before it is used."""
    graph, mode = fx.Graph(), FakeTensorMode()

    def given(name: str, *size: int) -> fx.Node:
        node = graph.placeholder(name)
        with mode:
            node.meta["val"] = torch.empty(size)
        return node

    x = given("arg_x", 1, length + 1)
    factors = [given(f"arg_w{i}", length + 1 - i, length - i) for i in range(length)]
    large = graph.call_function(aten.neg.default, (x,))
    for factor in factors:
        x = graph.call_function(aten.mm.default, (x, factor))
    graph.output(graph.call_function(aten.add.Tensor, (large, x)))
    return fx.GraphModule(nn.Module(), graph)


def test_a_chain_that_is_too_deep_for_inductor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from bench.rivals import inductor as rival

    captured: list[Graph] = []

    def method(graph: Graph, *_: Any, **options: Any) -> Order:
        captured.append(graph)
        return topoformer.schedule(graph, **options).order

    module = falling_chain(2_100)
    large = next(node for node in module.graph.nodes if node.target is aten.neg.default)
    [only] = large.users
    assert large.next is not only
    GraphPass(Search(method))(module.graph)
    assert large.next is only
    assert not said(caplog)
    if not rival.missing():
        monkeypatch.setattr(rival, "DEEP", sys.getrecursionlimit())
        with pytest.raises(RecursionError):
            rival.inductor(captured[0], OBJECTIVES["memory"], seconds=1.0, seed=0)


def untouched(graph: fx.Graph, caplog: pytest.LogCaptureFixture) -> str:
    """The one warning of a pass that leaves ``graph`` as it is."""
    before = order_of(graph)
    caplog.clear()
    inductor_pass(**QUICK)(graph)
    assert order_of(graph) == before
    [record] = said(caplog)
    assert record.levelname == "WARNING"
    return record.getMessage()


def test_what_is_not_understood_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    module = make_fx(products(BETTER), tracing_mode="fake")(*OPERANDS)
    called = next(node for node in module.graph.nodes if node.target is aten.mm.default)
    called.target = torch.mm
    assert f"'{called.name}'" in untouched(module.graph, caplog)
    called.target = aten.mm.default
    lonely = fx.Graph()
    lonely.output(lonely.graph_copy(module.graph, {}))
    assert "no module" in untouched(lonely, caplog)


def captured_by_the_pass(graph: fx.Graph) -> Graph:
    captured: list[Graph] = []

    def method(graph: Graph, *_: Any, **__: Any) -> Order:
        captured.append(graph)
        return graphs.program_order(graph)

    GraphPass(Search(method))(graph)
    return captured[0]


def test_arguments_that_inductor_frees() -> None:
    def backward(primals_1: Tensor, tangents_1: Tensor, saved: Tensor) -> Tensor:
        return primals_1 + tangents_1 + saved

    given = [torch.empty(4) for _ in range(3)]
    graph = captured_by_the_pass(make_fx(backward, tracing_mode="fake")(*given).graph)
    kinds = {name.split("_")[0]: kind for name, kind in zip(graph.tensor_names, graph.kind, strict=True)}
    assert kinds["primals"] == kinds["tangents"] == graphs.Kind.INPUT
    assert kinds["saved"] == graphs.Kind.DONATED


def test_the_modes_of_a_compilation_do_not_matter() -> None:
    module = make_fx(products(BETTER), tracing_mode="fake")(*OPERANDS)
    alone = captured_by_the_pass(module.graph)
    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16):
        assert captured_by_the_pass(module.graph).fingerprint == alone.fingerprint


def test_an_error_of_the_users_own_method_is_raised() -> None:
    def broken(*_: Any, **__: Any) -> Order:
        raise ZeroDivisionError

    module = make_fx(products(BETTER), tracing_mode="fake")(*OPERANDS)
    with pytest.raises(ZeroDivisionError):
        GraphPass(Search(method=broken))(module.graph)


def test_what_identifies_a_pass() -> None:
    one = inductor_pass(seconds=1.0)
    assert one.uuid() == inductor_pass(seconds=1.0).uuid()
    others = [inductor_pass(), inductor_pass(seconds=1.0, seed=1), inductor_pass(seconds=1.0, method="dfs")]
    assert len({each.uuid() for each in (one, *others)}) == 4
    assert inductor_pass(method=list_scheduling.dfs).uuid() is None
    for each in (one, NodePass(Search(seconds=1.0))):
        assert pickle.loads(pickle.dumps(each)) == each
        assert copy.deepcopy(each) == each
        assert "seconds=1.0" in repr(each)
    assert NodePass(Search(method=list_scheduling.dfs)) != NodePass(Search(method=list_scheduling.dfs))


def test_the_source_identifies_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = inductor_pass().uuid()
    with monkeypatch.context() as patch:
        patch.setattr(inductor, "source_digest", lambda: "another source")
        assert inductor_pass().uuid() != known
    digests = []
    for name in ("one", "two", "changed"):
        shutil.copytree(topoformer.__path__[0], tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        if name == "changed":
            with (tmp_path / name / "schedulers" / "beam.py").open("a") as file:
                file.write("#")
        monkeypatch.setattr(topoformer, "__path__", [str(tmp_path / name)])
        digests.append(inductor_nodes.source_digest.__wrapped__())
    assert digests[0] == digests[1] != digests[2]


def test_options_are_added_to_those_that_are_set() -> None:
    mine = inductor_options()
    assert set(mine) == {"post_grad_custom_post_pass", "reorder_for_compute_comm_overlap", KERNELS}
    assert mine == inductor_options()
    other = inductor_options(seed=2)
    assert all(mine[key] != other[key] for key in ("post_grad_custom_post_pass", KERNELS))
    with config.patch(mine):
        assert inductor_options(seed=2) == other
    with config.patch({KERNELS: [len]}):
        assert inductor_options()[KERNELS] == mine[KERNELS]  # a pass that does not run now is not switched on
        with config.patch(reorder_for_compute_comm_overlap=True):
            assert inductor_options()[KERNELS] == [len, *mine[KERNELS]]
    with config.patch(post_grad_custom_post_pass=print):
        if torch.__version__ < (2, 13):
            with pytest.raises(ValueError, match=r"takes one 'post_grad_custom_post_pass' and has <.*print>"):
                inductor_options()
        else:
            assert inductor_options()["post_grad_custom_post_pass"] == [print, inductor_pass()]


@pytest.mark.parametrize("make", [inductor_pass, inductor_options])
def test_options_out_of_range(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="'autos'"):
        make(method="autos")
    with pytest.raises(ValueError, match="'seconds' must be positive"):
        make(seconds=0)
    with pytest.raises(ValueError, match="'seed'"):
        make(seed=-1)
    with pytest.raises(ValueError, match="'steps'"):
        make(steps=0)
