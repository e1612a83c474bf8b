"""Sealed HDF5 files: named arrays whose every byte of meaning is covered by one digest.

Layout (docs/file-format.md has the contract): contiguous little-endian datasets; SHA-256 per block of
rows in `/digests/<array>`; root attributes `schema`, `schema_version`, `identity`, `provenance`,
`block_rows` and `digest`, the SHA-256 over all of these and over the block digests. Opening checks everything
but the rows; rows are checked block by block the first time they are read.
"""

import errno
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from store.digests import BLOCK_ROWS, block_bounds, canonical_json, digest_blocks, encode_strings
from store.durable import Piece, make_folder, publish, sole_writer, space_error, write_json, write_pieces
from store.errors import IntegrityError, SchemaError
from store.sealed_file import SCHEMA_VERSION, SealedFile, described, root_digest
from store.structure import MAX_DEPTH
from store.system import free_bytes

__all__ = ["SealedFile", "Streamed", "publish", "write_json", "write_sealed"]

_KINDS_STORED = "iufSb"


@dataclass(frozen=True)
class Streamed:
    """An array too large to hold: its shape, dtype, known block digests, and its blocks in order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    digests: np.ndarray
    blocks: Iterable[np.ndarray]


def write_sealed(
    path: Path,
    schema: str,
    identity: Mapping[str, Any],
    provenance: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray | Streamed],
    tag: str = "",
    release: Callable[[], None] | None = None,
) -> str:
    """Write a sealed file durably and return its content digest.

    The file appears under its name complete or not at all: it is written as `<name><tag>.partial`, read back
    and checked, fsynced, renamed, and its directory fsynced. Space is reserved before the rows are
    written, so that a full disk is a SpaceError and not a half-written file. A second writer of the same file
    waits for the first; with different tags they never touch each other's bytes, locks or no locks. `release`
    is called before the file takes its name, to close the one that it replaces: Windows wants that.
    """
    _check_array_names(path, arrays)
    prepared = {name: prepare(array) for name, array in sorted(arrays.items())}
    named = {name: described(a.dtype, a.shape, a.digests) for name, a in prepared.items()}
    digest = root_digest(schema, identity, provenance, named)
    partial = path.with_name(f"{path.name}{tag}.partial")
    structure, offsets = _structure(schema, identity, provenance, prepared, digest)
    try:
        make_folder(path.parent)
        _require_space(path, structure.n_bytes)
        with sole_writer(partial):
            write_pieces(partial, structure.n_bytes, _pieces(structure, prepared, offsets))
            with SealedFile(partial, schema) as written:
                written.check_all()
                if written.digest != digest:
                    raise IntegrityError(f"{partial}: reads back as {written.digest}, written as {digest}")
            if release is not None:
                release()
            publish(partial, path)
    except OSError as error:
        raise space_error(path, error) from error
    return digest


def _check_array_names(path: Path, names: Iterable[str]) -> None:
    """Names come from tables, too: raise SchemaError for those that HDF5 would read as something else."""
    known = set(names)
    for name in sorted(known):
        parts = name.split("/")
        outer = ("/".join(parts[:n]) for n in range(1, len(parts)))
        if "" in parts or "." in parts or "\0" in name or parts[0] == "digests" or not _is_utf8(name):
            problem = "an HDF5 file cannot hold an array of that name"
        elif len(parts) > MAX_DEPTH:
            problem = f"it has more than {MAX_DEPTH - 1} slashes"
        elif clash := next((o for o in outer if o in known), None):
            problem = f"there is {clash!r} as well, and one name cannot be array and folder"
        else:
            continue
        raise SchemaError(f"{path} cannot have /{name[:100]!a}: {problem}. Rename it (a column?)")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def prepare(array: np.ndarray | Streamed) -> Streamed:
    """An array as it is stored, its blocks hashed; to be written once."""
    if isinstance(array, Streamed):
        return array
    if array.dtype.kind in "UO":
        array = encode_strings(array)
    if array.dtype.kind not in _KINDS_STORED:
        raise TypeError(f"the store keeps numbers and strings, got an array of {array.dtype}")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    blocks = (array[start:stop] for start, stop in block_bounds(len(array)))
    return Streamed(array.shape, array.dtype, digest_blocks(array), blocks)


def _require_space(path: Path, n_bytes: int) -> None:
    needed = n_bytes + 2**20
    free = free_bytes(path.parent)
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 2**20:.2f} MiB needed, {free / 2**20:.2f} MiB free")


class _Structure(io.RawIOBase):
    """What HDF5 writes, kept in memory: a few kilobytes around the rows, which it never sees."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.n_bytes = 0
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.n_bytes}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.pieces.append((self._position, piece))
        self._position += len(piece)
        self.n_bytes = max(self.n_bytes, self._position)
        return len(piece)

    def readinto(self, buffer: Any) -> int:
        """What was written there; zeros where nothing was."""
        start, found = self._position, bytearray(len(buffer))
        for position, piece in self.pieces:
            low, high = max(position, start), min(position + len(piece), start + len(found))
            if low < high:
                found[low - start : high - start] = piece[low - position : high - position]
        buffer[:] = found
        self._position += len(found)
        return len(found)

    def truncate(self, size: int | None = None) -> int:
        self.n_bytes = self._position if size is None else size
        return self.n_bytes


def _structure(
    schema: str,
    identity: Mapping[str, Any],
    provenance: Mapping[str, Any],
    arrays: Mapping[str, Streamed],
    digest: str,
) -> tuple[_Structure, dict[str, int | None]]:
    """Everything but the rows, and where the rows go. HDF5 lays the file out in memory; the disk sees plain
    system calls alone: when it is full, HDF5 may crash on close, write(2) does not."""
    attributes: dict[str, str | int] = {
        "schema": schema,
        "schema_version": SCHEMA_VERSION,
        "block_rows": BLOCK_ROWS,
        "identity": canonical_json(identity),
        "provenance": canonical_json(provenance),
        "digest": digest,
    }
    offsets: dict[str, int | None] = {}
    structure = _Structure()
    with h5py.File(structure, "w", libver=("earliest", "v110")) as file:
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
    return structure, offsets


def _pieces(
    structure: _Structure, arrays: Mapping[str, Streamed], offsets: Mapping[str, int | None]
) -> Iterator[Piece]:
    yield from structure.pieces
    for name, array in arrays.items():
        position = offsets[name]
        for block in array.blocks:
            assert position is not None
            yield position, block
            position += block.nbytes
