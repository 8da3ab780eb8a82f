"""One thread for matrices that are small: several of them wait for each other more than they compute."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["LARGE", "one_thread"]

LARGE = 1500  # rows of a matrix from which more threads pay


@contextmanager
def one_thread(rows: int) -> Iterator[None]:
    """BLAS and OpenMP have one thread in the block, unless its matrices have many ``rows``."""
    if rows >= LARGE:
        yield
        return
    with threadpool_limits(limits=1):
        yield
