"""How long calls take, as measured, kept in one JSON file for all processes of a user.

``timing.json`` beside ``scratch.json``, see :mod:`topoformer.pytorch.scratch_cache`. It may be deleted at any time, and
should be when the machine is another one under the same name.
"""

from typing import Any, ClassVar, NamedTuple

from topoformer.pytorch.scratch_cache import CallCache, number_and_strides

LONGEST = 1e6  # seconds


class Timing(NamedTuple):
    """What is known of a call once it has been timed."""

    seconds: float
    strides: tuple[tuple[int, ...], ...]  # of the tensors in its result


class TimingCache(CallCache[Timing]):
    """Seconds by call."""

    FORMAT: ClassVar[dict[str, Any]] = {"format": "topoformer.timing", "version": 1}
    FILE = "timing.json"
    WHAT = "measured seconds"

    @staticmethod
    def _entry(value: Any) -> Timing | None:
        pair = number_and_strides(value)
        if pair is None or type(pair[0]) not in (int, float):
            return None
        return Timing(float(pair[0]), pair[1]) if 0 <= pair[0] < LONGEST else None
