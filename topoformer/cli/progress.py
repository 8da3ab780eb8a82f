"""Talk while work goes on, on stderr: a line that moves on a terminal, and with ``--verbose`` a line for each step."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from graphs.units import format_bytes

if TYPE_CHECKING:
    from graphs.cost import Objective
    from topoformer.outcome import Progress, Standing

LINE = "  {:>7}  {:16}  best {:>12}  bound {:>12}"


class Clock(Protocol):
    """What a moving line says: its text as of now."""

    def __call__(self) -> str: ...


@contextmanager
def busy(what: str, options: argparse.Namespace) -> Iterator[Callable[[str], None]]:
    """A moving line while something takes time, whose text the yielded function changes.

    Nothing where stderr is not a terminal.
    """
    texts = [what]

    def say(text: str) -> None:
        texts[0] = text

    with moving(lambda: texts[0], quiet=options.quiet):
        yield say


@contextmanager
def counting(what: str, options: argparse.Namespace) -> Iterator[Callable[[int, int], None]]:
    """The same for work in known parts: the yielded function is told how many are done, and of how many."""
    began = time.monotonic()
    counts = [0, 0]

    def told(done: int, total: int) -> None:
        counts[:] = done, total

    def text() -> str:
        done, total = counts
        if not done:
            return what
        left = (time.monotonic() - began) * (total - done) / done
        return f"{what}: {done} of {total}, about {left:.0f} s left"

    with moving(text, quiet=options.quiet):
        yield told


@contextmanager
def searching(method: str, goal: "Objective", options: argparse.Namespace) -> "Iterator[Progress]":
    """A moving line with the phase of a search, the best so far, the bound and the time left.

    With ``--verbose`` there is a line of its own for each phase and each change, on a terminal or not.
    """
    from topoformer.text import value_text

    began, verbose = time.monotonic(), getattr(options, "verbose", False)
    heard: list[tuple[float, Standing]] = []
    said: list[tuple[object, ...]] = []  # the last line of its own
    bounded = goal.is_memory

    def numbers(at: "Standing") -> tuple[str, str]:
        return value_text(goal, at.value), format_bytes(at.bound_bytes) if bounded and at.bound_bytes else "-"

    def told(at: "Standing") -> None:
        now = time.monotonic()
        heard[:] = [(now, at)]
        if verbose and at.phase != "compiling" and said != [at[:4]]:
            said[:] = [at[:4]]
            print(LINE.format(f"{now - began:.2f} s", at.phase, *numbers(at)), file=sys.stderr)

    def text() -> str:
        if not heard:
            return f"{method}: starting"
        when, at = heard[-1]
        best, bound = numbers(at)
        left = max(0.0, at.seconds_left - (time.monotonic() - when))
        proven = f", bound {bound}" if bounded else ""
        clock = "the clock stands still" if at.phase == "compiling" else f"{left:.0f} s left"
        return f"{method}: {at.phase}, best {best}{proven}, {clock}"

    if verbose and not options.quiet:
        print(f"{method}:", file=sys.stderr)
        yield told
        return
    with moving(text, quiet=options.quiet):
        yield told


@contextmanager
def moving(text: Clock, *, quiet: bool = False) -> Iterator[None]:
    """A line on the terminal that says what ``text`` returns, several times a second.

    Nothing may be printed to stdout meanwhile; what goes to stderr stands above the line.
    """
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    class Line:
        """What the spinner stands before, made anew each time that it is drawn."""

        def __rich__(self) -> Text:
            return Text(text(), overflow="ellipsis", no_wrap=True)

    spinner, console = Spinner("dots", text=Line()), Console(stderr=True)
    with Live(spinner, console=console, transient=True, redirect_stdout=False):
        yield
