"""The best peak and bound known of each graph, with the order and the method it is from; checked when it is read.

``python -m bench best_known LINES.jsonl ...`` goes through result lines, says which of them are better
than what is known, and with ``--update`` writes them down.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.grid import read
from bench.one_run import unpacked, verified
from graphs import Graph, Order
from graphs.errors import GraphError
from graphs.io import write_atomic

REGISTRY = Path(__file__).parent / "results" / "best_known.jsonl"


class BestKnown(NamedTuple):
    """What is known of one graph."""

    graph_sha256: str
    graph: str  # its name in a suite
    suite: str
    nodes: int
    peak_bytes: int
    method: str  # that found the order
    bound_bytes: int
    bound_method: str  # that has proven it
    order: str  # as :func:`bench.one_run.packed` writes it


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("lines", nargs="*", type=Path, metavar="LINES", help="result files (.jsonl)")
    parser.add_argument("--update", action="store_true", help="write down what is better")
    parser.add_argument("--registry", type=Path, default=REGISTRY, help=argparse.SUPPRESS)


def table(lines: Sequence[Path], update: bool, registry: Path) -> Iterator[str]:
    """What the lines have that is better than what is known."""
    known = load(registry)
    count = 0
    for path in lines:
        for line in read(path):
            if "peak_bytes" not in line or not line["verified"]:
                continue
            before = known.get(line["graph_sha256"])
            after = better(before, line)
            if after is not None and after != before:
                count += 1
                yield said(before, after)
                known[after.graph_sha256] = after
    yield f"{count} better than known, of {len(known)} graphs"
    if update:
        save(registry, known)


def load(registry: Path = REGISTRY) -> dict[str, BestKnown]:
    """All that is known, by the graphs' fingerprints."""
    return {row["graph_sha256"]: BestKnown(**row) for row in read(registry)}


def save(registry: Path, known: dict[str, BestKnown]) -> None:
    """Write all that is known, sorted, whole or not at all."""
    rows = sorted(known.values(), key=lambda row: (row.suite, row.nodes, row.graph))
    write_atomic(registry, "".join(json.dumps(row._asdict()) + "\n" for row in rows).encode())


def better(known: BestKnown | None, line: dict[str, Any]) -> BestKnown | None:
    """What is known with ``line`` taken in; None where nothing can be kept of it."""
    if known is None:
        if line["order"] is None:
            return None
        known = BestKnown(
            line["graph_sha256"],
            line["graph"],
            line["suite"],
            line["nodes"],
            line["peak_bytes"],
            line["method"],
            line["bound_bytes"],
            line["method"],
            line["order"],
        )
    if line["peak_bytes"] < known.peak_bytes and line["order"] is not None:
        known = known._replace(peak_bytes=line["peak_bytes"], method=line["method"], order=line["order"])
    if line["bound_bytes"] > known.bound_bytes:
        known = known._replace(bound_bytes=line["bound_bytes"], bound_method=line["method"])
    return known


def said(before: BestKnown | None, after: BestKnown) -> str:
    """What is new, in one line."""
    if before is None:
        return f"{after.graph}: {after.peak_bytes:,} bytes by {after.method}, bound {after.bound_bytes:,}: new"
    changes = []
    if after.peak_bytes < before.peak_bytes:
        changes.append(f"peak {before.peak_bytes:,} -> {after.peak_bytes:,} by {after.method}")
    if after.bound_bytes > before.bound_bytes:
        changes.append(f"bound {before.bound_bytes:,} -> {after.bound_bytes:,} by {after.bound_method}")
    return f"{after.graph}: {', '.join(changes)}"


def order_of(graph: Graph, known: BestKnown) -> Order:
    """The order that is known for ``graph``, int32[n], after it has been checked.

    Raises:
        GraphError: it is of another graph, not legal, or of another peak.
    """
    if known.graph_sha256 != graph.fingerprint:
        raise GraphError(f"the entry is about another graph than {graph.name!r}")
    order = unpacked(known.order)
    if not verified(graph, order, known.peak_bytes):
        raise GraphError(f"the order known for {known.graph!r} does not have a peak of {known.peak_bytes} bytes")
    return order
