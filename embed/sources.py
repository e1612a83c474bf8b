"""Where images lie: a folder, webdataset-style tar files, or anything that fsspec can open.

A source lists its image files once, as paths with forward slashes, and hands each out as something that has
`read_bytes`. Tar files are never unpacked: a member is read where it lies, by any number of threads.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import Protocol

from embed.image_files import Sieve, list_image_files, listing_notes, natural_key, without_raw_twins
from embed.tables import DatasetError
from embed.tars import Member, list_members
from embed.urls import RemoteFile, files_at, is_url, list_remote_files, local_path

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
MAX_TARS = 1_000_000
"""Names that the braces of a pattern may stand for: img2dataset's largest sets have some 100,000 tars."""


class ImageFile(Protocol):
    """An image that can be read: a path, or a member of a tar, or a remote file."""

    def read_bytes(self) -> bytes:
        """All bytes. Raises OSError where they cannot be had."""


class Source(Protocol):
    """The image files of a data set."""

    @property
    def location(self) -> str:
        """What people call it: the folder, the tars, the URL."""

    @property
    def files(self) -> list[str]:
        """Path of every image file, each once, in no useful order."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noticed while listing, one sentence each."""

    @property
    def passed_over(self) -> Mapping[str, int]:
        """How many files are no images, by their ending."""

    def at(self, path: str) -> ImageFile:
        """One of the files; whether it can be read shows when it is."""


@dataclass(frozen=True)
class FolderSource:
    """A folder on a mounted file system."""

    root: Path
    files: list[str]
    notes: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def location(self) -> str:
        return str(self.root)

    def at(self, path: str) -> Path:
        return self.root / path


@dataclass(frozen=True)
class TarSource:
    """Tar files, each image once by its name."""

    location: str
    members: Mapping[str, Member]
    notes: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        return list(self.members)

    def at(self, path: str) -> Member:
        return self.members[path]


@dataclass(frozen=True)
class RemoteSource:
    """A folder behind a URL."""

    location: str
    sizes: Mapping[str, int]
    """Bytes per file as listed, -1 where the protocol does not say."""
    notes: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        return list(self.sizes)

    def at(self, path: str) -> RemoteFile:
        return RemoteFile(self.location, path, self.sizes[path])


def open_source(
    location: str, name: str, shard_in_id: bool = False, exclude: Iterable[str] = ()
) -> FolderSource | TarSource | RemoteSource:
    """The images at a location: a folder, tar files (a pattern may stand for several), or a URL of either.

    With `shard_in_id` an image of a tar is called `<tar without ending>/<member>`. `exclude` are patterns of
    what is left out (embed.image_files.Sieve).

    Raises DatasetError, naming the data set, where there is nothing or it cannot be listed.
    """
    location = local_path(location)
    sieve = Sieve(exclude)
    if _means_tars(location):
        tars = _find_tars(location, name)
        members, notes = _gather(tars, shard_in_id, sieve)
        if not members:
            raise DatasetError(f"{location}: no images in {len(tars)} tar files")
        files, n_twins = without_raw_twins(list(members))
        notes += listing_notes(files, sieve, n_twins)
        return TarSource(location, {path: members[path] for path in files}, notes, sieve.passed_over)
    if shard_in_id:
        raise DatasetError(f"{name}: shard_in_id is for tar files, but images is {location}")
    if is_url(location):
        sizes = list_remote_files(location, sieve)
        files, n_twins = without_raw_twins(list(sizes))
        sizes = {path: sizes[path] for path in files}
        return RemoteSource(location, sizes, listing_notes(files, sieve, n_twins), sieve.passed_over)
    root = Path(location)
    if not root.is_dir():
        what = f"{root} is no folder" if root.exists() else f"{root} is no folder (it does not exist)"
        raise DatasetError(f"{what}; expected the images of {name!r} there")
    files, n_twins = without_raw_twins(list_image_files(root, sieve))
    if not files and (n_tars := len(list(root.glob("*.tar")))):
        raise DatasetError(f"{root} holds no images but {n_tars} tar files. Say so: --images '{root}/*.tar'")
    return FolderSource(root, files, listing_notes(files, sieve, n_twins), sieve.passed_over)


def expand_braces(pattern: str) -> list[str]:
    """`a{08..10}.tar` is a08.tar, a09.tar, a10.tar; `{x,y}.tar` is x.tar, y.tar.

    Raises DatasetError for more than MAX_TARS names, before there is any.
    """
    alternatives = [_n_alternatives(braces) for braces in _BRACES.findall(pattern)]
    if (n := math.prod(alternatives)) > MAX_TARS:
        raise DatasetError(
            f"{pattern} stands for {n:,} names, more than the limit of {MAX_TARS:,}. A digit too many? "
            "Where the tars are many, say *.tar"
        )
    return _expand(pattern)


def _n_alternatives(braces: str) -> int:
    if bounds := _RANGE.fullmatch(braces):
        return abs(int(bounds[2]) - int(bounds[1])) + 1
    return braces.count(",") + 1


def _expand(pattern: str) -> list[str]:
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    if bounds := _RANGE.fullmatch(found[1]):
        first, last = sorted(bounds.groups(), key=int)
        middles = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    else:
        middles = found[1].split(",")
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [before + middle + rest for middle in middles for rest in _expand(after)]


def _means_tars(location: str) -> bool:
    return bool(re.search(r"\.(tar|tgz|tar\.[a-z0-9]+)$", location, re.IGNORECASE)) and not (
        "::" not in location and not is_url(location) and Path(location).is_dir()
    )


def _find_tars(location: str, name: str) -> list[str]:
    """The tar files of a pattern, in natural order; every alternative in braces must be there."""
    tars: list[str] = []
    missing: list[str] = []
    for pattern in expand_braces(location):
        if is_url(pattern):
            found = files_at(pattern)
        elif Path(pattern).is_file():
            found = [pattern]
        else:
            found = glob(pattern, recursive=True) if has_magic(pattern) else []
        tars += found
        if not found:
            missing.append(pattern)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DatasetError(f"{missing[0]}{more}: no such tar file; expected the images of {name!r} there")
    return sorted(dict.fromkeys(tars), key=natural_key)


def _gather(tars: list[str], shard_in_id: bool, sieve: Sieve) -> tuple[dict[str, Member], tuple[str, ...]]:
    """Every image once. A name that stands twice must mean the same bytes: which of two pictures an id
    means is not for us to say."""
    members: dict[str, Member] = {}
    repeated: list[str] = []
    n_upward = 0
    for tar in tars:
        prefix = f"{_stem(tar)}/" if shard_in_id else ""
        for member in list_members(tar):
            if not sieve.takes_path(member.name):
                continue
            n_upward += member.was_upward
            path = prefix + member.name
            if path not in members:
                members[path] = member
                continue
            if not _are_equal(members[path], member):
                raise DatasetError(
                    f"{path!r} stands in {members[path].tar} and in {member.tar} with different bytes; an "
                    "id must mean one image. Rename one, or let ids begin with the tar's name: "
                    "-o shard_in_id=true"
                )
            repeated.append(path)
    notes: list[str] = []
    if repeated:
        notes.append(
            f"{len(repeated):,} tar members repeat the name and the bytes of another, the first: "
            f"{repeated[0]}; each is one image"
        )
    if n_upward:
        notes.append(f"{n_upward:,} tar members have '..' in their names; they are called by what follows it")
    return members, tuple(notes)


def _stem(tar: str) -> str:
    return re.sub(r"\.tar$", "", tar.rpartition("/")[2], flags=re.IGNORECASE)


def _are_equal(one: Member, other: Member) -> bool:
    if (one.size, one.kind) != (other.size, other.kind):
        return False
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError as error:
        raise DatasetError(f"{other.tar}: {other.name!r} cannot be compared: {error}") from error
