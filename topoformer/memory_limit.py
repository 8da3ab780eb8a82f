"""A limit on memory: the order that is handed out keeps within it, or an error says why not and what to change."""

from typing import TYPE_CHECKING

from graphs.errors import quoted
from graphs.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from topoformer.scheduling import Schedule

SHOWN = 4  # tensors alive at the peak


class MemoryLimitError(ValueError):
    """No order is known that keeps within the limit; the text says whether there can be one.

    ``schedule`` is the best that was found: its profile has what is alive at the peak.

    Example:
        >>> from graphs import Graph
        >>> from topoformer import MemoryLimitError, schedule
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> try:
        ...     schedule(graph, seconds=1, memory_limit=100)
        ... except MemoryLimitError as error:
        ...     best = error.schedule
        >>> best.cost.peak_bytes, best.proven_optimal, [tensor.name for tensor in best.profile.alive()]
        (120, True, ['b', 'c', 'd'])
    """

    def __init__(self, text: str, schedule: "Schedule") -> None:
        super().__init__(text)
        self.schedule = schedule

    def __reduce__(self) -> "tuple[type[MemoryLimitError], tuple[str, Schedule]]":
        return type(self), (str(self), self.schedule)  # to another process with what it carries


def limit_in_bytes(limit: int | str | None) -> int | None:
    """The argument ``memory_limit`` in bytes.

    Raises:
        ValueError: it is neither a number of bytes nor text such as '4GiB'.
    """
    if limit is None:
        return None
    if isinstance(limit, str):
        try:
            return parse_bytes(limit)
        except ValueError as error:
            raise ValueError(f"'memory_limit': {error}") from None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ValueError(f"'memory_limit' must be bytes, not negative, or text such as '4GiB' (got {limit!r})")
    return limit


def hold_to(schedule: "Schedule", limit: int) -> None:
    """Compare resident and peak bytes of ``schedule``, together, with ``limit`` bytes.

    Raises:
        MemoryLimitError: they are more.
    """
    resident, peak, bound = schedule.cost.resident_bytes, schedule.cost.held_bytes, schedule.bound_bytes
    if resident + peak <= limit:
        return
    name, allowed = quoted(schedule.graph.name), _exact(limit)
    if resident + bound > limit:
        text = (
            f"no order of {name} fits in {allowed}: any order needs at least {_exact(resident + bound)}, "
            f"{_exact(resident)} of them resident and {_exact(bound)} at its peak"
        )
        best = "" if schedule.proven_optimal else f"; the best order found needs {_exact(resident + peak)}"
    else:
        took = "until it was interrupted" if schedule.interrupted else f"in {schedule.search_seconds:.2f} s"
        text = (
            f"no order of {name} that fits in {allowed} was found {took}, which does not mean that there is none: the "
            f"best needs {_exact(resident + peak)}, {_exact(resident)} of them resident and {_exact(peak)} at its "
            f"peak, and none needs less than {_exact(resident + bound)}"
        )
        best = f"; {'' if schedule.method == 'auto' else 'method auto or '}more seconds may find one"
    raise MemoryLimitError(
        f"{text}{best}; alive at the peak of the best order found{_where(schedule)}: {_alive(schedule)}", schedule
    )


def _where(schedule: "Schedule") -> str:
    return " on one stream" if schedule.cost.concurrent_peak_bytes is not None else ""


def _exact(count: int) -> str:
    """With all digits: rounded, what is needed and what is allowed could look the same."""
    return format_bytes(count) if count < 1024 else f"{format_bytes(count)} ({count:,} bytes)"


def _alive(schedule: "Schedule") -> str:
    from topoformer.text import place, printable  # which imports what raises this

    tensors = schedule.profile.alive()
    shown = []
    for tensor in tensors[:SHOWN]:
        details = [part for part in (printable(tensor.op, 40), place(tensor.source)) if part]
        remark = f" ({', '.join(details)})" if details else ""
        shown.append(f"{printable(tensor.name, 40)} {format_bytes(tensor.bytes)}{remark}")
    if rest := tensors[SHOWN:]:
        shown.append(f"and {len(rest)} more, {format_bytes(sum(tensor.bytes for tensor in rest))}")
    if schedule.graph.n and (scratch := int(schedule.graph.scratch[schedule.order[schedule.profile.peak_step]])):
        shown.append(f"scratch of the step {format_bytes(scratch)}")
    return ", ".join(shown) or "nothing"
