"""Whole training steps: measured peak and time of ours beside the traced order and plain PyTorch, in one run."""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.training_setups import SETUPS, Setup, setup
from topoformer.pytorch.measure import measure_peak
from topoformer.pytorch.training import compile_train_step

WARM_UP, STEPS = 2, 20


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--device", default="cpu", help="of torch")
    parser.add_argument("--only", nargs="*", default=list(SETUPS), choices=SETUPS, help="these setups")
    parser.add_argument("--seconds", type=float, default=10.0, help="for the search of each order")
    parser.add_argument("--out", type=Path, help="append a JSON line for each row")


def table(device: str, only: Sequence[str], seconds: float, out: Path | None) -> Iterator[str]:
    """The benchmark's rows in Markdown, as they come."""
    yield from HEADER
    for name in only:
        line = measure(name, device, seconds)
        if out is not None:
            with out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")
        yield row(line)


HEADER = (
    "| step | eager | traced order | ordered | topoformer | of traced order | of eager | search | equal to eager "
    "| time of traced order | time of eager | capture and search |",
    "|---|---:|---:|---:|---:|---:|---:|---|---|---:|---:|---:|",
)
# What is captured three times over: in our order and rewritten, in our order only, as it was traced.
WAYS: tuple[dict[str, Any], ...] = ({}, {"rewrite": False}, {"rewrite": False, "method": "program"})


def row(line: dict[str, Any]) -> str:
    """One setup in Markdown."""
    peaks = [line[name] for name in ("eager_bytes", "traced_bytes", "ordered_bytes", "ours_bytes")]
    sizes = " | ".join(f"{peak:,}" for peak in peaks)
    times = f"{line['time_of_traced']:.3f} | {line['time_of_eager']:.3f} | {line['capture_and_search_seconds']:.1f} s"
    parts = f"{peaks[3] / peaks[1]:.3f} | {peaks[3] / peaks[0]:.3f}"
    return f"| {line['step']} | {sizes} | {parts} | {line['search']} | {line['equal_to_eager']} | {times} |"


def measure(name: str, device: str, seconds: float) -> dict[str, Any]:
    """One setup: peaks in bytes above what is there between steps, times as ratios of ours."""
    given = on_device(setup(name), device)
    models = [copy.deepcopy(given.model) for _ in range(len(WAYS) + 1)]
    optimizers = [given.optimizer(model.parameters()) for model in models]
    steps, took = [], []
    for way, model, optimizer in zip(WAYS, models, optimizers, strict=False):
        began = time.perf_counter()
        steps.append(compile_train_step(model, given.loss_fn, optimizer, given.batch, **{"seconds": seconds, **way}))
        took.append(time.perf_counter() - began)
    calls: list[Callable[[], Any]] = [
        *(partial(step, given.batch) for step in steps),
        eager(given, models[-1], optimizers[-1]),
    ]
    for seed in range(WARM_UP):
        for call in calls:
            torch.manual_seed(seed)
            call()
    ours, ordered, traced, plain = (measured(call, device) for call in calls)
    times = paired_seconds(calls)
    found = steps[0].schedule
    proof = "optimal" if found.proven_optimal else f"gap {found.gap:.1%}"
    return {
        "step": name,
        "eager_bytes": plain,
        "traced_bytes": traced,
        "ordered_bytes": ordered,
        "ours_bytes": ours,
        "search": proof,
        "equal_to_eager": difference(models[0], models[-1]),
        "time_of_traced": ratio(times, 0, 2),
        "time_of_eager": ratio(times, 0, 3),
        "capture_and_search_seconds": took[0],
    }


def on_device(given: Setup, device: str) -> Setup:
    """``given`` with model and batch on ``device``."""
    move = lambda x: x.to(device) if isinstance(x, torch.Tensor) else x  # noqa: E731
    return given._replace(model=given.model.to(device), batch=torch.utils._pytree.tree_map(move, given.batch))


def eager(given: Setup, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    """The step as one writes it."""

    def step() -> torch.Tensor:
        loss = given.loss(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def measured(call: Callable[[], Any], device: str) -> int:
    """Bytes at the peak of a step, with the random numbers of a fixed seed."""
    torch.manual_seed(0)
    return measure_peak(call, device=device).bytes


def paired_seconds(calls: Sequence[Callable[[], Any]]) -> list[list[float]]:
    """Seconds of each call in each of several rounds, one after the other in a round."""
    rounds = []
    for seed in range(STEPS):
        times = []
        for call in calls:
            torch.manual_seed(seed)
            began = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        rounds.append(times)
    return rounds


def ratio(rounds: list[list[float]], one: int, other: int) -> float:
    """Median of the paired ratios of two calls' times."""
    return statistics.median(times[one] / times[other] for times in rounds)


def difference(one: torch.nn.Module, other: torch.nn.Module) -> str:
    """Whether two models' parameters and buffers are equal bit for bit, or by how much they differ."""
    pairs = list(zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    if all(torch.equal(a, b) for a, b in pairs):
        return "bit for bit"
    return f"to {max(float((a.double() - b.double()).abs().max()) for a, b in pairs):.0e}"
