"""What a format is, and what those that are written have in common.

Every row goes out, in order; a failed row stays one. Rows are checked against their digests as they are read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from store.digests import BLOCK_ROWS
from store.durable import make_folder, space_error, whole_file, whole_folder
from store.errors import StoreError
from store.features import Features, Status
from store.imports import Imported

ABOUT = "iaa"
"""Key under which an exported file says what it was made from."""
_NAMES = {Status.PENDING: "pending", Status.OK: "ok", Status.FAILED: "failed"}


@dataclass(frozen=True)
class Format:
    """A format of `iaa export` or `iaa import`, or of both."""

    what: str
    """What it is, for people."""
    endings: tuple[str, ...] = ()
    """Endings of its files in lower case, with the point; none where it needs `--to`."""
    write: Callable[..., int] | None = None
    """`write(features, path, outputs, unit_norm, paths)` makes a new file or folder and returns its number of
    rows. `paths` are the images' paths, None where nobody knows them."""
    read: Callable[..., Imported] | None = None
    """`read(path, id_column=None)`; with `needs_ids` also `ids`, the file with the ids of its rows."""
    entries: tuple[str, ...] = ()
    """Patterns of the names in a folder that an export has made; none for a file."""
    holds_one_output: bool = False
    may_leave_out: bool = False
    """True if `write` takes `only_ok=True`, which leaves failed rows out."""
    needs_ids: bool = False


def dim(features: Features, output: str) -> int:
    """Width of an output."""
    return int(features.read(output, slice(0, 0)).shape[1])


def blocks(
    features: Features, output: str, rows: np.ndarray, unit_norm: bool = False
) -> Iterator[np.ndarray]:
    """Vectors of some rows, by ascending number, at most BLOCK_ROWS of them at once."""
    for start in range(0, len(rows), BLOCK_ROWS):
        some = rows[start : start + BLOCK_ROWS]
        is_run = some[-1] - some[0] == len(some) - 1
        yield features.read(output, slice(some[0], some[-1] + 1) if is_run else some, unit_norm)


def columns(
    features: Features, paths: np.ndarray | None, rows: slice | np.ndarray
) -> dict[str, list[str | None]]:
    """What is said of some rows beside their vectors: image_id, image_path (if given), status, failure.

    Raises StoreError for a name that is not valid UTF-8.
    """
    numbers = np.arange(features.n_images)[rows].tolist()
    found: dict[str, list[str | None]] = {"image_id": [_text(i) for i in features.image_id[rows].tolist()]}
    if paths is not None:
        found["image_path"] = [_text(p) for p in paths[rows].tolist()]
    found["status"] = [_NAMES[Status(s)] for s in features.status[rows].tolist()]
    found["failure"] = [features.failures.get(i) for i in numbers]
    return found


def _text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise StoreError(
            f"image id {value!r} is not valid UTF-8, which these formats cannot hold. Rename the file and "
            "embed again"
        ) from error
    return value


def about(features: Features, unit_norm: bool) -> dict[str, Any]:
    """What an exported file was made from."""
    return {
        "backbone": features.backbone,
        "digest": features.digest,
        "is_unit_length": unit_norm,
        "identity": features.identity,
        "provenance": features.provenance,
    }


def write_new(path: Path, write: Callable[[Path], None], is_folder: bool = False) -> None:
    """Let `write` make a file or a folder under a temporary name; it then appears complete or not at all.

    Raises StoreError where it exists, SpaceError."""
    if path.exists():
        raise StoreError(
            f"{path} exists already and is left alone. Choose another name, or replace it: --overwrite"
        )
    try:
        make_folder(path.parent)
    except OSError as error:
        raise space_error(path, error) from error
    with whole_folder(path) if is_folder else whole_file(path) as partial:
        write(partial)
