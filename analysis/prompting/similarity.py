"""Searching a library: how alike each image is to one vector, a text's or another image's."""

from collections.abc import Callable, Iterable

import numpy as np

from analysis.parallel import map_threads, n_workers
from analysis.prompting.scores import cosines, unit_directions
from store.shapes import Float, Float32, Float64, Int

_ROWS_AT_ONCE = 8192


def cosines_with(
    blocks: Iterable[tuple[int, Float32[np.ndarray, "n_rows dim"]]],
    first: Int[np.ndarray, " n_images"],
    query: Float[np.ndarray, " dim"],
    leave_out: int | None = None,
) -> Float32[np.ndarray, " n_images"]:
    """Cosine of every image with the query, -1 to 1; NaN for NaN rows and for the row to leave out.

    The images are given as (first row, rows) block by block; `first` is their `first_equal_rows`, and equal
    images are equally alike. A query of zeros has no direction and is an error.
    """
    found: np.ndarray = cosines(blocks, first, unit_directions(query[None]))[:, 0]
    if leave_out is not None:
        found[leave_out] = np.nan
    return found


class Searcher:
    """Rows asked again and again which of them are nearest to a vector: their lengths are known after the
    first pass, and a question reads each row once.

    `read` gives some rows of a matrix (n_rows, dim), by slice or by index; rows of NaN or zeros are near to
    nothing. Memory holds 8 bytes per row; the rows stay where they are.
    """

    def __init__(self, read: Callable[[slice | np.ndarray], np.ndarray], n_rows: int) -> None:
        self._read = read
        self._starts = list(range(0, n_rows, _ROWS_AT_ONCE))
        self._inverse = np.zeros(n_rows, np.float32)
        self._n_workers = n_workers(max(1, len(self._starts)))
        self._dim = read(slice(0, 0)).shape[1]
        self._each(self._measure)

    def nearest(
        self, query: Float[np.ndarray, " dim"], k: int
    ) -> tuple[Int[np.ndarray, " n_found"], Float64[np.ndarray, " n_found"]]:
        """The k rows with the highest cosines and these, highest first, equal ones in the order of the rows.

        Exact, and the same however the rows are stored: all rows are looked at in float32, and those that may
        be among the k by the bound of its rounding (dim 2^-23) are computed again in float64, each by itself.
        A query of zeros, or not finite, is an error.
        """
        wanted = np.asarray(query, np.float64)
        length = float(np.sqrt(np.einsum("i,i->", wanted, wanted)))
        if wanted.shape != (self._dim,) or not np.isfinite(length) or length == 0:
            raise ValueError(f"a query is a vector of {self._dim} numbers that has a direction")
        unit = (wanted / length).astype(np.float32)
        rough = np.empty(len(self._inverse), np.float32)

        def multiply(start: int) -> None:
            some = slice(start, start + _ROWS_AT_ONCE)
            np.einsum("ij,j->i", self._read(some), unit, out=rough[some])  # sgemv reads at 0.7 of its rate

        self._each(multiply)
        rough *= self._inverse
        has = self._inverse > 0
        rough[~has] = -np.inf
        k = min(k, int(has.sum()))
        if k < 1:
            return np.zeros(0, np.int64), np.zeros(0)
        kth = np.partition(rough, len(rough) - k)[len(rough) - k]
        rows = np.flatnonzero(rough >= kth - 2 * (self._dim + 4) * 2.0**-23)
        chunks = range(0, len(rows), _ROWS_AT_ONCE)
        exact = np.concatenate([_cosines(self._read(rows[a : a + _ROWS_AT_ONCE]), wanted) for a in chunks])
        order = np.lexsort((rows, -exact))[:k]
        return rows[order], exact[order]

    def _measure(self, start: int) -> None:
        rows = self._read(slice(start, start + _ROWS_AT_ONCE))
        with np.errstate(divide="ignore"):
            found = 1 / np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        self._inverse[start : start + len(rows)] = np.where(np.isfinite(found), found, 0)

    def _each(self, work: Callable[[int], None]) -> None:
        n = self._n_workers

        def share(i: int) -> None:
            for start in self._starts[i::n]:
                work(start)

        map_threads(share, list(range(n)), n)


def _cosines(rows: np.ndarray, query: Float64[np.ndarray, " dim"]) -> Float64[np.ndarray, " n_rows"]:
    """Cosines of rows with a vector, each the same whatever rows it is among."""
    rows = rows.astype(np.float64)
    lengths = np.einsum("ij,ij->i", rows, rows) * np.einsum("i,i->", query, query)
    return np.asarray(np.einsum("ij,j->i", rows, query) / np.sqrt(lengths))
