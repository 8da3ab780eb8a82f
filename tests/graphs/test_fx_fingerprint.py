"""The fingerprint of a program: whatever the graph depends on changes it, and nothing else does."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, export
from torch.overrides import TorchFunctionMode

from graphs import fx_fingerprint
from graphs.fx import from_fx
from graphs.fx_fingerprint import as_graph_of, program_fingerprint
from graphs.json_format import graph_from_json, graph_to_json
from graphs.models import ZOO
from tests.reality_cases import CASES
from tests.reality_programs import random_program
from topoformer.pytorch import capture

aten = torch.ops.aten


def build(
    *,
    names: tuple[str, str] = ("x", "y"),
    x: Any = None,
    y: Any = None,
    weight: Any = None,
    call: Any = aten.add.Tensor,
    options: Any = None,
    label: str = "added",
    total: str = "summed",
    dims: Any = [1],  # noqa: B006
    padding: Any = (1, 1),
    turned: bool = False,
    returned: Any = ("cut", "summed"),
) -> fx.GraphModule:
    """A program of five calls with an attribute; every argument is something that its graph may depend on."""
    graph = fx.Graph()
    given = {name: graph.placeholder(name) for name in names}
    one, two = given.values()
    one.meta["val"] = torch.ones(4, 8) if x is None else x
    two.meta["val"] = torch.ones(4, 8) if y is None else y
    kept = graph.get_attr("weight")
    nodes = {label: graph.call_function(call, (one, two), {"alpha": 2} if options is None else options)}
    nodes["scaled"] = graph.call_function(aten.mul.Tensor, (kept, nodes[label]) if turned else (nodes[label], kept))
    nodes[total] = graph.call_function(aten.sum.dim_IntList, (nodes["scaled"], dims), {"dtype": torch.float32})
    nodes["cut"] = graph.call_function(aten.constant_pad_nd.default, (nodes["scaled"], list(padding), 0.5))
    for name, node in nodes.items():
        node.name = name
    graph.output(tuple(nodes.get(name) for name in returned))
    root = nn.Module()
    root.register_buffer("weight", torch.ones(8) if weight is None else weight)
    return fx.GraphModule(root, graph)


def calls(module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in module.graph.nodes if node.op == "call_function"]


MEMORY = torch.ones(64)
CHANGES: dict[str, dict[str, Any]] = {
    "name of an argument": {"names": ("x", "z")},
    "name of a call": {"label": "total"},
    "operator": {"call": aten.sub.Tensor},
    "constant": {"options": {"alpha": 3}},
    "type of a constant": {"options": {"alpha": 2.0}},
    "no constant": {"options": {}},
    "list of constants": {"dims": [0]},
    "longer list": {"dims": [0, 1]},
    "tuple of constants": {"dims": (1,)},
    "amount of padding": {"padding": (1, 2)},
    "order of arguments": {"turned": True},
    "fewer outputs": {"returned": ("cut",)},
    "name of a call that nothing uses": {"returned": ("cut",), "total": "total"},
    "other outputs": {"returned": ("cut", "scaled")},
    "nothing as an output": {"returned": ("cut", "summed", "nothing")},
    "size of an input": {"x": torch.ones(4, 1)},
    "strides of an input": {"x": torch.ones(8, 4).T},
    "type of an input": {"x": torch.ones(4, 8, dtype=torch.float64)},
    "device of an input": {"x": torch.ones(4, 8, device="meta")},
    "part of an input": {"x": MEMORY.view(8, 8)[:1]},
    "bytes behind an input": {"x": MEMORY[:32].view(4, 8)},
    "where in memory an input begins": {"x": MEMORY[32:].view(4, 8)},
    "gradient of an input": {"x": torch.ones(4, 8, requires_grad=True)},
    "conjugate input": {"x": torch.ones(4, 8, dtype=torch.complex64).conj()},
    "input that is not": {"x": torch.ones(4, 8, dtype=torch.complex64)},
    "negative input": {"x": torch.ones(4, 8, dtype=torch.complex64).conj().imag},
    "input that is neither": {"x": torch.ones(4, 8, dtype=torch.complex64).imag},
    "a number as an input": {"y": 3},
    "another number as an input": {"y": 4},
    "inputs that share memory": {"x": MEMORY[:32].view(4, 8), "y": MEMORY[:32].view(4, 8)},
    "inputs that do not": {"x": MEMORY[:32].view(4, 8), "y": MEMORY.clone()[:32].view(4, 8)},
    "size of an attribute": {"weight": torch.ones(4, 8)},
    "attribute that is a number": {"weight": torch.ones(())},
    "attribute and input that share memory": {"x": MEMORY[:32].view(4, 8), "weight": MEMORY[:8]},
    "attribute and input that do not": {"x": MEMORY[:32].view(4, 8), "weight": MEMORY.clone()[:8]},
}


def test_the_same_program_has_the_same_fingerprint() -> None:
    wanted = program_fingerprint(build())
    assert wanted is not None
    assert len(wanted) == 64
    other = build(x=torch.zeros(4, 8), weight=torch.full((8,), 5.0))  # numbers in tensors do not matter
    calls(other)[0].meta["stack_trace"] = 'File "model.py", line 3, in forward'
    assert program_fingerprint(other) == wanted
    assert program_fingerprint(build(), weights=(), donated=()) == wanted


def test_whatever_the_graph_depends_on_changes_it() -> None:
    found = {name: program_fingerprint(build(**change)) for name, change in CHANGES.items()}
    found["as it is"] = program_fingerprint(build())
    for name, arguments in {"a weight": {"weights": ["x"]}, "given away": {"donated": ["x"]}}.items():
        found[name] = program_fingerprint(build(), **arguments)
    found["another given away"] = program_fingerprint(build(), donated=["y"])
    found["both given away"] = program_fingerprint(build(), donated=["x", "y"])
    assert None not in found.values()
    twice = {name for name, value in found.items() if list(found.values()).count(value) > 1}
    assert not twice


def test_of_an_exported_program_also_what_is_lifted_out_of_it() -> None:
    def of(width: int, *, tied: bool = False, batch: int = 4, dynamic: bool = False) -> str | None:
        module = nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False))
        if tied:
            module[2].weight = module[0].weight
        shapes = ({0: Dim("batch", min=2, max=64)},) if dynamic else None
        return program_fingerprint(export(module, (torch.ones(batch, width),), dynamic_shapes=shapes))

    assert of(8) == of(8) is not None
    for batch in (4, 5):  # symbolic sizes count at their hints
        assert of(8, batch=batch, dynamic=True) == of(8, batch=batch)
    found = [of(8), of(9), of(8, tied=True), of(8, batch=5)]
    assert len({*found, None}) == 5


def test_of_an_exported_program_the_state_that_it_has_now() -> None:
    program = export(nn.Linear(8, 8), (torch.ones(4, 8),))
    before = program_fingerprint(program)
    program.state_dict["weight"] = nn.Parameter(torch.ones(100)[:64].view(8, 8))  # more memory than it shows
    assert program_fingerprint(program) not in (before, None)
    assert from_fx(program).resident_bytes > from_fx(export(nn.Linear(8, 8), (torch.ones(4, 8),))).resident_bytes


def test_of_a_body_in_another_mode_also_what_is_in_it() -> None:
    found = set()
    for change in (None, "constant", "operator", "code"):
        module = CASES["mode_regions"]().module
        wanted = program_fingerprint(module)
        assert wanted is not None
        found.add(wanted)
        body = next(part for part in module.modules() if part is not module and isinstance(part, fx.GraphModule))
        call = calls(body)[0]
        if change == "constant":
            call.args = (*call.args, 3)
        elif change == "operator":
            call.target = aten.cosh.default
        elif change == "code":  # what runs, where the graph behind it is not what was compiled
            body._code += "\n"
        found.add(program_fingerprint(module))
    assert len({*found, None}) == 5


@contextlib.contextmanager
def setting(read: Callable[[], Any], write: Callable[[Any], Any], value: Any):
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


SETTINGS = {
    "default dtype": lambda: setting(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu"),
    "autocast to another type": lambda: torch.autocast("cpu", dtype=torch.float16),
    "deterministic": lambda: setting(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "oneDNN": lambda: torch.backends.mkldnn.flags(enabled=False),
    "threads": lambda: setting(torch.get_num_threads, torch.set_num_threads, torch.get_num_threads() + 1),
    "attention": lambda: setting(torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp, False),
}


def test_settings_by_which_kernels_are_chosen_change_it() -> None:
    module = build()
    found = {"none": program_fingerprint(module)}
    for name, applied in SETTINGS.items():
        with applied():
            found[name] = program_fingerprint(module)
    assert None not in found.values()
    assert len(set(found.values())) == 1 + len(SETTINGS)
    assert program_fingerprint(module) == found["none"]


def test_versions_change_it(monkeypatch, tmp_path) -> None:
    module = build()
    found = {program_fingerprint(module)}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.9")
        found.add(program_fingerprint(module))
    (tmp_path / "fx.py").write_text("# another way to look at programs\n")
    with monkeypatch.context() as patch:
        patch.setattr(fx_fingerprint, "__file__", str(tmp_path / "fx_fingerprint.py"))
        fx_fingerprint._own_source.cache_clear()
        found.add(program_fingerprint(module))
    fx_fingerprint._own_source.cache_clear()
    assert len({*found, None}) == 4


def test_another_process_finds_the_same() -> None:
    code = (
        "from tests.graphs.test_fx_fingerprint import *\n"
        "torch.set_num_threads(1)\n"
        "print(program_fingerprint(build()), program_fingerprint(CASES['mode_regions']().module))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}
    )
    with setting(torch.get_num_threads, torch.set_num_threads, 1):
        here = [program_fingerprint(build()), program_fingerprint(CASES["mode_regions"]().module)]
    assert done.stdout.split() == here


# --- what cannot be told


class Watching(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def with_missing_value() -> fx.GraphModule:
    module = build()
    del next(iter(module.graph.nodes)).meta["val"]
    return module


def with_object() -> fx.GraphModule:
    module = build()
    calls(module)[0].kwargs = {"alpha": object()}
    return module


def with_method() -> fx.GraphModule:
    module = build()
    calls(module)[0].op = "call_method"
    return module


def test_where_it_cannot_be_told_there_is_none() -> None:
    sparse = torch.eye(4).to_sparse()
    for module in (with_missing_value(), with_object(), with_method(), build(x=sparse), build(x=object())):
        assert program_fingerprint(module) is None
    assert program_fingerprint(CASES["side_effects"]().module) is None  # operators made in Python
    for mode in (Watching(), FakeTensorMode()):
        with mode:
            assert program_fingerprint(build()) is None


class Choosing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


def test_a_program_that_is_refused_has_none() -> None:
    assert program_fingerprint(export(Choosing(), (torch.ones(3),))) is None


# --- the graph that is kept


def through_json(graph):
    return graph_from_json(json.loads(json.dumps(graph_to_json(graph))))


def same(one, other) -> bool:
    parts = [(g.name, g.fingerprint, g.tensor_names, g.sources) for g in (one, other)]
    return parts[0] == parts[1]


@pytest.mark.parametrize("name", CASES)
def test_the_kept_graph_is_the_one_that_would_be_captured(name: str) -> None:
    case = CASES[name]()
    first = from_fx(case.module, donated=case.donated)
    twin = CASES[name]().module
    assert program_fingerprint(case.module, donated=case.donated) == program_fingerprint(twin, donated=case.donated)
    assert same(as_graph_of(twin, through_json(first)), from_fx(twin, donated=case.donated))


def test_programs_of_one_fingerprint_have_one_graph() -> None:
    """Each with one thing changed at random."""
    graphs: dict[str, str] = {}
    for seed in range(60):
        case = random_program(seed // 3)
        for node in case.module.graph.nodes if seed % 3 else ():
            if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor) and seed % 3 == 1:
                node.meta["val"] = node.meta["val"].clone()  # shares no memory any more
            elif node.op == "call_function" and seed % 3 == 2 and node.target is aten.relu.default:
                node.target = aten.relu_.default
        key = program_fingerprint(case.module, donated=case.donated)
        assert key is not None
        graph = from_fx(case.module, donated=case.donated).fingerprint
        assert graphs.setdefault(key, graph) == graph
    assert len(graphs) > 25


def test_name_and_places_in_the_source_are_those_of_the_program_at_hand() -> None:
    first, second = build(), build()
    for module, line in ((first, 3), (second, 5)):
        for node in module.graph.nodes:
            node.meta["stack_trace"] = f'File "model.py", line {line}, in forward'
    assert program_fingerprint(first) == program_fingerprint(second)
    graph = as_graph_of(second, through_json(from_fx(first)), name="mine")
    assert graph is not None
    assert same(graph, from_fx(second, name="mine"))
    assert set(graph.sources) == {"model.py:5"}


def test_a_graph_with_other_nodes_is_not_taken_for_it() -> None:
    graph = from_fx(build())
    assert as_graph_of(build(label="total"), graph) is None
    assert as_graph_of(build(call=aten.sub.Tensor), graph) is None


def test_it_is_many_times_quicker_than_looking_at_the_program() -> None:
    with torch.device("meta"):
        program = capture(*ZOO["resnet18"](resolution=64))

    def seconds(action: Callable[[], Any]) -> float:
        began = time.perf_counter()
        action()
        return time.perf_counter() - began

    kept = from_fx(program)
    slow = min(seconds(lambda: from_fx(program)) for _ in range(2))
    quick = min(
        seconds(lambda: (program_fingerprint(program), as_graph_of(program, through_json(kept)))) for _ in range(5)
    )
    assert 5 * quick < slow
