"""Reading sealed files: nothing is handed out that is not what was written."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from store.digests import (
    BLOCK_ROWS,
    block_bounds,
    canonical_json,
    decode_strings,
    digest_block,
    digest_of_json,
)
from store.errors import IntegrityError, MissingFileError, SchemaError, StoreError

SCHEMA_VERSION = 1
_ATTRIBUTES = {"schema", "schema_version", "identity", "provenance", "block_rows", "digest"}


def root_digest(
    schema: str, identity: Any, provenance: Any, arrays: Mapping[str, tuple[str, list[int], bytes]]
) -> str:
    """Content digest of a sealed file; `arrays` maps a path to (dtype, shape, block digests)."""
    described = {
        path: {"dtype": dtype, "shape": shape, "sha256": hashlib.sha256(blocks).hexdigest()}
        for path, (dtype, shape, blocks) in arrays.items()
    }
    return digest_of_json(
        {
            "schema": schema,
            "schema_version": SCHEMA_VERSION,
            "block_rows": BLOCK_ROWS,
            "identity": identity,
            "provenance": provenance,
            "arrays": described,
        }
    )


class SealedFile:
    """An open sealed file: header checked on opening, rows checked on first reading; read-only.

    Raises MissingFileError, SchemaError (another kind or version) or IntegrityError (damage).
    """

    def __init__(self, path: Path | str, schema: str | None = None) -> None:
        self.path = Path(path)
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise MissingFileError(f"{self.path} is no file")
            os.close(os.open(self.path, os.O_RDONLY))
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFileError(f"{self.path} does not exist") from None
        except OSError as error:  # unreadable is not damaged
            raise StoreError(f"{self.path} cannot be read: {error.strerror}") from error
        self._maps: dict[str, np.ndarray] = {}
        self._checked: dict[str, np.ndarray] = {}
        try:
            self._read_header(schema)
        except (IntegrityError, SchemaError):
            raise
        except Exception as error:  # h5py raises many kinds for a damaged file
            raise self._damaged(f"HDF5 cannot read its structure ({error})") from error

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self.path} is damaged: {what}. Restore it from a copy, or delete it and make it again. "
            f"Details: iaa verify {self.path}"
        )

    def _read_header(self, schema: str | None) -> None:
        with h5py.File(self.path, "r", locking=False) as file:
            found = set(file.attrs)
            if "schema" not in found:
                raise SchemaError(f"{self.path} is HDF5 but none of this project's files (no schema)")
            if found != _ATTRIBUTES:
                raise self._damaged(f"attributes are {sorted(found)}, not {sorted(_ATTRIBUTES)}")
            self.schema = _text(file.attrs["schema"])
            version = int(file.attrs["schema_version"])
            if schema is not None and self.schema != schema:
                raise SchemaError(
                    f"{self.path} is of kind {self.schema!r}, expected {schema!r}. "
                    f"Look at it: iaa info {self.path}"
                )
            if version != SCHEMA_VERSION:
                raise SchemaError(
                    f"{self.path} has format version {version}, this program reads {SCHEMA_VERSION}. "
                    "Update the program, or make the file again."
                )
            if int(file.attrs["block_rows"]) != BLOCK_ROWS:
                raise self._damaged(f"block_rows is {file.attrs['block_rows']}, not {BLOCK_ROWS}")
            identity = _text(file.attrs["identity"])
            provenance = _text(file.attrs["provenance"])
            self.identity: dict[str, Any] = json.loads(identity)
            self.provenance: dict[str, Any] = json.loads(provenance)
            self.digest = _text(file.attrs["digest"])
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            arrays = [name for name in names if not name.startswith("digests/")]
            if sorted(names) != sorted(arrays + [f"digests/{name}" for name in arrays]):
                raise self._damaged("arrays and their digests do not correspond")
            self._blocks = {name: np.asarray(file[f"digests/{name}"][()]) for name in arrays}
            self._layout: dict[str, tuple[int | None, tuple[int, ...], np.dtype[Any]]] = {}
            size = self.path.stat().st_size
            for name in arrays:
                dataset = file[name]
                layout = (dataset.id.get_offset(), dataset.shape, dataset.dtype)
                end = (layout[0] or 0) + int(np.prod(layout[1], dtype=np.int64)) * layout[2].itemsize
                if end > size:
                    raise self._damaged(f"/{name} ends at byte {end}, the file at {size}")
                self._layout[name] = layout
        described = {
            name: (dtype.str, list(shape), self._blocks[name].tobytes())
            for name, (_, shape, dtype) in self._layout.items()
        }
        expected = root_digest(self.schema, self.identity, self.provenance, described)
        written_form = (canonical_json(self.identity), canonical_json(self.provenance))
        if expected != self.digest or written_form != (identity, provenance):
            raise self._damaged("attributes, shapes or block digests do not match the content digest")

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and dtype of every array, by path."""
        return {name: (shape, dtype) for name, (_, shape, dtype) in self._layout.items()}

    def require(self, name: str) -> None:
        """Raise SchemaError unless the file has the array `name`."""
        if name not in self._layout:
            raise SchemaError(f"{self.path} has no array /{name}; it has {sorted(self._layout)}")

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

    def strings(self, name: str) -> np.ndarray:
        """A string array, decoded."""
        return decode_strings(self.view(name))

    def check_all(self) -> None:
        """Check every block of every array; raises IntegrityError at the first that is damaged."""
        for name in self._layout:
            self.view(name)

    def extents(self, name: str) -> Iterator[tuple[int, int, int, int, bytes]]:
        """Where an array's blocks lie: (first row, last row + 1, byte offset, bytes, SHA-256) of each."""
        self.require(name)
        offset, shape, dtype = self._layout[name]
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        if offset is None and shape[0] * row_bytes:
            raise self._damaged(f"/{name} is not contiguous")
        for (start, stop), digest in zip(block_bounds(shape[0]), self._blocks[name], strict=True):
            position = (offset or 0) + start * row_bytes
            yield start, stop, position, (stop - start) * row_bytes, digest.tobytes()

    def block_digests(self, name: str) -> np.ndarray:
        """SHA-256 of each block of rows of an array: uint8 (n_blocks, 32)."""
        self.require(name)
        return self._blocks[name]

    def _map(self, name: str) -> np.ndarray:
        self.require(name)
        if name not in self._maps:
            offset, shape, dtype = self._layout[name]
            if int(np.prod(shape, dtype=np.int64)) == 0:
                rows = np.zeros(shape, dtype)
            elif offset is None:
                raise self._damaged(f"/{name} is not contiguous")
            else:
                rows = np.memmap(self.path, dtype, "r", offset, shape).view(np.ndarray)
            rows.flags.writeable = False
            # First what other threads look up second: they may come as soon as the map is there.
            self._checked[name] = np.zeros(len(self._blocks[name]), bool)
            self._maps[name] = rows
        return self._maps[name]

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
        """Forget the mapped arrays; views already handed out stay valid."""
        self._maps.clear()
        self._checked.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "surrogateescape")
