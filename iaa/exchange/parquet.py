"""One Parquet file: a column per fact and a list per vector."""

import json
from pathlib import Path

import numpy as np

from iaa.exchange.formats import ABOUT, Format, about, columns, dim, write_new
from store.digests import BLOCK_ROWS
from store.features import Features


def write(
    features: Features,
    path: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
) -> int:
    """Write one Parquet file and return its number of rows.

    Columns: image_id, image_path (if given), status, failure, and each output as a list of `dim` float32;
    the list of a failed row is null.

    Raises SchemaError for an unknown output, StoreError where the file exists, SpaceError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            *[pa.field(name, pa.string()) for name in columns(features, paths, slice(0, 0))],
            *[pa.field(name, pa.list_(pa.float32(), dim(features, name))) for name in outputs],
        ],
        metadata={ABOUT: json.dumps(about(features, unit_norm))},
    )

    def fill(partial: Path) -> None:
        with pq.ParquetWriter(partial, schema) as writer:
            for start in range(0, max(features.n_images, 1), 16 * BLOCK_ROWS):
                rows = slice(start, min(start + 16 * BLOCK_ROWS, features.n_images))
                found = columns(features, paths, rows)
                table = pa.table({name: pa.array(cells, pa.string()) for name, cells in found.items()})
                for name in outputs:
                    vectors = features.read(name, rows, unit_norm)
                    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
                    missing = pa.array(~features.ok[rows])
                    lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=missing)
                    table = table.append_column(schema.field(name), lists)
                writer.write_table(table.cast(schema))

    write_new(path, fill)
    return features.n_images


FORMAT = Format("one Parquet file", (".parquet", ".pq"), write)
