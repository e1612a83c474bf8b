"""Reading sealed files: nothing is handed out that is not what was written."""

import hashlib
import math
import mmap
import os
import stat
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from store.arrays import Arrays
from store.digests import BLOCK_ROWS, block_bounds, canonical_json, digest_block, digest_of_json
from store.errors import IntegrityError, MissingFileError, ReplacedError, SchemaError, StoreError
from store.json_files import parse_json
from store.structure import Extent, MalformedError, find_arrays, has_schema, read_attributes, read_digests
from store.system import open_file, read_into

SCHEMA_VERSION = 1
MAX_READ = 2**20
"""Bytes of an array up to which it is read at once, not mapped."""
_ATTEMPTS = 10
"""To open a file that is replaced again and again meanwhile."""


def described(dtype: np.dtype[Any], shape: Sequence[int], blocks: np.ndarray) -> dict[str, Any]:
    """What a content digest says of an array: its type, its shape, and the SHA-256 over the digests of its
    blocks."""
    digests = np.ascontiguousarray(blocks).tobytes()
    return {"dtype": dtype.str, "shape": list(shape), "sha256": hashlib.sha256(digests).hexdigest()}


def root_digest(schema: str, identity: Any, provenance: Any, arrays: Mapping[str, Mapping[str, Any]]) -> str:
    """Content digest of a sealed file; `arrays` has each array by its path, as `described`."""
    return digest_of_json(
        {
            "schema": schema,
            "schema_version": SCHEMA_VERSION,
            "block_rows": BLOCK_ROWS,
            "identity": identity,
            "provenance": provenance,
            "arrays": arrays,
        }
    )


class SealedFile(Arrays):
    """An open sealed file: header checked on opening, rows checked on first reading; read-only.

    It stays the file that was opened when another takes its name, as an update's does: its descriptor is held
    until `close`. With `is_held` false it is not (a run has many parts, and a process 256 descriptors on a
    Mac); then every array is found under the name, and another file there is a ReplacedError.

    Raises MissingFileError, SchemaError (another kind or version), IntegrityError (damage), ReplacedError.
    """

    def __init__(self, path: Path | str, schema: str | None = None, is_held: bool = True) -> None:
        self.path = Path(path)
        self._maps: dict[str, np.ndarray] = {}
        self._checked: dict[str, np.ndarray] = {}
        self._let_go: Callable[[], Any] = lambda: None
        self._held: int | None = None
        for attempt in range(1, _ATTEMPTS + 1):
            descriptor = self._opened()
            try:
                self._is = _who(os.fstat(descriptor))
                self._begin(schema)
                if is_held:
                    self._held = os.dup(descriptor)
                    self._let_go = weakref.finalize(self, os.close, self._held)
                return
            except ReplacedError:
                if attempt == _ATTEMPTS:
                    raise
            finally:
                os.close(descriptor)

    def _opened(self) -> int:
        """A descriptor of what has the file's name now."""
        try:
            descriptor = open_file(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFileError(f"{self.path} does not exist") from None
        except OSError as error:  # unreadable is not damaged
            if self.path.is_dir():
                raise MissingFileError(f"{self.path} is no file") from None
            raise StoreError(f"{self.path} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise MissingFileError(f"{self.path} is no file")
        return descriptor

    def check_name(self) -> None:
        """Raise ReplacedError where the name is another file's by now, or nobody's."""
        try:
            self._check_same(os.stat(self.path))
        except FileNotFoundError:
            raise self._replaced() from None

    def _check_same(self, found: os.stat_result) -> None:
        if _who(found) != self._is:
            raise self._replaced()

    def _replaced(self) -> ReplacedError:
        return ReplacedError(f"{self.path} was replaced while it was read. Open it again")

    def _begin(self, schema: str | None) -> None:
        try:
            self._read_header(schema)
        except (IntegrityError, SchemaError):
            raise
        except MalformedError as error:
            self.check_name()
            raise self._damaged(str(error)) from error
        except Exception as error:  # h5py raises many kinds for a damaged file
            self.check_name()
            raise self._damaged(f"HDF5 cannot read its structure ({error})") from error
        self.check_name()

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self.path} is damaged: {what}. Restore it from a copy, or delete it and make it again. "
            f"Details: iaa verify {self.path}"
        )

    def _read_header(self, schema: str | None) -> None:
        with h5py.File(self.path, "r", locking=False) as file:
            size = self.path.stat().st_size
            if not has_schema(file):
                raise SchemaError(f"{self.path} is HDF5 but none of this project's files (no schema)")
            found = read_attributes(file, size)
            self.schema: str = found["schema"]
            if schema is not None and self.schema != schema:
                raise SchemaError(
                    f"{self.path} is of kind {self.schema[:60]!r}, expected {schema!r}. "
                    f"Look at it: iaa info {self.path}"
                )
            if (version := found["schema_version"]) != SCHEMA_VERSION:
                raise SchemaError(
                    f"{self.path} has format version {version}, this program reads {SCHEMA_VERSION}. "
                    "Update the program, or make the file again."
                )
            if found["block_rows"] != BLOCK_ROWS:
                raise MalformedError(f"block_rows is {found['block_rows']}, not {BLOCK_ROWS}")
            self.identity: dict[str, Any] = _object(found, "identity")
            self.provenance: dict[str, Any] = _object(found, "provenance")
            self.digest: str = found["digest"]
            self._layout, self._blocks = read_digests(find_arrays(file, size))
        arrays = {name: self.described(name) for name in self._layout}
        expected = root_digest(self.schema, self.identity, self.provenance, arrays)
        written_form = (canonical_json(self.identity), canonical_json(self.provenance))
        if expected != self.digest or written_form != (found["identity"], found["provenance"]):
            raise MalformedError("attributes, shapes or block digests do not match the content digest")

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and dtype of every array, by path."""
        return {name: (extent.shape, extent.dtype) for name, extent in self._layout.items()}

    def view(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop) of an array as a read-only view of the file, their blocks checked.

        Raises IntegrityError naming the array and rows of the first damaged block.
        """
        rows = self._map(name)
        stop = len(rows) if stop is None else min(stop, len(rows))
        for index in range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)):
            self._check_block(name, index)
        return rows[start:stop]

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Some rows of an array, by index or mask, as a copy; the blocks that hold them are checked.

        Raises IntegrityError naming the array and rows of the first damaged block among them.
        """
        stored = self._map(name)
        for index in np.unique(np.arange(len(stored))[rows] // BLOCK_ROWS).tolist():
            self._check_block(name, index)
        return np.asarray(stored[rows])

    @property
    def n_bytes(self) -> int:
        """Bytes on the disk when it was opened."""
        return self._is[2]

    def extents(self, name: str) -> Iterator[tuple[int, int, int, int, bytes]]:
        """Where an array's blocks lie: (first row, last row + 1, byte offset, bytes, SHA-256) of each."""
        self.require(name)
        extent = self._layout[name]
        for (start, stop), digest in zip(block_bounds(extent.shape[0]), self._blocks[name], strict=True):
            position = extent.offset + start * extent.row_bytes
            yield start, stop, position, (stop - start) * extent.row_bytes, digest.tobytes()

    def described(self, name: str) -> dict[str, Any]:
        """What the content digest says of an array."""
        extent = self._layout[name]
        return described(extent.dtype, extent.shape, self._blocks[name])

    def block_digests(self, name: str) -> np.ndarray:
        """SHA-256 of each block of rows of an array: uint8 (n_blocks, 32)."""
        self.require(name)
        return self._blocks[name]

    def _map(self, name: str) -> np.ndarray:
        self.require(name)
        if name not in self._maps:
            rows = self._open_rows(self._layout[name])
            rows.flags.writeable = False
            # First what other threads look up second: they may come as soon as the map is there.
            self._checked[name] = np.zeros(len(self._blocks[name]), bool)
            self._maps[name] = rows
        return self._maps[name]

    def _open_rows(self, extent: Extent) -> np.ndarray:
        """The rows, mapped; few of them are read instead, for every map holds a file descriptor."""
        if extent.n_bytes == 0:
            return np.zeros(extent.shape, extent.dtype)
        descriptor = self.descriptor()
        try:
            data, at = _mapped(descriptor, extent) if extent.n_bytes > MAX_READ else _read(descriptor, extent)
            return np.frombuffer(data, extent.dtype, math.prod(extent.shape), at).reshape(extent.shape)
        except ValueError as error:  # the file has become shorter since it was opened
            raise self._damaged(f"its rows cannot be read ({error})") from error
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def descriptor(self) -> int:
        """A descriptor of this file, to be closed by the caller. Raises ReplacedError where it is not held
        and another file has its name by now, MissingFileError, StoreError."""
        if self._held is not None:
            return os.dup(self._held)
        descriptor = self._opened()
        try:
            self._check_same(os.fstat(descriptor))
        except ReplacedError:
            os.close(descriptor)
            raise
        return descriptor

    def _check_block(self, name: str, index: int) -> None:
        checked = self._checked[name]
        if checked[index]:
            return
        start = index * BLOCK_ROWS
        rows = self._maps[name][start : start + BLOCK_ROWS]
        if digest_block(rows) != self._blocks[name][index].tobytes():
            stop = start + len(rows)
            raise self._damaged(f"/{name} rows {start} to {stop - 1} are not what was written")
        checked[index] = True

    def close(self) -> None:
        """Let go of the file; views already handed out stay valid."""
        self._maps.clear()
        self._checked.clear()
        self._held = None
        self._let_go()


def _who(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _mapped(descriptor: int, extent: Extent) -> tuple[mmap.mmap, int]:
    """The pages that hold an array, and where in them it begins."""
    at = extent.offset % mmap.ALLOCATIONGRANULARITY
    start = extent.offset - at
    return mmap.mmap(descriptor, at + extent.n_bytes, access=mmap.ACCESS_READ, offset=start), at


def _read(descriptor: int, extent: Extent) -> tuple[bytearray, int]:
    data = bytearray(extent.n_bytes)
    n_read, left = 0, memoryview(data)
    while left:
        if not (n := read_into(descriptor, left, extent.offset + n_read)):
            raise ValueError(f"{n_read:,} of {extent.n_bytes:,} bytes are there")
        n_read, left = n_read + n, left[n:]
    return data, 0


def _object(found: dict[str, Any], name: str) -> dict[str, Any]:
    try:
        value = parse_json(found[name])
    except ValueError as error:
        raise MalformedError(f"its {name} is no JSON of ours: {error}") from error
    if not isinstance(value, dict):
        raise MalformedError(f"its {name} is no JSON object")
    return value
