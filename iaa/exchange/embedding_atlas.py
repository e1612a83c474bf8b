"""One Parquet file for Embedding Atlas: the columns of Parquet and a place in the plane for each row."""

from pathlib import Path

import numpy as np

from analysis.plane import plane
from iaa.exchange.formats import Format, write_new
from iaa.exchange.parquet import schema_of, tables
from store.features import Features

PLACES = ("projection_x", "projection_y")


def write(
    features: Features,
    path: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
) -> int:
    """Write one Parquet file and return its number of rows.

    Beside the columns that Parquet has: `projection_x` and `projection_y`, 0 to 1, the same plane as the
    page's map (PCA of vectors of length 1), null in failed rows. Opened with
    `embedding-atlas FILE --x projection_x --y projection_y`; with `--vector OUTPUT` it finds its own plane.

    Raises ValueError for several outputs, SchemaError for an unknown one, StoreError where the file exists,
    SpaceError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    (output,) = outputs
    schema = schema_of(features, outputs, unit_norm, paths)
    whole = schema
    for name in PLACES:
        whole = whole.append(pa.field(name, pa.float64()))
    places = np.full((features.n_images, 2), np.nan)
    places[features.ok] = plane(features.read(output, None, True), features.ok)

    def fill(partial: Path) -> None:
        start = 0
        with pq.ParquetWriter(partial, whole) as writer:
            for table in tables(features, schema, unit_norm, paths, 0, features.n_images):
                rows = slice(start, start + len(table))
                found = [pa.array(places[rows, axis], mask=~features.ok[rows]) for axis in (0, 1)]
                writer.write_table(pa.table([*table.columns, *found], schema=whole))
                start = rows.stop

    write_new(path, fill)
    return features.n_images


FORMAT = Format("one Parquet file for Embedding Atlas", (".parquet", ".pq"), write, holds_one_output=True)
