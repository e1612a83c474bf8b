"""Where images lie: a folder, webdataset-style tar files, or anything that fsspec can open; a file each.

A source lists its image files once, as paths with forward slashes, and hands each out as something that has
`read_bytes`. Tar files are never unpacked: a member is read where it lies, by any number of threads.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from embed.images.errors import DatasetError
from embed.images.files import Sieve
from embed.images.sources.folder import FolderSource, open_folder
from embed.images.sources.tars import TarSource, means_tars, open_tars
from embed.images.sources.urls import RemoteSource, is_url, local_path, open_url

__all__ = ["FolderSource", "ImageFile", "RemoteSource", "Source", "TarSource", "is_url", "open_source"]


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


def open_source(
    location: str, name: str, shard_in_id: bool = False, exclude: Iterable[str] = ()
) -> FolderSource | TarSource | RemoteSource:
    """The images at a location: a folder, tar files (a pattern may stand for several), or a URL of either.

    With `shard_in_id` an image of a tar is called `<tar without ending>/<member>`. `exclude` are patterns of
    what is left out (embed.images.files.Sieve).

    Raises DatasetError, naming the data set, where there is nothing or it cannot be listed.
    """
    location = local_path(location)
    sieve = Sieve(exclude)
    if means_tars(location):
        return open_tars(location, name, shard_in_id, sieve)
    if shard_in_id:
        raise DatasetError(f"{name}: shard_in_id is for tar files, but images is {location}")
    return open_url(location, sieve) if is_url(location) else open_folder(location, name, sieve)
