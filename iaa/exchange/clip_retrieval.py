"""The folder of clip-retrieval: matrices in .npy files, and beside each a Parquet table of its rows."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iaa.exchange.formats import ABOUT, Format, about, blocks, columns, dim, write_new
from iaa.exchange.npy import load_matrix, named, write_matrix
from store.errors import MissingFileError, SchemaError
from store.features import Features
from store.imports import Imported, gather

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_FILE = 1_000_000


def write(
    features: Features,
    folder: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
    only_ok: bool = False,
    rows_per_file: int = ROWS_PER_FILE,
) -> int:
    """Write `img_emb/img_emb_0.npy`, ... and `metadata/metadata_0.parquet`, ...; returns the number of rows.

    Row i of a matrix is row i of its table: image_path, image_id, status, failure. Failed rows are NaN; with
    `only_ok` they are left out, as clip-retrieval itself does and as its index needs. Memory holds a block
    of vectors, and the text of one table.

    Raises ValueError for several outputs, SchemaError for an unknown one, StoreError where the folder exists,
    SpaceError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = np.flatnonzero(features.ok) if only_ok else np.arange(features.n_images)
    n_files = max(1, -(-len(kept) // rows_per_file))
    n_digits = len(str(n_files))
    (output,) = outputs
    said = {ABOUT: json.dumps({**about(features, unit_norm), "output": output})}
    paths = features.image_id if paths is None else paths

    def fill(partial: Path) -> None:
        (partial / "img_emb").mkdir(parents=True)
        (partial / "metadata").mkdir()
        for number in range(n_files):
            rows = kept[number * rows_per_file : (number + 1) * rows_per_file]
            name = str(number).zfill(n_digits)
            vectors = blocks(features, output, rows, unit_norm)
            matrix = partial / "img_emb" / f"img_emb_{name}.npy"
            write_matrix(matrix, (len(rows), dim(features, output)), vectors)
            found = columns(features, paths, rows)
            names = ("image_path", "image_id", "status", "failure")
            table = pa.table({column: pa.array(found[column], pa.string()) for column in names})
            file = partial / "metadata" / f"metadata_{name}.parquet"
            pq.write_table(table.replace_schema_metadata(said), file)

    write_new(folder, fill, is_folder=True)
    return len(kept)


def read(folder: Path, id_column: str | None = None) -> Imported:
    """The image vectors of a folder that clip-retrieval wrote: `img_emb/img_emb_*.npy` and, row by row,
    `metadata/metadata_*.parquet`. The id is `image_id` if there is such a column, else `image_path`.

    Raises MissingFileError, or SchemaError where files, rows or columns do not correspond.
    """
    from iaa.exchange.ids import column_ids, pick_column
    from store.tables import column_text

    matrices = _numbered(folder / "img_emb", "img_emb", "npy")
    tables = _numbered(folder / "metadata", "metadata", "parquet")
    if set(matrices) != set(tables):
        alone = sorted(set(matrices) ^ set(tables))
        raise SchemaError(
            f"{folder}: {len(matrices)} files in img_emb and {len(tables)} in metadata do not correspond; "
            f"without partner: number {', '.join(alone[:5])}. Copy the folder again"
        )
    numbers = sorted(matrices, key=int)
    arrays = [load_matrix(matrices[n]) for n in numbers]
    rows = [_load_table(tables[n], len(array), matrices[n]) for n, array in zip(numbers, arrays, strict=True)]
    column = pick_column(tables[numbers[0]], rows[0], id_column)
    for table, number in zip(rows, numbers, strict=True):
        if column not in table.column_names:
            raise SchemaError(
                f"{tables[number]} has no column {column} as {tables[numbers[0]].name} has; its columns are "
                f"{', '.join(table.column_names)}. Copy the folder again, or name another: --id-column NAME"
            )
    reasons: list[str | None] = []
    for table in rows:
        has_reason = "failure" in table.column_names
        reasons += [t or None for t in column_text(table, "failure")] if has_reason else [None] * len(table)
    ids = [i for table, n in zip(rows, numbers, strict=True) for i in column_ids(table, column, tables[n])]
    paths = [f for n in numbers for f in (matrices[n], tables[n])]
    found = gather("clip-retrieval", ids, matrices, numbers, arrays, reasons, named(paths), column)
    notes = []
    if absent := sorted(set(range(int(numbers[-1]) + 1)).difference(map(int, numbers))):
        some = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
        notes.append(
            f"{folder}: parts go from {numbers[0]} to {numbers[-1]}, without {some} ({len(absent):,} "
            "numbers). Make "
            "sure that they were empty and not forgotten"
        )
    return replace(found, output=_output_of(rows[0]), notes=tuple(notes))


def _output_of(table: "pa.Table") -> str:
    """Name of the output that an exported table says, '' where another program wrote it."""
    try:
        about = json.loads((table.schema.metadata or {}).get(b"iaa", b"{}"))
        output = about.get("output", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return output if isinstance(output, str) else ""


def _numbered(folder: Path, stem: str, ending: str) -> dict[str, Path]:
    """Files `<stem>_<number>.<ending>` by their number."""
    pattern = re.compile(rf"{stem}_([0-9]{{1,9}})\.{ending}")
    found: dict[str, Path] = {}
    for file in sorted(folder.glob(f"{stem}_*.{ending}")):
        if number := pattern.fullmatch(file.name):
            if twin := next((f for n, f in found.items() if int(n) == int(number[1])), None):
                raise SchemaError(
                    f"{folder} has two files of number {int(number[1])}: {twin.name} and {file.name}, of "
                    "two runs? "
                    "Keep the one that belongs to the others"
                )
            found[number[1]] = file
    if not found:
        raise MissingFileError(
            f"{folder} has no {stem}_0.{ending}; expected clip-retrieval's folder with img_emb/ and metadata/"
        )
    return found


def _load_table(file: Path, n_rows: int, matrix: Path) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{file} is no Parquet file: {error}") from error
    if table.num_rows != n_rows:
        raise SchemaError(
            f"{matrix} has {n_rows:,} rows, {file} has {table.num_rows:,}; row by row they must be one image"
        )
    return table


FORMAT = Format(
    "a folder of .npy with Parquet",
    write=write,
    read=read,
    entries=("img_emb", "metadata"),
    holds_one_output=True,
    may_leave_out=True,
)
