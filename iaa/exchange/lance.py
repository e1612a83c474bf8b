"""A Lance data set: the columns of Parquet in fragments that are read row by row and searched by vector."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iaa.exchange.formats import Format, write_new
from iaa.exchange.parquet import ROWS_PER_FRAGMENT, schema_of, tables
from store.features import Features

if TYPE_CHECKING:
    import pyarrow as pa


def write(
    features: Features,
    path: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
    rows_per_fragment: int = ROWS_PER_FRAGMENT,
) -> int:
    """Write a Lance data set (a folder) with the columns that Parquet has; returns the number of rows.

    Raises SchemaError for an unknown output, StoreError where it exists, SpaceError; ModuleNotFoundError
    that names the extra without Lance.
    """
    import lance
    import pyarrow as pa

    schema = schema_of(features, outputs, unit_norm, paths)

    def batches() -> "Iterator[pa.RecordBatch]":
        for table in tables(features, schema, unit_norm, paths, 0, features.n_images):
            yield from table.to_batches()

    def fill(partial: Path) -> None:
        reader = pa.RecordBatchReader.from_batches(schema, batches())
        lance.write_dataset(reader, str(partial), mode="create", max_rows_per_file=rows_per_fragment)

    write_new(path, fill, is_folder=True)
    return features.n_images


FORMAT = Format("a Lance data set", (".lance",), write, entries=("data", "_*"))
