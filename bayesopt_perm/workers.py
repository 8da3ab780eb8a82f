"""Where evaluations run: processes of this machine, or the workers of a Dask cluster."""

import signal
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any

__all__ = ["DaskExecutor", "end", "process_pool"]

CONNECT = "10s"


def process_pool(processes: int) -> Executor:
    """``processes`` fresh processes, which leave Ctrl-C to this one.

    Raises:
        ValueError: if ``processes`` is not positive.
    """
    if processes < 1:
        raise ValueError(f"'processes' must be at least 1 (got {processes})")
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_deaf)
    wait([pool.submit(_ready) for _ in range(processes)])  # so that no evaluation is late for the start of its worker
    return pool


def end(executor: Executor) -> None:
    """Let go of ``executor``; the workers of a process pool are ended, whatever they do."""
    processes: Iterable[Any] = (getattr(executor, "_processes", None) or {}).values()
    workers = list(processes)
    executor.shutdown(wait=False)
    for worker in workers:
        worker.terminate()


def _ready() -> None:
    pass


def _deaf() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class DaskExecutor(Executor):
    """The workers of the Dask scheduler at ``address``, as ``tcp://host:8786``.

    What a lost worker held is given to another by the scheduler, and again by :func:`bayesopt_perm.minimize` where the
    scheduler gave up.

    Raises:
        ValueError: if ``distributed`` is not installed.
        OSError: if nothing answers within ten seconds.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ModuleNotFoundError:
            raise ValueError("Dask needs the extra 'dask': pip install 'topoformer[dask]'") from None
        package: Any = distributed
        self._client = package.Client(address, timeout=CONNECT)
        # By default a call that was made before is not made again: a noisy objective, or one whose worker was lost.
        self._executor: Executor = self._client.get_executor(pure=False)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call ``fn``."""
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let go of the scheduler; evaluations under way are dropped."""
        if wait and not cancel_futures:
            self._executor.shutdown(wait=True)
        self._client.close()
