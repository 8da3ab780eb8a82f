import random

import numpy as np
import pytest

from graphs import CSR, GraphError
from graphs.csr import csr_from_pairs, csr_from_rows, row_pointers, transposed


def rows_of(csr):
    return [csr.row(i).tolist() for i in range(len(csr.ptr) - 1)]


def random_rows(seed):
    rng = random.Random(seed)
    return [[rng.randrange(6) for _ in range(rng.randrange(5))] for _ in range(rng.randrange(6))]


def test_rows_come_back_as_they_were_given():
    csr = csr_from_rows([[3, 1, 3], [], [0]])
    assert rows_of(csr) == [[3, 1, 3], [], [0]]
    assert csr.lengths.tolist() == [3, 0, 1]
    assert csr.row_of.tolist() == [0, 0, 0, 2]
    assert (csr.ptr.dtype, csr.idx.dtype) == (np.int32, np.int32)


def test_rows_may_be_any_iterables():
    assert rows_of(csr_from_rows([(x for x in (2, 1)), {5}, np.array([7])])) == [[2, 1], [5], [7]]


def test_no_rows():
    for csr in (csr_from_rows([]), csr_from_pairs(np.array([], int), np.array([], int), 0)):
        assert csr.ptr.tolist() == [0]
        assert (csr.idx.tolist(), csr.lengths.tolist(), csr.row_of.tolist()) == ([], [], [])


@pytest.mark.parametrize("entry", [1.5, "1", None, 2**31, -(2**40), 2**70])
def test_rows_of_anything_but_int32_are_refused(entry):
    with pytest.raises(GraphError, match="'reads'"):
        csr_from_rows([[0], [1, entry]])


@pytest.mark.parametrize("seed", range(20))
def test_pairs_become_sorted_rows_without_repeats(seed):
    rows = random_rows(seed)
    pairs = [(i, entry) for i, row in enumerate(rows) for entry in row]
    random.Random(seed).shuffle(pairs)
    row, entry = np.array(pairs, np.int64).reshape(-1, 2).T
    csr = csr_from_pairs(row, entry, len(rows))
    assert rows_of(csr) == [sorted(set(row)) for row in rows]
    assert (csr.ptr.dtype, csr.idx.dtype) == (np.int32, np.int32)
    assert not csr.ptr.flags.writeable
    assert not csr.idx.flags.writeable


def test_pairs_keep_the_largest_int32():
    csr = csr_from_pairs(np.array([1, 0]), np.array([2**31 - 1, 0]), 2)
    assert rows_of(csr) == [[0], [2**31 - 1]]


@pytest.mark.parametrize("seed", range(20))
def test_the_transpose_lists_the_rows_that_hold_an_entry(seed):
    rows = random_rows(seed)
    csr = csr_from_rows(rows)
    assert rows_of(transposed(csr, 6)) == [[i for i, row in enumerate(rows) if c in row] for c in range(6)]


def test_row_pointers_count_rows_that_have_no_entry():
    assert row_pointers(np.array([1, 1, 3]), 5).tolist() == [0, 0, 2, 2, 3, 3]


def test_a_row_is_a_view():
    csr = CSR(np.array([0, 2], np.int32), np.array([4, 5], np.int32))
    assert np.shares_memory(csr.row(0), csr.idx)
