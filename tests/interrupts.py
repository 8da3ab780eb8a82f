"""Ctrl-C at a moment that a test chooses."""

import signal
from contextlib import contextmanager


@contextmanager
def interrupted_after(seconds):
    """KeyboardInterrupt in the main thread after ``seconds``, unless the block has ended by then."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
