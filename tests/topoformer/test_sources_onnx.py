"""``.onnx`` files as SOURCE, and back."""

import subprocess
import sys

import pytest

import graphs
from graphs.onnx import load_onnx
from tests.graphs.onnx_models import model
from topoformer.sources import (
    SourceError,
    check_runnable,
    check_savable,
    load_source,
    program_of,
    save_program,
    with_measured_scratch,
    with_measured_seconds,
)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "net.onnx"
    body = "a = Exp(x) b = Relu(a) c = Neg(x) y = Add(b, c)"
    proto = model(body, inputs="float[batch, 6] x", outputs="float[batch, 6] y")
    file.write_bytes(proto.SerializeToString())
    return file


def test_there_and_back(path, tmp_path):
    source = load_source(str(path), dims={"batch": 4})
    assert (source.graph.name, source.graph.n, source.suffix) == ("net", 4, ".onnx")
    assert graphs.peak_bytes(load_source(str(path), dims={"batch": 4}, aliases="none").graph) >= graphs.peak_bytes(
        source.graph
    )
    check_savable(source, tmp_path / "again.onnx")
    save_program(source, graphs.check_order(source.graph, [2, 0, 1, 3]), str(tmp_path / "again.onnx"))
    assert [node.op_type for node in load_onnx(tmp_path / "again.onnx").graph.node] == ["Neg", "Exp", "Relu", "Add"]


def test_refusals(path, tmp_path):
    source = load_source(str(path), dims={"batch": 4})
    order = graphs.program_order(source.graph)
    with pytest.raises(SourceError, match=r"an ONNX model is saved to a \.onnx file"):
        save_program(source, order, str(tmp_path / "again.pt2"))
    for action in (program_of, with_measured_scratch, with_measured_seconds, lambda s: check_runnable(s, "net.onnx")):
        with pytest.raises(SourceError, match="ONNX model, which cannot be run here"):
            action(source)
    with pytest.raises(graphs.GraphError, match=r"net\.onnx.*symbolic dimensions 'batch'.*--dim batch=8"):
        load_source(str(path))
    with pytest.raises(graphs.GraphError, match=r"net\.onnx.*unknown symbolic dimension 'bach'; did you mean 'batch'"):
        load_source(str(path), dims={"bach": 4})
    with pytest.raises(graphs.GraphError, match="unknown aliases 'all'"):
        load_source(str(path), dims={"batch": 4}, aliases="all")


@pytest.mark.parametrize("options", [{"dims": {"batch": 4}}, {"aliases": "none"}])
@pytest.mark.parametrize("name", ["graph.json", "program.pt2", "graphs.models:lstm"])
def test_dimensions_and_aliases_are_for_onnx_only(name, options):
    with pytest.raises(SourceError, match=r"can only be chosen for an \.onnx file"):
        load_source(name, **options)


def test_a_graph_cannot_be_saved(tmp_path):
    graphs.save(graphs.layered(20, seed=0), tmp_path / "g.json")
    source = load_source(str(tmp_path / "g.json"))
    assert source.suffix == ""
    with pytest.raises(SourceError, match="is a graph, without a program to save"):
        save_program(source, graphs.program_order(source.graph), str(tmp_path / "g.pt2"))


def test_without_the_package_the_text_says_how_to_get_it(path):
    script = f"""
import sys
sys.modules["onnx"] = None
from topoformer.sources import SourceError, load_source
assert "torch" not in sys.modules
try:
    load_source({str(path)!r})
except SourceError as error:
    print(error)
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "reading .onnx files needs the package 'onnx': pip install 'topoformer[onnx]'\n"


def test_an_onnx_file_is_read_without_torch_and_other_sources_without_onnx(path, tmp_path):
    graphs.save(graphs.layered(20, seed=0), tmp_path / "g.json")
    script = f"""
import sys
from topoformer.sources import load_source
load_source({str(tmp_path / "g.json")!r})
assert "onnx" not in sys.modules
load_source({str(path)!r}, dims={{"batch": 4}})
assert not {{"torch", "onnxruntime", "onnx.reference"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
