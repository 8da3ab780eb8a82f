"""XLA's memory scheduler for GPUs, run as it is on our graphs, without a GPU: they are compiled for one ahead of time.

It is XLA's usual scheduler (``DefaultMemoryScheduler``): of a greedy list schedule, a depth-first post-order and a
plain one it takes the one whose peak is least by XLA's own simulation. Of jaxlib's parts only the plugin for CUDA has
it (the packages jax-cuda12-pjrt and jax-cuda12-plugin; nothing of NVIDIA's is needed). The program is that of
``bench/rivals/xla.py``.
"""

import os
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.rivals import NotApplicable
from bench.rivals.xla import OPTIONS, QUIET, TARGET, executed, program
from graphs import Graph, Order
from graphs.cost import OBJECTIVES, Objective

MOST_NODES = 50_000
MEMORY = 1 << 50  # bytes of the GPU: more than any graph needs, as XLA else looks for what to save
GPU = f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: {MEMORY}
  cuda_compute_capability {{ major: 9 }}
}}
runtime_version {{ major: 12 minor: 8 }}
dnn_version_info {{ major: 9 minor: 7 }}
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def xla_gpu(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """The order of XLA's usual scheduler for least memory, int32[n].

    Raises:
        NotApplicable: more than ``MOST_NODES`` nodes.
    """
    if graph.n > MOST_NODES:
        raise NotApplicable(f"XLA takes minutes to compile more than {MOST_NODES} calls (got {graph.n})")
    if not graph.n:
        return np.zeros(0, np.int32)
    device = _device()
    from jaxlib import _hlo, _jax, xla_client

    module = _hlo.hlo_module_from_text(program(graph))
    text = _jax.mlir.xla_computation_to_mlir_module(_hlo.XlaComputation(module.as_serialized_hlo_module_proto()))
    options = xla_client.CompileOptions()
    options.env_option_overrides = [("xla_gpu_enable_latency_hiding_scheduler", "False"), *OPTIONS]
    return executed(device.client.compile(_parsed(text), xla_client.DeviceList((device,)), options))


@cache
def missing() -> str:
    """Why XLA cannot be run here, or "" where it can: what it takes is not a public interface."""
    tiny = Graph.build("tiny", "abcde", [[], [], [0], [1], [2, 3]], range(5), [9, 9, 1, 1, 1])
    try:
        order = xla_gpu(tiny, OBJECTIVES["memory"], seconds=1.0, seed=0)
    except ImportError as error:
        return f"{error.name} is not installed"
    except Exception as error:  # whatever has moved or changed
        return f"jaxlib {version('jaxlib')}: {type(error).__name__}: {str(error).splitlines()[0]}"
    wrong = order.tolist() not in ([0, 2, 1, 3, 4], [1, 3, 0, 2, 4])
    return f"jaxlib {version('jaxlib')} does not schedule for least memory" if wrong else ""


@cache
def _device() -> Any:
    """A GPU to compile for; the target of the calls must be registered, and any one will do."""
    os.environ.setdefault(*QUIET)
    from jaxlib import _jax, lapack

    extension = import_module("jax_cuda12_plugin.cuda_plugin_extension")
    spec = find_spec("jax_plugins.xla_cuda12")  # found, not imported: that would take jax
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("no jax-cuda12-pjrt", name="jax-cuda12-pjrt")
    found = _jax.load_pjrt_plugin("cuda", str(Path(spec.origin).with_name("xla_cuda_plugin.so")), None)
    _jax.initialize_pjrt_plugin("cuda")
    _, function, api = lapack.registrations()["cpu"][0]
    extension.register_custom_call_target(found, TARGET, function, "CUDA", api, 0)
    topology = _jax.get_default_c_api_topology("cuda", "", {"target_config": GPU, "topology": "1x1x1"})
    return topology._make_compile_only_devices()[0]


def _parsed(text: str) -> Any:
    """A module from its text: compiling ahead of time takes no text."""
    from jaxlib.mlir import ir
    from jaxlib.mlir._mlir_libs import _jax_mlir_ext
    from jaxlib.mlir.dialects import mhlo, stablehlo

    context, dialects = ir.Context(), ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(dialects)
    context.append_dialect_registry(dialects)
    context.load_all_available_dialects()
    mhlo.register_mhlo_dialect(context)
    stablehlo.register_dialect(context)
    return ir.Module.parse(text, context)
