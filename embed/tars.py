"""Tar files read in place: where each member lies, and its bytes, if they are still the ones listed."""

import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from embed.tables import DatasetError
from embed.urls import is_url, open_file, read_range

BLOCK = tarfile.BLOCKSIZE
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
    is_file: bool = True

    def size_and_time(self) -> tuple[int, int]:
        """Its size as listed, and when the tar file changed last (ns; 0 behind a URL)."""
        try:
            return self.size, 0 if is_url(self.tar) else os.stat(self.tar).st_mtime_ns
        except OSError:
            return -1, 0

    def read_bytes(self) -> bytes:
        """Its bytes. Raises OSError if it is a link, or the tar has changed since it was listed."""
        if not self.is_file:
            raise OSError("it is a link inside the tar file, not an image")
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
        n_members = 0
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for info in archive:
                    n_members += 1
                    if info.isdir():
                        continue
                    file.seek(info.offset_data - BLOCK)
                    crc = zlib.crc32(file.read(BLOCK))
                    name = info.name.lstrip("/").removeprefix("./")
                    is_file = info.isreg() and not info.issparse()
                    yield Member(tar, name, info.offset_data, info.size, crc, is_file)
                end = archive.offset
        except (tarfile.TarError, EOFError, UnicodeDecodeError, ValueError, OSError) as error:
            raise DatasetError(
                f"{tar} cannot be listed after {n_members} members: {error}. Cut short or damaged? Fetch or "
                "make it again"
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
