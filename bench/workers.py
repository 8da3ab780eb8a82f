"""Runs on several processes, or on a Dask cluster: a lost or hung worker costs a retry, not a run."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Generic, NamedTuple, TypeVar

Task = TypeVar("Task")
TRIES = 3  # of a task whose worker is lost
START = 600.0  # seconds that a process may take to start and compile


class Result(NamedTuple, Generic[Task]):
    """What came of a task: a value, or why there is none."""

    task: Task
    value: Any = None
    failure: str = ""


class LostError(RuntimeError):
    """A worker ended, or did not answer in time."""


class Worker:
    """A process that calls functions, one after the other; it is started anew where it is lost."""

    def __init__(self, first: Callable[[], object]) -> None:
        self.first = first
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, self.first), daemon=True)
        self.process.start()
        self.ready = False
        other.close()

    def call(self, function: Callable[[Task], Any], task: Task, timeout: float) -> Any:
        """What ``function(task)`` returns there; raises LostError, or RuntimeError with what it raised."""
        try:
            if not self.ready:  # its start does not count
                if not self.pipe.poll(START):
                    raise LostError(f"it has not started within {START:.0f} s")
                self.pipe.recv()
                self.ready = True
            self.pipe.send((function, task))
            if not self.pipe.poll(timeout):
                raise LostError(f"no answer within {timeout:.0f} s")
            failure, value = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            self._start_again()
            raise LostError(f"its process ended with code {self.process.exitcode}") from error
        except LostError:
            self._start_again()
            raise
        if failure:
            raise RuntimeError(failure)
        return value

    def renew(self) -> None:
        """Go on with a fresh process."""
        self._start_again()

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def _start_again(self) -> None:
        self.end()
        self._start()


def _serve(pipe: Connection, first: Callable[[], object]) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that collects
    first()
    pipe.send("ready")
    while True:
        try:
            function, task = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("", function(task))
        except Exception as error:
            answer = (f"{type(error).__name__}: {error}", None)
        pipe.send(answer)


def on_processes(
    function: Callable[[Task], Any],
    tasks: Sequence[Task],
    *,
    jobs: int,
    first: Callable[[], object],
    timeout: Callable[[Task], float],
    fresh: bool = False,
) -> Iterator[Result[Task]]:
    """Results as they come, of ``function`` called on each task in one of ``jobs`` processes.

    Args:
        first: what each process does before its first task.
        timeout: seconds after which a task's process is killed.
        fresh: a process of its own for each task.
    """
    todo: queue.Queue[Task] = queue.Queue()
    done: queue.Queue[Result[Task]] = queue.Queue()
    for task in tasks:
        todo.put(task)
    ended = threading.Event()
    workers: list[Worker] = []

    def work() -> None:
        worker = Worker(first)
        workers.append(worker)
        used = False
        while not ended.is_set():
            try:
                task = todo.get_nowait()
            except queue.Empty:
                break
            if fresh and used:
                worker.renew()
            used = True
            done.put(_tried(worker, function, task, timeout(task), ended))
        worker.end()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, max(len(tasks), 1)))]
    for thread in threads:
        thread.start()
    try:
        for _ in tasks:
            yield done.get()
    finally:
        ended.set()
        for worker in workers:
            worker.process.kill()


def _tried(
    worker: Worker, function: Callable[[Task], Any], task: Task, timeout: float, ended: threading.Event
) -> Result[Task]:
    failure = ""
    for _ in range(TRIES):
        try:
            return Result(task, worker.call(function, task, timeout))
        except LostError as error:
            failure = f"{TRIES} workers were lost, the last: {error}"
            if ended.is_set():
                break
        except RuntimeError as error:
            return Result(task, failure=str(error))
    return Result(task, failure=failure)


def on_dask(function: Callable[[Task], Any], tasks: Sequence[Task], *, address: str) -> Iterator[Result[Task]]:
    """The same on the workers of the Dask scheduler at ``address``, which runs again what a lost worker held."""
    from bayesopt_perm.workers import DaskExecutor

    executor = DaskExecutor(address)
    try:
        futures = {executor.submit(function, task): task for task in tasks}
        for future in as_completed(futures):
            error = future.exception()
            failure = "" if error is None else f"{type(error).__name__}: {error}"
            yield Result(futures[future], None if error else future.result(), failure)
    finally:
        executor.shutdown(wait=False)
