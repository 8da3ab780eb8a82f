"""One training step, and everything that has to be kept for the next one to be the same after a restart."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from graphs import Order
from topoformer.net.batch import collate
from topoformer.net.decode import Float32Array
from topoformer.net.losses import Goal, Result, losses
from topoformer.net.model import Size, Topoformer
from topoformer.net.pool import Item, load_known, save_known, slices

Prepared = list[tuple[Sequence[Item], Tensor, Tensor]]  # of each micro-batch: graphs, features, relations


@dataclass(frozen=True)
class Recipe:
    """What decides a training run, beside its graphs."""

    size: Size = field(default_factory=Size)
    seed: int = 0
    steps: int = 2000
    imitation: float = 0.3  # share of the run that only imitates; the rest samples and improves on what it finds
    samples: int = 16
    recall: float = 0.1  # weight of imitating the best order known during the second part (self-labelling)
    reinforcement: float = 1.0  # weight of REINFORCE there; with 0 the samples serve as labels only
    baseline: str = "mean"
    subset: int = 1  # samples whose best is to be low
    targets: float = 0.5
    micro_batches: int = 4  # a step: of graphs of different sizes, one each
    graphs: int = 32  # at most, a micro-batch
    pairs: int = 16 * 512**2  # of nodes at most, a micro-batch
    rate: float = 1e-3  # learning rate: highest of the first part
    rate2: float = 5e-4  # and of the second
    warm_up: int = 100  # steps
    decay: float = 0.01  # of weights
    logits: float = 1e-3  # L2 penalty on the outputs
    average: float = 0.998  # of the weights that are validated and kept


@dataclass(frozen=True)
class Report:
    """Means over a step's graphs."""

    imitation: float
    cost: float
    rate: float
    gradient: float  # norm


class Trainer:
    """A network, its optimiser, and the graphs that it learns from, ``pool``; ``make`` is for other networks.

    Everything random comes from (seed, step, micro-batch), so that a restart from a checkpoint repeats the run bit
    for bit, and several processes that share the micro-batches of a step add up to what one would do.
    """

    def __init__(
        self,
        recipe: Recipe,
        pool: Sequence[Item],
        device: torch.device,
        threads: Executor,
        make: Callable[[Size], nn.Module] = Topoformer,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.pool, self.device, self.threads = recipe, pool, device, threads
        self.net = make(recipe.size).to(device)
        self.average = make(recipe.size).to(device).requires_grad_(False).eval()
        self.average.load_state_dict(self.net.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=recipe.rate, weight_decay=recipe.decay, betas=(0.9, 0.98)
        )
        self.step = 0
        self._by_seed = {x.seed: x for x in pool}
        self._ahead: tuple[int, Future[Prepared]] | None = None
        self._preparing = ThreadPoolExecutor(1)

    @property
    def ranks(self) -> tuple[int, int]:
        """(number of this process, number of processes)."""
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1

    def agreed(self, number: float) -> float:
        """``number`` of the first process, in all of them."""
        if self.ranks[1] == 1:
            return number
        shared = torch.tensor([number], dtype=torch.float64)
        distributed.broadcast(shared, 0)
        return float(shared)

    def advance(self, progress: float) -> Report:
        """One optimiser step; ``progress`` in [0, 1] sets the phase and the learning rate."""
        goal, rate = self._phase(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        results = self.gradients(goal)
        norm = float(torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0))
        if math.isfinite(norm):  # a batch that overflows must not end a run
            self.optimiser.step()
        self.step += 1
        keep = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.net.parameters()), 1 - keep)
        imitation, cost = (float(np.mean([getattr(r, name) for r in results])) for name in ("imitation", "cost"))
        return Report(imitation, cost, rate, norm)

    def _phase(self, progress: float) -> tuple[Goal, float]:
        r = self.recipe
        warm = min(1.0, (self.step + 1) / r.warm_up)
        if progress < r.imitation:
            inside = progress / r.imitation
            return Goal(1.0, 0.0, 0, r.targets), warm * r.rate * (0.65 + 0.35 * math.cos(math.pi * inside))
        inside = min(1.0, (progress - r.imitation) / max(1 - r.imitation, 1e-9))
        return Goal(r.recall, r.reinforcement, r.samples, r.targets, r.baseline, r.subset), warm * r.rate2 * (
            0.51 + 0.49 * math.cos(math.pi * inside)
        )

    def gradients(self, goal: Goal) -> list[Result]:
        """Leave the gradient of the step's loss in the network's parameters, summed over all processes."""
        rank, world = self.ranks
        for parameter in self.net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        waiting = []
        for number, (items, features, relation) in self._prepared(rank, world):
            with self._mixed():
                out = self.net(features.to(self.device, non_blocking=True), relation.to(self.device, non_blocking=True))
            seeds = [int(s) for s in self._rng(number, 1).integers(1 << 31, size=len(items))]
            rows = out.detach().cpu().numpy()
            parts = [rows[i, : x.n] for i, x in enumerate(items)]
            waiting.append((out, items, losses(items, parts, goal, seeds, self.threads)))
        results, better = [], []
        for out, items, found in waiting:
            made = list(found)
            slope = np.zeros(tuple(out.shape), np.float32)
            for i, (x, result) in enumerate(zip(items, made, strict=True)):
                slope[i, : x.n] = result.gradient
            results += made
            better += [(x.seed, r.best.peak_bytes, r.best.order) for x, r in zip(items, made, strict=True) if r.best]
            valid = torch.zeros(out.shape[:2])
            for i, x in enumerate(items):
                valid[i, : x.n] = 2 * self.recipe.logits / x.n
            total = torch.from_numpy(slope).to(self.device) + valid.to(self.device)[..., None] * out.detach()
            out.backward(total / (len(items) * self.recipe.micro_batches))
        if world > 1:
            slopes = [parameter.grad for parameter in self.net.parameters()]
            flat = torch.cat([slope.flatten() for slope in slopes]).cpu()
            distributed.all_reduce(flat)
            for slope, total in zip(slopes, flat.to(self.device).split([x.numel() for x in slopes]), strict=True):
                slope.copy_(total.view_as(slope))
        self._learn(better, world)
        return results

    def _learn(self, better: list[tuple[int, int, Order]], world: int) -> None:
        """Keep better orders once the step's losses are done, and those that other processes found."""
        everyone = [better]
        if world > 1:
            everyone = [[] for _ in range(world)]
            distributed.all_gather_object(everyone, better)
        for seed, peak, order in sorted((b for found in everyone for b in found), key=lambda b: (b[0], b[1])):
            self._by_seed[seed].learn(peak, order)

    def _rng(self, number: int, use: int, step: int | None = None) -> np.random.Generator:
        return np.random.default_rng((self.recipe.seed, self.step if step is None else step, number, use))

    def _prepared(self, rank: int, world: int) -> Iterator[tuple[int, tuple[Sequence[Item], Tensor, Tensor]]]:
        """This process's micro-batches; those of the next step are put together meanwhile."""
        if self._ahead is None or self._ahead[0] != self.step:
            self._ahead = self.step, self._preparing.submit(self._prepare, self.step, rank, world)
        now = self._ahead[1].result()
        self._ahead = self.step + 1, self._preparing.submit(self._prepare, self.step + 1, rank, world)
        return zip(range(rank, self.recipe.micro_batches, world), now, strict=True)

    def _prepare(self, step: int, rank: int, world: int) -> Prepared:
        r = self.recipe
        made = []
        for number in range(rank, r.micro_batches, world):
            items = slices(self.pool, r.pairs, r.graphs, self._rng(number, 0, step))
            tensors = collate(items, torch.device("cpu"))
            made.append((items, *(t.pin_memory() if self.device.type == "cuda" else t for t in tensors)))
        return made

    @contextmanager
    def _mixed(self) -> Iterator[None]:
        """bfloat16 where the accelerator has it."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            yield

    @torch.no_grad()
    def outputs(self, items: Sequence[Item]) -> list[Float32Array]:
        """What the averaged network says of graphs, float32[n, outputs] each, in full precision."""
        found: list[Float32Array] = []
        for x in items:
            out = self.average(*collate([x], self.device))
            found.append(out[0, : x.n].cpu().numpy())
        return found

    def save(self, path: Path, notes: tuple[Any, ...] = ()) -> None:
        """Write all that a restart needs, and ``notes``; the file is replaced whole or not at all."""
        state = {
            "net": self.net.state_dict(), "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(), "step": self.step, "rng": torch.get_rng_state(), "notes": notes,
        }  # fmt: skip
        known = path.with_suffix(".npz")
        for target, write in ((known, partial(save_known, self.pool)), (path, partial(torch.save, state))):
            unfinished = target.with_suffix(".part")
            with unfinished.open("wb") as file:
                write(file)
            unfinished.replace(target)

    def load(self, path: Path) -> tuple[Any, ...]:
        """Go on from what :meth:`save` wrote, with the same recipe and pool; returns its notes."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=False)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        torch.set_rng_state(state["rng"].cpu())
        load_known(self.pool, path.with_suffix(".npz"))
        notes: tuple[Any, ...] = state["notes"]
        return notes

    def warm_start(self, path: Path) -> None:
        """Begin with the weights of another run's checkpoint."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=False)
        self.net.load_state_dict(state["average"])
        self.average.load_state_dict(state["average"])
