"""Which module of the model each call of a recorded training step comes from, backward calls included.

A call that runs between a module's entry and its exit is that module's. A backward call is that of the module whose
forward made its autograd node: these are numbered as they are made, so entries and exits part the numbers too.
"""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode


class ModuleMarks:
    """Notes, while a step is being recorded, where the calls of one module end and those of another begin."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.open: list[str] = [""]
        self.calls: list[tuple[fx.Node, str, bool]] = []  # last node before, path from there on, whether backward
        self.numbers, self.paths = [0], [""]  # autograd nodes from this number on, and their module

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Watch the modules while the model runs."""
        handles: list[Any] = []
        for path, module in self.model.named_modules():
            handles.append(module.register_forward_pre_hook(lambda *_, path=path: self._enter(path)))
            handles.append(module.register_forward_hook(lambda *_: self._leave(), always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def watch_backward(self, result: torch.Tensor) -> None:
        """Have each autograd node that ``result`` depends on say when it runs."""
        waiting, seen = [result.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
            node.register_prehook(partial(self._run_backward, node._sequence_nr()))

    def apply(self, graph: fx.Graph) -> None:
        """Write what was noted into the nodes' ``meta``, under the names that PyTorch's own tracers use."""
        begins = {_still_there(last).name: (path, backward) for last, path, backward in self.calls}
        path, backward = "", False
        for node in graph.nodes:
            if path and node.op == "call_function":
                note_module(node, path, backward=backward)
            path, backward = begins.get(node.name, (path, backward))

    def _enter(self, path: str) -> None:
        self.open.append(path)
        self._note()

    def _leave(self) -> None:
        self.open.pop()
        self._note()

    def _note(self) -> None:
        self.numbers.append(torch.autograd._get_sequence_nr())
        self.paths.append(self.open[-1])
        self._begin(self.open[-1], backward=False)

    def _run_backward(self, number: int, _gradients: Any) -> None:
        self._begin(self.paths[bisect_right(self.numbers, number) - 1], backward=True)

    def _begin(self, path: str, *, backward: bool) -> None:
        if (mode := get_proxy_mode()) is not None:
            self.calls.append((mode.tracer.graph._root._prev, path, backward))


def note_module(node: fx.Node, path: str, *, backward: bool = False) -> None:
    """Write into ``meta`` that the call is of the module ``path``, or of its backward pass."""
    node.meta["fwd_nn_module_stack" if backward else "nn_module_stack"] = {path: (path, "")}


def _still_there(node: fx.Node) -> fx.Node:
    """``node``, or where it was dropped as dead the last one before it that was not."""
    while node._erased:
        node = node._prev
    return node
