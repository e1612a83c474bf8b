"""Files by path or URL: local ones plainly, all others through fsspec (s3, gs, http, memory, ...).

fsspec takes credentials and settings from its own configuration files and environment variables. What a web
server sends is bounded by embed.images.sources.web.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar

from embed.images.errors import DatasetError
from embed.images.files import Sieve, listing_notes, without_raw_twins

N_TRIES = 3
PAUSE = 0.5
"""Seconds before the second try; twice as many before the third."""
MAX_WEB_FOLDERS, MAX_WEB_DEPTH = 20_000, 32
"""A web server may link its folders in circles that never end."""
_MAX_DETAIL = 300
_Result = TypeVar("_Result")


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

        def read() -> bytes:
            filesystem, root = _filesystem(self.root)
            return bytes(filesystem.cat_file(f"{root.rstrip('/')}/{self.path}" if root else self.path))

        return _fetch(read)


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


def open_url(location: str, sieve: Sieve) -> RemoteSource:
    """The images below a URL. Raises DatasetError where it cannot be listed."""
    sizes = list_remote_files(location, sieve)
    files, n_twins = without_raw_twins(list(sizes))
    sizes = {path: sizes[path] for path in files}
    return RemoteSource(location, sizes, listing_notes(files, sieve, n_twins), sieve.passed_over)


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

    def read() -> bytes:
        filesystem, path = _filesystem(location)
        return bytes(filesystem.cat_file(path, start=start, end=stop))

    return _fetch(read)


def files_at(pattern: str) -> list[str]:
    """The URLs that a URL or a URL pattern stands for; empty where there is none."""
    if is_web(pattern) and "**" in pattern:
        raise DatasetError(f"{pattern}: '**' would follow every link of a web server. Name a folder: x/*.tar")
    filesystem, path = _filesystem(pattern)
    try:
        found = filesystem.glob(path) if any(c in path for c in "*?[") else [path]
        return [filesystem.unstrip_protocol(p) for p in found if filesystem.isfile(p)]
    except Exception as error:
        raise DatasetError(f"{pattern} cannot be listed: {_why(error)}") from error


def list_remote_files(root: str, sieve: Sieve) -> dict[str, int]:
    """Size (-1: unknown) of every image file below a URL, by its path there; what the sieve leaves out is not
    among them."""
    filesystem, path = _filesystem(root)
    prefix = path.rstrip("/") + "/" if path else ""
    try:
        if not filesystem.isdir(path):
            raise DatasetError(f"{root} is no folder; expected the images there, or the name of a .tar file")
        found = _crawl(filesystem, path) if is_web(root) else filesystem.find(path, detail=True)
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"{root} cannot be listed: {_why(error)}") from error
    names = {f.removeprefix(prefix): about for f, about in found.items()}
    return {
        f: -1 if about.get("size") is None else int(about["size"])
        for f, about in names.items()
        if sieve.takes_path(f)
    }


def is_web(location: str) -> bool:
    """True for http and https."""
    return location.lower().startswith(("http://", "https://"))


def _crawl(filesystem: Any, root: str) -> dict[str, Any]:
    """The files that a web server's folder pages link, folder by folder and never upwards."""
    found: dict[str, Any] = {}
    waiting = deque([(root.rstrip("/") + "/", 0)])
    seen = {waiting[0][0]}
    while waiting:
        folder, depth = waiting.popleft()
        for about in _fetch(lambda folder=folder: filesystem.ls(folder, detail=True)):  # type: ignore[misc]
            name = str(about["name"])
            if "?" in name or "#" in name or "/../" in name or name in seen:
                continue
            if about["type"] != "directory":
                found[name] = about
                continue
            seen.add(name)
            waiting.append((name, depth + 1))
            if depth >= MAX_WEB_DEPTH or len(seen) > MAX_WEB_FOLDERS:
                raise DatasetError(
                    f"{root} has folders in folders without end ({len(seen):,} so far, the last {name}). "
                    "Name the folder with the images, or a list of tars"
                )
    return found


def _fetch(read: Callable[[], _Result]) -> _Result:
    """What `read` gives, tried again where the line or the server failed for the moment.

    Raises OSError, whatever the protocol calls it, with the number of tries.
    """
    for n_tries in range(1, N_TRIES + 1):
        try:
            return read()
        except Exception as error:  # every protocol has its own kinds
            if n_tries < N_TRIES and _may_pass(error):
                time.sleep(PAUSE * 2 ** (n_tries - 1))
                continue
            if isinstance(error, OSError) and n_tries == 1:
                raise
            tries = f" ({n_tries} tries)" if n_tries > 1 else ""
            detail = " ".join(str(error).split())[:_MAX_DETAIL]
            raise OSError(f"{type(error).__name__}: {detail}".rstrip(": ") + tries) from error
    raise AssertionError("unreachable")


def _may_pass(error: Exception) -> bool:
    """True for what another try may mend: a broken line, a server that is busy."""
    status = getattr(error, "status", None)
    if status is not None:
        return status in (408, 429) or status >= 500
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"ClientConnectionError", "ClientPayloadError", "ConnectionError"})


def _filesystem(location: str) -> tuple[Any, str]:
    """fsspec's file system and the path in it; fsspec keeps one of each kind."""
    import fsspec

    try:
        more = {}
        if is_web(location):
            from embed.images.sources.web import client_settings

            more = {"client_kwargs": client_settings()}
        filesystem, path = fsspec.url_to_fs(location, **more)
    except ImportError as error:
        package = {"http": "aiohttp"}.get(location.partition(":")[0].rstrip("s").lower(), "")
        advice = f". It needs {package}: pip install {package}" if package else ""
        raise DatasetError(f"{location} cannot be opened: {_why(error)}{advice}") from error
    except ValueError as error:
        raise DatasetError(f"{location} cannot be opened: {_why(error)}") from error
    return filesystem, str(path)


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
