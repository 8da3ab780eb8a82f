"""Rows of integers of different lengths in two flat arrays (compressed sparse rows)."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphs import _validate

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
UInt32Array = npt.NDArray[np.uint32]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]


class CSR(NamedTuple):
    """Row i is ``idx[ptr[i]:ptr[i + 1]]``; ``ptr`` is int32[rows + 1], ``idx`` int32[entries].

    Example:
        >>> from graphs import Graph
        >>> graph = Graph.build("g", "abc", reads=[[], [0], [0, 1]], writer=[0, 1, 2], size=[4, 2, 1])
        >>> graph.reads.ptr.tolist(), graph.reads.idx.tolist()
        ([0, 0, 1, 3], [0, 0, 1])
        >>> graph.reads.row(2).tolist(), graph.reads.lengths.tolist(), graph.reads.row_of.tolist()
        ([0, 1], [0, 1, 2], [1, 2, 2])
    """

    ptr: Int32Array
    idx: Int32Array

    def row(self, i: int) -> Int32Array:
        """Entries of row ``i``, int32[length]: a view, not a copy."""
        return self.idx[self.ptr[i] : self.ptr[i + 1]]

    @property
    def lengths(self) -> Int32Array:
        """Number of entries of each row, int32[rows]."""
        return np.diff(self.ptr)

    @property
    def row_of(self) -> Int32Array:
        """Row of each entry, int32[entries]."""
        return np.repeat(np.arange(len(self.ptr) - 1, dtype=np.int32), self.lengths)


def csr_from_rows(rows: Sequence[Iterable[int]]) -> CSR:
    """Flatten ``rows`` as they are, without sorting.

    Raises:
        GraphError: an entry is not an integer that fits int32.
    """
    lists = [list(row) for row in rows]
    ptr = np.zeros(len(lists) + 1, np.int32)
    np.cumsum([len(row) for row in lists], out=ptr[1:])
    idx = _validate.integers("reads", list(chain.from_iterable(lists)), np.int32)
    return CSR(ptr, idx)


def csr_from_pairs(row: npt.NDArray[np.integer], entry: npt.NDArray[np.integer], rows: int) -> CSR:
    """Gather (row, entry) pairs, both int[pairs], into sorted rows without repeats; O(p log p)."""
    key = (row.astype(np.int64) << 32) | entry.astype(np.int64)
    key.sort()
    if len(key):
        key = key[np.concatenate(([True], key[1:] != key[:-1]))]
    return frozen(CSR(row_pointers(key >> 32, rows), (key & 0xFFFFFFFF).astype(np.int32)))


def row_pointers(row: npt.NDArray[np.integer], rows: int) -> Int32Array:
    """Row starts, int32[rows + 1], of entries whose rows are the sorted int[entries] ``row``."""
    ptr = np.zeros(rows + 1, np.int32)
    np.cumsum(np.bincount(row, minlength=rows), out=ptr[1:])
    return ptr


def transposed(csr: CSR, columns: int) -> CSR:
    """The rows of the transpose: row c lists, ascending, the rows of ``csr`` that hold c; O(entries log)."""
    return csr_from_pairs(csr.idx, csr.row_of, columns)


def frozen(csr: CSR) -> CSR:
    """The same rows over arrays that cannot be written to."""
    csr.ptr.flags.writeable = False
    csr.idx.flags.writeable = False
    return csr
