"""One writer per file: an advisory lock that the system releases when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.durable import make_folder
from store.errors import BusyError, SpaceError


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while the body runs; BusyError if another process holds it."""
    try:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SpaceError(f"cannot write {path}: {error.strerror}. Choose another place: --data") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 100, 0).decode("ascii", "replace").strip() or "unknown"
            raise BusyError(
                f"another run is writing here (process {holder}, lock {path}). "
                "Wait for it, or stop it; what it has finished is kept."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
