"""One CSV file: a column per fact and per number of a vector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from iaa.exchange.formats import Format, columns, dim, write_new
from store.csv_files import write_rows
from store.digests import BLOCK_ROWS
from store.features import Features


def write(
    features: Features,
    path: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
) -> int:
    """Write one CSV file and return its number of rows.

    Columns as of Parquet, with one per number of a vector: `embedding_0`, `embedding_1`, ...; those of
    failed rows are empty. A number has the digits that give the same float32 back. Text is safe to open
    in a spreadsheet.

    Raises SchemaError for an unknown output, StoreError where the file exists, SpaceError.
    """
    widths = {name: dim(features, name) for name in outputs}
    header = [
        *columns(features, paths, slice(0, 0)),
        *[f"{name}_{i}" for name, dim in widths.items() for i in range(dim)],
    ]

    def fill(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            write_rows(file, header, _rows(features, outputs, unit_norm, paths))

    write_new(path, fill)
    return features.n_images


def _rows(
    features: Features, outputs: list[str], unit_norm: bool, paths: np.ndarray | None
) -> Iterator[list[Any]]:
    for start in range(0, features.n_images, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, features.n_images))
        cells = columns(features, paths, rows).values()
        vectors = [features.read(name, rows, unit_norm) for name in outputs]
        for i, is_ok in enumerate(features.ok[rows].tolist()):
            numbers = [str(x) if is_ok else "" for matrix in vectors for x in matrix[i]]
            yield [column[i] for column in cells] + numbers


FORMAT = Format("one CSV file", (".csv",), write)
