"""Threads over independent pieces of linear algebra, one BLAS thread each.

BLAS libraries wait for their own threads by spinning: on a busy machine, two BLAS threads on a
768 x 768 problem were seen to take thirty times as long as one. Cutting the work into pieces ourselves scales
as well on an idle machine and does no harm on a busy one. NumPy's products and decompositions let other
threads run, SciPy's wrappers do not; so pieces that run here use NumPy's.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

from store.system import n_cores

T = TypeVar("T")
R = TypeVar("R")


def n_workers(n_pieces: int, bytes_each: int = 0, budget: int = 300_000_000) -> int:
    """Threads worth starting, 1 to 4: no more than cores, pieces, and what the memory budget allows."""
    affordable = budget // bytes_each if bytes_each else n_pieces
    return max(1, min(4, n_cores(), n_pieces, affordable))


def map_threads(function: Callable[[T], R], pieces: Sequence[T], threads: int) -> list[R]:
    """function(piece) of every piece, in order."""
    with one_blas_thread():
        if threads == 1:
            return [function(piece) for piece in pieces]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(function, pieces))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, each BLAS call keeps to one thread: for small problems and for pieces that run side by side."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
