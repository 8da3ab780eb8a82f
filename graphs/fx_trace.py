"""Run an FX program on tensors without data and write down, call by call, what it does to memory.

Which values share memory, what each call allocates, changes and draws from the random stream is observed, not derived
from the program's text: the calls run on fake tensors of fixed sizes (hints stand in for symbolic ones) while a
dispatch mode watches the kernels below them.
"""

import logging
import operator
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graphs import fx_operators as knowledge
from graphs.errors import UnsupportedOp
from graphs.fx_inputs import FakeInputs, refuse_unseen, storage_key
from graphs.fx_kernels import check_returned, with_kernel_memory
from graphs.fx_work import Work
from graphs.graph import Kind


@dataclass
class Step:
    """One call of the program, with the ``getitem`` nodes that only unpack its result."""

    node: fx.Node
    unpacks: list[fx.Node] = field(default_factory=list)
    uses: set[int] = field(default_factory=set)  # steps whose values it takes
    reads: set[int] = field(default_factory=set)  # tensors that must be in memory, those it changes included
    writes: list[int] = field(default_factory=list)  # tensors that it allocates
    changes: set[int] = field(default_factory=set)  # tensors there before, whose contents it changes
    random: bool = False  # takes numbers from a random stream
    effect: bool = False  # does something that no value shows
    flops: float = 0.0
    moved: int = 0  # bytes that its kernels read and write
    dtype: str = ""  # that it computes in


@dataclass
class Storage:
    """One tensor of the graph: a piece of memory, however many values look at it."""

    bytes: int
    kind: Kind
    writer: int
    name: str
    type: str  # of the first value that looks at it, "float32[8, 64]"


@dataclass
class Trace:
    """A program as its steps and the storages they work on."""

    steps: list[Step] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    values: dict[fx.Node, Any] = field(default_factory=dict)  # without data
    tensor_of: dict[int, int] = field(default_factory=dict)  # storage key of a value -> index of the storage


def steps_of(graph: fx.Graph) -> list[Step]:
    """The calls of ``graph`` that an order may move, in program order; the rest stands at the ends or behind them.

    Raises:
        UnsupportedOp: a call is not one of an aten-level program.
    """
    steps: dict[fx.Node, Step] = {}
    owner: dict[fx.Node, Step] = {}
    for node in graph.nodes:
        if node.op == "call_function" and node.target is operator.getitem:
            source, item = node.args
            if source not in owner:
                raise UnsupportedOp(f"node '{node.name}' takes an item of '{source}', which is no operator's result")
            if isinstance(item, fx.Node):
                raise UnsupportedOp(f"node '{node.name}' takes an item that only a run can tell")
            owner[node] = owner[source]
            owner[node].unpacks.append(node)
        elif node.op == "call_function":
            if reason := knowledge.refusal(node.target):
                raise UnsupportedOp(f"node '{node.name}': {knowledge.operator_name(node.target)} {reason}")
            owner[node] = steps[node] = Step(node)
        elif node.op in ("call_module", "call_method") and not is_guard(node):
            text = f"node '{node.name}': {node.op} '{node.target}' is not an aten-level call"
            raise UnsupportedOp(f"{text}; capture the program with torch.export or make_fx")
    return list(steps.values())


def is_guard(node: fx.Node) -> bool:
    """Whether ``node`` is the check of the inputs that ``ExportedProgram.module()`` puts first."""
    if node.op != "call_module" or node.graph.owning_module is None:
        return False
    return type(node.graph.owning_module.get_submodule(str(node.target))).__name__ == "GuardsFn"


def trace(
    module: fx.GraphModule,
    *,
    weights: Collection[str] = (),
    donated: Collection[str] = (),
    values: Mapping[str, Any] | None = None,
) -> Trace:
    """Watch ``module`` run on fake tensors; arguments as those of :func:`graphs.fx.from_fx`.

    Raises:
        UnsupportedOp: names the node that is not understood.
    """
    return _Tracer(module, weights, donated, values or {}).run()


class _Tracer:
    def __init__(
        self, module: fx.GraphModule, weights: Collection[str], donated: Collection[str], values: Mapping[str, Any]
    ) -> None:
        self.module = module
        self.weights, self.donated = set(weights), set(donated)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.mode.cache_enabled = False  # a cached result has another storage size than the first one had
        self.inputs = FakeInputs(self.mode, values)
        self.step_of: dict[fx.Node, int] = {}
        self.result = Trace(steps=steps_of(module.graph))
        self.env, self.tensor_of = self.result.values, self.result.tensor_of

    def run(self) -> Trace:
        started = {step.node: i for i, step in enumerate(self.result.steps)}
        with torch.no_grad(), _no_log():
            for node in self.module.graph.nodes:
                if node.op in ("placeholder", "get_attr"):
                    self.env[node] = self.inputs.of(node, self.module)
                    self._note_resident(node)
                elif node in started:
                    self._run_step(started[node])
                elif node.op == "call_function":  # a getitem: part of the step before it
                    self._unpack(node)
                elif node.op == "output":
                    self._note_outputs(node)
        return self.result

    def _unpack(self, node: fx.Node) -> None:
        source, item = node.args
        values = self.env[source]
        if not isinstance(values, tuple | list):
            raise UnsupportedOp(f"node '{node.name}' takes an item of '{source}', which is one {type(values).__name__}")
        try:
            self.env[node] = values[item]
        except (IndexError, TypeError) as error:
            raise UnsupportedOp(f"node '{node.name}' takes item {item!r} of '{source}': {error}") from None
        self.step_of[node] = self.step_of[source]
        self._name(node)

    def _note_resident(self, node: fx.Node) -> None:
        weight = node.op == "get_attr" or node.name in self.weights
        kind = Kind.WEIGHT if weight else Kind.DONATED if node.name in self.donated else Kind.INPUT
        if kind == Kind.DONATED and not node.users:  # generated code never lets go of an argument it does not use
            kind = Kind.INPUT
        for value in tensors(self.env[node]):
            key = storage_key(value)
            known = self.tensor_of.get(key)
            if known is None:
                name = str(node.target) if weight else node.name
                self.tensor_of[key] = self._add(Storage(_bytes(value), kind, -1, name, type_text(value)))
            elif self.result.storages[known].kind == Kind.DONATED:
                self.result.storages[known].kind = kind  # one view that stays keeps all of it

    def _add(self, storage: Storage) -> int:
        self.result.storages.append(storage)
        return len(self.result.storages) - 1

    def _run_step(self, index: int) -> None:
        step = self.result.steps[index]
        node = step.node
        sources = node.all_input_nodes
        step.uses = {self.step_of[source] for source in sources if source in self.step_of}
        before = [tensor for source in sources for tensor in tensors(self.env[source])]
        keys = [storage_key(tensor) for tensor in before]
        step.reads = {self.tensor_of[key] for key in keys}
        watch = _Watch()
        self.env[node] = self._call(node, watch)
        self.step_of[node] = index
        step.random, step.effect = watch.random, watch.effect
        step.flops, step.moved, step.dtype = watch.work.flops, watch.work.moved, watch.work.dtype
        step.changes = {self.tensor_of[key] for key in watch.written if key in self.tensor_of}
        for tensor in tensors(self.env[node]):
            refuse_unseen(tensor, f"{_title(node)}: its result")
        if step.changes and [storage_key(tensor) for tensor in before] != keys:
            raise UnsupportedOp(f"{_title(node)} gives its argument other memory")
        for value in tensors(self.env[node]):
            key, size = storage_key(value), _bytes(value)
            if key not in self.tensor_of:
                self.tensor_of[key] = self._add(Storage(size, Kind.TEMPORARY, index, node.name, type_text(value)))
                step.writes.append(self.tensor_of[key])
            elif size != self.result.storages[self.tensor_of[key]].bytes:
                raise UnsupportedOp(f"{_title(node)} changes the size of its argument's memory")

    def _call(self, node: fx.Node, watch: "_Watch") -> Any:
        args = fx.node.map_arg(node.args, self.env.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self.env.__getitem__)
        target: Any = node.target
        if isinstance(target, OpOverload):
            watch.note(target, args, kwargs)
        try:
            if isinstance(target, HigherOrderOperator):
                body, args, context = knowledge.inlined(target, args)
                _check_body(body)
                with self.mode, watch, context:
                    return body(*args)
            if not isinstance(target, OpOverload):
                return knowledge.scalar(target, args, kwargs)
            with self.mode, watch:
                result = target(*args, **kwargs)
            check_returned(target, args, kwargs, result)
            return result
        except UnsupportedOp as error:
            raise UnsupportedOp(f"node '{node.name}': {error}") from None
        except (DynamicOutputShapeException, DataDependentOutputException):
            raise UnsupportedOp(f"{_title(node)} gives a size or number that only a run can tell") from None
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise UnsupportedOp(f"{_title(node)} fails without data: {type(error).__name__}: {first[:200]}") from error

    def _name(self, node: fx.Node) -> None:
        """A tensor that has a getitem of its own is better known by that."""
        for key, _ in storages(self.env[node]):
            storage = self.result.storages[self.tensor_of[key]]
            if storage.writer == self.step_of[node]:
                storage.name = node.name

    def _note_outputs(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            for key, _ in storages(self.env[source]):
                storage = self.result.storages[self.tensor_of[key]]
                storage.kind = {Kind.TEMPORARY: Kind.OUTPUT, Kind.DONATED: Kind.INPUT}.get(storage.kind, storage.kind)


class _Watch(TorchDispatchMode):
    """Sees the kernels under one call, and notes which memory they change, random draws, effects and work."""

    def __init__(self) -> None:
        super().__init__()
        self.written: set[int] = set()
        self.random = self.effect = False
        self.work = Work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(func, OpOverload):
            if reason := knowledge.refusal(func):
                raise UnsupportedOp(f"{func} {reason}")
            result = with_kernel_memory(func, args, kwargs, result)
            self.note(func, args, kwargs)
            self.random |= knowledge.draws_random(func, args, kwargs)
            self.effect |= knowledge.has_side_effect(func)
            self.work.add(func, args, kwargs, result)
        return result

    def note(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for value in knowledge.written_arguments(func, args, kwargs):
            self.written.update(key for key, _ in storages(value))


@contextmanager
def _no_log() -> Iterator[None]:
    """Fake tensors log a traceback for each call that fails; a refusal says it in one line."""
    log, nothing = logging.getLogger(FakeTensorMode.__module__), logging.Filter("nothing")
    log.addFilter(nothing)
    try:
        yield
    finally:
        log.removeFilter(nothing)


def _check_body(body: Any) -> None:
    """Raises UnsupportedOp unless all that running ``body`` can do is call operators that we understand."""
    for part in body.modules() if isinstance(body, torch.nn.Module) else ():
        if isinstance(part, fx.GraphModule):
            try:
                steps_of(part.graph)
            except UnsupportedOp as error:
                raise UnsupportedOp(f"inside, {error}") from None
    if not isinstance(body, fx.GraphModule):
        raise UnsupportedOp(f"runs a {type(body).__name__}, which is no graph")


def _title(node: fx.Node) -> str:
    return f"node '{node.name}' ({knowledge.operator_name(node.target)})"


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in a nest of tuples, lists and dictionaries."""
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))


def storages(value: Any) -> Iterator[tuple[int, int]]:
    """(key, bytes) of the storages of the tensors in ``value``."""
    for tensor in tensors(value):
        yield storage_key(tensor), _bytes(tensor)


def _bytes(tensor: torch.Tensor) -> int:
    count: int = tensor.untyped_storage().nbytes()
    return count


def type_text(tensor: torch.Tensor) -> str:
    """What ``tensor`` holds, as "float32[8, 64]"."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{[int(size) for size in tensor.shape]}"
