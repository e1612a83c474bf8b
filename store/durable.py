"""Durable writing: the only system calls by which this project's files come to be.

A file appears under its name complete or not at all, also after a power loss: its bytes are written under
a temporary name, fsynced, renamed, and the folder is fsynced. Everything goes through the functions of `os`
called here and in `store.system`, so a test can record each call and replay what a kill would have left.
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store import system
from store.errors import SpaceError

if TYPE_CHECKING:
    import numpy as np

Piece = tuple[int, "bytes | np.ndarray"]
"""Where in the file, and what."""

logger = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, each entry durable in its own parent."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        os.mkdir(folder)
    except FileExistsError:
        if not folder.is_dir():
            raise
    system.flush_folder(folder.parent)


@contextmanager
def sole_writer(partial: Path) -> Iterator[None]:
    """Wait until no other process writes the file of this temporary name, and keep others waiting.

    Without it a second writer would cut off the file that the first one reads back (SIGBUS), or be renamed
    half written in its place. The lock lies on the temporary file itself, so it needs no other file (but on
    Windows, where it could not be renamed), and the system releases it when its holder dies. Raises OSError.
    """
    locked = partial.with_name(partial.name + ".lock") if system.LOCKS_ARE_APART else partial
    while True:
        descriptor = system.open_file(locked, os.O_RDWR | os.O_CREAT | system.NO_FOLLOW)
        try:
            lock_file(descriptor, locked, waits=True)
            if is_still(descriptor, locked):  # and not published or removed by who held it before
                yield
                return
        finally:
            os.close(descriptor)
            if system.LOCKS_ARE_APART:
                system.remove_open(locked)  # fails while another has it, who will


def lock_file(descriptor: int, path: Path, is_shared: bool = False, waits: bool = False) -> None:
    """`system.lock`, or a warning where the file system has no locks. Raises BlockingIOError, OSError."""
    try:
        system.lock(descriptor, is_shared, waits)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s has no file locks: make sure that no second run writes there", path.parent)


def is_still(descriptor: int, path: Path) -> bool:
    """True if an open file is still the one of this name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def write_pieces(partial: Path, n_bytes: int, pieces: Iterable[Piece]) -> None:
    """Write a file of `n_bytes` from its pieces. The space is reserved first, so that a full disk is an
    OSError before anything is written; after any OSError the file is removed."""
    descriptor = system.open_file(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | system.NO_FOLLOW)
    is_removed = True
    try:
        if n_bytes:
            system.reserve(descriptor, n_bytes)
        for position, piece in pieces:
            _write_at(descriptor, position, piece)
    except OSError:
        is_removed = system.remove_open(partial)
        raise
    finally:
        os.close(descriptor)
        if not is_removed:
            system.remove_open(partial)


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its final name so that it survives a power loss."""
    descriptor = system.open_file(partial, os.O_RDWR)
    try:
        system.flush(descriptor)
    finally:
        os.close(descriptor)
    os.replace(partial, path)
    system.flush_folder(path.parent)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The temporary name under which the body writes a file, alone; then it gets its own name. It appears
    complete or not at all, and of what fails nothing stays. Raises SpaceError for the body's OSError."""
    partial = path.with_name(path.name + ".partial")
    try:
        if partial.is_symlink():  # put there by somebody: neither written through nor waited for
            partial.unlink()
        with sole_writer(partial):
            try:
                yield partial
                publish(partial, path)
            except BaseException:
                system.remove_open(partial)
                raise
    except OSError as error:
        raise space_error(path, error) from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder, which the body makes. One that was left half made is removed first."""
    partial = path.with_name(path.name + ".partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        try:
            yield partial
            os.replace(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        system.flush_folder(path.parent)
    except OSError as error:
        raise space_error(path, error) from error


def remove_folder(folder: Path) -> None:
    """Remove a folder of files; one that is not there is removed already. Of a link to a folder the link is
    removed: what lies there is not ours."""
    if folder.is_symlink():
        os.unlink(folder)
        return
    if not folder.is_dir():
        return
    for name in sorted(os.listdir(folder)):
        os.unlink(folder / name)
    os.rmdir(folder)
    system.flush_folder(folder.parent)


def share_file(source: Path, target: Path) -> None:
    """Give a finished file a second name in another folder of its disk, or a copy where the file system gives
    no second names. What had the name before is replaced. Raises OSError.

    The folder is not flushed.
    """
    if target.exists() and os.path.samefile(source, target):
        return
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        system.link(source, partial)
    except FileNotFoundError:
        raise
    except OSError:  # which number says so differs between file systems
        with whole_file(target) as copy:
            shutil.copyfile(source, copy)
        return
    os.replace(partial, target)


def write_json(path: Path, value: Any, tag: str = "") -> None:
    """Write a small JSON file, complete or not at all."""
    partial = path.with_name(f"{path.name}{tag}.partial")
    text = (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
    try:
        make_folder(path.parent)
        with sole_writer(partial):
            write_pieces(partial, len(text), [(0, text)])
            publish(partial, path)
    except OSError as error:
        raise space_error(path, error) from error


def space_error(path: Path, error: OSError) -> SpaceError:
    """What to tell people when a file cannot be written."""
    if error.errno == errno.ELOOP:
        return SpaceError(
            f"cannot write {path}: its temporary name {error.filename or path} is a link, and links are not "
            "written through. Remove the link, then run the same command again."
        )
    if isinstance(error, PermissionError) and system.LOCKS_ARE_APART:
        return SpaceError(
            f"cannot write {path}: {error.strerror or error}. Windows replaces no file that is open: close "
            "what reads it (a notebook, a report), then run the same command again. Nothing finished is lost."
        )
    return SpaceError(
        f"cannot write {path}: {error.strerror or error}. Nothing that was finished is lost. "
        "Free some space or choose another place, then run the same command again."
    )


def _write_at(descriptor: int, position: int, piece: "bytes | np.ndarray") -> None:
    if not isinstance(piece, bytes | bytearray | memoryview):
        import numpy as np

        view = memoryview(np.ascontiguousarray(piece).view(np.uint8).reshape(-1).data)
    else:
        view = memoryview(piece)
    while view:
        written = system.write_at(descriptor, view, position)
        position += written
        view = view[written:]
