"""An object store (S3, Google's, Azure's): bytes behind names, reached by fsspec.

An object is there whole or not at all, also where its writer is killed, and is never changed in its midst. It
cannot be renamed, and nothing is locked: the one thing that two writers can agree by is who created a name
first. fsspec takes credentials and the server's address from the provider's own files and variables.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from store.errors import StoreError

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_THERE = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_NO_CONDITIONS = {"NotImplemented", "501", "InvalidArgument"}
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_MAX_DETAIL = 300


class RemoteError(StoreError):
    """An object store cannot be reached or used, or what is there is not what should be."""


class LostObjectError(RemoteError):
    """An object that was named is not there."""


@dataclass(frozen=True)
class Objects:
    """The objects below a URL such as `s3://bucket/prefix`. Every method raises RemoteError."""

    url: str

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every object below a folder, by its name there."""
        return {name: n_bytes for name, (n_bytes, _) in self.listed(folder).items()}

    def listed(self, folder: str) -> dict[str, tuple[int, float | None]]:
        """Bytes of every object below a folder, by its name there, and when it was written: seconds since
        1970 by the store's clock, None where it does not tell."""

        def find(filesystem: Any, path: str) -> dict[str, tuple[int, float | None]]:
            filesystem.invalidate_cache()
            found = filesystem.find(path, detail=True)
            return {
                name[len(path) :].lstrip("/"): (int(about["size"]), _when(about))
                for name, about in found.items()
            }

        listed: dict[str, tuple[int, float | None]] = self._do("listed", folder, find)
        return listed

    def read(self, name: str) -> bytes | None:
        """The bytes of a small object; None where it is not there."""
        try:
            return bytes(self._do("read", name, lambda filesystem, path: filesystem.cat_file(path)))
        except LostObjectError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a small object."""
        self._do("written", name, lambda filesystem, path: filesystem.pipe_file(path, content))

    def create(self, name: str, content: bytes) -> bool:
        """Make a small object unless there is one of that name: False. Servers that know no conditions are
        asked first, so there of two writers at one moment both may think that they made it."""

        def create(filesystem: Any, path: str) -> bool:
            try:
                filesystem.pipe_file(path, content, mode="create")
                return True
            except FileExistsError:
                return False
            except Exception as error:
                if _code(error) in _THERE:
                    return False
                if _code(error) not in _NO_CONDITIONS and not isinstance(error, TypeError):
                    raise
            if filesystem.exists(path):
                return False
            filesystem.pipe_file(path, content)
            return True

        return bool(self._do("written", name, create))

    def upload(self, file: Path, name: str) -> None:
        """Make or replace an object of a file's bytes."""
        self._do("written", name, lambda filesystem, path: filesystem.put_file(str(file), path))

    def download(self, name: str, file: Path) -> None:
        """An object's bytes into a file. Raises LostObjectError too, and OSError where the disk is full."""
        self._do("read", name, lambda filesystem, path: filesystem.get_file(path, str(file)))

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is removed already."""
        try:
            self._do("removed", name, lambda filesystem, path: filesystem.rm_file(path))
        except LostObjectError:
            return

    def _do(self, what: str, name: str, act: Callable[[Any, str], Any]) -> Any:
        with _told(self.url, what, name):
            filesystem, root = _filesystem(self.url)
            return act(filesystem, f"{root.rstrip('/')}/{name}")


def _when(about: Mapping[str, Any]) -> float | None:
    when = next((about[key] for key in ("LastModified", "mtime", "created") if key in about), None)
    return when.timestamp() if isinstance(when, datetime) else when if isinstance(when, float) else None


def check_url(url: str) -> str:
    """The URL, if it is one of an object store. Raises RemoteError."""
    kind = url.partition("://")[0]
    if "://" not in url or kind in ("file", "local", "http", "https") or "::" in url:
        raise RemoteError(
            f"{url!r} is no place in an object store; expected a URL such as s3://BUCKET/FOLDER. A folder "
            "that all machines see needs none: give it to each as --data"
        )
    if not url.partition("://")[2].strip("/"):
        raise RemoteError(f"{url!r} names no bucket; expected a URL such as s3://BUCKET/FOLDER")
    return url.rstrip("/")


@lru_cache(maxsize=8)
def _filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system, which remembers no listings, and the path in it."""
    import fsspec

    filesystem, path = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    return filesystem, str(path)


def _code(error: BaseException | None) -> str:
    """What the server called it, '' where it did not."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


@contextmanager
def _told(url: str, what: str, name: str) -> Iterator[None]:
    """What every protocol calls its own way, as a RemoteError that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except ImportError as error:
        package = _PACKAGES.get(url.partition("://")[0], "")
        install = "'image-aesthetics-store[s3]'" if package in ("", "s3fs") else package
        raise RemoteError(
            f"{url} cannot be used: it needs {package or error}: pip install {install}"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK and not _code(error):
            raise
        kinds = {kind.__name__ for kind in type(error).__mro__}
        detail = " ".join(str(error).split())[:_MAX_DETAIL] or type(error).__name__
        if isinstance(error, ValueError) and "rotocol" in detail:
            raise RemoteError(f"{url}: {detail}. Expected a URL such as s3://BUCKET/FOLDER") from error
        if isinstance(error, FileNotFoundError) and _code(error) != "NoSuchBucket":
            raise LostObjectError(f"{url}/{name} is not there") from error
        if _code(error) == "NoSuchBucket":
            advice = "There is no such bucket, or the server is another than meant (AWS_ENDPOINT_URL)"
        elif kinds & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "NoAuthTokenError"}:
            advice = (
                "Say who you are as the provider's own tools want it: AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials"
            )
        elif isinstance(error, PermissionError):
            advice = "These credentials may not do that here; a run reads, lists, writes and removes"
        else:
            advice = (
                "Is the network up, and the address right (AWS_ENDPOINT_URL)? What is finished is kept: run "
                "the same command again to go on"
            )
        raise RemoteError(f"{url}/{name} cannot be {what}: {detail.rstrip('.')}. {advice}") from error
