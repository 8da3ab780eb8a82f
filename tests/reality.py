"""Run a reordered program for real and see which storages are alive after each of its calls.

Independent of the capture: every call of the generated code is wrapped by a probe that registers the storages it gets
back and adds up those that are still there, while the caller still holds the call's arguments.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.graph import _BoxedCodeGen
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves, tree_map

import graphs
from topoformer.schedulers.list_scheduling import random


@dataclass
class Case:
    """A program with the inputs to run it on; ``donated``: names of placeholders given away in a boxed call."""

    module: fx.GraphModule
    inputs: tuple[Any, ...]
    donated: tuple[str, ...] = ()
    gradients: bool = False  # whether to run where gradients are on, as kernels may ask


@dataclass
class Run:
    steps: list[int]  # bytes alive during each call, what was there from the start included
    seen: list[bytes]  # outputs, inputs and attributes after the run, and whatever the calls did besides


class Probe:
    """Wraps calls; knows every storage that was there at the start or that a wrapped call has given back."""

    def __init__(self, at_start: list[torch.Tensor]) -> None:
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.steps: list[int] = []
        self.note(at_start)

    def note(self, tensors: list[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())

    def wrap(self, target: Any, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = target(*args, **kwargs)
            self.note(tensors_in(result))
            self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
            self.steps.append(sum(size for _, size in self.alive.values()))
            return result

        call.__name__ = name
        return call


def tensors_in(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


EFFECTS: list[str] = []  # what custom operators of the tests have done, in order


def run(case: Case, program: fx.GraphModule, seed: int = 7) -> Run:
    """Run ``program``, some reordering of ``case.module``, on copies of inputs and attributes."""
    program = copy.deepcopy(program)
    inputs = twins(case.inputs)
    names = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    kept = [value for value, name in zip(inputs, names, strict=False) if name not in case.donated]
    attributes = [attribute(program, node) for node in program.graph.nodes if node.op == "get_attr"]
    probe = Probe(tensors_in([inputs, attributes]))
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target.__name__ != "getitem":
            node.target = probe.wrap(node.target, f"probed_{node.name}")
    boxed = bool(case.donated) or isinstance(program.graph._codegen, _BoxedCodeGen)
    if boxed:
        program.graph.set_codegen(_BoxedCodeGen())
    program.recompile()
    EFFECTS.clear()
    torch.manual_seed(seed)
    with torch.set_grad_enabled(case.gradients):
        outputs = program.forward(inputs) if boxed else program(*inputs)
    after = [contents(value) for value in tree_leaves([outputs, kept, attributes])]
    return Run(probe.steps, after + [effect.encode() for effect in EFFECTS])


def twins(inputs: tuple[Any, ...]) -> list[Any]:
    """Copies that share memory with each other as the originals do; deepcopy would drop conjugate and negative bits."""
    memory: dict[int, torch.UntypedStorage] = {}

    def twin(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        storage = value.untyped_storage()
        data = memory.setdefault(storage._cdata, storage.clone())
        made = torch.empty(0, dtype=value.dtype, device=value.device)
        made.set_(data, value.storage_offset(), value.size(), value.stride())
        made = torch._conj(made) if value.is_conj() else made
        return torch._neg_view(made) if value.is_neg() else made

    return tree_map(twin, list(inputs))


def attribute(program: fx.GraphModule, node: fx.Node) -> Any:
    value: Any = program
    for atom in node.target.split("."):
        value = getattr(value, atom)
    return value


def contents(value: Any) -> bytes:
    if not isinstance(value, torch.Tensor):
        return repr(value).encode()
    plain = value.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format).flatten()
    form = f"{value.dtype} {tuple(value.shape)} {value.stride()} {value.is_conj()} {value.is_neg()} ".encode()
    return form + (plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b"")


def random_orders(graph: graphs.Graph, count: int, first_seed: int = 1000) -> list[graphs.Order]:
    return [random(graph, None, seconds=1, seed=first_seed + i) for i in range(count)]


def disagreements(case: Case, graph: graphs.Graph, count: int = 30) -> list[str]:
    """What goes against the reality law in ``count`` random legal orders of ``graph`` and in the program's own."""
    found = []
    wanted = run(case, case.module).seen
    for i, order in enumerate([graphs.program_order(graph), *random_orders(graph, count)]):
        try:
            result = run(case, graphs.apply_order(case.module, order))
        except Exception as error:  # a mutant's order may crash in any way
            found.append(f"order {i} fails: {type(error).__name__}: {error}")
            continue
        simulated = (graphs.simulate(graph, order).step_bytes + graph.resident_bytes).tolist()
        if simulated != result.steps:
            at = next(t for t, pair in enumerate(zip(simulated, result.steps, strict=True)) if pair[0] != pair[1])
            text = f"simulated {simulated[at]} bytes, resident ones included; measured {result.steps[at]}"
            found.append(f"order {i}: step {at} ({graph.labels[order[at]]}): {text}")
        if result.seen != wanted:
            found.append(f"order {i}: other outputs")
    return found


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def traced(function: Callable[..., Any], *inputs: Any, functional: bool = False) -> Case:
    wanted = torch.func.functionalize(function) if functional else function
    return Case(make_fx(wanted)(*(x.clone() if isinstance(x, torch.Tensor) else x for x in inputs)), inputs)


def exported(module: nn.Module, *inputs: torch.Tensor, dynamic: Any = None) -> Case:
    with torch.random.fork_rng(devices=[]):
        program = torch.export.export(module, inputs, dynamic_shapes=dynamic)
    return Case(program.module(), inputs)


def module(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make()
