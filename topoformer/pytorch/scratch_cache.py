"""What has been measured of operators' workspaces, kept in one JSON file for all processes of a user.

``scratch.json`` in ``topoformer`` in the user's cache directory, ``$XDG_CACHE_HOME`` or ``~/.cache``: 50,000 calls at
most, some 6 MB. It may be deleted at any time.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

from graphs.errors import GraphError
from graphs.io import read_json, write_atomic
from topoformer.cache_folder import user_folder

LOG = logging.getLogger("topoformer.cache")
FORMAT = {"format": "topoformer.scratch", "version": 1}
MOST_CALLS = 50_000
LARGEST = 1 << 62  # bytes


class Workspace(NamedTuple):
    """What is known of a call once it has been run."""

    bytes: int  # by how much its peak is above what is there when it returns
    strides: tuple[tuple[int, ...], ...]  # of the tensors in its result


class ScratchCache:
    """Workspaces by call, in memory and in a JSON file that several processes may share.

    Args:
        path: of the file; None keeps them in memory only. A file that cannot be read, or is something else, counts
            as empty; one that cannot be written is left alone, with a line in the log at level DEBUG.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else Path(path)
        self.known = {} if self.path is None else _read(self.path)

    @classmethod
    def of_user(cls) -> "ScratchCache":
        """The one in the user's cache directory."""
        return cls(user_folder() / "scratch.json")

    def add(self, found: dict[str, Workspace]) -> None:
        """Remember ``found``; what others have written to the file meanwhile stays in it."""
        self.known |= found
        if not found or self.path is None:
            return
        merged = list((_read(self.path) | self.known).items())[-MOST_CALLS:]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, json.dumps({**FORMAT, "calls": dict(merged)}, separators=(",", ":")).encode())
        except OSError as error:
            LOG.debug("measured workspaces are not kept: %s: %s", self.path, error.strerror or error)


def _read(path: Path) -> dict[str, Workspace]:
    try:
        data = read_json(path)
    except (GraphError, OSError):
        return {}
    calls = data.get("calls")
    if {key: data.get(key) for key in FORMAT} != FORMAT or not isinstance(calls, dict):
        return {}
    return {key: Workspace(value[0], tuple(map(tuple, value[1]))) for key, value in calls.items() if _is_sound(value)}


def _is_sound(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2 and _is_natural(value[0]) and isinstance(value[1], list)):
        return False
    return all(isinstance(strides, list) and all(map(_is_natural, strides)) for strides in value[1])


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST
