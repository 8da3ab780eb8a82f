"""A folder of JSON files that many processes share, that never grows beyond a limit, and that is never in the way.

Whatever goes wrong here is a line in the log at level DEBUG, not an error: a file that cannot be read is as good as
none, and is removed; one that cannot be written is left out.
"""

import gzip
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from graphs.errors import GraphError
from graphs.io import read_json, write_atomic

LOG = logging.getLogger("topoformer.cache")
SUFFIX = ".json.gz"
ENTRY = re.compile(r"[0-9a-f]{64}\.json\.gz")
UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.json\.gz\..+")  # what write_atomic leaves where its process is killed
ROOM = 8  # one part in so many is freed beyond need, so that the folder is looked through once in many writes
PATIENCE, PAUSE = 2.0, 0.005  # seconds to wait for the lock, and between two tries

T = TypeVar("T")


def user_folder() -> Path:
    """``topoformer`` in the user's cache directory: ``$XDG_CACHE_HOME`` if that is absolute, else ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):  # a user without a home
        base = os.devnull  # below which there are no files
    return Path(base) / "topoformer"


class CacheFolder:
    """Files by name, 64 hexadecimal digits, in ``path``, which is made when it is needed; other files are left alone.

    Args:
        path: of the folder.
        limit_bytes: of all files together; beyond it those go that have not been used for longest.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path
        self.limit_bytes = limit_bytes

    def read(self, name: str, understand: Callable[[Any], T]) -> T | None:
        """What ``understand`` makes of the JSON object called ``name``; None if there is none.

        One of which it raises ``ValueError``, as one that is broken in any other way, is removed.
        """
        path = self.path / f"{name}{SUFFIX}"
        try:
            if not os.path.lexists(path):
                return None
            if path.is_symlink() or not path.is_file():
                raise GraphError("not a plain file")
            found = understand(read_json(path))
        except (OSError, ValueError) as error:
            LOG.debug("removed from the cache: %s: %s", path, error)
            self.remove(name)
            return None
        with _logged(f"cannot note that {path} was used"):
            os.utime(path)
        return found

    def write(self, name: str, make: Callable[[], dict[str, Any] | None]) -> None:
        """Put what ``make`` returns, if it does, under ``name``; meanwhile no other process writes."""
        with _logged(f"cannot write to {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                entry = make()
                if entry is None:
                    return
                data = gzip.compress(json.dumps(entry, separators=(",", ":")).encode(), 6, mtime=0)
                if len(data) > self.limit_bytes:
                    LOG.debug("not cached: %s bytes are more than the limit of %s", len(data), self.limit_bytes)
                    return
                self._make_room(len(data))
                write_atomic(self.path / f"{name}{SUFFIX}", data)

    def remove(self, name: str) -> None:
        """Remove what is called ``name``, be it a file, a link or an empty folder."""
        path = self.path / f"{name}{SUFFIX}"
        with _logged(f"cannot remove {path}"):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)

    def _make_room(self, wanted: int) -> None:
        """See to it that ``wanted`` further bytes keep within the limit.

        How much there is stands in a file of its own, which may say too much but not too little: it is changed before
        a file is written, and it counts a file that replaces another as new.
        """
        total = self._noted_total()
        if total is None or total + wanted > self.limit_bytes:
            total = self._cleaned(self.limit_bytes - wanted)
        (self.path / "total").write_text(str(total + wanted))

    def _noted_total(self) -> int | None:
        try:
            text = (self.path / "total").read_text()
        except (OSError, ValueError):
            return None
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None

    def _cleaned(self, allowed: int) -> int:
        """Look through the folder and remove what is beyond ``allowed`` bytes; returns what is left."""
        found = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                if UNFINISHED.fullmatch(entry.name):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif ENTRY.fullmatch(entry.name):
                    with suppress(FileNotFoundError):  # a reader has found it broken
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime_ns, status.st_size, entry.name))
        total = sum(size for _, size, _ in found)
        if total <= allowed:
            return total
        for _, size, name in sorted(found):
            if total <= allowed - self.limit_bytes // ROOM:
                break
            self.remove(name.removesuffix(SUFFIX))
            total -= size
        return max(total, 0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among all writers; where the system has no such locks, without."""
        try:
            import fcntl
        except ImportError:
            yield
            return
        with open(self.path / "lock", "ab") as file:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(PAUSE)
            yield  # closing the file gives the lock back, as the end of the process does


@contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        LOG.debug("%s: %s", what, error)
