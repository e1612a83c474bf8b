"""Feature files whose rows stay in many sealed files: shards, and one small sealed file that names them.

    features/vit_b32.openai.h5            the manifest (kind `iaa/shards`): ids, failures, order and digests
    features/vit_b32.openai.h5.shards/    the shards, each a part of the run under the name of its digest

A shard's name is its content, so none is ever written over: another file of this name comes about by another
manifest, which takes the place of the old one by one rename, and what is not named any more is removed after
that. The digest is that of the one file with the same rows (docs/file-format.md).
"""

import hashlib
import logging
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from store.arrays import Arrays
from store.digests import BLOCK_ROWS, block_bounds, digest_pieces
from store.durable import make_folder, share_file, space_error
from store.errors import IntegrityError, MissingFileError, ReplacedError, SchemaError, StoreError
from store.sealed import SealedFile, Streamed, prepare, write_sealed
from store.sealed_file import described, root_digest
from store.system import flush_folder, max_open_files

logger = logging.getLogger(__name__)

SHARDS_SCHEMA = "iaa/shards"
FEATURES_SCHEMA = "iaa/features"
SHARD_ABOVE = 1_000_000
SHARD_BYTES = 2**36
"""Rows, and bytes of rows, above which a finished run keeps its parts as shards."""
_TABLES = ("shard/", "array/", "features_sha256")


def shard_folder(path: Path) -> Path:
    """Where the shards of a manifest lie."""
    return path.with_name(path.name + ".shards")


def shard_path(path: Path, digest: str) -> Path:
    """A shard, by its content digest."""
    return shard_folder(path) / f"{digest}.h5"


def n_bytes_of(path: Path) -> int:
    """Bytes of a file on the disk, with those of its shards."""
    folder = shard_folder(path)
    shards = [entry.stat().st_size for entry in os.scandir(folder)] if folder.is_dir() else []
    return path.stat().st_size + sum(shards)


class Joined:
    """Rows of several sealed files as if they were in one. Files are opened as their rows are asked for, and
    some of them are kept open; threads may share it."""

    def __init__(
        self, openers: Sequence[Callable[[], SealedFile]], n_rows: Sequence[int], n_open: int | None = None
    ) -> None:
        self._openers = openers
        self.starts = np.cumsum([0, *n_rows]).tolist()
        self._n_open = max(8, max_open_files() // 2) if n_open is None else n_open
        self._opened: OrderedDict[int, SealedFile] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def n_rows(self) -> int:
        """Rows of all files together."""
        return int(self.starts[-1])

    def file(self, index: int) -> SealedFile:
        """One of the files, opened. One that falls out of use is let go by nobody having it any more."""
        with self._lock:
            if index not in self._opened:
                self._opened[index] = self._openers[index]()
                while len(self._opened) > self._n_open:
                    self._opened.popitem(last=False)
            self._opened.move_to_end(index)
            return self._opened[index]

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(file, first row, last row + 1 in it) of some rows."""
        index = bisect_right(self.starts, start) - 1
        while start < stop:
            end = min(stop, self.starts[index + 1])
            yield index, start - self.starts[index], end - self.starts[index]
            start, index = end, index + 1

    def view(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop): a view where they lie in one file, else a copy."""
        found = [self.file(i).view(name, first, last) for i, first, last in self._pieces(start, stop)]
        rows = found[0] if len(found) == 1 else np.concatenate(found or [self.file(0).view(name, 0, 0)])
        rows.flags.writeable = False
        return rows

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Rows by number, as a copy; each file is looked into once."""
        (_, *rest), dtype = self.file(0).arrays[name]
        found = np.empty((len(rows), *rest), dtype)
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], self.starts)
        for index in np.flatnonzero(np.diff(bounds)).tolist():
            here = order[bounds[index] : bounds[index + 1]]
            found[here] = self.file(index).take(name, rows[here] - self.starts[index])
        return found

    def pieces(self, name: str) -> Iterator[np.ndarray]:
        """The rows in order, a view of at most a block after the other: memory holds none of them."""
        for index, (first, last) in enumerate(pairwise(self.starts)):
            for start, stop in block_bounds(last - first):
                yield self.file(index).view(name, start, stop)

    def block_digests(self, name: str) -> np.ndarray:
        """SHA-256 of each block of the joined rows: uint8 (n_blocks, 32). Nothing is read where all files but
        the last hold whole blocks, for then they are the files' own; else every row is."""
        if all(start % BLOCK_ROWS == 0 for start in self.starts[:-1]):
            return np.concatenate([self.file(i).block_digests(name) for i in range(len(self._openers))])
        return digest_pieces(self.pieces(name))

    def streamed(self, name: str) -> Streamed:
        """An array of the joined rows, to be written."""
        (_, *rest), dtype = self.file(0).arrays[name]
        return Streamed((self.n_rows, *rest), dtype, self.block_digests(name), self.pieces(name))

    def close(self) -> None:
        """Forget the files."""
        with self._lock:
            self._opened.clear()


class ShardedFile(Arrays):
    """An open manifest with its shards: what the one file with the same rows would be, under its digest.

    The manifest is checked on opening, and that no shard is missing; a shard when it is first read: it is the
    one that the manifest names, and its blocks are what was written.

    Raises as SealedFile; IntegrityError for shards that are missing, damaged or others than those named.
    """

    def __init__(self, manifest: SealedFile) -> None:
        self.manifest = manifest
        self.path, self.schema = manifest.path, FEATURES_SCHEMA
        self.identity, self.provenance = manifest.identity, manifest.provenance
        manifest.require("shard/sha256", "u", (None, 32))
        n_shards = manifest.arrays["shard/sha256"][0][0]
        manifest.require("shard/n_rows", "i", (n_shards,))
        manifest.require("array/name", "S", (None,))
        n_arrays = manifest.arrays["array/name"][0][0]
        manifest.require("array/dtype", "S", (n_arrays,))
        manifest.require("array/width", "i", (n_arrays,))
        manifest.require("array/sha256", "u", (n_arrays, 32))
        manifest.require("features_sha256", "u", (1, 32))
        manifest.require("image_id", "S", (None,))
        self.shards: list[str] = [row.tobytes().hex() for row in manifest.view("shard/sha256")]
        """Content digest of each shard, in order."""
        n_rows = manifest.view("shard/n_rows").tolist()
        if not n_rows or min(n_rows) < 1 or sum(n_rows) != manifest.arrays["image_id"][0][0]:
            raise self._damaged("its shards do not have a row for each image")
        self._sizes = n_rows
        self._described = self._arrays_of_shards(sum(n_rows))
        self.own = [name for name in manifest.arrays if not name.startswith(_TABLES)]
        """Arrays that the manifest itself holds, as the one file would."""
        self.digest = manifest.view("features_sha256")[0].tobytes().hex()
        self._check_root()
        self._check_there()
        self.rows = Joined([self._opener(index) for index in range(n_shards)], n_rows)

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self.path} is damaged: {what}. Restore it from a copy, with the folder "
            f"{shard_folder(self.path).name} beside it, or delete both and make it again. "
            f"Details: iaa verify {self.path}"
        )

    def _arrays_of_shards(self, n_rows: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any], bytes]]:
        found: dict[str, tuple[tuple[int, ...], np.dtype[Any], bytes]] = {}
        columns = (
            self.manifest.strings("array/name").tolist(),
            self.manifest.strings("array/dtype").tolist(),
            self.manifest.view("array/width").tolist(),
            self.manifest.view("array/sha256"),
        )
        for name, dtype, width, sha256 in zip(*columns, strict=True):
            if dtype not in _DTYPES or width < 0 or name in self.manifest.arrays:
                raise self._damaged(f"it declares /{name[:60]} as {dtype[:20]} of width {width}")
            found[name] = ((n_rows, width) if width else (n_rows,), np.dtype(dtype), sha256.tobytes())
        return found

    def _check_root(self) -> None:
        """Raise IntegrityError unless the digest is that of the one file."""
        arrays = {name: self.manifest.described(name) for name in self.own}
        for name, (shape, dtype, sha256) in self._described.items():
            arrays[name] = {"dtype": dtype.str, "shape": list(shape), "sha256": sha256.hex()}
        if root_digest(FEATURES_SCHEMA, self.identity, self.provenance, arrays) != self.digest:
            raise self._damaged("what it declares is not what its digest of the features says")

    def _check_there(self) -> None:
        """Raise IntegrityError naming the first shard that is not there."""
        folder = shard_folder(self.path)
        there = set(os.listdir(folder)) if folder.is_dir() else set()
        missing = [index for index, digest in enumerate(self.shards) if f"{digest}.h5" not in there]
        if missing:
            self.manifest.check_name()  # where an update has replaced it since, the shards are another's
            raise self._without(missing[0], f"{len(missing)} of {len(self.shards)} shards are missing")

    def _without(self, index: int, what: str) -> IntegrityError:
        start = sum(self._sizes[:index])
        rows = f"rows {start} to {start + self._sizes[index] - 1}"
        return self._damaged(f"{what}: number {index} ({rows}), {self.shard_path(index)}")

    def shard_path(self, index: int) -> Path:
        """File of one shard."""
        return shard_path(self.path, self.shards[index])

    def open_shard(self, index: int) -> SealedFile:
        """One shard, checked to be the one that the manifest names."""
        try:
            shard = SealedFile(self.shard_path(index), is_held=False)
        except MissingFileError:
            self.manifest.check_name()
            raise self._without(index, "a shard is missing") from None
        except (IntegrityError, SchemaError) as error:
            error.add_note(f"It is shard {index} of {self.path}: iaa verify {self.path} says what is lost")
            raise
        if shard.digest != self.shards[index]:
            raise self._without(index, "another file lies in the place of a shard")
        for name, (shape, dtype, _) in self._described.items():
            shard.require(name, dtype.kind, (self._sizes[index], *shape[1:]))
        return shard

    def _opener(self, index: int) -> Callable[[], SealedFile]:
        return lambda: self.open_shard(index)

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and dtype of every array of the one file, by path."""
        found = {name: self.manifest.arrays[name] for name in self.own}
        found |= {name: (shape, dtype) for name, (shape, dtype, _) in self._described.items()}
        return dict(sorted(found.items()))

    @property
    def n_bytes(self) -> int:
        """Bytes of the manifest and of its shards."""
        sizes = (self.shard_path(i).stat().st_size for i in range(len(self.shards)))
        return self.manifest.n_bytes + sum(sizes)

    def view(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop) of an array, checked. Rows of several shards are copied: all of a matrix needs
        memory for all of it, which `Features.blocks` does not."""
        if name in self.own:
            return self.manifest.view(name, start, stop)
        self.require(name)
        stop = self.rows.n_rows if stop is None else min(stop, self.rows.n_rows)
        return self.rows.view(name, start, stop)

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Some rows of an array, by index or mask, as a copy, checked."""
        if name in self.own:
            return self.manifest.take(name, rows)
        self.require(name)
        if rows.dtype == bool:
            if len(rows) != self.rows.n_rows:
                raise IndexError(f"a mask of {len(rows)} for {self.rows.n_rows} rows")
            numbers = np.flatnonzero(rows)
        else:
            numbers = np.where(rows < 0, rows + self.rows.n_rows, rows)
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < self.rows.n_rows:
                raise IndexError(f"rows {rows.min()} to {rows.max()} of {self.rows.n_rows}")
        return self.rows.take(name, numbers)

    def check_shards(self) -> None:
        """Raise IntegrityError unless the shards' rows, by their block digests, are those of the digest."""
        for name, (_, _, sha256) in self._described.items():
            if hashlib.sha256(self.rows.block_digests(name).tobytes()).digest() != sha256:
                raise self._damaged(f"/{name} of the shards is not what the digest of the features says")

    def close(self) -> None:
        """Let go of the files; views already handed out stay valid."""
        self.rows.close()
        self.manifest.close()


_DTYPES = {f"<{kind}{n}" for kind in "fiu" for n in (2, 4, 8)} | {"|u1", "|i1", "|b1"}


def open_arrays(path: Path | str, schema: str | None = None) -> SealedFile | ShardedFile:
    """A sealed file, or a manifest with its shards, which then is of kind iaa/features.

    Raises MissingFileError, SchemaError (another kind or version), IntegrityError (damage), ReplacedError.
    """
    for attempt in range(_ATTEMPTS):
        file = SealedFile(path)
        if file.schema != SHARDS_SCHEMA:
            return file if schema in (None, file.schema) else SealedFile(path, schema)  # which refuses it
        try:
            if schema not in (None, FEATURES_SCHEMA):
                raise SchemaError(
                    f"{file.path} is of kind {SHARDS_SCHEMA!r}, expected {schema!r}. Look at it: "
                    f"iaa info {file.path}"
                )
            return ShardedFile(file)
        except ReplacedError:
            file.close()
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


_ATTEMPTS = 10


def write_manifest(
    path: Path,
    identity: Mapping[str, Any],
    provenance: Mapping[str, Any],
    own: Mapping[str, np.ndarray],
    shards: Sequence[tuple[str, int]],
    names: Iterable[str],
    tag: str = "",
    release: Callable[[], None] | None = None,
) -> str:
    """Make a feature file of shards that lie in their folder, and return the digest of the features.

    `own` are the arrays that are no shard's (image_id, failures), `shards` the content digest and number of
    rows of each, in order, `names` the arrays that they hold. Shards that were named before stay
    (`remove_unnamed`).
    """
    rows = Joined([_opener(shard_path(path, digest)) for digest, _ in shards], [n for _, n in shards])
    prepared = {name: prepare(array) for name, array in own.items()}
    in_manifest = {name: described(a.dtype, a.shape, a.digests) for name, a in prepared.items()}
    in_shards: dict[str, dict[str, Any]] = {}
    for name in sorted(names):
        (_, *rest), dtype = rows.file(0).arrays[name]
        in_shards[name] = described(dtype, (rows.n_rows, *rest), rows.block_digests(name))
    rows.close()
    root = root_digest(FEATURES_SCHEMA, identity, provenance, in_manifest | in_shards)
    widths = [about["shape"][1] if len(about["shape"]) > 1 else 0 for about in in_shards.values()]
    arrays: dict[str, np.ndarray | Streamed] = {
        **prepared,
        "shard/sha256": _from_hex(digest for digest, _ in shards),
        "shard/n_rows": np.array([n for _, n in shards], np.int64),
        "array/name": np.array(list(in_shards), dtype=str),
        "array/dtype": np.array([about["dtype"] for about in in_shards.values()], dtype=str),
        "array/width": np.array(widths, np.int64),
        "array/sha256": _from_hex(about["sha256"] for about in in_shards.values()),
        "features_sha256": _from_hex([root]),
    }
    write_sealed(path, SHARDS_SCHEMA, identity, provenance, arrays, tag, release)
    return root


def _opener(path: Path) -> Callable[[], SealedFile]:
    return lambda: SealedFile(path, is_held=False)


def _from_hex(digests: Iterable[str]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32)


def add_shard(path: Path, part: Path, digest: str) -> None:
    """Give a sealed part its place among the shards of `path`; the part stays where it is, too.

    It is not durable before `flush_shards`. Raises SpaceError.
    """
    target = shard_path(path, digest)
    try:
        make_folder(target.parent)
        share_file(part, target)
    except OSError as error:
        raise space_error(target, error) from error


def write_shard(
    path: Path,
    schema: str,
    identity: Mapping[str, Any],
    provenance: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    tag: str = "",
) -> str:
    """Write a new shard of `path` and return its content digest, which is its name. Raises SpaceError."""
    new = shard_folder(path) / f"new{tag}.h5"
    digest = write_sealed(new, schema, identity, provenance, arrays)
    try:
        os.replace(new, shard_path(path, digest))
    except OSError as error:
        raise space_error(new, error) from error
    return digest


def flush_shards(path: Path) -> None:
    """Make the names of shards durable, before a manifest names them. Raises SpaceError."""
    try:
        flush_folder(shard_folder(path))
    except OSError as error:
        raise space_error(shard_folder(path), error) from error


def remove_unnamed(path: Path) -> None:
    """Remove the shards that the finished file `path` does not name: of an earlier one, or of a run that was
    killed. What cannot be removed stays, and costs space alone."""
    folder = shard_folder(path)
    if folder.is_symlink() or not folder.is_dir():
        return
    try:
        with SealedFile(path) as file:
            is_manifest = file.schema == SHARDS_SCHEMA
            named = {row.tobytes().hex() for row in file.view("shard/sha256")} if is_manifest else set()
        for name in sorted(os.listdir(folder)):
            if name.removesuffix(".h5") not in named:
                os.unlink(folder / name)
        if not named:
            os.rmdir(folder)
        flush_folder(folder if named else folder.parent)
    except (StoreError, OSError) as error:
        logger.warning("shards that are not needed any more stay: %s", error)


def merge_shards(path: Path) -> str:
    """Make one file of a manifest and its shards, in memory for one block, and return its digest, which is
    the same. A file that is one already is left alone. Raises IntegrityError, SpaceError."""
    with open_arrays(path) as file:
        if not isinstance(file, ShardedFile):
            return file.digest
        file.check_shards()
        arrays: dict[str, np.ndarray | Streamed] = {name: file.manifest.view(name) for name in file.own}
        arrays |= {name: file.rows.streamed(name) for name in file.arrays if name not in file.own}
        digest = write_sealed(path, FEATURES_SCHEMA, file.identity, file.provenance, arrays, "", file.close)
    remove_unnamed(path)
    return digest
