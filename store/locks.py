"""Who may write a file: advisory locks, which the system releases when their holder dies.

Locks save work and give clear messages; no row depends on them. Where a file system has none (some network
mounts), a warning is logged and the run goes on: docs/workers.md says what to see to then.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from store import system
from store.durable import is_still, lock_file, make_folder
from store.errors import BusyError, SpaceError


@dataclass(frozen=True)
class Holder:
    """Who wrote itself into a lock file."""

    process: int
    host: str
    worker: str
    """`1/3` for one of three workers; empty for a run alone."""
    since: float
    """When, in seconds of the file system's clock."""
    is_running: bool | None
    """None where nobody can tell from here: a process of another machine."""


def lock_path(path: Path) -> Path:
    """The lock file beside a file that is to be written."""
    return path.with_name(path.name + ".lock")


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path` alone while the body runs; BusyError if another process holds it."""
    descriptor = _open(path)
    try:
        if not _try_lock(descriptor, path):
            raise _busy(descriptor, path)
        _write(descriptor, _this_process())
        yield
    finally:
        os.close(descriptor)


@contextmanager
def worker_lock(path: Path, worker: tuple[int, int], run: str) -> Iterator[None]:
    """Hold the lock file `path` together with the other workers of one run.

    Args:
        path: lock file, the same for all workers; who wants it alone (write_lock) is refused meanwhile.
        worker: (number from 1, number of workers).
        run: what the workers make (a digest); it must be the same for all.

    Raises:
        BusyError: this worker runs already, a run without workers is writing, or the workers at work
            are of another run or of another number.
    """
    number, n_workers = worker
    with _own_lock(path.with_name(f"{path.name}.{number}-of-{n_workers}"), worker):
        descriptor = _open(path)
        try:
            with turn(path):
                if _try_lock(descriptor, path):
                    _write(descriptor, f"{n_workers} workers, the first {_this_process()}\n{run}")
                if not _try_lock(descriptor, path, is_shared=True):
                    raise _busy(descriptor, path)
                holder, _, other_run = _read(descriptor).partition("\n")
                n_others = holder.partition(" ")[0]
                if (n_others, other_run) != (str(n_workers), run):
                    what = f"of {n_others}" if n_others != str(n_workers) else "with other settings"
                    raise BusyError(
                        f"workers {what} are writing here ({holder}, lock {path}); this is "
                        f"{number}/{n_workers}. Give all workers the same settings, or stop the others "
                        "first; what they have finished is kept."
                    )
            yield
        finally:
            os.close(descriptor)


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for a short turn alone, at beginning or merging the run whose lock file is `path`."""
    with _removed_lock(path.with_name(path.name + ".turn"), is_patient=True):
        yield


def holders(path: Path) -> list[Holder]:
    """Who wrote themselves into the lock file `path` or those of its workers.

    No lock is tried for it: looking disturbs nobody. A run alone that is over has left its name there.
    """
    found = [_holder(file) for file in sorted(path.parent.glob(f"{escape(path.name)}.*-of-*"))]
    return [holder for holder in found or [_holder(path)] if holder is not None]


def _holder(file: Path) -> Holder | None:
    try:
        text, since = file.read_text(encoding="utf-8", errors="replace"), file.stat().st_mtime
    except OSError:
        return None
    said = re.match(r"process (\d+) on (.+)", text)
    if said is None:
        return None
    process, host = int(said[1]), said[2].strip()
    number, _, n_workers = file.suffix.removeprefix(".").partition("-of-")
    is_running = system.is_running(process) if host == socket.gethostname() else None
    return Holder(process, host, f"{number}/{n_workers}" if n_workers else "", since, is_running)


@contextmanager
def _own_lock(path: Path, worker: tuple[int, int]) -> Iterator[None]:
    with _removed_lock(path, is_patient=False) as holder:
        if holder is not None:
            raise BusyError(
                f"worker {worker[0]}/{worker[1]} is at work already ({holder}, lock {path}). "
                "Every worker is started once; give this one another number, or wait."
            )
        yield


@contextmanager
def _removed_lock(path: Path, is_patient: bool) -> Iterator[str | None]:
    """Hold a lock file that is removed afterwards; gives who holds it if that is somebody else."""
    while True:
        descriptor = _open(path)
        is_removed = True
        try:
            if not _try_lock(descriptor, path, waits=is_patient):
                yield _read(descriptor)
                return
            # Its last holder may have removed the file between our opening and our locking it.
            if not is_still(descriptor, path):
                continue
            _write(descriptor, _this_process())
            try:
                yield None
            finally:
                is_removed = system.remove_open(path)
            return
        finally:
            os.close(descriptor)
            if not is_removed:
                system.remove_open(path)


def _open(path: Path) -> int:
    try:
        make_folder(path.parent)
        try:
            return system.open_file(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # another update has just removed the empty folder
            make_folder(path.parent)
            return system.open_file(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise SpaceError(f"cannot write {path}: {error.strerror}. Choose another place: --data") from error


def _try_lock(descriptor: int, path: Path, is_shared: bool = False, waits: bool = False) -> bool:
    """False if another process holds the lock; True too where the file system has no locks."""
    try:
        lock_file(descriptor, path, is_shared, waits)
    except BlockingIOError:
        return False
    return True


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    system.write_at(descriptor, text.encode("utf-8", "replace"), 0)


def _read(descriptor: int) -> str:
    data = bytearray(1000)
    n_read = system.read_into(descriptor, memoryview(data), 0)
    return data[:n_read].decode("utf-8", "replace").strip() or "unknown"


def _busy(descriptor: int, path: Path) -> BusyError:
    holder = _read(descriptor).partition("\n")[0]
    return BusyError(
        f"another run is writing here ({holder}, lock {path}). "
        "Wait for it, or stop it; what it has finished is kept."
    )
