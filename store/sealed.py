"""Sealed HDF5 files: named arrays whose every byte of meaning is covered by one digest.

Layout (docs/file-format.md has the contract): contiguous little-endian datasets; SHA-256 per block of
rows in `/digests/<array>`; root attributes `schema`, `schema_version`, `identity`, `provenance`,
`block_rows` and `digest`, the SHA-256 over all of these and over the block digests. Opening checks everything
but the rows; rows are checked block by block the first time they are read.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
    digest_blocks,
    digest_of_json,
    encode_strings,
)
from store.errors import IntegrityError, MissingFileError, SchemaError, SpaceError

SCHEMA_VERSION = 1
_ATTRIBUTES = {"schema", "schema_version", "identity", "provenance", "block_rows", "digest"}
_KINDS_STORED = "iufSb"


@dataclass(frozen=True)
class Streamed:
    """An array too large to hold: its shape, dtype, known block digests, and its blocks in order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    digests: np.ndarray
    blocks: Iterable[np.ndarray]


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


def write_sealed(
    path: Path,
    schema: str,
    identity: Mapping[str, Any],
    provenance: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray | Streamed],
) -> str:
    """Write a sealed file durably and return its content digest.

    The file appears under its name complete or not at all: it is written as `<name>.partial`, read back
    and checked, fsynced, renamed, and its directory fsynced. Space is reserved before the rows are
    written, so that a full disk is a SpaceError and not a half-written file.
    """
    prepared = {name: _prepare(array) for name, array in sorted(arrays.items())}
    digest = root_digest(
        schema,
        identity,
        provenance,
        {
            name: (a.dtype.str, list(a.shape), np.ascontiguousarray(a.digests).tobytes())
            for name, a in prepared.items()
        },
    )
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_space(path, prepared.values())
        offsets = _write_structure(partial, schema, identity, provenance, prepared, digest)
        _write_rows(partial, prepared, offsets)
    except OSError as error:
        raise _space_error(path, error) from error
    with SealedFile(partial, schema) as written:
        written.check_all()
        if written.digest != digest:
            raise IntegrityError(f"{partial}: reads back as {written.digest}, written as {digest}")
    try:
        publish(partial, path)
    except OSError as error:
        raise _space_error(path, error) from error
    return digest


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its final name so that it survives a power loss."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(partial, path)
    fsync_directory(path.parent)


def fsync_directory(folder: Path) -> None:
    """Make renames and removals inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file, complete or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        publish(partial, path)
    except OSError as error:
        raise _space_error(path, error) from error


def _prepare(array: np.ndarray | Streamed) -> Streamed:
    if isinstance(array, Streamed):
        return array
    if array.dtype.kind in "UO":
        array = encode_strings(array)
    if array.dtype.kind not in _KINDS_STORED:
        raise TypeError(f"the store keeps numbers and strings, got an array of {array.dtype}")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    blocks = (array[start:stop] for start, stop in block_bounds(len(array)))
    return Streamed(array.shape, array.dtype, digest_blocks(array), blocks)


def _require_space(path: Path, arrays: Iterable[Streamed]) -> None:
    needed = sum(_n_bytes(a) for a in arrays) + 2**20
    filesystem = os.statvfs(path.parent)
    free = filesystem.f_bavail * filesystem.f_frsize
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free")


def _n_bytes(array: Streamed) -> int:
    return int(np.prod(array.shape, dtype=np.int64)) * array.dtype.itemsize


def _write_structure(
    partial: Path,
    schema: str,
    identity: Mapping[str, Any],
    provenance: Mapping[str, Any],
    arrays: Mapping[str, Streamed],
    digest: str,
) -> dict[str, int | None]:
    """Everything but the rows. The rows themselves are written with plain system calls: when the disk is
    full HDF5 may crash on close, write(2) does not."""
    attributes: dict[str, str | int] = {
        "schema": schema,
        "schema_version": SCHEMA_VERSION,
        "block_rows": BLOCK_ROWS,
        "identity": canonical_json(identity),
        "provenance": canonical_json(provenance),
        "digest": digest,
    }
    offsets: dict[str, int | None] = {}
    # locking=False: HDF5's own file locks fail on some shared file systems; runs lock for themselves.
    with h5py.File(partial, "w", libver=("earliest", "v110"), locking=False) as file:
        for key, value in attributes.items():
            text = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            file.attrs[key] = np.bytes_(text) if isinstance(text, bytes) else np.int64(text)
        for name, array in arrays.items():
            creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            creation.set_obj_track_times(False)  # clocks in the file would make equal inputs differ
            links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
            links.set_create_intermediate_group(True)
            dataset = h5py.h5d.create(
                file.id,
                name.encode(),
                h5py.h5t.py_create(array.dtype, logical=True),
                h5py.h5s.create_simple(array.shape),
                creation,
                links,
            )
            offsets[name] = dataset.get_offset()
            file.create_dataset(f"digests/{name}", data=array.digests)
    return offsets


def _write_rows(partial: Path, arrays: Mapping[str, Streamed], offsets: Mapping[str, int | None]) -> None:
    descriptor = os.open(partial, os.O_WRONLY)
    try:
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
        for name, array in arrays.items():
            position = offsets[name]
            for block in array.blocks:
                assert position is not None
                view = np.ascontiguousarray(block).view(np.uint8).reshape(-1).data
                while view:
                    written = os.pwrite(descriptor, view, position)
                    position += written
                    view = view[written:]
    finally:
        os.close(descriptor)


def _space_error(path: Path, error: OSError) -> SpaceError:
    return SpaceError(
        f"cannot write {path}: {error.strerror or error}. Nothing that was finished is lost. "
        "Free some space or choose another place (--data), then run the same command again."
    )


class SealedFile:
    """An open sealed file: header checked on opening, rows checked on first reading; read-only.

    Raises MissingFileError, SchemaError (another kind or version) or IntegrityError (damage).
    """

    def __init__(self, path: Path | str, schema: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingFileError(f"{self.path} does not exist")
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

    def strings(self, name: str) -> np.ndarray:
        """A string array, decoded."""
        return decode_strings(self.view(name))

    def check_all(self) -> None:
        """Check every block of every array; raises IntegrityError at the first that is damaged."""
        for name in self._layout:
            self.view(name)

    def damaged_blocks(self) -> Iterator[tuple[str, int, int]]:
        """(array, first row, last row + 1) of every block whose rows are not what was written."""
        for name, (_, shape, _) in self._layout.items():
            rows = self._map(name)
            for index, (start, stop) in enumerate(block_bounds(shape[0])):
                if digest_block(rows[start:stop]) != self._blocks[name][index].tobytes():
                    yield name, start, stop

    def block_digests(self, name: str) -> np.ndarray:
        """SHA-256 of each block of rows of an array: uint8 (n_blocks, 32)."""
        self.require(name)
        return self._blocks[name]

    def _map(self, name: str) -> np.ndarray:
        self.require(name)
        if name not in self._maps:
            offset, shape, dtype = self._layout[name]
            if int(np.prod(shape, dtype=np.int64)) == 0:
                self._maps[name] = np.zeros(shape, dtype)
            elif offset is None:
                raise self._damaged(f"/{name} is not contiguous")
            else:
                mapped = np.memmap(self.path, dtype, "r", offset, shape)
                self._maps[name] = mapped.view(np.ndarray)
            self._maps[name].flags.writeable = False
            self._checked[name] = np.zeros(len(self._blocks[name]), bool)
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
