"""Orders for neural-network computation graphs that need less memory, and the programs handed back in them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphs.errors import GraphError, UnsupportedOp
from topoformer.cache import ScheduleCache
from topoformer.scheduling import SCHEDULERS, MemoryLimitError, Schedule, Scheduler, schedule

if TYPE_CHECKING:
    from topoformer.calibration import this_device
    from topoformer.front import pareto
    from topoformer.pytorch.export import capture, optimize
    from topoformer.pytorch.inductor import inductor_options, inductor_pass
    from topoformer.pytorch.measure import MeasuredPeak, measure_peak
    from topoformer.pytorch.refining import Refined, refine
    from topoformer.pytorch.scratch import measure_scratch
    from topoformer.pytorch.timing import measure_seconds
    from topoformer.pytorch.training import TrainStep, compile_train_step

_LAZY = {  # most of these need torch
    "MeasuredPeak": "topoformer.pytorch.measure",
    "Refined": "topoformer.pytorch.refining",
    "TrainStep": "topoformer.pytorch.training",
    "capture": "topoformer.pytorch.export",
    "compile_train_step": "topoformer.pytorch.training",
    "inductor_options": "topoformer.pytorch.inductor",
    "inductor_pass": "topoformer.pytorch.inductor",
    "measure_peak": "topoformer.pytorch.measure",
    "measure_scratch": "topoformer.pytorch.scratch",
    "measure_seconds": "topoformer.pytorch.timing",
    "optimize": "topoformer.pytorch.export",
    "pareto": "topoformer.front",
    "refine": "topoformer.pytorch.refining",
    "this_device": "topoformer.calibration",
}

__all__ = [
    "SCHEDULERS",
    "GraphError",
    "MeasuredPeak",
    "MemoryLimitError",
    "Refined",
    "Schedule",
    "ScheduleCache",
    "Scheduler",
    "TrainStep",
    "UnsupportedOp",
    "capture",
    "compile_train_step",
    "inductor_options",
    "inductor_pass",
    "measure_peak",
    "measure_scratch",
    "measure_seconds",
    "optimize",
    "pareto",
    "refine",
    "schedule",
    "this_device",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'topoformer' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
