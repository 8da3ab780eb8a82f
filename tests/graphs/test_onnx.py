"""ONNX models as graphs: what is a node, a tensor, an order; and orders as models."""

import doctest

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

import graphs.onnx
import graphs.onnx_types
from graphs import GraphError, Kind, UnsupportedOp, peak_bytes
from graphs.onnx import apply_order, from_onnx, symbolic_dims
from tests.graphs.onnx_models import model


def tensors(graph):
    return {name: (Kind(graph.kind[i]).name.lower(), int(graph.size[i])) for i, name in enumerate(graph.tensor_names)}


def reads(graph):
    named = zip(graph.labels, (graph.reads.row(i) for i in range(graph.n)), strict=True)
    return {label: {graph.tensor_names[t] for t in row} for label, row in named}


def after(graph):
    return {(graph.labels[u], graph.labels[v]) for u, v in graph.after.T.tolist()}


@pytest.mark.parametrize("module", [graphs.onnx, graphs.onnx_types])
def test_the_examples_run(module):
    found = doctest.testmod(module)
    assert (found.failed, found.attempted > 0) == (0, True)


def test_nodes_and_tensors():
    body, inputs = "c3 = Neg(p) a = MatMul(x, w) b = Conv(c3, k) y = Neg(a)", "float[4, 6] x, float[1, 2, 5, 5] p"
    proto = model(body, inputs=inputs,
                  weights={"w": [6, 1], "k": [3, 2, 3, 3], "unused": [9]}, outputs="float[4, 1] y")  # fmt: skip
    graph = from_onnx(proto)
    assert tensors(graph) == {
        "x": ("input", 96), "p": ("input", 200), "w": ("weight", 24), "k": ("weight", 216), "c3": ("temporary", 200),
        "a": ("temporary", 16), "b": ("output", 108), "y": ("output", 16),
    }  # fmt: skip
    assert graph.ops == ("Neg", "MatMul", "Conv", "Neg")
    assert graph.flops.tolist() == [50, 2 * 4 * 6, 2 * 27 * 18, 4]
    assert graph.moved.tolist() == [400, 96 + 24 + 16, 200 + 216 + 108, 32]
    assert graph.dtypes == ("float32",) * 4
    assert graph.types[graph.tensor_names.index("b")] == "float32[1, 3, 3, 3]"
    assert tensors(from_onnx(proto, aliases="none"))["b"] == (
        "temporary",
        108,
    )  # kept by ONNX Runtime, as nobody reads it


def test_inputs_that_are_initializers_and_constants_are_weights():
    proto = model("k = Constant <value = float[6] {1, 2, 3, 4, 5, 6}> () a = Add(x, k) y = Add(a, w)",
                  inputs="float[4, 6] x, float[6] w", values="<float[6] w = {1, 2, 3, 4, 5, 6}>")  # fmt: skip
    graph = from_onnx(proto)
    assert tensors(graph) == {
        "x": ("input", 96),
        "w": ("weight", 24),
        "k": ("weight", 24),
        "a": ("temporary", 96),
        "y": ("output", 96),
    }
    assert after(graph) == {("k", "a")}
    assert graph.moved[0] == graph.flops[0] == 0


def test_views_and_values_written_over():
    proto = model("a = Exp(x) r = Reshape(a, minus) b = Relu(r) y = Neg(b)", outputs="float[24] y")
    assert set(tensors(from_onnx(proto))) == {"x", "minus", "a", "y"}
    assert reads(from_onnx(proto)) == {"a": {"x"}, "r": {"a", "minus"}, "b": {"a"}, "y": {"a"}}
    assert after(from_onnx(proto)) == {("r", "b"), ("b", "y")}
    assert set(tensors(from_onnx(proto, aliases="views"))) == {"x", "minus", "a", "b", "y"}
    assert set(tensors(from_onnx(proto, aliases="none"))) == {"x", "minus", "a", "r", "b", "y"}
    assert [peak_bytes(from_onnx(proto, aliases=aliases)) for aliases in graphs.onnx.ALIASES] == [192, 192, 192]
    assert from_onnx(proto).moved.tolist() == [192, 0, 192, 192]


@pytest.mark.parametrize(
    ("body", "shared"),
    [
        ("a = Exp(x) b = Relu(a) y = Neg(b)", True),
        ("a = Exp(x) b = Relu(a) c = Add(a, b) y = Neg(c)", False),  # read again
        ("a = Exp(x) c = Neg(a) b = Relu(a) y = Add(b, c)", False),  # not in every order the last reader
        ("a = Exp(x) c = Gather(a, i) d = Add(c, x) e = Relu(a) f = Add(e, d) y = Neg(f)", False),
        ("a = Exp(x) c = MatMul(a, t) b = Relu(c) y = Add(a, b)", True),
        ("b = Relu(x) y = Neg(b)", False),  # the caller's
        ("b = Relu(w) y = Add(b, x)", False),  # a weight
        ("a = Exp(x) b = custom.Relu(a) y = Neg(b)", False),
        ("a = Exp(x) y = Relu(a)", False),  # what the caller gets
    ],
)
def test_memory_is_taken_over_only_where_no_order_forbids_it(body, shared):
    proto = model(body, weights={"w": [4, 6], "t": [6, 6]}, values="<int64[1, 1] i = {0}>")
    proto.graph.value_info.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [4, 6]))
    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    own = relu.output[0] in tensors(from_onnx(proto))
    assert own != shared


def test_bodies_read_what_they_capture_and_nothing_that_they_define():
    proto = model(
        """a = Exp(x) b = Neg(x) z = Sin(x) d = If (c) <
             then_branch = t () => (float[4, 6] r) { s = If (c) <
                 then_branch = tt () => (float[4, 6] q) { q = Neg(a) },
                 else_branch = te () => (float[4, 6] p) { p = Exp(x) }>
               z2 = Identity(s) r = Add(z2, b) },
             else_branch = e () => (float[4, 6] o) { o = Cos(x) }> y = Add(d, z)""",
        inputs="float[4, 6] x, bool c",
    )
    assert reads(from_onnx(proto))["d"] == {"a", "b", "c", "x"}
    loop = model(
        """a = Exp(x) b = Neg(x) d = Loop (n, c, x) <
             body = l (int64 i, bool k, float[4, 6] a) => (bool m, float[4, 6] f) { m = Identity(k) f = Mul(a, b) }>
           y = Add(d, a)""",
        inputs="float[4, 6] x, bool c, int64 n",
    )
    assert reads(from_onnx(loop))["d"] == {"n", "c", "x", "b"}  # its own 'a' hides the outer one


def test_random_numbers_are_drawn_in_order():
    body = "a = RandomNormalLike(x) b = RandomUniformLike <seed = 1.0> (x) c = Bernoulli(x) d = Add(a, b) y = Add(c, d)"
    assert after(from_onnx(model(body))) == {("a", "c")}
    body = "a, m = Dropout(x, one, yes) b, k = Dropout(x, one) c = RandomNormalLike(a) d = Add(b, c) y = Neg(d)"
    assert after(from_onnx(model(body, values="<float one = {0.5}, bool yes = {1}>"))) == {("a", "c")}


def test_labels_are_the_names_where_no_two_are_alike():
    proto = model("a = Exp(x) b = Exp(a) c = Exp(b) y = Exp(c)")
    for node, name in zip(proto.graph.node, ["first", "twice", "twice", ""], strict=True):
        node.name = name
    assert from_onnx(proto).labels == ("first", "b", "c", "y")
    proto.graph.node[0].name = "b"
    assert from_onnx(proto).labels == ("b", "b_", "c", "y")


def test_places_and_modules_of_exported_programs():
    proto = model("a = Exp(x) y = Neg(a)")
    trace = 'File "/its/model.py", line 12, in forward\n  File "/venv/torch/nn/modules/linear.py", line 134, in forward'
    facts = {"pkg.torch.onnx.stack_trace": trace, "pkg.torch.onnx.name_scopes": "['', 'layers.0.attention', 'linear']"}
    for key, value in facts.items():
        proto.graph.node[0].metadata_props.add(key=key, value=value)
    proto.graph.node[1].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="[1, (")
    graph = from_onnx(proto)
    assert graph.sources == ("/its/model.py:12", "")
    assert graph.modules == ("layers.0.attention", "")


@pytest.mark.parametrize(
    ("element", "count"),
    [("FLOAT", 60), ("FLOAT16", 30), ("BFLOAT16", 30), ("DOUBLE", 120), ("INT64", 120), ("BOOL", 15),
     ("COMPLEX64", 120), ("FLOAT8E4M3FN", 15), ("INT4", 8), ("UINT4", 8), ("FLOAT4E2M1", 8), ("INT2", 4), ("UINT2", 4)],
)  # fmt: skip
def test_bytes_of_every_type(element, count):
    kind = getattr(TensorProto, element)
    x = helper.make_tensor_value_info("x", kind, [3, 5])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [x], [helper.make_tensor_value_info("y", kind, [3, 5])]
    )
    found = from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)]))
    assert tensors(found) == {"x": ("input", count), "y": ("output", count)}


def test_sparse_weights_count_as_what_they_unpack_to():
    proto = model("y = Add(x, w)", values="")
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, helper.make_tensor("", TensorProto.INT64, [2], [0, 7]), [4, 6])
    )
    assert tensors(from_onnx(proto))["w"] == ("weight", 96)


SIZES = {
    "gather, concat": "s = Shape(x) g = Gather(s, zero) c = Concat <axis = 0> (g, minus) a = Exp(x) y = Reshape(a, c)",
    "arithmetic": "s = Shape(x) d = Div(s, two) m = Mul(d, two) a = Exp(x) y = Reshape(a, m)",
    "range": "n = Size(x) h = Div(n, n1) r = Range(z, h, n1) f = Cast <to = 1> (r) y = Add(f, x0)",
    "slice": "s = Shape(x) p = Slice(s, zero, one) q = Concat <axis = 0> (p, six) a = Neg(x) y = Expand(a, q)",
    "where": "s = Shape(x) e = Equal(s, s) w = Where(e, s, s) a = Neg(x) y = Reshape(a, w)",
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_are_computed(name):
    values = """<int64[1] zero = {0}, int64[1] minus = {-1}, int64[1] two = {2}, int64 n1 = {1}, int64 z = {0},
                 float x0 = {0.0}, int64[1] one = {1}, int64[1] six = {6}>"""
    proto = model(SIZES[name], inputs="float[batch, 6] x", outputs="float[p, q] y", values=values)
    if name == "range":
        del proto.graph.output[0].type.tensor_type.shape.dim[1]
    assert tensors(from_onnx(proto, dims={"batch": 4}))["y"] == ("output", 96)


def test_symbolic_dims():
    inputs = "float[batch, past] x, float[batch, later] z, float[u0] u"
    proto = model("a = Concat <axis = 1> (x, z) y = Neg(a)", inputs=inputs, outputs="float[batch, total] y")
    proto.graph.input[1].type.tensor_type.shape.dim[1].dim_param = "past + 1"
    proto.graph.input[2].type.tensor_type.shape.dim[0].Clear()
    assert symbolic_dims(proto) == ("batch", "past", "u[0]")
    graph = from_onnx(proto, dims={"batch": 2, "past": 3, "u[0]": 5})
    assert tensors(graph)["y"] == ("output", 2 * 7 * 4)
    assert tensors(graph)["u"] == ("input", 20)
    with pytest.raises(
        GraphError, match=r"symbolic dimensions 'batch', 'past', 'u\[0\]': give .*--dim batch=8 .*--dim 'u\[0\]=8'"
    ):
        from_onnx(proto)
    with pytest.raises(GraphError, match=r"give a size to 'past'"):
        from_onnx(proto, dims={"batch": 2, "u[0]": 1})
    with pytest.raises(GraphError, match=r"unknown symbolic dimension 'batsch'; did you mean 'batch'\?"):
        from_onnx(proto, dims={"batsch": 2})
    for size in (-1, 2.0, "2", True, 1 << 50):
        with pytest.raises(GraphError, match="'batch' must be an integer"):
            from_onnx(proto, dims={"batch": size})
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"  # not changed


REFUSED = {
    "missing input": ({"body": 'y = RegexFullMatch <pattern = "a"> ()'}, "has 0 inputs, but its operator has 1 to 1"),
    "empty input": ({"body": "y = Reshape(, minus)"}, "node 'y' (Reshape) has no input 'data'"),
    "too many inputs": ({"body": "y = Neg(x, x)"}, "node 'y' (Neg) has 2 inputs, but its operator has 1 to 1"),
    "too many outputs": ({"body": "a, y = Neg(x)"}, "has 2 outputs, but its operator has 1 to 1"),
    "missing attribute": ({"body": "y = Cast(x)"}, "node 'y' (Cast) has no attribute 'to'"),
    "attribute": ({"body": 'y = Softmax <axis = "1"> (x)'}, "has attribute 'axis' of type STRING instead of INT"),
    "equation": ({"body": 'y = Einsum <equation = "i#,j"> (x)'}, "node 'y' (Einsum) has the equation"),
    "endless list": (
        {"body": "y = Slice(x, s, e)", "inputs": "float[4, 6] x, int64[2] s, int64[1099511627776] e"},
        "value 'e', which Slice reads as a list, has 1099511627776 entries",
    ),
    "data": (
        {"body": "n = NonZero(x) y = Cast <to = 1> (n)", "outputs": "float[2, k] y"},
        "node 'n' (NonZero): the size of its output 'n' depends on the data",
    ),
    "shape is an input": (
        {"body": "y = Reshape(x, s)", "inputs": "float[4, 6] x, int64[2] s", "outputs": "float[k, l] y"},
        "node 'y' (Reshape): the size of its output 'y' is not known before a run",
    ),
    "own operator": (
        {"body": "a = custom.Thing(x) y = Neg(a)"},
        "operator 'custom.Thing' is not known, and 'value_info' gives no size for its output 'a'",
    ),
    "sequence inside": (
        {"body": "s = SequenceConstruct(x) y = ConcatFromSequence <axis = 0> (s)"},
        "value 's' is a sequence",
    ),
    "sequence input": (
        {"body": "y = ConcatFromSequence <axis = 0> (s)", "inputs": "seq(float[4, 6]) s"},
        "input 's' is a sequence",
    ),
    "optional input": (
        {"body": "y = OptionalGetElement(s)", "inputs": "optional(float[4, 6]) s"},
        "input 's' is a optional",
    ),
    "strings": (
        {"body": "y = Cast <to = 1> (x)", "inputs": "string[4, 6] x"},
        "value 'x' holds elements of type string",
    ),
    "no rank": (
        {"body": "y = Neg(x)", "inputs": "float[] x"},
        "input 'x' has no shape",
    ),
    "too large": (
        {"body": "y = Neg(x)", "inputs": "float[9000000000, 9000000000] x"},
        "value 'x' has 3.24e+20 bytes",
    ),
    "negative": (
        {"body": "y = Neg(x)", "inputs": "float[4, 6] x"},
        "input 'x' has a negative size: -3 in dimension 0",
    ),
    "twice": (
        {"body": "a = Neg(x) a = Exp(x) y = Neg(a)"},
        "value 'a', output of node 'a' (Exp), is defined twice",
    ),
    "nobody makes it": (
        {"body": "a = Neg(b) y = Neg(a)"},
        "node 'a' (Neg) reads 'b', which nothing in the model makes",
    ),
    "cycle": (
        {"body": "a = Add(x, c) b = Neg(a) c = Neg(b) y = Neg(c)"},
        "nodes form a cycle: 'c' -> 'a' -> 'b' -> 'c'",
    ),
    "order": (
        {"body": "b = Neg(a) a = Neg(x) y = Neg(b)"},
        "program order is not legal: node 'b' must run after node 'a'",
    ),
    "output": (
        {"body": "a = Neg(x)"},
        "output 'y' of graph is made by none of its nodes",
    ),
    "version": (
        {"body": "y = Neg(x)", "opset": 99},
        "operator set version 99 is not known",
    ),
    "contradiction": (
        {"body": "a = MatMul(x, x) y = Neg(a)"},
        "Incompatible dimensions",
    ),
    "split": (
        {"body": "a, b, y = Split <num_outputs = 2> (x)"},
        "has 3 outputs, but 'num_outputs' says 2",
    ),
    "function": (
        {"body": "y = custom.f(x)", "more": '<domain: "custom", opset_import: ["": 20]> f (a) => (b) { b = Neg(a) }'},
        "function 'f' is not inlined",
    ),
}


def test_names_that_are_no_single_line():
    proto = model("a = Thing(x) y = Neg(a)")
    proto.graph.node[0].op_type = "Th\n\x1bing"
    with pytest.raises(UnsupportedOp, match=r"^node 'a' \(Th\\n\\x1bing\): the size of its output"):
        from_onnx(proto)


def test_the_library_is_kept_from_counting_to_the_end_of_a_range():
    values = "<int64 zero = {0}, int64 one = {1}, int64 most = {4000000000}>"
    graph = from_onnx(model("r = Range(zero, most, one) y = Cast <to = 1> (r)", values=values, outputs="float[p] y"))
    assert tensors(graph)["y"] == ("output", 16_000_000_000)
    proto = model("k = Constant <value = int64[1] {1}> () y = Slice(x, k, k)", outputs="float[p, q] y")
    proto.graph.node[0].attribute[0].t.dims[0] = 1 << 40
    with pytest.raises(GraphError, match="value 'k', which Slice reads as a list, has 1099511627776 entries"):
        from_onnx(proto)


def test_an_equation_with_spaces():
    proto = model('y = Einsum <equation = " i j, k j -> i k "> (x, x)', outputs="float[p, q] y")
    assert tensors(from_onnx(proto))["y"] == ("output", 64)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line_that_names_the_culprit(name):
    options, text = REFUSED[name]
    proto = model(**options)
    if name == "no rank":
        proto.graph.input[0].type.tensor_type.ClearField("shape")
    if name == "negative":
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -3
    with pytest.raises((GraphError, UnsupportedOp)) as caught:
        from_onnx(proto)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_operator_that_nobody_knows_is_fine_with_a_size():
    proto = model("a = custom.Thing(x) y = Neg(a)")
    proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT16, [4, 6]))
    graph = from_onnx(proto)
    assert graph.ops[0] == "custom.Thing"
    assert tensors(graph)["a"] == ("temporary", 48)


def test_unknown_aliases():
    with pytest.raises(GraphError, match="unknown aliases 'view'; did you mean 'views'"):
        from_onnx(model("y = Neg(x)"), aliases="view")


def without_nodes(proto):
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.node[:]
    return copy.SerializeToString(deterministic=True)


def test_apply_order_changes_the_order_and_nothing_else():
    proto = model("a = Exp(x) b = Neg(x) c = custom.Thing(a) d = Add(b, b) y = Add(c, d)")
    proto.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [4, 6]))
    helper.set_model_props(proto, {"key": "value"})
    proto.graph.metadata_props.add(key="k", value="v")
    proto.graph.doc_string, proto.producer_name, proto.model_version = "doc", "me", 7
    proto.graph.node[1].doc_string = "node"
    unknown = bytes([0xA2, 0x3F, 3]) + b"new"  # a field that this version of the format does not have
    proto = onnx.ModelProto.FromString(proto.SerializeToString() + unknown)
    before = proto.SerializeToString(deterministic=True)
    result = apply_order(proto, np.array([1, 3, 0, 2, 4]))
    assert proto.SerializeToString(deterministic=True) == before
    assert [node.output[0] for node in result.graph.node] == ["b", "d", "a", "c", "y"]
    assert without_nodes(result) == without_nodes(proto)
    assert unknown in result.SerializeToString()
    texts = [sorted(node.SerializeToString() for node in item.graph.node) for item in (proto, result)]
    assert texts[0] == texts[1]
    assert apply_order(result, [2, 0, 3, 1, 4]) == proto


def test_apply_order_refuses_what_is_no_legal_order():
    proto = model("a = Exp(x) b = Neg(a) y = Neg(b)")
    with pytest.raises(GraphError, match="node 'b' must run after node 'a'"):
        apply_order(proto, [1, 0, 2])
    with pytest.raises(GraphError, match="has 3 nodes"):
        apply_order(proto, [0, 1])
    random = parser.parse_model('<ir_version: 10, opset_import: ["": 20]> g (float[4] x) => (float[4] y) '
                                "{ a = RandomNormalLike(x) b = RandomNormalLike(x) y = Add(a, b) }")  # fmt: skip
    with pytest.raises(GraphError, match="node 'b' must run after node 'a'"):
        apply_order(random, [1, 0, 2])


def test_sizes_of_inner_values_that_the_file_has_wrong_are_not_believed():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> stale (float[batch, 4] x) => (float[batch, 4] y) '
        "<float[2, 4] a, float[1000] b> { a = Exp(x) b = Neg(a) y = Relu(b) }"
    )
    graph = from_onnx(model, dims={"batch": 64}, aliases="none")
    assert graph.size.tolist() == [64 * 4 * 4] * 4


def test_a_dimension_whose_name_reads_as_arithmetic_is_a_name_all_the_same():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[N, 4] x) => (float[N, 4] y) { y = Exp(x) }'
    )
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch-size"
    assert from_onnx(model, dims={"batch-size": 8}).size.tolist() == [128, 128]
    assert from_onnx(model, dims={"batch": 9, "size": 1}).size.tolist() == [128, 128]
