"""Answers kept on disk, so that the same question costs nothing when it is asked again, by whatever process.

A schedule is kept by the graph's fingerprint and all that was asked besides the seconds, a graph by the fingerprint of
the program it was captured from. What is read back is not believed but checked as if a stranger had sent it.
"""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from functools import cache as kept_in_memory
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from graphs import Graph, check_order, peak_bytes
from graphs.bound import footprint_bound
from graphs.errors import GraphError
from graphs.json_format import graph_from_json, graph_to_json, read_count, read_number
from topoformer.cache_folder import CacheFolder, user_folder
from topoformer.outcome import Outcome, Phase
from topoformer.witness_json import witness_from_json, witness_to_json

FORMAT = 2  # of the entries, and of the search: raised where old answers are not to be found any more
LIMIT_BYTES = 64 << 20


class Question(NamedTuple):
    """What a search was asked for, but for the graph and the time."""

    method: str
    seed: int
    steps: int | None
    objective: str


class Answer(NamedTuple):
    """What a search has found, and how long it was to look."""

    outcome: Outcome
    peak_bytes: int  # of its order, or of the program's where that is lower
    asked_seconds: float
    search_seconds: float  # that it took

    def serves(self, seconds: float) -> bool:
        """Whether a search of so many seconds is spared: no order is better, or it was looked for as long."""
        return self.peak_bytes == self.outcome.bound_bytes or self.asked_seconds >= seconds


def better(new: Answer, old: Answer | None) -> Answer:
    """The better order and the higher bound of two answers to one question, as an answer for the longer time."""
    if old is None or old.outcome.bound_bytes > new.peak_bytes:  # then the old one's bound was none
        return new
    order = old if old.peak_bytes < new.peak_bytes else new
    proof = old if old.outcome.bound_bytes > new.outcome.bound_bytes else new
    outcome = order.outcome._replace(
        bound_bytes=proof.outcome.bound_bytes,
        witness=proof.outcome.witness,
        interrupted=new.outcome.interrupted,
    )
    asked = max(new.asked_seconds, old.asked_seconds)
    return Answer(outcome, order.peak_bytes, asked, new.search_seconds)


@dataclass(frozen=True, init=False)
class ScheduleCache:
    """A folder of schedules and graphs that any number of processes may share; it may be deleted at any time.

    An entry that is broken or of another version is removed; one that cannot be written, the disk being full or the
    folder read-only, is left out, with a line at level DEBUG from the logger ``topoformer.cache``.

    Example:
        >>> import tempfile
        >>> from graphs import Graph
        >>> from topoformer import ScheduleCache, schedule
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [schedule(graph, seconds=1, cache=ScheduleCache(folder)).cached for _ in range(2)]
        [False, True]
    """

    folder: Path
    limit_bytes: int

    def __init__(self, folder: str | os.PathLike[str] | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        """Nothing is read or written yet.

        Args:
            folder: to keep the entries in, made when it is needed; by default ``topoformer/schedules`` in the user's
                cache directory, ``$XDG_CACHE_HOME`` or ``~/.cache``.
            limit_bytes: of all entries; beyond it those go that have not been used for longest.

        Raises:
            ValueError: the limit is not a positive integer, or the folder no path.
        """
        if isinstance(limit_bytes, bool) or not isinstance(limit_bytes, int) or limit_bytes < 1:
            raise ValueError(f"'limit_bytes' must be a positive integer (got {limit_bytes!r})")
        path = user_folder() / "schedules" if folder is None else Path(folder)
        if "\0" in str(path):
            raise ValueError(f"'folder' must be a path (got {str(path)!r})")
        object.__setattr__(self, "folder", path.absolute())
        object.__setattr__(self, "limit_bytes", limit_bytes)

    def schedule(self, graph: Graph, question: Question) -> Answer | None:
        """What is known of an order of ``graph``, checked; None if nothing is."""
        key = _schedule_key(graph, question)
        return self._files.read(_name(key), lambda entry: _answer(graph, key, entry))

    def keep_schedule(self, graph: Graph, question: Question, answer: Answer) -> None:
        """Remember ``answer``, and of what is known the better parts."""
        key = _schedule_key(graph, question)

        def entry() -> dict[str, Any] | None:
            known = self.schedule(graph, question)  # again: another process may have been here
            best = better(answer, known)
            adds = known is None or _worth(best) != _worth(known)
            return _entry_of(graph, key, best) if adds else None

        self._files.write(_name(key), entry)

    def graph(self, fingerprint: str) -> Graph | None:
        """The graph of the program with this ``graphs.fx_fingerprint``; None if it is not known."""
        key = ["graph", _version(), fingerprint]
        return self._files.read(_name(key), lambda entry: _graph(key, entry))

    def keep_graph(self, fingerprint: str, graph: Graph) -> None:
        """Remember that the program with this fingerprint has this graph."""
        key = ["graph", _version(), fingerprint]
        entry = {"key": key, "graph_sha256": graph.fingerprint, "graph": graph_to_json(graph)}
        self._files.write(_name(key), lambda: entry)

    @cached_property
    def _files(self) -> CacheFolder:
        return CacheFolder(self.folder, self.limit_bytes)


def _schedule_key(graph: Graph, question: Question) -> list[Any]:
    return ["schedule", _version(), graph.fingerprint, *question]


@kept_in_memory
def _version() -> str:
    try:
        return f"{metadata.version('topoformer')} {FORMAT}"
    except metadata.PackageNotFoundError:
        return f"source {FORMAT}"


def _name(key: list[Any]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()


def _worth(answer: Answer) -> tuple[int, int, float]:
    return answer.peak_bytes, answer.outcome.bound_bytes, answer.asked_seconds


def _entry_of(graph: Graph, key: list[Any], answer: Answer) -> dict[str, Any]:
    outcome = answer.outcome
    return {
        "key": key,
        "order": outcome.order.tolist(),
        "order_peak_bytes": peak_bytes(graph, outcome.order),
        "bound_bytes": int(outcome.bound_bytes),
        "asked_seconds": answer.asked_seconds,
        "search_seconds": answer.search_seconds,
        "witness": witness_to_json(outcome.witness),
        "phases": [
            {"name": name, "seconds": seconds, "peak_bytes": int(peak), "bound_bytes": int(bound)}
            for name, seconds, peak, bound in outcome.phases
        ],
        "narrowed": outcome.narrowed,
    }


def _answer(graph: Graph, key: list[Any], entry: dict[str, Any]) -> Answer:
    """An entry of :func:`_entry_of`; raises GraphError if it is not one, or says what is not so."""
    _check_key(key, entry)
    order = check_order(graph, entry.get("order"))  # type: ignore[arg-type]  # it says so of any other type
    own = peak_bytes(graph, order)
    if read_count(entry, "order_peak_bytes", "entry", 0) != own:
        raise GraphError(f"the order's peak is {own} bytes, not {entry['order_peak_bytes']}")
    peak, bound = min(own, peak_bytes(graph)), read_count(entry, "bound_bytes", "entry", 0)
    if not footprint_bound(graph) <= bound <= peak:
        raise GraphError(f"no bound is {bound} bytes where the peak is {peak}")
    asked, took = (read_number(entry.get(name), "entry", "", name) for name in ("asked_seconds", "search_seconds"))
    if not (0 < asked < math.inf and took < math.inf):
        raise GraphError(f"a search cannot have been asked for {asked} seconds and have taken {took}")
    witness = witness_from_json(graph, entry.get("witness"), bound)
    outcome = Outcome(order, bound, witness, _phases(entry), narrowed=_text(entry.get("narrowed")))
    return Answer(outcome, peak, asked, took)


def _phases(entry: dict[str, Any]) -> tuple[Phase, ...]:
    rows = entry.get("phases")
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise GraphError("'phases' must be a list of objects")
    return tuple(
        Phase(
            _text(row.get("name")),
            read_number(row.get("seconds"), "phase", "", "seconds"),
            *(read_count(row, name, "phase", 0) for name in ("peak_bytes", "bound_bytes")),
        )
        for row in rows
    )


def _text(value: Any) -> str:
    if not (isinstance(value, str) and value.isprintable()):
        raise GraphError("an entry's text must be printable")
    return value


def _graph(key: list[Any], entry: dict[str, Any]) -> Graph:
    """The graph in an entry; raises GraphError if there is none, or another than was written."""
    _check_key(key, entry)
    graph = graph_from_json(entry.get("graph"))
    if graph.fingerprint != entry.get("graph_sha256"):
        raise GraphError("the graph is not the one that was written")
    return graph


def _check_key(key: list[Any], entry: dict[str, Any]) -> None:
    if entry.get("key") != key:
        raise GraphError("an answer to another question")
