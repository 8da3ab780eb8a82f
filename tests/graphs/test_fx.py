"""from_fx and apply_order beyond the reality law: what is refused, what is kept, what a person reads."""

import operator
from importlib import import_module

import pytest
import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

import graphs
from graphs import GraphError, Kind, UnsupportedOp
from tests.reality_cases import CASES

aten = torch.ops.aten


def program(build, root=None):
    """A GraphModule made by ``build(graph, x)``, x a float placeholder of shape [4, 3]; ``root`` has its attributes."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(4, 3)
    graph.output(build(graph, x))
    return fx.GraphModule(root or nn.Module(), graph)


def helper(x):
    return x


class LooksLikeAddition:
    """An object that says it equals operator.add."""

    __name__ = "looks_like_addition"
    __hash__ = operator.add.__hash__

    def __eq__(self, other):
        return True

    def __call__(self, *args):
        raise AssertionError("called")


def unbound(g, x):
    return g.call_function(aten.unbind.int, (x,))


def number(g, x):
    return g.call_function(aten.sym_size.int, (x, 0))


def rank_into(g, x):
    """Without data, this out= call returns a new tensor."""
    out = g.call_function(aten.relu.default, (x,))
    return g.call_function(aten.linalg_matrix_rank.atol_rtol_tensor_out, (x,), {"out": out})


REFUSED = {
    "object that equals an addition": (lambda g, x: g.call_function(LooksLikeAddition(), (x,)), "without an operator"),
    "mode of the whole program": (lambda g, x: g.call_function(torch._C._set_grad_enabled, (False,)), "without an op"),
    "no such item": (lambda g, x: g.call_function(operator.getitem, (unbound(g, x), 9)), "takes item 9 of 'unbind"),
    "item of unknown place": (lambda g, x: g.call_function(operator.getitem, (unbound(g, x), number(g, x))), "a run"),
    "item of a number": (lambda g, x: g.call_function(operator.getitem, (number(g, x), 0)), "which is one int"),
    "row of a result": (
        lambda g, x: g.call_function(operator.getitem, (g.call_function(aten.relu.default, (x,)), 0)), "is one Fake"),
    "long text": (lambda g, x: g.call_function(operator.mul, ("a", 1 << 40)), "'mul': _operator.mul takes a str"),
    "long list": (lambda g, x: g.call_function(operator.mul, ([1], 1 << 40)), "list where sizes are numbers"),
    "large power": (lambda g, x: g.call_function(operator.pow, (10, 1 << 40)), "more than 2..64"),
    "large shift": (lambda g, x: g.call_function(operator.lshift, (1, 1 << 40)), "more than 2..64"),
    "large product": (lambda g, x: g.call_function(operator.mul, (1 << 40, 1 << 40)), "more than 2..64"),
    "size of no tensor": (lambda g, x: g.call_function(aten.empty.memory_format, ([1 << 62],)), "fails without data"),
    "size of no graph": (lambda g, x: g.call_function(aten.empty.memory_format, ([1 << 60],)), "the most is 2..62"),
    "negative stride": (lambda g, x: g.call_function(aten.as_strided.default, (x, [3], [-1], 2)), "Negative strides"),
    "quantized result": (
        lambda g, x: g.call_function(aten.quantize_per_tensor.default, (x, 0.1, 0, torch.quint8)), "about quantized"),
    "sparse result": (lambda g, x: g.call_function(aten.to_sparse.default, (x,)), "result is a torch.sparse_coo"),
    "result that is not the argument": (rank_into, "does not return its argument"),
    "python function": (lambda g, x: g.call_function(helper, (x,)), "'helper'.*without an operator schema"),
    "torch function": (lambda g, x: g.call_function(torch.relu, (x,)), "torch.relu.*without an operator schema"),
    "method": (lambda g, x: g.call_method("relu", (x,)), "'relu': call_method 'relu' is not an aten-level call"),
    "builtin that could run anything": (lambda g, x: g.call_function(eval, ("1 + 1",)), "without an operator schema"),
    "packet": (lambda g, x: g.call_function(aten.relu, (x,)), "no overload chosen"),
    "indexing a tensor": (lambda g, x: g.call_function(operator.getitem, (x, 0)), "takes an item of 'x'"),
    "size of the result": (
        lambda g, x: g.call_function(aten.nonzero.default, (x,)),
        "'nonzero_default' .aten.nonzero.default. gives a size or number that only a run can tell",
    ),
    "number out of data": (
        lambda g, x: g.call_function(aten._local_scalar_dense.default, (g.call_function(aten.sum.default, (x,)),)),
        "only a run can tell",
    ),
    "memory of another": (lambda g, x: g.call_function(aten.set_.source_Tensor, (x, x.graph.call_function(
        aten.relu.default, (x,)))), "other memory|changes the size"),
    "resize": (lambda g, x: g.call_function(aten.resize_.default, (x, [9, 9])), "other memory|changes the size|fails"),
    "wrong shapes": (lambda g, x: g.call_function(aten.mm.default, (x, x)), "'mm_default' .aten.mm.default. fails"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what, caplog):
    build, text = REFUSED[what]
    with pytest.raises((UnsupportedOp, GraphError), match=text) as error:
        graphs.from_fx(program(build))
    assert "\n" not in str(error.value)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_module_call_is_refused():
    graph = fx.Graph()
    graph.output(graph.call_module("inner", (graph.placeholder("x"),)))
    root = nn.Module()
    root.inner = nn.ReLU()
    with pytest.raises(UnsupportedOp, match="call_module 'inner' is not an aten-level call"):
        graphs.from_fx(fx.GraphModule(root, graph))


def test_control_flow_is_refused():
    class Branch(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda y: y.sin(), lambda y: y.cos(), (x,))

    exported = torch.export.export(Branch(), (torch.ones(3),))
    with pytest.raises(UnsupportedOp, match="cond is a higher-order operator"):
        graphs.from_fx(exported)


def test_what_a_mode_region_holds_is_checked():
    inner = program(lambda g, x: g.call_function(torch.relu, (x,)))
    region = torch.ops.higher_order.wrap_with_set_grad_enabled
    root = nn.Module()
    root.inner = inner
    module = program(lambda g, x: g.call_function(region, (False, g.get_attr("inner"), x)), root)
    with pytest.raises(UnsupportedOp, match=r"inside, node 'relu': torch.*relu is a Python function"):
        graphs.from_fx(module)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed")
def test_collectives_are_refused():
    import_module("torch.distributed._functional_collectives")  # registers the operators
    reduce = torch.ops._c10d_functional.all_reduce.default
    with pytest.raises(UnsupportedOp, match=r"_c10d_functional.all_reduce.default communicates"):
        graphs.from_fx(program(lambda g, x: g.call_function(reduce, (x, "sum", "group"))))


def test_sparse_inputs_are_refused():
    module = program(lambda g, x: g.call_function(aten.neg.default, (x,)))
    next(iter(module.graph.nodes)).meta["val"] = torch.eye(3).to_sparse()
    with pytest.raises(UnsupportedOp, match=r"placeholder 'x' is a torch.sparse_coo"):
        graphs.from_fx(module)


def test_a_placeholder_of_unknown_size_is_refused():
    module = program(lambda g, x: g.call_function(aten.neg.default, (x,)))
    del next(iter(module.graph.nodes)).meta["val"]
    with pytest.raises(UnsupportedOp, match=r"placeholder 'x' has no meta\['val'\]"):
        graphs.from_fx(module)


def test_unknown_placeholders_are_refused():
    module = program(lambda g, x: g.call_function(aten.neg.default, (x,)))
    with pytest.raises(GraphError, match="'weights' names 'y', which is no placeholder"):
        graphs.from_fx(module, weights=["y"])
    with pytest.raises(GraphError, match="'donated' names 'neg'"):
        graphs.from_fx(module, donated=["neg"])


def test_what_a_person_reads():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 5)

        def forward(self, x):
            low, high = torch.sort(self.layer(x)).values.split([2, 3], dim=-1)
            return low.exp(), high

    graph = graphs.from_fx(torch.export.export(Net(), (torch.ones(4, 3),)), name="net")
    assert graph.labels == ("linear", "sort", "split_with_sizes", "exp")
    assert graph.ops[0] == "aten.linear.default"
    assert graph.flops[0] == 2 * 4 * 3 * 5
    assert graph.tensor_names[:3] == ("p_layer_weight", "p_layer_bias", "x")
    assert [Kind(k).name for k in graph.kind[:3]] == ["WEIGHT", "WEIGHT", "INPUT"]
    assert graph.resident_bytes == 4 * (15 + 5 + 12)
    assert (
        graph.tensor_names[graph.writes.row(1)[0]] == "getitem"
    )  # the sorted values, by the getitem that unpacks them
    assert graph.sources[3].split(":")[0] == __file__
    alive = graphs.simulate(graph).alive()
    assert {tensor.writer for tensor in alive} <= set(graph.labels)


def test_shared_memory_is_one_tensor():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.table(ids))

    graph = graphs.from_fx(torch.export.export(Tied(), (torch.tensor([1, 2]),)))
    assert int((graph.kind == Kind.WEIGHT).sum()) == 1
    assert graph.resident_bytes == 7 * 4 * 4 + 2 * 8


def test_inputs_that_share_memory_are_one_tensor():
    base = torch.randn(8)
    case = make_fx(lambda a, b: a.add_(1).sum() + b, tracing_mode="fake")(base[:4], base[4:])
    for node, value in zip(case.graph.nodes, (base[:4], base[4:]), strict=False):
        node.meta["val"] = value
    graph = graphs.from_fx(case)
    assert int((graph.kind == Kind.INPUT).sum()) == 1
    assert graph.resident_bytes == 32


def test_no_memory_is_spent_on_large_programs():
    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1 << 20, 1 << 20, device="meta")  # 4 TiB

        def forward(self, x):
            return self.layer(x)

    from topoformer import capture

    graph = graphs.from_fx(capture(Large(), (torch.empty(1, 1 << 20, device="meta"),)))
    assert graph.resident_bytes == 4 * ((1 << 40) + (1 << 20) + (1 << 20))


def test_apply_order_changes_nothing_else():
    case = CASES["convolution"]()
    before = case.module.code
    graph = graphs.from_fx(case.module)
    same = graphs.apply_order(case.module, graphs.program_order(graph))
    assert case.module.code == before
    assert [(n.name, n.meta.get("val") is not None) for n in same.graph.nodes if n.op == "call_function"] == [
        (n.name, n.meta.get("val") is not None) for n in case.module.graph.nodes if n.op == "call_function"
    ]
    shared = zip(case.module.parameters(), same.parameters(), strict=True)
    assert all(a is b for a, b in shared)
    assert graphs.from_fx(same).fingerprint == graph.fingerprint


@pytest.mark.parametrize("order", [[0], [0, 0, 1], [0, 1, 5], [[0, 1, 2]], ["a", "b", "c"]])
def test_apply_order_wants_a_permutation(order):
    module = make_fx(lambda x: (x * 2).exp() + 1)(torch.ones(2))
    with pytest.raises(GraphError, match="'order' must be a permutation of the program's 3 calls"):
        graphs.apply_order(module, order)


def test_apply_order_refuses_use_before_definition():
    module = make_fx(lambda x: (x * 2).exp() + 1)(torch.ones(2))
    with pytest.raises(GraphError, match="node 'exp' must run after node 'mul'"):
        graphs.apply_order(module, [1, 0, 2])


def test_exported_programs_keep_signature_and_run():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.register_buffer("scale", torch.ones(3), persistent=False)

        def forward(self, input, *, extra):  # noqa: A002
            return {"a": self.norm(input) * self.scale, "b": (extra.sin(), input.cos())}

    net = Net()
    exported = torch.export.export(net, (torch.randn(4, 3),), {"extra": torch.randn(2)})
    graph = graphs.from_fx(exported)
    order = graphs.program_order(graph)[::-1].copy()
    order = order if _legal(graph, order) else graphs.program_order(graph)
    again = graphs.apply_order(exported, order)
    assert again.graph_signature == exported.graph_signature
    x, y = torch.randn(4, 3), torch.randn(2)
    result = again.module()(x, extra=y)
    assert torch.equal(result["b"][0], y.sin())
    assert list(result) == ["a", "b"]
    assert int(net.norm.num_batches_tracked) == 1  # the program shares the module's buffers


def _legal(graph, order):
    try:
        graphs.check_order(graph, order)
    except GraphError:
        return False
    return True


def test_a_long_chain():
    def chain(g, x):
        for _ in range(3000):
            x = g.call_function(aten.sin.default, (x,))
        return x

    module = program(chain)
    graph = graphs.from_fx(module)
    assert graphs.simulate(graph).peak_bytes == 2 * 48
    assert len(list(graphs.apply_order(module, graphs.program_order(graph)).graph.nodes)) == 3002


def test_a_wide_join():
    def join(g, x):
        parts = [g.call_function(operator.getitem, (unbound_copies, i)) for i in range(2000)]
        return g.call_function(aten.cat.default, (parts,))

    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(2000, 3)
    unbound_copies = graph.call_function(aten.split_with_sizes_copy.default, (x, [1] * 2000))
    graph.output(join(graph, x))
    captured = graphs.from_fx(fx.GraphModule(nn.Module(), graph))
    assert captured.n == 2
    assert graphs.simulate(captured).peak_bytes == 2 * 2000 * 12


def test_what_a_call_moves_and_computes_in():
    """A product, a view, a table that is looked up, memory that nobody has written to."""

    class Module(torch.nn.Module):
        def forward(self, x, w, table, at):
            y = x.to(torch.bfloat16) @ w
            z = y.view(-1)
            found = table[at]
            return z + 1, found, y.expand(3, 4, 5).sum(), torch.empty(7)

    arguments = (torch.ones(4, 3), torch.ones(3, 5, dtype=torch.bfloat16), torch.ones(100, 2), torch.arange(6))
    program = torch.export.export(Module(), arguments)
    graph = graphs.from_fx(program)
    moved = dict(zip(graph.ops, graph.moved.tolist(), strict=True))
    dtypes = dict(zip(graph.ops, graph.dtypes, strict=True))
    assert moved["aten.matmul.default"] == 2 * (4 * 3 + 3 * 5 + 4 * 5)
    assert dtypes["aten.matmul.default"] == "bfloat16"
    assert moved["aten.view.default"] == moved["aten.expand.default"] == 0
    assert moved["aten.index.Tensor"] == 4 * 6 * 2 + 8 * 6 + 4 * 6 * 2
    assert moved["aten.sum.default"] == 2 * 4 * 5 + 2  # the repeats of an expanded tensor are the same memory
    assert moved["aten.add.Tensor"] == 2 * 20 + 2 * 20
    assert moved[next(op for op in graph.ops if "empty" in op)] == 0
