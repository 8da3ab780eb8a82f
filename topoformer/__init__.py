"""Orders for neural-network computation graphs that need less memory, and the programs handed back in them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphs.errors import GraphError, UnsupportedOp
from topoformer.scheduling import SCHEDULERS, Schedule, Scheduler, schedule

if TYPE_CHECKING:
    from topoformer.pytorch.export import capture, optimize
    from topoformer.pytorch.training import compile_train_step

_LAZY = {  # these need torch
    "capture": "topoformer.pytorch.export",
    "compile_train_step": "topoformer.pytorch.training",
    "optimize": "topoformer.pytorch.export",
}

__all__ = [
    "SCHEDULERS",
    "GraphError",
    "Schedule",
    "Scheduler",
    "UnsupportedOp",
    "capture",
    "compile_train_step",
    "optimize",
    "schedule",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'topoformer' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
