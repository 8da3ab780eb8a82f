"""What a computation graph is, where it comes from, and what an order of it costs.

Names that need torch, or that are used rarely, are imported when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphs.csr import CSR
from graphs.errors import GraphError, UnsupportedOp
from graphs.graph import Graph, Kind, Order, check_order, inverse, program_order
from graphs.io import load, save
from graphs.memory import LiveTensor, MemoryProfile, peak_bytes, simulate

if TYPE_CHECKING:
    from graphs.device import DEVICES, Device
    from graphs.fx import from_fx
    from graphs.latency import Timeline, simulate_latency
    from graphs.nx import from_networkx, to_networkx
    from graphs.onnx import from_onnx
    from graphs.programs import apply_order
    from graphs.synthetic import layered
    from graphs.traffic import Traffic, simulate_traffic

_LAZY = {
    "from_fx": "graphs.fx",
    "from_onnx": "graphs.onnx",
    "apply_order": "graphs.programs",
    "from_networkx": "graphs.nx",
    "to_networkx": "graphs.nx",
    "layered": "graphs.synthetic",
    "DEVICES": "graphs.device",
    "Device": "graphs.device",
    "Timeline": "graphs.latency",
    "simulate_latency": "graphs.latency",
    "Traffic": "graphs.traffic",
    "simulate_traffic": "graphs.traffic",
}

__all__ = [
    "CSR",
    "DEVICES",
    "Device",
    "Graph",
    "GraphError",
    "Kind",
    "LiveTensor",
    "MemoryProfile",
    "Order",
    "Timeline",
    "Traffic",
    "UnsupportedOp",
    "apply_order",
    "check_order",
    "from_fx",
    "from_networkx",
    "from_onnx",
    "inverse",
    "layered",
    "load",
    "peak_bytes",
    "program_order",
    "save",
    "simulate",
    "simulate_latency",
    "simulate_traffic",
    "to_networkx",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'graphs' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
