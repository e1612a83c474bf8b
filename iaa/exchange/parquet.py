"""Parquet: a column per fact and a list per vector, as one file or as a folder of fragments."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iaa.exchange.formats import ABOUT, Format, about, columns, dim, write_new
from store.digests import BLOCK_ROWS
from store.features import Features

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 16 * BLOCK_ROWS
ROWS_PER_FRAGMENT = 512 * BLOCK_ROWS
"""1,048,576: a fragment of vectors of 512 numbers has about 2 GiB."""


def schema_of(
    features: Features, outputs: list[str], unit_norm: bool, paths: np.ndarray | None
) -> "pa.Schema":
    """Columns image_id, image_path (if given), status, failure, and each output as a list of `dim` float32.
    Raises SchemaError for an unknown output."""
    import pyarrow as pa

    fields = [pa.field(name, pa.string()) for name in columns(features, paths, slice(0, 0))]
    fields += [pa.field(name, pa.list_(pa.float32(), dim(features, name))) for name in outputs]
    return pa.schema(fields, metadata={ABOUT: json.dumps(about(features, unit_norm))})


def tables(
    features: Features, schema: "pa.Schema", unit_norm: bool, paths: np.ndarray | None, start: int, stop: int
) -> "Iterator[pa.Table]":
    """Rows [start, stop) as tables of a schema's columns, at most ROWS_AT_ONCE rows each; a failed row's list
    is null."""
    import pyarrow as pa

    for first in range(start, max(stop, start + 1), ROWS_AT_ONCE):
        rows = slice(first, min(first + ROWS_AT_ONCE, stop))
        cells = columns(features, paths, rows)
        found = [pa.array(cells[name], pa.string()) for name in cells]
        missing = pa.array(~features.ok[rows])
        for name in schema.names[len(cells) :]:
            vectors = features.read(name, rows, unit_norm)
            flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
            found.append(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=missing))
        yield pa.table(found, schema=schema)


def write(
    features: Features,
    path: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
) -> int:
    """Write one Parquet file and return its number of rows: the columns of `schema_of`, a row per image.

    Raises SchemaError for an unknown output, StoreError where the file exists, SpaceError.
    """
    schema = schema_of(features, outputs, unit_norm, paths)
    rows = tables(features, schema, unit_norm, paths, 0, features.n_images)
    write_new(path, lambda partial: _fill(partial, schema, rows))
    return features.n_images


def write_folder(
    features: Features,
    path: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
    rows_per_fragment: int = ROWS_PER_FRAGMENT,
) -> int:
    """Write `part-00000.parquet`, ... of so many rows each into a new folder, which query engines read as one
    table; returns the number of rows. Each fragment says what it was made from. Raises as `write` does."""
    schema = schema_of(features, outputs, unit_norm, paths)

    def fill(partial: Path) -> None:
        partial.mkdir(parents=True)
        n = features.n_images
        for number, start in enumerate(range(0, max(n, 1), rows_per_fragment)):
            rows = tables(features, schema, unit_norm, paths, start, min(start + rows_per_fragment, n))
            _fill(partial / f"part-{number:05d}.parquet", schema, rows)

    write_new(path, fill, is_folder=True)
    return features.n_images


def _fill(path: Path, schema: "pa.Schema", rows: "Iterator[pa.Table]") -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema) as writer:
        for table in rows:
            writer.write_table(table)


FORMAT = Format("one Parquet file", (".parquet", ".pq"), write)
FOLDER = Format("a folder of Parquet fragments", (), write_folder, entries=("part-*.parquet",))
