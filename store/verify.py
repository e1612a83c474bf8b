"""Verification: read every byte of meaning in stored files and name what is damaged."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.arrays import Arrays
from store.captions import CAPTIONS_SCHEMA, Captions
from store.errors import StoreError
from store.features import FEATURES_SCHEMA, Features
from store.file_names import file_stem
from store.prompts import PROMPTS_SCHEMA, Prompts
from store.ratings import FILE_NAME, verify_ratings
from store.ratings import SCHEMA as RATINGS_SCHEMA
from store.sealed import SealedFile
from store.shards import ShardedFile, open_arrays
from store.system import n_cores, read_into
from store.targets import TARGETS_SCHEMA, open_targets

READ_BYTES = 2**22
_READERS: dict[str, Callable[[Any], object]] = {
    FEATURES_SCHEMA: Features,
    CAPTIONS_SCHEMA: Captions,
    PROMPTS_SCHEMA: Prompts,
    TARGETS_SCHEMA: lambda file: open_targets(file.path),
}


@dataclass(frozen=True)
class Verdict:
    """What verification found about one file; no `problems` means it is intact."""

    path: Path
    schema: str
    n_bytes: int
    digest: str
    problems: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """True if nothing is wrong."""
        return not self.problems


def stored_files(folder: Path) -> list[Path]:
    """All finished HDF5 files below a folder, and ratings, in order; parts of unfinished runs are left out,
    and shards belong to the file that names them.

    Links are followed, for a data set may lie on another disk; a folder that is reached twice is read once.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        about = os.stat(here)
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = [name for name in folders if not name.endswith((".parts", ".shards"))]
        found += [Path(here, name) for name in files if name.endswith(".h5") or name == FILE_NAME]
    return sorted(found)


def verify_file(path: Path, n_threads: int | None = None) -> Verdict:
    """Check header, structure and every block of rows of one file and of its shards, hashing in several
    threads; of ratings, every row."""
    if path.name == FILE_NAME:
        digest, found = verify_ratings(path)
        n_bytes = path.stat().st_size if path.exists() else 0
        return Verdict(path, RATINGS_SCHEMA, n_bytes, digest, tuple(found))
    n_threads = n_threads or min(8, n_cores())
    try:
        file = open_arrays(path)
    except StoreError as error:
        n_bytes = path.stat().st_size if path.exists() else 0
        return Verdict(path, "unknown", n_bytes, "", (str(error),))
    with file:
        try:
            if isinstance(file, ShardedFile):
                problems = _damaged_shards(file, n_threads)
            else:
                problems = _damaged_rows(file, n_threads)
            if not problems and file.schema in _READERS:
                _READERS[file.schema](file)
        except StoreError as error:
            problems = [str(error)]
        problems += _misplaced(file)
        return Verdict(path, file.schema, file.n_bytes, file.digest, tuple(problems))


def _damaged_shards(file: ShardedFile, n_threads: int) -> list[str]:
    """What is wrong with a manifest and with each of its shards."""
    problems = _damaged_rows(file.manifest, n_threads)
    for index in range(len(file.shards)):
        try:
            shard = file.open_shard(index)
        except StoreError as error:
            problems.append(str(error))
            continue
        name = f"{file.shard_path(index).parent.name}/{file.shard_path(index).name}"
        problems += [f"shard {index}, {name}: {what}" for what in _damaged_rows(shard, n_threads)]
    if not problems:
        file.check_shards()
    return problems


def _misplaced(file: Arrays) -> list[str]:
    """A file in a store's folder that belongs elsewhere: intact, but not what its name says."""
    path, identity = file.path.absolute(), file.identity
    names = {"backbone": path.stem}
    if file.schema == FEATURES_SCHEMA and path.parent.name == "features":
        found = {"backbone": identity.get("backbone"), "data set": file.provenance.get("dataset")}
        names["data set"] = path.parent.parent.name
    elif file.schema == PROMPTS_SCHEMA and path.parent.parent.name == "prompts":
        found = {"backbone": identity.get("backbone"), "prompt set": identity.get("prompt_set")}
        names["prompt set"] = path.parent.name
    elif file.schema == CAPTIONS_SCHEMA and path.parent.name == "captions":
        found, names = {"captions": identity.get("captions")}, {"captions": path.stem}
    elif file.schema == TARGETS_SCHEMA and path.name == "targets.h5":
        found, names = {"data set": identity.get("dataset")}, {"data set": path.parent.name}
    else:
        return []
    return [
        f"it was made for {what} {value!r} but lies in the place of {names[what]!r}: was it swapped?"
        for what, value in found.items()
        if value is not None and file_stem(str(value)) != names[what]
    ]


def _damaged_rows(file: SealedFile, n_threads: int) -> list[str]:
    """One line per block that is not what was written. The file is read, not mapped: a bad sector is then an
    error that can be reported, not a signal."""
    reads: list[_Read] = []
    for name in file.arrays:
        for start, stop, position, n_bytes, digest in file.extents(name):
            if not reads or reads[-1].name != name or reads[-1].n_bytes >= READ_BYTES:
                reads.append(_Read(name, position))
            reads[-1].add(start, stop, n_bytes, digest)
    descriptor = file.descriptor()
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            found = pool.map(lambda read: read.damaged(descriptor), reads)
            return [problem for problems in found for problem in problems]
    finally:
        os.close(descriptor)


@dataclass
class _Read:
    """Blocks of one array that lie one after the other and are read in one go."""

    name: str
    position: int
    n_bytes: int = 0
    blocks: list[tuple[int, int, int, bytes]] = field(default_factory=list)

    def add(self, start: int, stop: int, n_bytes: int, digest: bytes) -> None:
        self.blocks.append((start, stop, n_bytes, digest))
        self.n_bytes += n_bytes

    def damaged(self, descriptor: int) -> list[str]:
        where = f"/{self.name} rows {self.blocks[0][0]} to {self.blocks[-1][1] - 1}"
        buffer = memoryview(bytearray(min(self.n_bytes, READ_BYTES)))
        problems, position = [], self.position
        for start, stop, n_bytes, digest in self.blocks:
            hasher = hashlib.sha256()
            end = position + n_bytes
            while position < end:  # a block may be larger than what is read at once
                try:
                    n_read = read_into(descriptor, buffer[: end - position], position)
                except OSError as error:
                    return [f"{where}: cannot be read ({error.strerror})"]
                if n_read == 0:
                    return [f"{where}: the file ends before them"]
                hasher.update(buffer[:n_read])
                position += n_read
            if hasher.digest() != digest:
                problems.append(f"/{self.name} rows {start} to {stop - 1}: content is not what was written")
        return problems


def verify_folder(folder: Path) -> Iterator[Verdict]:
    """One verdict per stored file below a folder."""
    for path in stored_files(folder):
        yield verify_file(path)
