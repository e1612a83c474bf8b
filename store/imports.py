"""Ways in: vectors that another program made become a feature file that says so (docs/exchange.md).

Nothing is known about how they were made, so nothing is claimed: identity and provenance say `imported`, with
the digest of each file, and whether the vectors have unit length is measured.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from store.digests import digest_of_strings
from store.errors import MissingFileError, SchemaError, StoreError, TableError
from store.features import FEATURES_SCHEMA, Status
from store.file_names import check_name, file_stem
from store.matching import match_names
from store.sealed import write_sealed
from store.tables import PARQUET_ENDINGS, column_text, plain, read_table
from store.text import read_lines

UNIT_TOLERANCE = {"float16": 2e-3, "float32": 1e-5}
"""How far a length may be from 1, by the type the vectors came in."""
ID_COLUMNS = ("image_id", "image_path", "key", "id")
_MORE_ID_COLUMNS = ("imageid", "imagepath", "key", "id", "file", "filename", "path", "filepath", "imagename")
#: What numpy raises for a .npy file whose header is damaged, by how it is.
_BAD_NPY = (
    ValueError, OSError, EOFError, MemoryError, OverflowError, SyntaxError, TypeError, RecursionError,
    TokenError,
)  # fmt: skip
_KINDS = {np.dtype(np.float16), np.dtype(np.float32)}


@dataclass(frozen=True)
class Imported:
    """Vectors as they were found, with their ids."""

    layout: str
    ids: np.ndarray
    vectors: Float32[np.ndarray, "n_rows dim"]
    dtype: str
    """Type in the file; float16 fits into float32 without change."""
    failures: dict[int, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 by file name."""
    id_column: str = ""
    output: str = ""
    """Name of the output, where it was exported from a feature file."""
    notes: tuple[str, ...] = ()
    """What is odd about the files and no error, one sentence each."""


def read_clip_retrieval(folder: Path, id_column: str | None = None) -> Imported:
    """The image vectors of a folder that clip-retrieval wrote: `img_emb/img_emb_*.npy` and, row by row,
    `metadata/metadata_*.parquet`. The id is `image_id` if there is such a column, else `image_path`.

    Raises MissingFileError, or SchemaError where files, rows or columns do not correspond.
    """
    matrices = _numbered(folder / "img_emb", "img_emb", "npy")
    tables = _numbered(folder / "metadata", "metadata", "parquet")
    if set(matrices) != set(tables):
        alone = sorted(set(matrices) ^ set(tables))
        raise SchemaError(
            f"{folder}: {len(matrices)} files in img_emb and {len(tables)} in metadata do not correspond; "
            f"without partner: number {', '.join(alone[:5])}. Copy the folder again"
        )
    numbers = sorted(matrices, key=int)
    arrays = [_load_matrix(matrices[n]) for n in numbers]
    rows = [_load_table(tables[n], len(array), matrices[n]) for n, array in zip(numbers, arrays, strict=True)]
    column = _id_column(tables[numbers[0]], rows[0], id_column)
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
    ids = [i for table, n in zip(rows, numbers, strict=True) for i in _as_ids(table, column, tables[n])]
    paths = [f for n in numbers for f in (matrices[n], tables[n])]
    found = _imported("clip-retrieval", ids, matrices, numbers, arrays, reasons, paths, column)
    notes = []
    if absent := sorted(set(range(int(numbers[-1]) + 1)).difference(map(int, numbers))):
        some = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
        notes.append(
            f"{folder}: parts go from {numbers[0]} to {numbers[-1]}, without {some} ({len(absent):,} "
            "numbers). Make "
            "sure that they were empty and not forgotten"
        )
    return replace(found, output=_output_of(rows[0]), notes=tuple(notes))


def _output_of(table: pa.Table) -> str:
    """Name of the output that an exported table says, '' where another program wrote it."""
    try:
        about = json.loads((table.schema.metadata or {}).get(b"iaa", b"{}"))
        output = about.get("output", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return output if isinstance(output, str) else ""


def read_npy(matrix: Path, ids: Path, id_column: str | None = None) -> Imported:
    """The rows of one .npy matrix; their ids from a text file (one per line), CSV, Parquet or .npy."""
    array = _load_matrix(matrix)
    names = _load_ids(ids, id_column)
    if len(names) != len(array):
        raise SchemaError(f"{matrix} has {len(array):,} rows, {ids} has {len(names):,} ids; one each is due")
    reasons = [None] * len(names)
    return _imported("npy", names, {"0": matrix}, ["0"], [array], reasons, [matrix, ids], id_column or "")


def join(imported: Imported, image_id: np.ndarray, keys: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """Row of `imported` for each image, -1 where it has none, and the name of the key that matched.

    `keys` names what an imported id, or its last part after slashes, may be (id, path, file name, ...) with
    its value per image; the kind that finds most rows is taken. A kind whose values are not unique says
    nothing. Images that are left are matched by other forms of their path (see `store.matching`), which the
    name says, too. Raises StoreError if none finds any.
    """
    names = imported.ids.tolist()
    positions = [("", {name: row for row, name in enumerate(names)})]
    last_parts = {name.rpartition("/")[2]: row for row, name in enumerate(names)}
    if len(last_parts) == len(names) and last_parts.keys() != positions[0][1].keys():
        positions.append(("last part of the imported id: ", last_parts))
    best, best_name, n_best = np.full(len(image_id), -1), "", 0
    for (prefix, position), (name, values) in itertools.product(positions, keys.items()):
        listed = values.tolist()
        if len(set(listed)) < len(listed):
            continue
        found = np.array([position.get(v, -1) for v in listed], dtype=np.int64)
        n_found = int((found >= 0).sum())
        if n_found > n_best:
            best, best_name, n_best = found, prefix + name, n_found
    if "path" in keys:
        left = np.flatnonzero(best < 0)
        paths = [str(path) for path in keys["path"][left]]
        forms = match_names(paths, names, taken=best[best >= 0].tolist())
        best[left] = forms.row
        best_name = "; ".join([*([best_name] if n_best else []), *forms.notes])
    if not (best >= 0).any():
        raise StoreError(
            f"none of the {len(names):,} imported ids (the first: {_some(names)}) is an image "
            f"of the data set (the first: {_some(image_id.tolist())}). Right data set? Or name another "
            "column: "
            "--id-column NAME"
        )
    return best, best_name


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(str(name)) for name in names[:3])


def write_imported(
    imported: Imported,
    path: Path,
    backbone: str,
    output: str,
    image_id: np.ndarray | None = None,
    images_digest: str | None = None,
    rows: np.ndarray | None = None,
    joined_on: str = "",
) -> str:
    """Write the feature file and return its content digest.

    Without a data set the file has the imported ids in their order. With `image_id`, `images_digest` and
    `rows` (from `join`) it has the data set's; an image without a vector is a failed row that says so.

    Raises UnsafeNameError for a backbone or an output that cannot be a file's name.
    """
    check_name(file_stem(backbone), "backbone")
    check_name(output, "output")
    if image_id is None or rows is None:
        image_id, rows = imported.ids, np.arange(len(imported.ids))
    vectors = np.full((len(rows), imported.vectors.shape[1]), np.nan, np.float32)
    there = rows >= 0
    vectors[there] = imported.vectors[rows[there]]
    failures = {row: "not in the imported files" for row in np.flatnonzero(~there).tolist()}
    for row in np.flatnonzero(there).tolist():
        if reason := imported.failures.get(int(rows[row])):
            failures[row] = reason
    status = np.full(len(rows), Status.OK, np.uint8)
    status[list(failures)] = Status.FAILED
    vectors[list(failures)] = np.nan
    failed = sorted(failures)
    identity = {
        "images": images_digest or digest_of_strings(image_id, image_id),
        "n_images": len(rows),
        "backbone": backbone,
        "weights_sha256": "imported",
        "preprocessing": "imported",
        "precision": imported.dtype,
        "outputs": {output: vectors.shape[1]},
        "imported": imported.files,
    }
    provenance = {
        "imported": imported.layout,
        "id_column": imported.id_column,
        "joined_on": joined_on,
        "n_imported": len(imported.ids),
        "n_without_image": len(imported.ids) - len(np.unique(rows[there])),
        **measure_lengths(imported),
    }
    arrays = {
        "image_id": image_id,
        "status": status,
        "source_sha256": np.zeros((len(rows), 32), np.uint8),
        "source_size": np.full(len(rows), -1, np.int64),
        "failures/row": np.array(failed, np.int64),
        "failures/reason": np.array([failures[row] for row in failed], dtype=str),
        f"outputs/{output}": vectors,
    }
    return write_sealed(path, FEATURES_SCHEMA, identity, provenance, arrays)


def measure_lengths(imported: Imported) -> dict[str, Any]:
    """Whether the vectors have length 1 (to rounding), and their smallest and largest length."""
    good = np.setdiff1d(np.arange(len(imported.ids)), list(imported.failures))
    squares = np.concatenate(
        [
            np.einsum("ij,ij->i", v, v, dtype=np.float64)
            for v in (imported.vectors[good[i : i + 65536]] for i in range(0, len(good), 65536))
        ]
        or [np.zeros(0)]
    )
    if not len(squares):
        return {"is_unit_length": False, "length_min": 0.0, "length_max": 0.0}
    low, high = float(np.sqrt(squares.min())), float(np.sqrt(squares.max()))
    is_unit = max(abs(low - 1), abs(high - 1)) <= UNIT_TOLERANCE[imported.dtype]
    return {"is_unit_length": is_unit, "length_min": round(low, 6), "length_max": round(high, 6)}


def _imported(
    layout: str,
    ids: Sequence[str],
    matrices: Mapping[str, Path],
    numbers: Sequence[str],
    arrays: Sequence[np.ndarray],
    reasons: Sequence[str | None],
    files: Sequence[Path],
    id_column: str,
) -> Imported:
    for number, array in zip(numbers, arrays, strict=True):
        if array.shape[1] != arrays[0].shape[1] or _native(array) != _native(arrays[0]):
            raise SchemaError(
                f"{matrices[number]} holds {array.shape[1]} columns of {_native(array)}, "
                f"{matrices[numbers[0]]} {arrays[0].shape[1]} of {_native(arrays[0])}; one matrix is expected"
            )
    names = list(ids)
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        if not name or "\0" in name or "\n" in name:
            raise SchemaError(f"{files[-1]}: row {row} has the id {name!r}; every row needs one on one line")
        if name in seen:
            raise SchemaError(
                f"{files[-1]}: rows {seen[name]} and {row} have the same id {name!r}; ids must be unique"
            )
        seen[name] = row
    if not names:
        raise SchemaError(f"{files[0]} has no rows")
    vectors = np.concatenate([np.asarray(a, dtype=np.float32) for a in arrays])
    finite = np.isfinite(vectors).all(axis=1)
    failures = {row: reason for row, reason in enumerate(reasons) if reason}
    for row in np.flatnonzero(~finite).tolist():
        failures.setdefault(row, "not finite in the imported file")
    hashes = {_name_of(f): _sha256(f) for f in files}
    return Imported(
        layout, np.array(names, dtype=str), vectors, str(_native(arrays[0])), failures, hashes, id_column
    )


def _name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.name}" if file.parent.name in ("img_emb", "metadata") else file.name


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


def _native(array: np.ndarray) -> np.dtype[Any]:
    return array.dtype.newbyteorder("=")


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


def _load_matrix(file: Path) -> np.ndarray:
    array = _load_npy(file)
    if array.ndim != 2 or _native(array) not in _KINDS:
        raise SchemaError(
            f"{file} holds {array.dtype} of shape {array.shape}; expected float16 or float32, a row per image"
        )
    if array.shape[1] == 0:
        raise SchemaError(f"{file} holds rows of no numbers ({array.shape}); expected a vector per image")
    return array


def _load_table(file: Path, n_rows: int, matrix: Path) -> pa.Table:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{file} is no Parquet file: {error}") from error
    if table.num_rows != n_rows:
        raise SchemaError(
            f"{matrix} has {n_rows:,} rows, {file} has {table.num_rows:,}; row by row they must be one image"
        )
    return table


def _load_ids(file: Path, column: str | None) -> list[str]:
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
    return _as_ids(table, _id_column(file, table, column), file)


def _id_column(file: Path, table: pa.Table, given: str | None) -> str:
    names = table.column_names
    if given is None:
        usual = [c for c in ID_COLUMNS if c in names]
        close = [c for name in _MORE_ID_COLUMNS for c in names if plain(c) == name]
        if usual or close:
            return str((usual or close)[0])
    elif given in names:
        return given
    hint = f". If its first line is an id: call it {file.stem}.txt" if len(names) == 1 else ""
    raise SchemaError(
        f"{file} has no column {given or ' or '.join(ID_COLUMNS)}; its columns are {', '.join(names)}. "
        f"Name it: --id-column NAME{hint}"
    )


def _as_ids(table: pa.Table, column: str, file: Path) -> list[str]:
    """The ids of a column: text, or whole numbers, also where a program has made floats of them."""
    kind = table.column(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_floating(kind):
        values = table.column(column).to_pylist()
        if all(v is not None and v == v and v == int(v) for v in values):
            return [str(int(v)) for v in values]
        raise SchemaError(f"{file}: column {column} holds {kind}; ids must be text or whole numbers")
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    if not (is_text or pa.types.is_integer(kind) or pa.types.is_binary(kind)):
        raise SchemaError(f"{file}: column {column} holds {kind}; ids must be text or whole numbers")
    try:
        return column_text(table, column)
    except TableError as error:
        raise SchemaError(f"{file}: {error}") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
