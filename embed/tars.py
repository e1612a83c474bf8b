"""Tar files read in place: where each member lies, and its bytes, if they are still the ones listed."""

import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from embed.tables import DatasetError
from embed.urls import is_url, open_file, read_range

BLOCK = tarfile.BLOCKSIZE
MAX_HEADER = 2**20
"""Bytes that one header (a long name, PAX attributes) may take; their size stands in the file itself."""
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


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
