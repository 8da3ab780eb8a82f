"""What has been measured of operators' workspaces, kept in one JSON file for all processes of a user.

``scratch.json`` in ``topoformer`` in the user's cache directory, ``$XDG_CACHE_HOME`` or ``~/.cache``: 50,000 calls at
most, some 6 MB. It may be deleted at any time.
"""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from graphs.errors import GraphError
from graphs.io import read_json, write_atomic
from topoformer.cache_folder import user_folder

if TYPE_CHECKING:
    from typing_extensions import Self

LOG = logging.getLogger("topoformer.cache")
FORMAT = {"format": "topoformer.scratch", "version": 1}
MOST_CALLS = 50_000
LARGEST = 1 << 62  # bytes


class Workspace(NamedTuple):
    """What is known of a call once it has been run."""

    bytes: int  # by how much its peak is above what is there when it returns
    strides: tuple[tuple[int, ...], ...]  # of the tensors in its result


Entry = TypeVar("Entry")


class CallCache(Generic[Entry]):
    """What is known of calls, by call, in memory and in a JSON file that several processes may share.

    Args:
        path: of the file; None keeps them in memory only. A file that cannot be read, or is something else, counts
            as empty; one that cannot be written is left alone, with a line in the log at level DEBUG.
    """

    FORMAT: ClassVar[dict[str, Any]]
    FILE: ClassVar[str]  # in the user's cache directory
    WHAT: ClassVar[str]  # is kept in it, for the log

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else Path(path)
        self.known: dict[str, Entry] = {} if self.path is None else self._read(self.path)

    @classmethod
    def of_user(cls) -> "Self":
        """The one in the user's cache directory."""
        return cls(user_folder() / cls.FILE)

    def add(self, found: dict[str, Entry]) -> None:
        """Remember ``found``; what others have written to the file meanwhile stays in it."""
        self.known |= found
        if not found or self.path is None:
            return
        merged = list((self._read(self.path) | self.known).items())[-MOST_CALLS:]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, json.dumps({**self.FORMAT, "calls": dict(merged)}, separators=(",", ":")).encode())
        except OSError as error:
            LOG.debug("%s are not kept: %s: %s", self.WHAT, self.path, error.strerror or error)

    def _read(self, path: Path) -> dict[str, Entry]:
        try:
            data = read_json(path)
        except (GraphError, OSError):
            return {}
        calls = data.get("calls")
        if {key: data.get(key) for key in self.FORMAT} != self.FORMAT or not isinstance(calls, dict):
            return {}
        entries = {key: self._entry(value) for key, value in calls.items()}
        return {key: entry for key, entry in entries.items() if entry is not None}

    @staticmethod
    def _entry(value: Any) -> Entry | None:
        """What the JSON of an entry says, None if it is not sound."""
        raise NotImplementedError


class ScratchCache(CallCache[Workspace]):
    """Workspaces by call."""

    FORMAT = FORMAT
    FILE = "scratch.json"
    WHAT = "measured workspaces"

    @staticmethod
    def _entry(value: Any) -> Workspace | None:
        pair = number_and_strides(value)
        return Workspace(*pair) if pair and _is_natural(pair[0]) else None


def number_and_strides(value: Any) -> tuple[Any, tuple[tuple[int, ...], ...]] | None:
    """A pair of anything and strides, None if ``value`` is not one."""
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], list)):
        return None
    if not all(isinstance(strides, list) and all(map(_is_natural, strides)) for strides in value[1]):
        return None
    return value[0], tuple(map(tuple, value[1]))


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST
