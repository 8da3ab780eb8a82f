"""Arena sizes beside those of greedy packers, on the 11 instances of MiniMalloc or, without files, on cut rectangles.

An instance is a file NAME.CAPACITY.csv with columns id, lower, upper, size (lifetimes half-open).
"""

import argparse
import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphs.arena import GREEDIES, Packing, pack
from graphs.csr import Int64Array

GENERATED = (100, 200, 400)  # rectangles


class Instance(NamedTuple):
    """Buffers and the arena that they are known to fit."""

    name: str
    lower: Int64Array  # int64[b]
    upper: Int64Array
    size: Int64Array  # int64[b] bytes
    capacity: int


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--data", type=Path, help="folder with arena/, instances from files; generated ones without it")
    parser.add_argument("--seconds", type=float, default=30.0, help="for the search of each instance")
    parser.add_argument("--seeds", type=int, default=1, help="searches of each instance")
    parser.add_argument("--out", type=Path, help="a JSON line a search is added to this file")


def table(data: Path | None, seconds: float, seeds: int, out: Path | None) -> Iterator[str]:
    """The benchmark's rows in Markdown, as they come."""
    warm_up()
    greedies = " | ".join(GREEDIES)
    yield f"| instance | buffers | bound / capacity | {greedies} | ours / capacity | seconds |"
    yield "|---|---:|---:|" + "---:|" * (len(GREEDIES) + 2)
    for instance in instances(data):
        columns = instance.lower, instance.upper, instance.size
        simple = [pack(*columns, method=name).bytes / instance.capacity for name in GREEDIES]
        found = [timed(instance, seconds, seed) for seed in range(seeds)]
        for seed, (packing, took) in enumerate(found):
            if out is not None:
                with out.open("a") as file:
                    file.write(json.dumps(line(instance, packing, seed, took, seconds)) + "\n")
        yield (
            f"| {instance.name} | {len(instance.size)} | {found[0][0].bound_bytes / instance.capacity:.3f} "
            f"| {' | '.join(f'{ratio:.3f}' for ratio in simple)} "
            f"| {' '.join(f'{packing.bytes / instance.capacity:.4f}' for packing, _ in found)} "
            f"| {' '.join(f'{took:.2f}' for _, took in found)} |"
        )


def warm_up() -> None:
    """Compile every kernel: a problem that takes the descent and the tree."""
    instance = cut(40, seed=1)
    pack(instance.lower, instance.upper, instance.size, seconds=60, steps=20_000, method="search")


def timed(instance: Instance, seconds: float, seed: int) -> tuple[Packing, float]:
    """Our packing, and the seconds until it was found, or until the time was over."""
    began = time.perf_counter()
    columns = instance.lower, instance.upper, instance.size
    packing = pack(*columns, capacity=instance.capacity, seconds=seconds, seed=seed)
    return packing, time.perf_counter() - began


def line(instance: Instance, packing: Packing, seed: int, took: float, seconds: float) -> dict[str, object]:
    """One search for the file of results."""
    return {
        "instance": instance.name,
        "buffers": len(instance.size),
        "capacity": instance.capacity,
        "bound_bytes": packing.bound_bytes,
        "bytes": packing.bytes,
        "method": packing.method,
        "seed": seed,
        "seconds": round(took, 3),
        "limit": seconds,
    }


def instances(data: Path | None) -> Iterator[Instance]:
    """Those of the folder, or generated ones."""
    if data is None:
        yield from (cut(count, seed=0) for count in GENERATED)
        return
    files = sorted((data / "arena").glob("?.*.csv"))
    if not files:
        raise SystemExit(f"no instances NAME.CAPACITY.csv in {data / 'arena'}")
    yield from map(read, files)


def read(path: Path) -> Instance:
    """The instance in a file; its capacity is in the name."""
    with path.open(newline="") as file:
        rows = [[int(row[name]) for name in ("lower", "upper", "size")] for row in csv.DictReader(file)]
    lower, upper, size = np.array(rows, np.int64).reshape(-1, 3).T
    name, capacity, _ = path.name.split(".")
    return Instance(name, lower, upper, size, int(capacity))


def cut(count: int, seed: int, extent: int = 1 << 20) -> Instance:
    """A square of time and bytes cut into ``count`` rectangles by straight cuts: they fit it with no byte to spare."""
    random = np.random.default_rng(seed)
    pieces = [(0, extent, 0, extent)]
    while len(pieces) < count:
        areas = np.array([(u - l) * (t - b) for l, u, b, t in pieces], np.float64)  # noqa: E741
        lower, upper, bottom, top = pieces.pop(int(random.choice(len(pieces), p=areas / areas.sum())))
        if random.random() < 0.5 and upper - lower > 1:
            at = int(random.integers(lower + 1, upper))
            pieces += [(lower, at, bottom, top), (at, upper, bottom, top)]
        elif top - bottom > 1:
            at = int(random.integers(bottom + 1, top))
            pieces += [(lower, upper, bottom, at), (lower, upper, at, top)]
        else:
            pieces.append((lower, upper, bottom, top))
    lower, upper, bottom, top = np.array([pieces[i] for i in random.permutation(count)], np.int64).T
    return Instance(f"cut_{count}", lower, upper, top - bottom, extent)
