"""``torch.compile(backend="topoformer")`` beside eager PyTorch and ``aot_eager``: outputs, peaks, compile times."""

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from bench.tiny import NAMES, tiny
from topoformer.pytorch.measure import measure_peak

MODES = ("inference", "training")
ANEW = {"cache": False}  # without what an earlier run has found


@dataclass
class Run:
    """A model that has run twice: to compile, and to be measured."""

    peak_bytes: int  # of the second run, above what was there before
    first_seconds: float  # of the first run, which compiles
    results: list[torch.Tensor]  # outputs, gradients and buffers after the second
    graphs: int = 0  # that dynamo captured
    ordered: list[logging.LogRecord] = field(default_factory=list)  # what our backend logged

    @property
    def nodes(self) -> int:
        """Of all graphs together."""
        return sum(record.schedule.graph.n for record in self.ordered if hasattr(record, "schedule"))


def run(name: str, mode: str, backend: str | None, options: dict[str, Any] | None = None) -> Run:
    """Run the tiny model of that name under ``backend``; None: without ``torch.compile``."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    model, args, kwargs = tiny(name)
    model.train(mode == "training")
    call: Any = model if backend is None else torch.compile(model, backend=backend, options=options)

    def step() -> list[torch.Tensor]:
        torch.manual_seed(1)
        if mode == "inference":
            with torch.no_grad():
                return _tensors(call(*args, **kwargs))
        outputs = _tensors(call(*args, **kwargs))
        loss = torch.stack([out.pow(2).mean() for out in outputs if out.requires_grad]).sum()
        loss.backward()
        return [out.detach() for out in outputs]

    with _Records() as records:
        began = time.perf_counter()
        step()
        first = time.perf_counter() - began
    for parameter in model.parameters():
        parameter.grad = None
    measured = measure_peak(step, device="cpu")
    results = measured.result + [p.grad for p in model.parameters() if p.grad is not None] + list(model.buffers())
    return Run(measured.bytes, first, results, counters["stats"]["unique_graphs"], records.found)


def same(one: Run, other: Run) -> bool:
    """Whether all results are equal, bit for bit."""

    def bits(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().contiguous().flatten().view(torch.uint8)

    pairs = zip(one.results, other.results, strict=True)
    return all(a.shape == b.shape and a.dtype == b.dtype and torch.equal(bits(a), bits(b)) for a, b in pairs)


def close(one: Run, other: Run) -> float:
    """The largest difference, relative to the largest number of the tensor that it is in."""
    worst = 0.0
    for a, b in zip(one.results, other.results, strict=True):
        if a.numel():
            scale = max(float(b.double().abs().max()), 1e-6)
            worst = max(worst, float((a.double() - b.double()).abs().max()) / scale)
    return worst


def _tensors(outputs: Any) -> list[torch.Tensor]:
    if not isinstance(outputs, torch.Tensor | tuple | list) and hasattr(outputs, "to_tuple"):
        outputs = outputs.to_tuple()
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


class _Records(logging.Handler):
    """What is logged while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[logging.LogRecord] = []
        self._logger = logging.getLogger("topoformer")
        self._level = self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record)

    def __enter__(self) -> "_Records":
        self._logger.addHandler(self)
        self._logger.setLevel(logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--models", nargs="*", default=NAMES, choices=NAMES, help="only these")
    parser.add_argument("--modes", nargs="*", default=MODES, choices=MODES, help="only these")


def table(models: Sequence[str], modes: Sequence[str]) -> Iterator[str]:
    """The benchmark's rows in Markdown, as they come."""
    torch.set_num_threads(1)
    run("lstm", "training", "topoformer", ANEW)  # compiles our loops
    yield (
        "| model | mode | graphs | nodes | eager peak | aot_eager | ours | ours / aot_eager | same bits as aot_eager "
        "| difference to eager | compile, aot_eager | compile, ours |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|"
    for name in models:
        for mode in modes:
            yield row(name, mode)


def row(name: str, mode: str) -> str:
    """One model in one mode."""
    eager, theirs, ours = run(name, mode, None), run(name, mode, "aot_eager"), run(name, mode, "topoformer", ANEW)
    return (
        f"| {name} | {mode} | {ours.graphs} | {ours.nodes} | {eager.peak_bytes:,} | {theirs.peak_bytes:,} "
        f"| {ours.peak_bytes:,} | {ours.peak_bytes / theirs.peak_bytes:.3f} | {'yes' if same(ours, theirs) else 'no'} "
        f"| {close(ours, eager):.0e} | {theirs.first_seconds:.1f} s | {ours.first_seconds:.1f} s |"
    )
