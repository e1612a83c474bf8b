"""The vectors of a gallery in memory: one float32 matrix of unit rows per output, filled as parts get done.

A query by vector is one product with that matrix: nothing is read, and nothing is scaled, per question. It
takes 4 bytes x dim per photograph (100,000 x 512: 205 MB).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from analysis.twins import first_equal_rows, tie
from store.rows import unit_rows
from store.shapes import Bool, Float32, Int

_ROWS_AT_ONCE = 2048


class Made(Protocol):
    """Rows that are made: a feature file, or a part of one that is not finished."""

    def read(self, output: str, rows: slice, /) -> np.ndarray:
        """Some rows of an output, raw; NaN for failed ones."""


@dataclass(frozen=True)
class Piece:
    """Rows of a file, and where they stand in the gallery's list."""

    open: Callable[[], AbstractContextManager[Made]]
    """Opens the file for as long as it is read: whoever made it may replace it at any time."""
    file_row: Int[np.ndarray, " n"]
    """Ascending."""
    row: Int[np.ndarray, " n"]

    def blocks(self, output: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows of the gallery, their raw vectors), block by block. Raises StoreError where the file is
        gone."""
        with self.open() as made:
            for start in range(0, len(self.row), _ROWS_AT_ONCE):
                file_row = self.file_row[start : start + _ROWS_AT_ONCE]
                first, last = int(file_row[0]), int(file_row[-1]) + 1
                found = made.read(output, slice(first, last))[file_row - first]
                yield self.row[start : start + _ROWS_AT_ONCE], found


class Matrix:
    """Unit vectors of one output for every row of the list; a row that has none is zeros and not in `has`."""

    def __init__(self, output: str, n_rows: int) -> None:
        self.output = output
        self._n_rows = n_rows
        self._rows: np.ndarray | None = None
        self._first: np.ndarray | None = None
        self.has: Bool[np.ndarray, " n_rows"] = np.zeros(n_rows, bool)
        self._lock = threading.Lock()

    def add(self, piece: Piece) -> None:
        """Take the rows of a piece; a row that is there is replaced."""
        for row, raw in piece.blocks(self.output):
            unit = unit_rows(raw)
            good = np.isfinite(unit).all(axis=1)  # neither failed nor zeros, which have no direction
            with self._lock:
                if self._rows is None:
                    self._rows = np.zeros((self._n_rows, raw.shape[1]), np.float32)
                self._rows[row[good]] = unit[good]
                self.has[row] = good
                self._first = None

    @property
    def rows(self) -> Float32[np.ndarray, "n_rows dim"]:
        """The unit rows."""
        return np.zeros((self._n_rows, 0), np.float32) if self._rows is None else self._rows

    def cosines(self, queries: Sequence[np.ndarray]) -> Float32[np.ndarray, "n_rows n_queries"]:
        """Cosine of every row with each query (any length but zero); NaN for rows without a vector.

        Equal rows have equal cosines. Raises ValueError for a query that has no direction.
        """
        units = unit_rows(np.stack([np.asarray(q, np.float32) for q in queries]))
        if not np.isfinite(units).all():
            raise ValueError("a vector of zeros is like nothing")
        if len(units) == 1:  # one vector: BLAS has a way of its own, which is faster
            found: np.ndarray = (self.rows @ units[0])[:, None]
        else:
            found = self.rows @ units.T
        found[~self.has] = np.nan
        return self.tied(found)

    def tied(self, scores: np.ndarray) -> np.ndarray:
        """Scores row by row, equal ones for rows whose vectors are equal."""
        return tie(scores, self._first_equal())

    def _first_equal(self) -> Int[np.ndarray, " n_rows"]:
        with self._lock:
            if self._first is None:
                self._first = first_equal_rows(self.rows.__getitem__, self._n_rows)
            return self._first
