"""Ending compiled loops in time."""

import threading
import time
from typing import Any

import numpy as np


class Stopper:
    """A flag that compiled loops look at, raised at a deadline or when the user interrupts.

    Compiled loops do not see signals, so they run beside the main thread, which waits.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.flag = np.zeros(1, np.int8)
        self.interrupted = False

    @property
    def expired(self) -> bool:
        """Whether there is no time left."""
        return self.interrupted or time.monotonic() >= self.deadline

    def call(self, function: Any, *args: Any, **options: Any) -> Any:
        """Run ``function(*args, stop=flag, **options)`` to its end, which the flag brings about in time."""
        result: list[Any] = []
        done = threading.Event()  # not Thread.join, which an interrupt can leave believing that the thread has ended

        def work() -> None:
            try:
                result.append(function(*args, stop=self.flag, **options))
            except BaseException as error:  # handed on to the thread that waits
                result.append(error)
            finally:
                done.set()

        threading.Thread(target=work, daemon=True).start()
        while not done.is_set():
            try:
                if not done.wait(None if self.flag[0] else max(0.0, min(self.deadline - time.monotonic(), 3600.0))):
                    self.flag[0] = time.monotonic() >= self.deadline
            except KeyboardInterrupt:
                self.flag[0], self.interrupted = 1, True
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]
