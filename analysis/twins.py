"""Equal vectors, equal scores: a row's score must not depend on where the row stands.

A matrix product sums a row in an order that depends on the row's place, on the processor and on the number of
threads, so equal rows may get scores that differ in their last bits, and stand apart in a ranking. Whatever
is scored by products is therefore given, for each row, what the first equal row got.
"""

import hashlib
from collections.abc import Callable

import numpy as np

from store.rows import first_of_equal
from store.shapes import Float, Int

_ROWS_AT_ONCE = 2048


def first_equal_rows(
    read: Callable[[slice | np.ndarray], np.ndarray], n_rows: int
) -> Int[np.ndarray, " n_rows"]:
    """For each row the first row that is equal to it in every bit: itself where none before it is.

    `read` gives some rows of a matrix (n_rows, dim), by slice or by index. They are read once, and those that
    may have an equal, again.
    """
    if not n_rows:
        return np.zeros(0, np.int64)
    key = np.concatenate([_key(read(slice(a, a + _ROWS_AT_ONCE))) for a in range(0, n_rows, _ROWS_AT_ONCE)])
    _, member, n_equal = np.unique(key, return_inverse=True, return_counts=True)
    first = np.arange(n_rows)
    suspects = np.flatnonzero(n_equal[member] > 1)
    chunks = (suspects[a : a + _ROWS_AT_ONCE] for a in range(0, len(suspects), _ROWS_AT_ONCE))
    digests = (hashlib.sha256(row).digest() for rows in chunks for row in np.ascontiguousarray(read(rows)))
    first[suspects] = suspects[first_of_equal(digests)]
    return first


def _key(rows: np.ndarray) -> np.ndarray:
    """uint64 per row, equal for equal rows and seldom for others: whole numbers have one sum in any order."""
    rows = np.ascontiguousarray(rows)
    words: np.ndarray = rows.view(np.uint32 if rows.shape[1] * rows.itemsize % 8 else np.uint64)
    weights = np.random.default_rng(0).integers(2**64, size=words.shape[1], dtype=np.uint64) | np.uint64(1)
    return np.asarray(words @ weights)


def tie(values: np.ndarray, first: Int[np.ndarray, " n_rows"]) -> np.ndarray:
    """The values row by row, row r's being those of row `first[r]`; the same array where no two rows tie."""
    return values if (first == np.arange(len(first))).all() else values[first]


def product(
    rows: Float[np.ndarray, "n_rows dim"], weights: Float[np.ndarray, "dim ..."]
) -> Float[np.ndarray, "n_rows ..."]:
    """`rows @ weights`, of which equal rows have equal ones."""
    return tie(np.asarray(rows @ weights), first_equal_rows(rows.__getitem__, len(rows)))
