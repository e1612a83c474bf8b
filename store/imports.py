"""Ways in: vectors that another program made become a feature file that says so (docs/exchange.md).

Nothing is known about how they were made, so nothing is claimed: identity and provenance say `imported`, with
the digest of each file, and whether the vectors have unit length is measured.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from store.digests import digest_of_strings
from store.errors import SchemaError, StoreError
from store.features import FEATURES_SCHEMA, Status
from store.file_names import check_name, file_stem
from store.matching import match_names
from store.sealed import write_sealed
from store.shapes import Float32
from store.shards import remove_unnamed

UNIT_TOLERANCE = {"float16": 2e-3, "float32": 1e-5}
"""How far a length may be from 1, by the type the vectors came in."""


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
    digest = write_sealed(path, FEATURES_SCHEMA, identity, provenance, arrays)
    remove_unnamed(path)  # where shards of another file lay
    return digest


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


def gather(
    layout: str,
    ids: Sequence[str],
    matrices: Mapping[str, Path],
    numbers: Sequence[str],
    arrays: Sequence[np.ndarray],
    reasons: Sequence[str | None],
    files: Mapping[str, Path],
    id_column: str,
) -> Imported:
    """Vectors of one or several matrices as one, checked.

    `arrays` are the matrices in order, of the files `matrices[number]` for each of `numbers`; `reasons` says
    why a row failed, None where it did not; `files` are all files by name, the one with the ids last.

    Raises SchemaError for matrices of different width or type, for ids that are missing or stand twice, and
    where there are no rows.
    """
    first, last = (list(files.values())[i] for i in (0, -1))
    for number, array in zip(numbers, arrays, strict=True):
        if array.shape[1] != arrays[0].shape[1] or native(array) != native(arrays[0]):
            raise SchemaError(
                f"{matrices[number]} holds {array.shape[1]} columns of {native(array)}, "
                f"{matrices[numbers[0]]} {arrays[0].shape[1]} of {native(arrays[0])}; one matrix is expected"
            )
    names = list(ids)
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        if not name or "\0" in name or "\n" in name:
            raise SchemaError(f"{last}: row {row} has the id {name!r}; every row needs one on one line")
        if name in seen:
            raise SchemaError(
                f"{last}: rows {seen[name]} and {row} have the same id {name!r}; ids must be unique"
            )
        seen[name] = row
    if not names:
        raise SchemaError(f"{first} has no rows")
    vectors = np.concatenate([np.asarray(a, dtype=np.float32) for a in arrays])
    finite = np.isfinite(vectors).all(axis=1)
    failures = {row: reason for row, reason in enumerate(reasons) if reason}
    for row in np.flatnonzero(~finite).tolist():
        failures.setdefault(row, "not finite in the imported file")
    hashes = {name: _sha256(file) for name, file in files.items()}
    return Imported(
        layout, np.array(names, dtype=str), vectors, str(native(arrays[0])), failures, hashes, id_column
    )


def native(array: np.ndarray) -> np.dtype[Any]:
    """Type of the numbers, whatever the order of their bytes."""
    return array.dtype.newbyteorder("=")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
