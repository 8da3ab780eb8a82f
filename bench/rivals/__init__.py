"""Other people's ways to choose an order, as functions that ``topoformer.schedule(graph, method=...)`` takes."""

from collections.abc import Callable
from importlib import import_module

from topoformer.scheduling import Scheduler


class NotApplicable(ValueError):
    """A rival cannot do this graph at all, or not in any time one would wait; the text says why."""


# Resolved on use, so that a rival costs no import until it runs.
RIVALS: dict[str, str] = {
    "inductor": "bench.rivals.inductor:inductor",
    "inductor_lpmf": "bench.rivals.inductor_parts:lpmf",
    "inductor_bfs": "bench.rivals.inductor_parts:bfs",
    "inductor_dfs": "bench.rivals.inductor_parts:dfs",
    "xla": "bench.rivals.xla:xla",
    "xla_gpu": "bench.rivals.xla_gpu:xla_gpu",
    "xla_concurrent": "bench.rivals.xla:concurrent",
    "onnxruntime": "bench.rivals.ort:default",
    "onnxruntime_priority": "bench.rivals.ort:priority",
    "networkx": "bench.rivals.networkx_sort:networkx_sort",
    "random_best": "bench.rivals.random_best:random_best",
    "cp_sat": "bench.rivals.cp_sat:cp_sat",
    "genetic": "bench.rivals.genetic:genetic",
}


def rival(name: str) -> Scheduler:
    """The rival of that name, imported now; :func:`note` says whether it can be run."""
    module, attribute = RIVALS[name].split(":")
    found: Scheduler = getattr(import_module(module), attribute)
    return found


def note(name: str) -> str:
    """Why the rival of that name cannot be run here, or "" where it can."""
    missing: Callable[[], str] = import_module(RIVALS[name].split(":")[0]).missing
    return missing()
