"""Ending compiled loops in time, and running several at once."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Flag = npt.NDArray[np.int8]  # int8[1], not 0 once a loop is to end


def is_interrupt(error: BaseException) -> bool:
    """Whether ``error`` is Ctrl-C, or what compiled code makes of it where it comes between a call and its return."""
    found: BaseException | None = error
    while isinstance(found, SystemError):  # "returned a result with an exception set"
        found = found.__cause__
    return isinstance(found, KeyboardInterrupt)


class Stopper:
    """A flag that compiled loops look at, raised at a deadline or when the user interrupts.

    Compiled loops do not see signals, so they run beside the main thread, which waits.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.interrupted = False

    @property
    def expired(self) -> bool:
        """Whether there is no time left."""
        return self.interrupted or time.monotonic() >= self.deadline

    @property
    def left(self) -> float:
        """Seconds to the deadline, 0 where it is over."""
        return 0.0 if self.expired else self.deadline - time.monotonic()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """An interrupt ends the block, and is noted; what was found by then is to be kept."""
        try:
            yield
        except (KeyboardInterrupt, SystemError) as error:
            if not is_interrupt(error):
                raise
            self.interrupted = True

    def call(self, function: Callable[[Flag], T], *, until: float = float("inf")) -> T:
        """What ``function(flag)`` returns; it ends soon after the flag is raised, at the deadline or ``until``."""
        return self.map([function], until=until)[0]

    def map(self, functions: Sequence[Callable[[Flag], T]], *, until: float = float("inf")) -> list[T]:
        """What each of ``functions`` returns, all of them run at once, each in a thread of its own."""
        flag = np.zeros(1, np.int8)
        results: list[Any] = [None] * len(functions)
        errors: list[BaseException] = []
        done = threading.Semaphore(0)  # not Thread.join, which an interrupt can leave believing that a thread has ended

        def work(place: int) -> None:
            try:
                results[place] = functions[place](flag)
            except BaseException as error:  # handed on to the thread that waits
                errors.append(error)
            finally:
                done.release()

        for place in range(len(functions)):
            threading.Thread(target=work, args=(place,), daemon=True).start()
        waiting, end = len(functions), min(self.deadline, until)
        while waiting:
            try:
                timeout = None if flag[0] else max(0.0, min(end - time.monotonic(), 3600.0))
                if done.acquire(timeout=timeout):
                    waiting -= 1
                else:
                    flag[0] = time.monotonic() >= end
            except KeyboardInterrupt:
                flag[0], self.interrupted = 1, True
        if errors:
            raise errors[0]
        return results
