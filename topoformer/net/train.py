"""``topoformer train``, or ``python -m topoformer.net.train``: train a network from seeds, to weights that can ship.

The whole recipe: draw graphs, imitate orders that beams found, then sample orders and improve on them (REINFORCE
with a graph's own samples as the baseline, and imitation of the best order known so far). Ctrl-C ends a run after the
step that it is at, and the same command goes on from there. Under torchrun the processes share each step's graphs.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from topoformer.cli.progress import moving
from topoformer.net import validate as validation
from topoformer.net.data import TRAIN_SEEDS, Draw
from topoformer.net.labels import Label, labels, load_labels, mixed, save_labels
from topoformer.net.model import DECODERS, Size
from topoformer.net.pool import Item, Task, items, tasks
from topoformer.net.stored import save_weights
from topoformer.net.trainer import Recipe, Trainer

SHIPPED = """the weights that ship, each on one GPU and 16 cores:
  python -m topoformer.net.traced TRACED
  topoformer train --out A --labels labels.npz --label-count 10400 --traced TRACED --graphs 9000 --imitation 0.15
      --references beam.json --steps 1000000 --minutes 8
  torchrun --nproc-per-node 2 -m topoformer.net.train --out B --labels labels.npz --label-limit 5000 --traced TRACED
      --graphs 8000 --ranges 60-250,250-520,520-1000,1000-1800 --references beam.json --start A/checkpoint.pt
      --imitation 0 --subset 4 --rate2 4e-4 --graphs-a-batch 48 --pairs 6300000 --steps 1000000 --minutes 8
  topoformer train --out S --decoder static --labels labels.npz --label-limit 3500 --traced TRACED --graphs 1500
      --imitation 0.15 --references beam.json --steps 1000000 --minutes 8
ten minutes on a CPU: python -m bench recipe"""
UNLABELLED = 5_000_000  # seeds of graphs that no beam has ordered start here
SWITCH = 2e-4  # seconds: the thread that feeds the accelerator must not wait long for those that roll out
LONG = timedelta(days=2)  # what processes wait for each other: the first one may have labels to make
RANGES = "60-250,250-520,520-1000"  # nodes of the graphs that have no label, in equal numbers


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="topoformer train",
        description=__doc__,
        epilog=SHIPPED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    made.add_argument("--labels", type=Path, help="orders to imitate (.npz); made there if missing")
    made.add_argument("--label-count", type=int, default=600, help="labels to make if the file is missing")
    made.add_argument("--label-limit", type=int, help="labels to use at most")
    made.add_argument("--ranges", default=RANGES, help="nodes of the graphs without a label: LOW-HIGH,...")
    made.add_argument("--graphs", type=int, default=0, help="further graphs without a label")
    made.add_argument("--traced", default="", help="folder of traced graphs (.json.gz) to perturb")
    made.add_argument("--references", type=Path, help="beam's peaks on the validation graphs (.json); made if missing")
    made.add_argument("--minutes", type=float, default=float("inf"), help="end by then, schedules stretched to fit")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of rollouts")
    made.add_argument("--validate-every", type=float, default=60.0, help="seconds")
    made.add_argument("--patience", type=int, default=0, help="validations without gain before an early stop; 0: never")
    made.add_argument("--start", type=Path, help="checkpoint whose weights to begin with")
    made.add_argument("--tensorboard", action="store_true", help="write event files into the folder")
    for name in ("seed", "steps", "samples", "subset", "micro_batches", "graphs_a_batch", "pairs"):
        made.add_argument(f"--{name.replace('_', '-')}", type=int)
    for name in ("imitation", "recall", "reinforcement", "targets", "rate", "rate2", "logits"):
        made.add_argument(f"--{name}", type=float)
    made.add_argument("--baseline", choices=("mean", "greedy"))
    made.add_argument("--decoder", choices=DECODERS, default="dynamic")
    made.add_argument("-q", "--quiet", action="store_true", help="no moving line on a terminal")
    made.add_argument("--layers", type=int, default=Size.layers)
    made.add_argument("--width", type=int, default=Size.width)
    return made


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the command line asks for."""
    size = Size(arguments.layers, arguments.width, hidden=2 * arguments.width, decoder=arguments.decoder)
    known = Recipe()
    given = {name: getattr(arguments, name, None) for name in asdict(known) if name not in ("size", "graphs")}
    given["graphs"] = arguments.graphs_a_batch
    return replace(known, size=size, **{name: value for name, value in given.items() if value is not None})


def training_items(arguments: argparse.Namespace) -> list[Item]:
    """Labelled graphs and further ones, encoded, the largest first."""
    known: list[Label] = []
    if arguments.labels is not None:
        if not arguments.labels.exists():
            seeds = range(TRAIN_SEEDS, TRAIN_SEEDS + arguments.label_count)
            save_labels(arguments.labels, list(labels(seeds, arguments.traced, arguments.threads)))
        known = load_labels(arguments.labels)[: arguments.label_limit]
    todo: list[Task] = [(x.seed, mixed(x.seed, arguments.traced)[0], x.peak_bytes, x.order) for x in known]
    ranges = [tuple(map(int, text.split("-"))) for text in arguments.ranges.split(",")]
    share = arguments.graphs // len(ranges)
    for number, (low, high) in enumerate(ranges):
        first = UNLABELLED + number * 1_000_000
        todo += tasks(range(first, first + share), Draw(low, high, traced=arguments.traced))
    return items(todo, arguments.threads if len(todo) > 200 and arguments.threads > 1 else 0)


class Log:
    """One JSON line a validation on disk, a readable one on stderr, and TensorBoard's if wanted."""

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        self.path = folder / "curve.jsonl"
        self.board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder))

    def write(self, step: int, seconds: float, values: dict[str, Any]) -> None:
        """Add one entry; nested dictionaries become names with a slash."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "seconds": round(seconds, 1), **values}) + "\n")
        for name, value in _flat(values):
            if self.board is not None:
                self.board.add_scalar(name, value, step)


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, float]]:
    found = []
    for name, value in values.items():
        found += _flat(value, f"{before}{name}/") if isinstance(value, dict) else [(before + name, float(value))]
    return found


def hardware(device: torch.device) -> str:
    """What the run was made on."""
    cores = f"{os.cpu_count()} {platform.machine()} cores"
    return f"{torch.cuda.get_device_name(device)}, {cores}" if device.type == "cuda" else cores


def commit() -> str:
    """The commit of the code, "" where there is no repository."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return found.stdout.strip()


class Run:
    """The loop: steps until the end, a validation from time to time, the best weights kept."""

    def __init__(self, arguments: argparse.Namespace, threads: ThreadPoolExecutor) -> None:
        self.arguments, self.threads = arguments, threads
        self.recipe = recipe_of(arguments)
        began = time.monotonic()
        with first_process_first():  # it makes the files that are missing
            pool = training_items(arguments)
            self.groups = {}
            if arguments.references is not None:
                known = validation.references(arguments.references, arguments.threads)
                self.groups = validation.validation_items(known)
        self.trainer = Trainer(self.recipe, pool, torch.device(arguments.device), threads)
        self.first = self.trainer.ranks[0] == 0
        self.folder: Path = arguments.out
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = Log(self.folder, arguments.tensorboard and self.first)
        self.best, self.stale, before = float("inf"), 0, 0.0
        if (checkpoint := self.folder / "checkpoint.pt").exists():
            self.best, self.stale, before = self.trainer.load(checkpoint)
        elif arguments.start is not None:
            self.trainer.warm_start(arguments.start)
        self.began = time.monotonic() - before
        count = sum(p.numel() for p in self.trainer.net.parameters())
        self._say(f"{len(pool)} graphs in {time.monotonic() - began:.0f} s; {count} weights; step {self.trainer.step}")

    def __call__(self) -> None:
        """Train to the end, an early stop or Ctrl-C; the state is on disk in all three cases."""
        last = time.monotonic()
        reports: list[Any] = []
        with asked_to_end() as asked, moving(self._standing, quiet=self.arguments.quiet or not self.first):
            while (progress := self.trainer.agreed(2.0 if asked else self._progress())) < 1:
                reports.append(self.trainer.advance(progress))
                if time.monotonic() - last > self.arguments.validate_every:
                    self._validate(reports[-50:])
                    last = time.monotonic()
            if progress == 2.0:
                self._say(f"interrupted after step {self.trainer.step}: the same command goes on")
                self._save()
            else:
                self._validate(reports[-50:])

    def _progress(self) -> float:
        """Share of the run that is done, by steps or by time; 1 after an early stop."""
        elapsed = time.monotonic() - self.began
        progress: float = max(self.trainer.step / self.recipe.steps, elapsed / (60 * self.arguments.minutes))
        if self.arguments.patience and self.stale >= self.arguments.patience:
            self._say(f"no gain in {self.stale} validations: stopped")
            progress = 1.0
        return min(1.0, progress)

    def _standing(self) -> str:
        """How far the run is, and about how long it still takes."""
        elapsed = time.monotonic() - self.began
        done = min(1.0, max(self.trainer.step / self.recipe.steps, elapsed / (60 * self.arguments.minutes)))
        left = f", about {elapsed * (1 - done) / done / 60:.0f} min left" if done else ""
        best = f", best score {self.best:.3f}" if self.best < float("inf") else ""
        return f"training: step {self.trainer.step}{best}{left}"

    def _save(self) -> None:
        if self.first:
            notes = (self.best, self.stale, time.monotonic() - self.began)
            self.trainer.save(self.folder / "checkpoint.pt", notes)

    def _say(self, text: str) -> None:
        """One line for people."""
        if self.first:
            print(text, file=sys.stderr, flush=True)

    def _validate(self, reports: Sequence[Any]) -> None:
        if not self.first:
            return
        elapsed = time.monotonic() - self.began
        recent = {
            name: sum(getattr(r, name) for r in reports) / max(len(reports), 1)
            for name in ("imitation", "cost", "gradient")
        }
        gaps = validation.validate(self.trainer.outputs, self.groups, self.threads)
        score = gaps.score if self.groups else -float(self.trainer.step)
        self.log.write(self.trainer.step, elapsed, {"loss": recent, "gap": gaps.table})
        self._say(f"step {self.trainer.step} {elapsed:.0f} s {recent} | {gaps}")
        self.stale += 1
        if score < self.best:
            self.best, self.stale = score, 0
            about = {
                "steps": self.trainer.step, "recipe": asdict(self.recipe), "seconds": round(elapsed),
                "data": {"graphs": len(self.trainer.pool), "labelled_from": TRAIN_SEEDS, "unlabelled_from": UNLABELLED},
                "hardware": hardware(self.trainer.device), "commit": commit(), "validation": gaps.table,
                "examples": validation.examples(self.trainer.outputs),
            }  # fmt: skip
            save_weights(self.folder / self.recipe.size.decoder, self.trainer.average, about)
        self._save()


@contextmanager
def asked_to_end() -> Iterator[list[int]]:
    """A list that is empty until someone asks the process to end, with Ctrl-C or as torchrun does; again is at once."""
    asked: list[int] = []

    def note(number: int, _: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        print("ending after this step; once more ends at once", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def first_process_first() -> Iterator[None]:
    """The block runs in the first process, then in the others."""
    waits = distributed.is_initialized() and distributed.get_rank() > 0
    if waits:
        distributed.barrier()
    yield
    if distributed.is_initialized() and not waits:
        distributed.barrier()


@contextmanager
def processes(device: str) -> Iterator[None]:
    """Those that torchrun started know of each other, and spread over the accelerators."""
    if "RANK" not in os.environ:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group("gloo", timeout=LONG)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def main(argv: list[str] | None = None) -> int:
    """Train as the arguments say; returns the exit code."""
    arguments = parser().parse_args(argv)
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape, and shapes differ from batch to batch
    sys.setswitchinterval(SWITCH)
    with processes(arguments.device), ThreadPoolExecutor(arguments.threads) as threads:
        Run(arguments, threads)()
    return 0


if __name__ == "__main__":
    sys.exit(main())
