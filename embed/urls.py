"""Files by path or URL: local ones plainly, all others through fsspec (s3, gs, http, memory, ...).

fsspec takes credentials and settings from its own configuration files and environment variables.
"""

from dataclasses import dataclass
from typing import IO, Any

from embed.image_files import is_image_name
from embed.tables import DatasetError


@dataclass(frozen=True)
class RemoteFile:
    """One file below a URL; like a path it has `read_bytes`."""

    root: str
    path: str
    size: int

    def size_and_time(self) -> tuple[int, int]:
        """Its size as listed, -1 if that is not known, and 0: protocols do not agree about times."""
        return self.size, 0

    def read_bytes(self) -> bytes:
        """Its bytes. Raises OSError where they cannot be had, whatever the protocol calls that."""
        try:
            filesystem, root = _filesystem(self.root)
            found: bytes = filesystem.cat_file(f"{root.rstrip('/')}/{self.path}" if root else self.path)
            return found
        except OSError:
            raise
        except Exception as error:  # every protocol has its own kinds
            raise OSError(f"{type(error).__name__}: {error}") from error


def is_url(location: str) -> bool:
    """True for what fsspec opens, such as `s3://bucket/folder` or `zip://*.tar::file.zip`."""
    return "://" in location or "::" in location


def local_path(location: str) -> str:
    """A `file://` URL as a plain path; anything else as it is."""
    if location.startswith("file://"):
        from fsspec.implementations.local import LocalFileSystem

        return str(LocalFileSystem._strip_protocol(location))
    return location


def open_file(location: str) -> IO[bytes]:
    """A file for reading, seekable. Raises DatasetError where it cannot be opened."""
    try:
        if not is_url(location):
            return open(location, "rb")
        filesystem, path = _filesystem(location)
        opened: IO[bytes] = filesystem.open(path, "rb")
        return opened
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"{location} cannot be opened: {_why(error)}") from error


def read_range(location: str, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of a file, fewer at its end. Raises OSError where it cannot be read."""
    if not is_url(location):
        with open(location, "rb") as file:
            file.seek(start)
            return file.read(stop - start)
    try:
        filesystem, path = _filesystem(location)
        found: bytes = filesystem.cat_file(path, start=start, end=stop)
        return found
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def files_at(pattern: str) -> list[str]:
    """The URLs that a URL or a URL pattern stands for; empty where there is none."""
    filesystem, path = _filesystem(pattern)
    try:
        found = filesystem.glob(path) if any(c in path for c in "*?[") else [path]
        return [filesystem.unstrip_protocol(p) for p in found if filesystem.isfile(p)]
    except Exception as error:
        raise DatasetError(f"{pattern} cannot be listed: {_why(error)}") from error


def list_remote_files(root: str) -> dict[str, int]:
    """Size (-1: unknown) of every image file below a URL, by its path there; hidden ones are left out."""
    filesystem, path = _filesystem(root)
    prefix = path.rstrip("/") + "/" if path else ""
    try:
        if not filesystem.isdir(path):
            raise DatasetError(f"{root} is no folder; expected the images there, or the name of a .tar file")
        found = {f.removeprefix(prefix): about for f, about in filesystem.find(path, detail=True).items()}
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"{root} cannot be listed: {_why(error)}") from error
    return {
        f: -1 if about.get("size") is None else int(about["size"])
        for f, about in found.items()
        if is_image_name(f) and not any(p.startswith(".") for p in f.split("/"))
    }


def _filesystem(location: str) -> tuple[Any, str]:
    """fsspec's file system and the path in it; fsspec keeps one of each kind."""
    import fsspec

    try:
        filesystem, path = fsspec.url_to_fs(location)
    except (ValueError, ImportError) as error:
        raise DatasetError(f"{location} cannot be opened: {_why(error)}") from error
    return filesystem, str(path)


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
