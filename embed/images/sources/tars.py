"""Images in tar files, which are read in place: where each member lies, and its bytes, if they are still the
ones listed."""

import math
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import IO

from embed.images.errors import DatasetError
from embed.images.files import Sieve, listing_notes, natural_key, without_raw_twins
from embed.images.sources.urls import files_at, is_url, open_file, read_range

BLOCK = tarfile.BLOCKSIZE
MAX_HEADER = 2**20
"""Bytes that one header (a long name, PAX attributes) may take; their size stands in the file itself."""
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
MAX_TARS = 1_000_000
"""Names that the braces of a pattern may stand for: img2dataset's largest sets have some 100,000 tars."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a tar file; like a path it has `read_bytes`."""

    tar: str
    name: str
    start: int
    """Where its bytes begin; its header is the block before."""
    size: int
    header_crc: int
    kind: str = ""
    """What it is instead of a plain file: a link, a device, ..."""
    was_upward: bool = False
    """Its name in the tar leads out of the tar's folder (`../`)."""

    def size_and_time(self) -> tuple[int, int]:
        """Its size as listed, and when the tar file changed last (ns; 0 behind a URL)."""
        try:
            return self.size, 0 if is_url(self.tar) else os.stat(self.tar).st_mtime_ns
        except OSError:
            return -1, 0

    def read_bytes(self) -> bytes:
        """Its bytes. Raises OSError if it is a link, or the tar has changed since it was listed."""
        if self.kind:
            raise OSError(f"it is {self.kind} inside the tar file, not an image")
        found = read_range(self.tar, self.start - BLOCK, self.start + self.size)
        if len(found) < BLOCK + self.size:
            raise OSError("the tar file ends inside this member: it was cut short after it was listed")
        if zlib.crc32(found[:BLOCK]) != self.header_crc:
            raise OSError("the tar file has changed since it was listed; run the command again")
        return found[BLOCK:]


def list_members(tar: str) -> Iterator[Member]:
    """The members of a tar file that are no folders, in its order.

    Raises DatasetError for a file that is compressed, damaged, cut short, or several tars in one.
    """
    with open_file(tar) as file:
        start = file.read(6)
        if start.startswith(_COMPRESSED):
            raise DatasetError(
                f"{tar} is compressed, so that its members cannot be read where they lie. Images gain "
                "nothing by it: unpack it once (gunzip, zstd -d) and name the .tar"
            )
        file.seek(0)
        n_members = end = 0
        try:
            headers = _Headers(file)
            with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8") as archive:  # type: ignore[call-overload]
                while (info := archive.next()) is not None:
                    archive.members = []  # it keeps every one, 2 KB each
                    n_members += 1
                    if archive.offset <= end:
                        raise ValueError(f"a header leads back to byte {archive.offset:,}")
                    end = archive.offset
                    if info.isdir():
                        continue
                    file.seek(info.offset_data - BLOCK)
                    crc = zlib.crc32(file.read(BLOCK))
                    name, was_upward = _name_below(info.name)
                    yield Member(tar, name, info.offset_data, info.size, crc, _kind(info), was_upward)
                end = archive.offset
        except Exception as error:  # tarfile's own, and whatever a protocol raises while it is read
            raise DatasetError(
                f"{tar} cannot be listed after {n_members} members: {error or type(error).__name__}. Cut "
                "short or damaged? Fetch or make it again"
            ) from error
        file.seek(end)  # tarfile ends in silence at a broken header as well
        rest = file.read(64 * BLOCK)
        if len(rest) < BLOCK or rest[:BLOCK].strip(b"\0"):
            raise DatasetError(
                f"{tar} has no end mark after its {n_members} members (byte {end:,}): cut short or damaged. "
                "Fetch or make it again"
            )
        if rest.strip(b"\0"):
            raise DatasetError(
                f"{tar} goes on after its end mark at byte {end:,} ({n_members} members): several tars "
                "joined, or damage. Keep them apart, or make it again"
            )


class _Headers:
    """The file as tarfile may read it: header by header, never more at once than a header can need."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise ValueError(
                f"a header says that it has {size:,} bytes, more than the limit of {MAX_HEADER:,}"
            )
        return self._file.read(size)


def _name_below(name: str) -> tuple[str, bool]:
    """A member's name as a path below a folder, as tar itself unpacks it: without a leading slash and without
    what stands before the last `..`; and whether there was one."""
    if "\0" in name:
        raise ValueError(f"a member is called {name!r}, and no file can have that name")
    parts = name.split("/")
    is_upward = ".." in parts
    if is_upward:
        name = "/".join(parts[len(parts) - parts[::-1].index("..") :])
    return name.lstrip("/").removeprefix("./"), is_upward


def _kind(info: tarfile.TarInfo) -> str:
    if info.islnk() or info.issym():
        return "a link"
    if info.issparse():
        return "a sparse member"
    return "" if info.isreg() else "a device or pipe" if info.isdev() else "no file"


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


def open_tars(location: str, name: str, shard_in_id: bool, sieve: Sieve) -> TarSource:
    """The images of tar files, for which a pattern may stand. Raises DatasetError, naming the data set, where
    there are none or one cannot be listed."""
    tars = _find_tars(location, name)
    members, notes = _gather(tars, shard_in_id, sieve)
    if not members:
        raise DatasetError(f"{location}: no images in {len(tars)} tar files")
    files, n_twins = without_raw_twins(list(members))
    notes += listing_notes(files, sieve, n_twins)
    return TarSource(location, {path: members[path] for path in files}, notes, sieve.passed_over)


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


def means_tars(location: str) -> bool:
    """True for what ends like a tar file and is no folder."""
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
