"""One method on one graph: run, checked by a simulator that shares nothing with the one searched by, written down."""

import gc
import hashlib
import platform
import resource
import subprocess
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module, metadata
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import graphs
from bench.cases import Case
from bench.rivals import RIVALS, NotApplicable, note, rival
from graphs import Graph, Order, check_order, peak_bytes
from graphs.bound import check_bound
from graphs.cost import OBJECTIVES
from topoformer.outcome import Outcome, Standing
from topoformer.scheduling import scheduler_named

MEMORY = OBJECTIVES["memory"]
COMPILING = "compiling"  # a phase that only a process's first run has
PACKAGES = ("topoformer", "torch", "numpy", "numba", "ortools", "jaxlib", "onnxruntime", "networkx")
KEPT = 20_000  # nodes of orders that lines hold


class Run(NamedTuple):
    """What is to be run."""

    case: Case
    method: str
    seed: int
    seconds: float
    steps: int | None
    folder: Path  # where the graphs are kept

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it another run than others: a line with this key need not be made again."""
        return (self.case.suite, self.case.name, self.method, self.seed, self.seconds, self.steps)


def key_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """The key of the run that a line is of."""
    return tuple(line[name] for name in ("suite", "graph", "method", "seed", "budget_seconds", "budget_steps"))


def path_of(case: Case, folder: Path) -> Path:
    """Where the graph of ``case`` is kept."""
    return folder / f"{case.suite}.{case.name}.json.gz"


def keep_graph(case: Case, folder: Path) -> int:
    """Make the graph of ``case`` and keep it in ``folder``, unless it is there; returns its number of nodes."""
    path = path_of(case, folder)
    if not path.exists():
        graphs.save(case.make(), path)
    return graph_of(case, folder).n


@cache
def _loaded(path: Path) -> Graph:
    return graphs.load(path)


def graph_of(case: Case, folder: Path) -> Graph:
    """The graph of ``case``: as kept, or made anew where another machine kept it."""
    path = path_of(case, folder)
    if not path.exists():
        return case.make()
    if _loaded.cache_info().currsize > 2:
        _loaded.cache_clear()
    return _loaded(path)


def warm_up(methods: tuple[str, ...]) -> None:
    """Have everything compiled that ``methods`` need, so that the first run takes as long as the others."""
    tiny = graphs.layered(60, seed=1)
    for method in methods:
        try:
            _called(_function(method), tiny, seconds=0.5, seed=0, steps=None, told=lambda _: None)
        except (NotApplicable, ValueError):
            continue


def measure(run: Run) -> dict[str, Any]:
    """The line of ``run``."""
    graph = graph_of(run.case, run.folder)
    line = {
        "suite": run.case.suite,
        "graph": run.case.name,
        "graph_sha256": graph.fingerprint,
        "nodes": graph.n,
        "edges": len(graph.preds.idx),
        "program_peak_bytes": peak_bytes(graph),
        "method": run.method,
        "seed": run.seed,
        "budget_seconds": run.seconds,
        "budget_steps": run.steps,
        "before_rss_bytes": _resident("VmRSS"),
    }
    if reason := note(run.method) if run.method in RIVALS else "":
        return line | {"note": reason} | _where()
    curve: list[list[float]] = []
    gc.collect()
    _forget_peak()
    began = time.perf_counter()

    def told(standing: Standing) -> None:
        point = [standing.value, standing.bound_bytes]
        if not curve or curve[-1][1:] != point:
            curve.append([round(time.perf_counter() - began, 4), *point])

    try:
        answer = _called(_function(run.method), graph, seconds=run.seconds, seed=run.seed, steps=run.steps, told=told)
    except NotApplicable as error:
        return line | {"note": str(error)} | _where()
    took, most = time.perf_counter() - began, _resident("VmHWM")
    return line | _found(graph, answer, took, curve) | {"peak_rss_bytes": most} | _where()


def _function(method: str) -> Callable[..., Any]:
    return rival(method) if method in RIVALS else scheduler_named(method)


def _called(
    function: Callable[..., Any],
    graph: Graph,
    *,
    seconds: float,
    seed: int,
    steps: int | None,
    told: Callable[[Standing], None],
) -> Outcome:
    taken = signature(function).parameters
    more = {key: value for key, value in (("steps", steps), ("progress", told)) if key in taken and value is not None}
    answer = function(graph, MEMORY, seconds=seconds, seed=seed, **more)
    return answer if isinstance(answer, Outcome) else Outcome(answer)


def _found(graph: Graph, answer: Outcome, took: float, curve: list[list[float]]) -> dict[str, Any]:
    """What came out of it. An order that is worse than the program's own counts as it is."""
    order = check_order(graph, answer.order)
    peak = peak_bytes(graph, order)
    compiling = sum(phase.seconds for phase in answer.phases if phase.name == COMPILING)
    return {
        "peak_bytes": peak,
        "bound_bytes": answer.bound_bytes,
        "seconds": round(took - compiling, 4),
        "curve": [[max(0.0, round(when - compiling, 4)), *rest] for when, *rest in curve],
        "verified": verified(graph, order, peak),
        "bound_checked": _bound_checked(graph, answer),
        "order_sha256": hashlib.sha256(order.astype("<i4").tobytes()).hexdigest(),
        "order": packed(order) if graph.n <= KEPT else None,
    }


def _bound_checked(graph: Graph, answer: Outcome) -> bool | None:
    """Whether the proof of the bound holds; None where there is none but a search that left nothing out."""
    return check_bound(graph, answer.witness) if answer.witness is not None and graph.n <= KEPT else None


def _resident(name: str) -> int:
    """Bytes of memory that this process has, "VmRSS", or has had at most, "VmHWM": elsewhere than on Linux that."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    """Have the most that was resident counted from now on: a graph that was read has taken more than its search."""
    with suppress(OSError):  # elsewhere than on Linux it is counted from the start of the process
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def verified(graph: Graph, order: Order, peak: int) -> bool:
    """Whether the tests' own simulator finds the order legal, and the same peak."""
    oracle: Any = import_module("tests.oracle")
    return bool(oracle.is_legal_by_position(graph, order.tolist()) and oracle.peak_by_events(graph, order) == peak)


def packed(order: npt.NDArray[Any]) -> str:
    """An order as hexadecimal digits, in which nobody finds words: differences of neighbours, compressed."""
    steps = np.diff(order.astype("<i4"), prepend=np.int32(0)).astype("<i4")
    return zlib.compress(steps.tobytes(), 9).hex()


def unpacked(text: str) -> Order:
    """The order that :func:`packed` has made into ``text``."""
    steps = np.frombuffer(zlib.decompress(bytes.fromhex(text)), "<i4")
    return np.cumsum(steps, dtype=np.int32)


@cache
def _where() -> dict[str, Any]:
    """The machine, the versions of what took part, and the commit."""
    return {"machine": _machine(), "versions": _versions(), "commit": _commit()}


def _machine() -> str:
    import os

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    def git(*words: str) -> str:
        where = Path(__file__).parent
        done = subprocess.run(("git", *words), cwd=where, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    try:
        dirty = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "--short=12", "HEAD") + dirty
    except OSError:  # there is no git here
        return ""
