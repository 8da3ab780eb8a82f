"""Which calls of a program must keep their order, for reasons other than reading what another allocates.

Each rule is a generator of pairs (u, v), "step u before step v"; ``RULES`` is all of them. Memory is told apart by
storage: two views of one storage count as overlapping. Drop any one rule and some legal-looking order computes
something else.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from graphs.fx_trace import Step, Trace

Pairs = Iterator[tuple[int, int]]


def data_flow(trace: Trace) -> Pairs:
    """A value is made before it is used: views, numbers and results of in-place calls allocate nothing."""
    for v, step in enumerate(trace.steps):
        yield from ((u, v) for u in sorted(step.uses))


def read_after_write(trace: Trace) -> Pairs:
    """Who touches changed memory, be it to change it again, runs after the last change before it."""
    changed: dict[int, int] = {}
    for v, step in enumerate(trace.steps):
        yield from ((changed[tensor], v) for tensor in sorted(step.reads) if tensor in changed)
        changed.update((tensor, v) for tensor in step.changes)


def write_after_read(trace: Trace) -> Pairs:
    """Memory is changed after everyone has read what was there."""
    readers: dict[int, list[int]] = {}
    for v, step in enumerate(trace.steps):
        for tensor in sorted(step.changes):
            yield from ((u, v) for u in readers.pop(tensor, []))
        for tensor in step.reads - step.changes:
            readers.setdefault(tensor, []).append(v)


def random_stream(trace: Trace) -> Pairs:
    """Random numbers are drawn in program order, so that each call gets the ones it would have got."""
    yield from _chain(trace, lambda step: step.random)


def side_effects(trace: Trace) -> Pairs:
    """Asserts, prints and the like happen in program order."""
    yield from _chain(trace, lambda step: step.effect)


def _chain(trace: Trace, member: Callable[[Step], bool]) -> Pairs:
    members = [i for i, step in enumerate(trace.steps) if member(step)]
    yield from pairwise(members)


RULES: tuple[Callable[[Trace], Iterable[tuple[int, int]]], ...] = (
    data_flow,
    read_after_write,
    write_after_read,
    random_stream,
    side_effects,
)
