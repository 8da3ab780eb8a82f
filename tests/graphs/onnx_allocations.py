"""What ONNX Runtime allocates at most while it runs a model: ``python -m tests.graphs.onnx_allocations LIBRARY``.

Reads a JSON list of [model file, inputs file] from stdin, writes the peaks to stdout. ``LIBRARY`` is the compiled
onnx_allocations.c, which must be preloaded.
"""

import ctypes
import json
import sys

import numpy as np
import onnxruntime


def session(source, **options):
    """ONNX Runtime with the switches under which an order is kept and memory is freed as soon as it can be."""
    chosen = onnxruntime.SessionOptions()
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    chosen.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    chosen.intra_op_num_threads = 1
    chosen.log_severity_level = 4
    for name, value in options.items():
        setattr(chosen, name, value)
    return onnxruntime.InferenceSession(source, chosen, providers=["CPUExecutionProvider"])


def main():
    library = ctypes.CDLL(sys.argv[1])
    library.tracking_ends.restype = ctypes.c_longlong
    peaks = []
    for path, inputs in json.load(sys.stdin):
        feeds = dict(np.load(inputs))
        runner = session(path, enable_cpu_mem_arena=False, enable_mem_pattern=False, enable_mem_reuse=False)
        runner.run(None, feeds)
        library.tracking_begins()
        runner.run(None, feeds)
        peaks.append(library.tracking_ends())
    json.dump(peaks, sys.stdout)


if __name__ == "__main__":
    main()
