"""Ways out: feature files as Parquet or CSV, as clip-retrieval's npy + Parquet, as safetensors
(docs/exchange.md).

Every row goes out, in order; a failed row stays one. Rows are checked against their digests as they are read.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from store.csv_files import write_rows
from store.digests import BLOCK_ROWS
from store.durable import make_folder, publish, space_error
from store.errors import StoreError
from store.features import Features, Status
from store.system import flush_folder

ABOUT = "iaa"
"""Key under which an exported file says what it was made from."""
ROWS_PER_FILE = 1_000_000
_NAMES = {Status.PENDING: "pending", Status.OK: "ok", Status.FAILED: "failed"}


def export_parquet(
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
    schema = pa.schema(
        [
            *_columns(features, paths, slice(0, 0)).schema,
            *[pa.field(name, pa.list_(pa.float32(), _dim(features, name))) for name in outputs],
        ],
        metadata={ABOUT: json.dumps(_about(features, unit_norm))},
    )

    def write(partial: Path) -> None:
        with pq.ParquetWriter(partial, schema) as writer:
            for start in range(0, max(features.n_images, 1), 16 * BLOCK_ROWS):
                rows = slice(start, min(start + 16 * BLOCK_ROWS, features.n_images))
                table = _columns(features, paths, rows)
                for name in outputs:
                    vectors = features.read(name, rows, unit_norm)
                    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
                    missing = pa.array(~features.ok[rows])
                    lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=missing)
                    table = table.append_column(schema.field(name), lists)
                writer.write_table(table.cast(schema))

    _write_new(path, write)
    return features.n_images


def export_csv(
    features: Features,
    path: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
) -> int:
    """Write one CSV file and return its number of rows.

    Columns as of Parquet, with one per number of a vector: `embedding_0`, `embedding_1`, ...; those of
    failed rows are empty. A number has the digits that give the same float32 back. Text is safe to open
    in a spreadsheet. """
    widths = {name: _dim(features, name) for name in outputs}
    about = _columns(features, paths, slice(0, 0)).column_names
    header = [*about, *[f"{name}_{i}" for name, dim in widths.items() for i in range(dim)]]

    def write(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            write_rows(file, header, _csv_rows(features, outputs, unit_norm, paths))

    _write_new(path, write)
    return features.n_images


def _csv_rows(
    features: Features, outputs: list[str], unit_norm: bool, paths: np.ndarray | None
) -> Iterator[list[Any]]:
    for start in range(0, features.n_images, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, features.n_images))
        cells = [column.to_pylist() for column in _columns(features, paths, rows).itercolumns()]
        vectors = [features.read(name, rows, unit_norm) for name in outputs]
        for i, is_ok in enumerate(features.ok[rows].tolist()):
            numbers = [str(x) if is_ok else "" for matrix in vectors for x in matrix[i]]
            yield [column[i] for column in cells] + numbers


def export_safetensors(features: Features, path: Path, outputs: list[str], unit_norm: bool = False) -> int:
    """Write one safetensors file and return its number of rows.

    Tensors: each output (n, dim) float32 with NaN in failed rows, and `status` uint8 (1 ok, 2 failed). Ids,
    failures and origin are JSON in the metadata.
    """
    tensors = {name: np.ascontiguousarray(features.read(name, unit_norm=unit_norm)) for name in outputs}
    about = {
        ABOUT: json.dumps(_about(features, unit_norm)),
        "image_id": json.dumps(features.image_id.tolist()),
        "failures": json.dumps({str(row): reason for row, reason in sorted(features.failures.items())}),
    }
    tensors["status"] = np.ascontiguousarray(features.status)
    _write_new(path, lambda partial: safetensors.numpy.save_file(tensors, partial, about))
    return features.n_images


def export_clip_retrieval(
    features: Features,
    folder: Path,
    output: str,
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
    only_ok: bool = False,
    rows_per_file: int = ROWS_PER_FILE,
) -> int:
    """Write `img_emb/img_emb_0.npy`, ... and `metadata/metadata_0.parquet`, ...; returns the number of rows.

    Row i of a matrix is row i of its table: image_path, image_id, status, failure. Failed rows are NaN; with
    `only_ok` they are left out, as clip-retrieval itself does and as its index needs.
    """
    kept = np.flatnonzero(features.ok) if only_ok else np.arange(features.n_images)
    n_files = max(1, -(-len(kept) // rows_per_file))
    n_digits = len(str(n_files))
    about = {ABOUT: json.dumps({**_about(features, unit_norm), "output": output})}
    paths = features.image_id if paths is None else paths

    def write(partial: Path) -> None:
        (partial / "img_emb").mkdir(parents=True)
        (partial / "metadata").mkdir()
        for number in range(n_files):
            rows = kept[number * rows_per_file : (number + 1) * rows_per_file]
            name = str(number).zfill(n_digits)
            is_all = len(rows) == features.n_images
            vectors = features.read(output, None if is_all else rows, unit_norm)
            np.save(partial / "img_emb" / f"img_emb_{name}.npy", vectors)
            table = _columns(features, paths, rows).select(["image_path", "image_id", "status", "failure"])
            file = partial / "metadata" / f"metadata_{name}.parquet"
            pq.write_table(table.replace_schema_metadata(about), file)

    _write_new(folder, write)
    return len(kept)


def _dim(features: Features, output: str) -> int:
    return int(features.read(output, slice(0, 0)).shape[1])


def _columns(features: Features, paths: np.ndarray | None, rows: slice | np.ndarray) -> pa.Table:
    ids = [_text(i) for i in features.image_id[rows].tolist()]
    numbers = np.arange(features.n_images)[rows].tolist()
    columns = {"image_id": pa.array(ids, pa.string())}
    if paths is not None:
        columns["image_path"] = pa.array([_text(p) for p in paths[rows].tolist()], pa.string())
    states = [_NAMES[Status(s)] for s in features.status[rows].tolist()]
    columns["status"] = pa.array(states, pa.string())
    columns["failure"] = pa.array([features.failures.get(i) for i in numbers], pa.string())
    return pa.table(columns)


def _text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise StoreError(
            f"image id {value!r} is not valid UTF-8, which these formats cannot hold. Rename the file and "
            "embed again"
        ) from error
    return value


def _about(features: Features, unit_norm: bool) -> dict[str, Any]:
    return {
        "backbone": features.backbone,
        "digest": features.digest,
        "is_unit_length": unit_norm,
        "identity": features.identity,
        "provenance": features.provenance,
    }


def _write_new(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file or a folder under a temporary name; it then appears complete or not at all."""
    if path.exists():
        raise StoreError(f"{path} exists already and is left alone. Remove it, or choose another name")
    partial = path.with_name(path.name + ".partial")
    try:
        make_folder(path.parent)
        write(partial)
        if partial.is_dir():
            os.replace(partial, path)
            flush_folder(path.parent)
        else:
            publish(partial, path)
    except OSError as error:
        raise space_error(path, error) from error
