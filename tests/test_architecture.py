"""Who may import whom, where heavy libraries may appear, and how long a file or function may get."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("graphs", "topoformer", "bayesopt_perm", "bench")
FILES = sorted(path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# For each package of ours, the files outside it that may import it; a name that ends in "/" is a folder.
OWN = {
    "graphs": ("topoformer/", "bench/"),
    "topoformer": ("bench/",),
    "bayesopt_perm": ("topoformer/schedulers/bayes.py", "bench/"),
    "bench": (),
    "tests": ("bench/one_run.py",),
}
TORCH = (
    "graphs/fx*.py", "graphs/pt2.py", "graphs/models/", "topoformer/pytorch/",
    "topoformer/net/", "topoformer/schedulers/learned.py",
    "bayesopt_perm/", "bench/",
)  # fmt: skip
HEAVY = {
    "torch": TORCH,
    "torch_geometric": ("topoformer/net/", "bench/"),
    "botorch": ("bayesopt_perm/", "bench/"),
    "gpytorch": ("bayesopt_perm/", "bench/"),
    "onnx": ("graphs/onnx*.py", "bench/"),
    "onnxruntime": ("bench/",),
    "onnxscript": ("bench/",),
}
LINES, FUNCTION_LINES, KERNEL_LINES = 400, 60, 80


def is_type_checking(test):
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imported_by_call(node):
    """The module that import_module("module") asks for, or None."""
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        return node.args[0].value if name in ("import_module", "__import__") else None
    return None


def imports(tree):
    """(line, whole module name) of every import that runs, at the top or inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and is_type_checking(node.test):
            for other in node.orelse:
                yield from imports(ast.Module([other], []))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        else:
            if module := imported_by_call(node):
                yield node.lineno, module
            yield from imports(node)


def allowed(path, places):
    return any(path.startswith(place) if place.endswith("/") else Path(path).match(place) for place in places)


def misplaced(path, source):
    """One line for each import in ``source`` that the file ``path`` may not have."""
    package = path.split("/")[0]
    found = []
    for line, module in imports(ast.parse(source)):
        top = module.split(".")[0]
        if not top:
            found.append(f"{path}:{line} relative import {module}")
        if top in OWN and top != package and not allowed(path, OWN[top]):
            found.append(f"{path}:{line} imports {module}")
        if top in HEAVY and not allowed(path, HEAVY[top]):
            found.append(f"{path}:{line} imports {module}")
    return found


def too_long(path, source):
    """One line for the file or each function in it that is longer than the house rules allow."""
    lines = source.count("\n")
    found = [f"{path} has {lines} lines"] if lines > LINES else []
    limit = KERNEL_LINES if path.endswith("_kernels.py") else FUNCTION_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= limit:
            found.append(f"{path}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines")
    return found


def test_there_are_files_to_look_at():
    assert {"graphs/graph.py", "graphs/memory.py", "graphs/__init__.py"} <= set(FILES)


@pytest.mark.parametrize("path", FILES)
def test_a_file_imports_only_what_it_may(path):
    assert misplaced(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize("path", FILES)
def test_files_and_functions_are_short(path):
    assert too_long(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("graphs/graph.py", "import torch"),
        ("graphs/graph.py", "import torch.fx as fx"),
        ("graphs/graph.py", "def f():\n    from torch import nn"),
        ("graphs/graph.py", "try:\n    import torch\nexcept ImportError:\n    pass"),
        ("graphs/graph.py", "if not TYPE_CHECKING:\n    import torch"),
        ("graphs/graph.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
        ("graphs/graph.py", "import importlib\ntorch = importlib.import_module('torch.fx')"),
        ("graphs/graph.py", "import topoformer"),
        ("graphs/graph.py", "from bayesopt_perm import minimize"),
        ("graphs/graph.py", "from . import csr"),
        ("graphs/nx.py", "import onnx"),
        ("graphs/deep/fx.py", "from bench import x"),
        ("topoformer/cli.py", "import torch"),
        ("topoformer/schedulers/beam.py", "import bayesopt_perm"),
        ("topoformer/pytorch/backend.py", "import torch_geometric"),
        ("topoformer/schedulers/bayes.py", "import botorch"),
        ("topoformer/report.py", "import bench"),
        ("topoformer/report.py", "from tests import oracle"),
        ("bayesopt_perm/space.py", "import graphs"),
        ("bayesopt_perm/space.py", "from topoformer.schedule import schedule"),
    ],
)
def test_a_misplaced_import_is_found(path, source):
    assert len(misplaced(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("graphs/graph.py", "import torchless\nimport graphs.csr\nfrom graphs import csr"),
        ("graphs/graph.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch, topoformer"),
        ("graphs/graph.py", "import typing\nif typing.TYPE_CHECKING:\n    import torch"),
        ("graphs/fx.py", "import torch"),
        ("graphs/fx_trace.py", "import torch.fx"),
        ("graphs/models/nas.py", "import torch"),
        ("topoformer/net/model.py", "import torch, torch_geometric, graphs"),
        ("topoformer/schedulers/bayes.py", "import bayesopt_perm, graphs"),
        ("bayesopt_perm/space.py", "import botorch, gpytorch, torch"),
    ],
)
def test_an_import_in_its_place_is_left_alone(path, source):
    assert misplaced(path, source) == []


def test_a_long_file_and_a_long_function_are_found():
    assert too_long("graphs/x.py", "x = 1\n" * 401) == ["graphs/x.py has 401 lines"]
    assert too_long("graphs/x.py", "x = 1\n" * 400) == []
    long = "def f():\n" + "    x = 1\n" * 60
    assert too_long("graphs/x.py", long) == ["graphs/x.py:1 f has 61 lines"]
    assert too_long("graphs/x.py", long[: -len("    x = 1\n")]) == []
    assert too_long("graphs/_kernels.py", long) == []
    assert too_long("graphs/_kernels.py", "def f():\n" + "    x = 1\n" * 80) != []


def loaded_after(statement):
    """Top-level modules that a fresh interpreter holds after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())


def test_importing_graphs_is_cheap():
    loaded = loaded_after("import graphs")
    assert "numpy" in loaded
    assert not loaded & {"torch", "numba", "networkx", "rich", "onnx", "scipy", "topoformer", "bayesopt_perm"}


def test_loading_and_simulating_a_graph_needs_no_torch():
    statement = (
        "import graphs\n"
        "g = graphs.Graph.build('g', ['a', 'b'], [[], [0]], [0, 1], [1, 2])\n"
        "assert graphs.simulate(g).peak_bytes == 3\n"
        "graphs.from_networkx(graphs.to_networkx(g))"
    )
    assert not loaded_after(statement) & {"torch", "rich", "topoformer", "bayesopt_perm"}
