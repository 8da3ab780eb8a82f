"""Where evaluations run: processes of this machine, or the workers of a Dask cluster."""

import signal
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

__all__ = ["dask_executor", "process_pool"]

CONNECT = "10s"


def process_pool(processes: int) -> Executor:
    """``processes`` fresh processes, which leave Ctrl-C to this one.

    Raises:
        ValueError: if ``processes`` is not positive.
    """
    if processes < 1:
        raise ValueError(f"'processes' must be at least 1 (got {processes})")
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_deaf)


def _deaf() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def dask_executor(address: str) -> Executor:
    """The workers of the Dask scheduler at ``address``, as ``tcp://host:8786``.

    Raises:
        ValueError: if ``distributed`` is not installed.
        OSError: if nothing answers within ten seconds.
    """
    try:
        import distributed
    except ModuleNotFoundError:
        raise ValueError("Dask needs the extra 'dask': pip install 'topoformer[dask]'") from None
    package: Any = distributed
    executor: Executor = package.Client(address, timeout=CONNECT).get_executor()
    return executor
