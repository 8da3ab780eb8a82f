"""A file that survives the process: a line for every ask and tell, on the disk before it counts."""

import fcntl
import json
import os
import weakref
from pathlib import Path
from typing import Any

__all__ = ["Journal", "JournalError"]

FORMAT, VERSION = "bayesopt_perm.journal", 1


class JournalError(ValueError):
    """A journal is in use, damaged or of another problem; the text names the file.

    Example:
        >>> import tempfile
        >>> from bayesopt_perm import BayesOpt, JournalError, PermutationSpace
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     BayesOpt(PermutationSpace(4), journal=f"{folder}/search", seed=0).close()
        ...     try:
        ...         BayesOpt(PermutationSpace(4), journal=f"{folder}/search", seed=1)
        ...     except JournalError as error:
        ...         print(str(error).removeprefix(folder))
        /search: belongs to another search: 'seed' is 0, not 1
    """


class Journal:
    """JSON lines in ``path``: a header that says which search it belongs to, then entries; one process at a time.

    ``entries`` holds what the file had when it was opened. A last line without its end, which a kill in the middle of
    a write leaves behind, is cut off: what it said had not counted yet.

    Raises:
        JournalError: if another process has it open, it is of another search, or a line before the last is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], header: dict[str, Any]) -> None:
        self.path = Path(path)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock()
            wanted = {"format": FORMAT, "version": VERSION, **json.loads(json.dumps(header))}
            lines = self._whole_lines(wanted)
            if not lines:
                self.append(wanted)
                self._sync_folder()
        except BaseException:
            os.close(self._file)
            raise
        self.entries: list[dict[str, Any]] = lines[1:]
        # A forked worker holds the lock too, and may live on where this process is killed.
        forget = weakref.WeakMethod(self.close)
        os.register_at_fork(after_in_child=lambda: (close := forget()) and close())

    def append(self, entry: dict[str, Any]) -> None:
        """Write one entry and wait until it is on the disk; one that cannot be written leaves nothing behind."""
        data = _line(entry)
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except BaseException:
            os.ftruncate(self._file, end)
            os.lseek(self._file, end, os.SEEK_SET)
            raise

    def close(self) -> None:
        """Let another process have the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JournalError(f"{self.path}: another process is using this journal") from None

    def _whole_lines(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """The entries, the header first; only of a file that is a journal of this search is a torn end cut off."""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        if data and not end and not _line(wanted).startswith(data):
            raise JournalError(f"{self.path}: is not a journal")
        found = []
        for number, line in enumerate(data[:end].splitlines(), 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not isinstance(entry, dict):
                raise JournalError(f"{self.path}: line {number} is not a journal entry")
            found.append(entry)
        if found:
            self._compare(found[0], wanted)
        if end < len(data):
            os.ftruncate(self._file, end)
            os.fsync(self._file)
        os.lseek(self._file, 0, os.SEEK_END)
        return found

    def _compare(self, header: dict[str, Any], wanted: dict[str, Any]) -> None:
        for key, value in [*wanted.items(), *((key, None) for key in header if key not in wanted)]:
            if header.get(key) != value:
                raise JournalError(
                    f"{self.path}: belongs to another search: '{key}' is {_short(header.get(key))}, not {_short(value)}"
                )

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or the name itself may be lost
        finally:
            os.close(folder)


def _line(entry: dict[str, Any]) -> bytes:
    return (json.dumps(entry, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"
