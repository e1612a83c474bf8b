"""Reading rows by slice, index or mask, and joining two files on their ids."""

from collections.abc import Hashable, Iterable

import numpy as np

from store.arrays import Arrays
from store.errors import StoreError
from store.shapes import Bool, Float, Float32, Int

Selection = slice | np.ndarray | None


def read_rows(
    file: Arrays, name: str, rows: Selection = None, unit_norm: bool = False
) -> Float32[np.ndarray, "n_rows dim"]:
    """Rows of a matrix as float32, read-only, their blocks checked; with `unit_norm`, scaled to length 1.

    A slice of step 1 without `unit_norm` is a view of the file and costs no memory, unless it is kept as
    float16. A zero row cannot be scaled and becomes NaN.
    """
    if rows is None:
        rows = slice(None)
    n_rows = file.arrays[name][0][0] if name in file.arrays else 0
    if isinstance(rows, slice):
        start, stop, step = rows.indices(n_rows)
        picked = file.view(name)[rows] if step != 1 else file.view(name, start, max(start, stop))
    else:
        picked = file.take(name, rows)
    if unit_norm:
        picked = unit_rows(picked)
    elif picked.dtype == np.float16:
        picked = picked.astype(np.float32)  # sums of float16 would be wrong in the third digit
    picked.flags.writeable = False
    return picked


def unit_rows(matrix: Float[np.ndarray, "n_rows dim"]) -> Float32[np.ndarray, "n_rows dim"]:
    """The rows scaled to Euclidean length 1 (float64 inside, float32 out); a row of zeros becomes NaN."""
    norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        unit: np.ndarray = (matrix / norms[:, None]).astype(np.float32)
    return unit


def align(ids: np.ndarray, wanted: np.ndarray) -> Int[np.ndarray, " n_wanted"]:
    """Row of `ids` for each of `wanted`, so that `ids[align(ids, wanted)] == wanted`.

    Raises StoreError naming ids that are missing or stand twice: a join is complete or it is an error.
    """
    ids, wanted = np.asarray(ids, dtype=str), np.asarray(wanted, dtype=str)
    if len(ids) == len(wanted) and np.array_equal(ids, wanted):
        ordered = np.sort(ids, kind="stable")  # at once where they are in order, as in most files
        if (ordered[1:] != ordered[:-1]).all():
            return np.arange(len(ids))
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(twice):
        raise StoreError(f"{len(twice)} image ids stand twice, the first {str(twice[0])!r}: cannot join")
    position = np.searchsorted(ordered, wanted)
    missing = position >= len(ordered)
    missing[~missing] = ordered[position[~missing]] != wanted[~missing]
    if missing.any():
        raise StoreError(
            f"{int(missing.sum())} of {len(wanted)} image ids have no row, "
            f"the first {str(wanted[missing][0])!r}. "
            "Embedded before images were added? Run: iaa embed --update"
        )
    return np.asarray(order[position])


def first_of_equal(keys: Iterable[Hashable]) -> Int[np.ndarray, " n_keys"]:
    """Position of the first key that is equal, for each key: its own where none before it is.

    None is equal to nothing.
    """
    first: dict[Hashable, int] = {}
    places = (row if key is None else first.setdefault(key, row) for row, key in enumerate(keys))
    return np.fromiter(places, np.int64)


def first_of_equal_rows(
    cells: Int[np.ndarray, "n_rows n_bytes"], is_usable: Bool[np.ndarray, " n_rows"]
) -> Int[np.ndarray, " n_rows"]:
    """The same for rows of bytes, such as digests, of which few are equal: numbers of them are sorted, and
    only those that may have an equal become keys. A row that is not usable is equal to none."""
    n_first = min(8, cells.shape[1])
    head = np.zeros((len(cells), 8), np.uint8)
    head[:, :n_first] = cells[:, :n_first]
    numbers = head.view(np.uint64).ravel()
    first, usable = np.arange(len(cells)), np.flatnonzero(is_usable)
    order = usable[np.argsort(numbers[usable], kind="stable")]
    same = numbers[order[1:]] == numbers[order[:-1]]
    may = np.zeros(len(cells), bool)
    may[order[1:][same]] = may[order[:-1][same]] = True
    suspects = np.flatnonzero(may)
    if len(suspects):
        first[suspects] = suspects[first_of_equal(row.tobytes() for row in cells[suspects])]
    return first
