"""Images that are other files than those embedded: found when a run is resumed or asked for again.

The store keeps size and SHA-256 of every image's bytes. Beside a feature file lies `<name>.h5.seen`
(among the parts of a run, `seen`): size and time of change of each image just before it was read, no part of
the sealed file because it is a clock. An image whose size and time are as noted is taken as unchanged;
any other is read and hashed, and so is one that the note leaves out. Losing the whole note costs no row its
truth: without it sizes are compared, or contents when asked.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from embed.images.datasets import ImageTable
from embed.images.decode import ImageError, read_bytes
from store import system
from store.arrays import Arrays
from store.durable import space_error
from store.shapes import Bool, Int

_N_READERS = 16
_N_AT_ONCE = 4096
"""Files looked at together: a list of millions of pairs would be searched for garbage over and over."""
_GONE = (-1, 0)
_ROW_BYTES = 16


class ChangedImagesError(Exception):
    """A finished feature file was made from other images than those that lie there now."""


class Changes:
    """Compares the images of a table with what is stored about them.

    With `check_content` every image is read and hashed, whatever its size and time.
    """

    def __init__(self, table: ImageTable, check_content: bool = False) -> None:
        self.table, self.check_content = table, check_content

    @cached_property
    def now(self) -> np.ndarray:
        """Size and time of change (ns) of every image: int64 (n_images, 2); size -1 where there is none."""
        if self.table.source is not None:
            files = [self.table.source.at(path) for path in self.table.path.tolist()]
            return np.array([file.size_and_time() for file in files], np.int64).reshape(-1, 2)
        root = os.path.join(os.fspath(self.table.root), "")
        found = np.empty((len(self.table), 2), np.int64)
        for start in range(0, len(found), _N_AT_ONCE):
            some = self.table.path[start : start + _N_AT_ONCE].tolist()
            found[start : start + len(some)] = [_size_and_time(root + path) for path in some]
        return found

    def changed_rows(self, file: Arrays, seen_path: Path, first: int = 0) -> list[int]:
        """Rows whose image has other bytes now than when the rows of `file`, from `first` on, were made.

        An image that is gone has not changed; one that could not be read then and can be now has.
        """
        if "source_size" not in file.arrays:
            return []
        size = file.view("source_size")
        now = self.now[first : first + len(size)]
        seen = _load_seen(seen_path, len(self.table), first, len(size))
        is_noted = seen[:, 1] != 0
        suspects = (now[:, 0] != size) | (is_noted & (now != seen).any(axis=1))
        if _is_note(seen_path, len(self.table)):
            suspects |= ~seen.any(axis=1)
        suspects = np.flatnonzero((suspects & (now[:, 0] >= 0)) | self.check_content)
        stored = map(bytes, file.take("source_sha256", suspects))
        found = zip(suspects.tolist(), stored, _sha256_of(self.table, first + suspects), strict=True)
        changed = {row: digest not in (b"", sha256) for row, sha256, digest in found}
        self.note(seen_path, (first + row for row, is_other in changed.items() if not is_other))
        return [first + row for row, is_other in changed.items() if is_other]

    def same_bytes(
        self,
        rows: Int[np.ndarray, " n"],
        file: Arrays,
        old_rows: Int[np.ndarray, " n"],
        seen_path: Path,
    ) -> Bool[np.ndarray, " n"]:
        """True where the image of a row is byte for byte the one from which `file` has its old row.

        The table may be another than the file's: `seen_path` is the file's own note. Without it all are
        hashed.
        """
        n_old = len(file.view("source_size"))
        size, sha256 = file.view("source_size")[old_rows], file.take("source_sha256", old_rows)
        now, seen = self.now[rows], _load_seen(seen_path, n_old, 0, n_old)[old_rows]
        is_noted = (now == seen).all(axis=1) & seen.any(axis=1) & (now[:, 0] >= 0)
        same: np.ndarray = (now[:, 0] == size) | (now[:, 0] < 0)  # some protocols do not tell sizes
        asked = np.flatnonzero(same & (~is_noted | self.check_content))

        hashes = _sha256_of(self.table, rows[asked])
        same[asked] = [found == bytes(sha256[n]) for n, found in zip(asked, hashes, strict=True)]
        return same

    def rows_by_content(
        self, rows: Int[np.ndarray, " n"], file: Arrays, usable: Bool[np.ndarray, " n_old"]
    ) -> Int[np.ndarray, " n"]:
        """First old row, among the usable ones, of an image with the same bytes under whatever name; else -1.

        Only images of which an old one has the size are read.
        """
        old = np.flatnonzero(usable)
        size, sha256 = file.view("source_size")[old], file.take("source_sha256", old)
        row_of: dict[bytes, int] = {}
        for n, row in enumerate(old.tolist()):
            row_of.setdefault(bytes(sha256[n]), row)
        now = self.now[rows, 0]
        asked = np.flatnonzero(np.isin(now, size) | (now < 0))
        found = np.full(len(rows), -1)
        found[asked] = [row_of.get(digest, -1) for digest in _sha256_of(self.table, rows[asked])]
        return found

    def none_since(self, file: Arrays, seen_path: Path) -> bool:
        """True if every image has the size and time that were noted, and the size that is stored. Nothing is
        read; False says only that somebody has to look."""
        if "source_size" not in file.arrays or not _is_note(seen_path, len(self.table)):
            return False
        seen = _load_seen(seen_path, len(self.table), 0, len(self.table))
        size = file.view("source_size")
        return len(size) == len(seen) and bool((self.now == seen).all() and (self.now[:, 0] == size).all())

    def note(self, seen_path: Path, rows: Iterable[int]) -> None:
        """Note size and time of rows whose images are about to be read, or were found to be unchanged."""
        numbers = np.fromiter(rows, np.int64)
        if len(numbers):
            _write_seen(seen_path, numbers, self.now)

    def refuse(self, final: Path, rows: list[int]) -> None:
        """Raise ChangedImagesError naming the rows."""
        raise ChangedImagesError(
            f"{final}: {len(rows)} images are other files than those embedded, the first "
            f"{str(self.table.path[rows[0]])!r} (row {rows[0]}). Restore them, embed them anew: --update, or "
            "all: --overwrite"
        )


def _sha256_of(table: ImageTable, rows: Int[np.ndarray, " n"]) -> list[bytes]:
    """SHA-256 of each image's bytes; empty where they cannot be read."""

    def sha256(row: int) -> bytes:
        try:
            return hashlib.sha256(read_bytes(table.absolute(row))).digest()
        except ImageError:
            return b""

    with ThreadPoolExecutor(_N_READERS) as pool:
        return list(pool.map(sha256, rows.tolist()))


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return _GONE
    return found.st_size, found.st_mtime_ns


def _is_note(path: Path, n_images: int) -> bool:
    return path.is_file() and path.stat().st_size == n_images * _ROW_BYTES


def _load_seen(path: Path, n_images: int, first: int, n_rows: int) -> np.ndarray:
    """Noted sizes and times of some rows: int64 (n_rows, 2), zeros where nothing is noted."""
    if not _is_note(path, n_images):
        return np.zeros((n_rows, 2), np.int64)
    return np.fromfile(path, np.int64, 2 * n_rows, offset=first * _ROW_BYTES).reshape(-1, 2)


def _write_seen(path: Path, rows: np.ndarray, now: np.ndarray) -> None:
    """Write single rows in place: several workers may do so, each in its own rows."""
    try:
        descriptor = system.open_file(path, os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(descriptor).st_size != now.nbytes:
                os.ftruncate(descriptor, 0)
                system.reserve(descriptor, now.nbytes)
            for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
                system.write_at(descriptor, now[run].tobytes(), int(run[0]) * _ROW_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise space_error(path, error) from error
