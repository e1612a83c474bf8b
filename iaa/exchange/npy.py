"""One .npy matrix, with the ids of its rows in another file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np

from iaa.exchange.formats import Format
from store.errors import MissingFileError, SchemaError
from store.imports import Imported, gather, native
from store.text import read_lines

#: What numpy raises for a .npy file whose header is damaged, by how it is.
_BAD_NPY = (
    ValueError, OSError, EOFError, MemoryError, OverflowError, SyntaxError, TypeError, RecursionError,
    TokenError,
)  # fmt: skip
_TYPES = {np.dtype(np.float16), np.dtype(np.float32)}


def read(matrix: Path, ids: Path, id_column: str | None = None) -> Imported:
    """The rows of one .npy matrix; their ids from a text file (one per line), CSV, Parquet or .npy."""
    array = load_matrix(matrix)
    names = _load_ids(ids, id_column)
    if len(names) != len(array):
        raise SchemaError(f"{matrix} has {len(array):,} rows, {ids} has {len(names):,} ids; one each is due")
    reasons = [None] * len(names)
    return gather("npy", names, {"0": matrix}, ["0"], [array], reasons, named([matrix, ids]), id_column or "")


def write_matrix(file: Path, shape: tuple[int, int], blocks: Iterable[np.ndarray]) -> None:
    """Write blocks of float32 rows one after the other, as numpy.save writes the matrix. Raises OSError."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with file.open("wb") as opened:
        np.lib.format.write_array_header_1_0(opened, header)
        for block in blocks:
            opened.write(np.ascontiguousarray(block, "<f4").data)


def _load_npy(file: Path) -> np.ndarray:
    """The array of a .npy file, mapped; Python objects, which can run code when they are read, never are."""
    if not file.is_file():
        raise MissingFileError(f"{file} does not exist")
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except _BAD_NPY as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            raise SchemaError(
                f"{file} is no .npy matrix of numbers: it holds Python objects, which are never read, "
                "since they can "
                "run code. Save an array of one type: numpy.save(FILE, array.astype('float32'))"
            ) from error
        raise SchemaError(f"{file} is no .npy matrix: {error}") from error
    if not isinstance(array, np.ndarray):
        raise SchemaError(f"{file} is an archive of arrays (.npz); save the one that is meant as .npy")
    return array


def load_matrix(file: Path) -> np.ndarray:
    """A matrix of float16 or float32, mapped. Raises MissingFileError, SchemaError."""
    array = _load_npy(file)
    if array.ndim != 2 or native(array) not in _TYPES:
        raise SchemaError(
            f"{file} holds {array.dtype} of shape {array.shape}; expected float16 or float32, a row per image"
        )
    if array.shape[1] == 0:
        raise SchemaError(f"{file} holds rows of no numbers ({array.shape}); expected a vector per image")
    return array


def named(files: Sequence[Path]) -> dict[str, Path]:
    """The files by what an imported file calls them."""
    return {_name_of(file): file for file in files}


def _name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.name}" if file.parent.name in ("img_emb", "metadata") else file.name


def _load_ids(file: Path, column: str | None) -> list[str]:
    from iaa.exchange.ids import column_ids, pick_column
    from store.tables import PARQUET_ENDINGS, read_table

    if not file.is_file():
        raise MissingFileError(f"{file} does not exist; expected the ids of the rows, in their order")
    ending = file.suffix.lower()
    if ending == ".npy":
        array = _load_npy(file)
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise SchemaError(
                f"{file} holds {array.dtype} of shape {array.shape}; expected one id per row, text or "
                "whole numbers"
            )
        return [str(i) for i in array.tolist()]
    if ending not in (".csv", ".tsv", *PARQUET_ENDINGS):
        return [line.strip() for line in read_lines(file)]
    table = read_table(file)
    return column_ids(table, pick_column(file, table, column), file)


FORMAT = Format("a .npy file", (".npy",), read=read, needs_ids=True)
