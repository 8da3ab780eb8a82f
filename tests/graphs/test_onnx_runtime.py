"""ONNX Runtime runs what :func:`graphs.onnx.apply_order` wrote: the same bits, in the order of the file."""

import json
import os

import numpy as np
import onnx
import pytest

import graphs
import topoformer
from graphs.onnx import apply_order, from_onnx, load_onnx, save_onnx, symbolic_dims
from tests import oracle
from tests.graphs.onnx_models import (
    DIMS,
    EXPORTED,
    HUGGING_FACE,
    LIGHT,
    LIGHT_FOLDER,
    exported,
    inputs_for,
    model,
    random_order,
)

onnxruntime = pytest.importorskip("onnxruntime")
from tests.graphs.onnx_allocations import session  # noqa: E402

EAGER = ("Shape", "Size")  # ONNX Runtime runs them before all others that are ready
AHEAD = (*EAGER, "Constant")  # which it makes when it loads the model
LEVEL = onnxruntime.GraphOptimizationLevel


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The file of a model by its name; what is exported is exported once, whatever the number of test processes."""
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "onnx_exports"
    shared.mkdir(exist_ok=True)

    def file(name):
        if name in LIGHT:
            return LIGHT_FOLDER / f"{name}.onnx"
        path = shared / f"{name}.onnx"
        if not path.exists():
            os.replace(exported(name, tmp_path_factory.mktemp("export")), path)
        return path

    return file


def ran(source, feeds, folder, **options):
    """(outputs, names of the nodes in the order in which they ran)."""
    runner = session(source, enable_profiling=True, profile_file_prefix=str(folder / "profile"), **options)
    outputs = runner.run(None, feeds)
    with open(runner.end_profiling()) as file:
        events = [event for event in json.load(file) if event.get("cat") == "Node"]
    kernels = sorted((e for e in events if e["name"].endswith("_kernel_time")), key=lambda event: event["ts"])
    return outputs, [event["name"].removesuffix("_kernel_time") for event in kernels]


def numbered(proto):
    """A copy whose nodes have names of their own, which the profile shows."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for i, node in enumerate(copy.graph.node):
        node.name = f"{node.op_type}_{i}"
    return copy


def names(proto, without):
    return [node.name for node in proto.graph.node if node.op_type not in without]


def same_bits(one, other):
    return [(a.shape, a.tobytes()) for a in one] == [(a.shape, a.tobytes()) for a in other]


@pytest.mark.parametrize("group", [EXPORTED, HUGGING_FACE, *((name,) for name in LIGHT)], ids=lambda group: group[0])
def test_real_models_there_and_back(group, files, tmp_path):
    for name in group:
        there_and_back(numbered(load_onnx(files(name))), tmp_path)


def there_and_back(proto, folder):
    graph = from_onnx(proto, dims={dim: DIMS[dim] for dim in symbolic_dims(proto)})
    feeds = inputs_for(proto)
    before, order_before = ran(proto.SerializeToString(), feeds, folder)
    assert [item for item in order_before if not item.startswith(EAGER)] == names(proto, AHEAD)
    for order in (topoformer.schedule(graph, method="lpmf").order, random_order(graph, 1)):
        if graph.n < 250:
            assert graphs.peak_bytes(graph, order) == oracle.peak(graph, order.tolist())
        path = folder / "ordered.onnx"
        save_onnx(apply_order(proto, order), path)
        onnx.checker.check_model(path)
        written = load_onnx(path)
        assert [node.name for node in written.graph.node] == [proto.graph.node[v].name for v in order]
        after, order_after = ran(str(path), feeds, folder)
        assert same_bits(before, after)
        assert [item for item in order_after if not item.startswith(EAGER)] == names(written, AHEAD)


@pytest.mark.parametrize("name", ["light_inception_v1", "light_squeezenet"])
def test_a_search_gives_a_lower_peak_that_is_there_after_the_way_back(name, files, tmp_path):
    proto = load_onnx(files(name))
    graph = from_onnx(proto)
    found = topoformer.schedule(graph, seconds=0.3)
    back = apply_order(proto, found.order)
    assert graphs.peak_bytes(from_onnx(back)) == found.cost.peak_bytes <= graphs.peak_bytes(graph)
    feeds = inputs_for(proto)
    assert same_bits(*(session(item.SerializeToString()).run(None, feeds) for item in (proto, back)))


def test_the_default_order_is_not_that_of_the_file(files, tmp_path):
    proto = numbered(load_onnx(files("light_squeezenet")))
    order = random_order(from_onnx(proto), 0)
    written = apply_order(proto, order)
    data, feeds = written.SerializeToString(), inputs_for(proto)
    assert ran(data, feeds, tmp_path)[1] == names(written, AHEAD)
    default = onnxruntime.ExecutionOrder.DEFAULT
    assert ran(data, feeds, tmp_path, execution_order=default)[1] != names(written, AHEAD)
    fused = ran(data, feeds, tmp_path, graph_optimization_level=LEVEL.ORT_ENABLE_ALL)[1]
    assert len(fused) < len(names(written, AHEAD))  # other nodes than those of the file


def test_shapes_run_early_and_functions_late(tmp_path):
    proto = numbered(model("a = Exp(x) b = Exp(a) s = Shape(x) y = Reshape(b, s)"))
    feeds = inputs_for(proto)
    assert ran(proto.SerializeToString(), feeds, tmp_path)[1][0] == "Shape_2"
    proto = numbered(model("a = HardSwish(x) b = Exp(x) y = Add(a, b)"))  # no kernel: expanded behind all others
    assert ran(proto.SerializeToString(), feeds, tmp_path)[1][0] == "Exp_1"


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
@pytest.mark.parametrize("name", ["light_squeezenet", "light_inception_v2", "transformer"])
def test_a_model_that_was_optimised_before_keeps_its_order(name, level, files, tmp_path):
    path = tmp_path / "optimised.onnx"
    session(str(files(name)), graph_optimization_level=getattr(LEVEL, level), optimized_model_filepath=str(path))
    proto = numbered(load_onnx(path))
    written = apply_order(proto, random_order(from_onnx(proto), 2))
    weights = {tensor.name for tensor in load_onnx(files(name)).graph.initializer}
    feeds = {key: value for key, value in inputs_for(proto).items() if key not in weights}
    unused = {value.name for value in proto.graph.input} - set(feeds)
    feeds |= {key: value for key, value in inputs_for(proto).items() if key in unused}
    before, _ = ran(proto.SerializeToString(), feeds, tmp_path)
    after, order = ran(written.SerializeToString(), feeds, tmp_path)
    assert same_bits(before, after)
    assert [item for item in order if not item.startswith(EAGER)] == names(written, AHEAD)


@pytest.mark.parametrize("aliases", ["none", "views", "onnxruntime"])
def test_every_way_of_sharing_allows_legal_orders_only(aliases, tmp_path):
    body = "a = Exp(x) r = Reshape(a, minus) b = Relu(r) c = Neg(r) d = Add(b, c) e = Relu(d) y = Reshape(e, shape)"
    proto = model(body, values="<int64[1] minus = {-1}, int64[2] shape = {4, 6}>")
    graph = from_onnx(proto, aliases=aliases)
    feeds = inputs_for(proto)
    before = session(proto.SerializeToString()).run(None, feeds)
    for order in oracle.legal_orders(graph):
        assert same_bits(before, session(apply_order(proto, order).SerializeToString()).run(None, feeds))
        assert graphs.peak_bytes(graph, np.array(order, np.int32)) == oracle.peak(graph, order)
