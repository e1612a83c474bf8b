"""What a sealed file declares, checked before anything of it is read or allocated.

A file may have been sent by anybody, and HDF5 can do much that a sealed file has no use for: links into other
files, rows kept elsewhere, chunks, filters, shapes of any size. All of it is refused here
(docs/file-format.md), so that what is left is named arrays of known size at known places.
"""

import math
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from store.digests import BLOCK_ROWS

MAX_TEXT_BYTES = 2**24
MAX_LINKS = 100_000
MAX_DEPTH = 32
MAX_ROW_BYTES = 2**31
MAX_DIGEST_BYTES = 2**28
KINDS = "iufSb"
TEXTS = ("schema", "identity", "provenance", "digest")
NUMBERS = ("schema_version", "block_rows")
_LAYOUTS = {h5py.h5d.COMPACT: "compact", h5py.h5d.CHUNKED: "chunked", h5py.h5d.VIRTUAL: "virtual"}
_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}


class MalformedError(Exception):
    """The file is HDF5, but not what a writer of sealed files makes."""


@dataclass(frozen=True)
class Extent:
    """Where the rows of an array lie in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def has_schema(file: h5py.File) -> bool:
    """True if it may be a file of this project."""
    return bool(h5py.h5a.exists(file.id, b"schema"))


def read_attributes(file: h5py.File, size: int) -> dict[str, Any]:
    """The root attributes: texts as str, numbers as int. Raises MalformedError."""
    expected = {*TEXTS, *NUMBERS}
    n_found = h5py.h5a.get_num_attrs(file.id)
    names = {h5py.h5a.open(file.id, index=i).name for i in range(min(n_found, len(expected) + 1))}
    found = {name.decode("utf-8", "backslashreplace") for name in names}
    if n_found != len(expected) or found != expected:
        shown = sorted(name[:60] for name in found)
        raise MalformedError(f"attributes are {shown} ({n_found:,}), not {sorted(expected)}")
    values: dict[str, Any] = {}
    for name in (*TEXTS, *NUMBERS):
        attribute = h5py.h5a.open(file.id, name.encode())
        kind = attribute.get_type()
        is_text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
        fits = is_text if name in TEXTS else isinstance(kind, h5py.h5t.TypeIntegerID)
        if not fits or attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR:
            raise MalformedError(f"attribute {name} is no single {'text' if name in TEXTS else 'number'}")
        if kind.get_size() > min(size, MAX_TEXT_BYTES):
            raise MalformedError(f"attribute {name} declares {kind.get_size():,} bytes")
        value = file.attrs[name]
        values[name] = bytes(value).decode("utf-8", "surrogateescape") if is_text else int(value)
    return values


def find_arrays(file: h5py.File, size: int) -> dict[str, tuple[h5py.h5d.DatasetID, Extent]]:
    """Every array of the file by its path. No link is followed that leads out of the file or to what has a
    name already.

    Raises MalformedError for anything that is no array of a sealed file.
    """
    if file.userblock_size:
        raise MalformedError(f"{file.userblock_size:,} foreign bytes stand before its content")
    arrays: dict[str, tuple[h5py.h5d.DatasetID, Extent]] = {}
    groups = [("", h5py.h5g.open(file.id, b"/"), 0)]
    seen = {h5py.h5o.get_info(file.id).addr}
    n_links = 0
    while groups:
        prefix, group, depth = groups.pop()
        n_links += group.get_num_objs()
        if n_links > MAX_LINKS or depth > MAX_DEPTH:
            raise MalformedError(f"more than {MAX_LINKS:,} names, or {MAX_DEPTH} groups in one another")
        links: list[bytes] = []
        group.links.iterate(links.append)
        if prefix and not links:
            raise MalformedError(f"/{prefix[:-1]} is an empty group")
        for link in links:
            name = prefix + _decoded(link)
            about = group.links.get_info(link)
            if about.type != h5py.h5l.TYPE_HARD:
                raise MalformedError(f"/{name} is {_LINKS.get(about.type, 'a foreign link')}, not an array")
            if about.u in seen:
                raise MalformedError(f"/{name} is a second name of something else")
            seen.add(about.u)
            item = h5py.h5o.open(group, link)
            if not isinstance(item, h5py.h5g.GroupID | h5py.h5d.DatasetID):
                raise MalformedError(f"/{name} is no array")
            if h5py.h5a.get_num_attrs(item):
                raise MalformedError(f"/{name} has attributes, which no digest covers")
            if isinstance(item, h5py.h5g.GroupID):
                groups.append((f"{name}/", item, depth + 1))
            else:
                arrays[name] = (item, _extent(name, item, size))
    visited: list[str] = []
    file.visititems(lambda name, item: visited.append(name) if isinstance(item, h5py.Dataset) else None)
    if sorted(visited) != sorted(arrays):  # damage that links do not show
        raise MalformedError("its groups and its objects do not correspond")
    return arrays


def read_digests(
    arrays: dict[str, tuple[h5py.h5d.DatasetID, Extent]],
) -> tuple[dict[str, Extent], dict[str, np.ndarray]]:
    """Where each array lies, and the digests of its blocks. Raises MalformedError where they do not
    correspond."""
    extents = {name: extent for name, (_, extent) in arrays.items() if not name.startswith("digests/")}
    if arrays.keys() != {*extents, *(f"digests/{name}" for name in extents)}:
        raise MalformedError("arrays and their digests do not correspond")
    blocks: dict[str, np.ndarray] = {}
    n_bytes = 0
    for name, extent in extents.items():
        dataset, found = arrays[f"digests/{name}"]
        expected = (-(-extent.shape[0] // BLOCK_ROWS), 32)
        if found.shape != expected or found.dtype != np.uint8:
            raise MalformedError(f"/digests/{name} is {found.dtype} of {found.shape}, not {expected}")
        n_bytes += found.n_bytes
        if n_bytes > MAX_DIGEST_BYTES:
            raise MalformedError(f"digests of more than {MAX_DIGEST_BYTES:,} bytes")
        blocks[name] = np.asarray(h5py.Dataset(dataset)[()])
    return extents, blocks


def _extent(name: str, dataset: h5py.h5d.DatasetID, size: int) -> Extent:
    creation = dataset.get_create_plist()
    if (layout := creation.get_layout()) != h5py.h5d.CONTIGUOUS:
        raise MalformedError(f"/{name} is not contiguous but {_LAYOUTS.get(layout, 'stored in another way')}")
    if creation.get_external_count():
        raise MalformedError(f"/{name} keeps its rows in another file")
    if creation.get_nfilters():
        raise MalformedError(f"/{name} is filtered")
    space, kind = dataset.get_space(), dataset.get_type()
    if space.get_simple_extent_type() != h5py.h5s.SIMPLE or not dataset.shape:
        raise MalformedError(f"/{name} has no rows")
    if kind.get_size() > MAX_TEXT_BYTES:
        raise MalformedError(f"/{name} declares values of {kind.get_size():,} bytes")
    try:
        dtype = np.dtype(dataset.dtype)
        is_plain = dtype.kind in KINDS and kind.equal(h5py.h5t.py_create(dtype, logical=True))
    except (TypeError, ValueError):
        is_plain = False
    if not is_plain or dtype.str[0] not in "<|":
        raise MalformedError(f"/{name} holds neither little-endian numbers nor texts of fixed width")
    extent = Extent(dataset.get_offset() or 0, dataset.shape, dtype)
    end = extent.offset + extent.n_bytes
    if end > size:
        raise MalformedError(f"/{name} ends at byte {end}, the file at {size}")
    if extent.n_bytes and dataset.get_offset() is None:
        raise MalformedError(f"/{name} has no place in the file")
    # Without this an empty array could declare dimensions that no memory holds.
    if math.prod(max(1, n) for n in extent.shape) * dtype.itemsize > max(size, MAX_ROW_BYTES):
        raise MalformedError(f"/{name} declares the shape {extent.shape}")
    return extent


def _decoded(link: bytes) -> str:
    try:
        return link.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"the name {link[:60]!r} is no UTF-8") from error
