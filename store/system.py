"""The operating system: the few calls that differ between Linux, macOS and Windows, behind one door.

What a system lacks is looked for when it is needed (`hasattr`), so that a test can take it away. Locks are
`flock`; where that is missing, byte ranges are locked instead (`msvcrt`). Windows neither removes nor renames
a file that somebody has open: callers try again after closing, or lock a file apart (LOCKS_ARE_APART).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCKS_ARE_APART = fcntl is None
"""True where a locked file cannot be renamed, so that its lock has to lie on another file."""

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""Flag of `open_file`: a symbolic link in the file's place is an error."""

# Beyond all that is written into lock files: a locked byte cannot be read by others on Windows.
_FIRST_BYTE, _N_BYTES = 2**30, 64
_RETRY_SECONDS = 0.05
_position = threading.Lock()

_NATIVE_CRASHES = {
    0xC0000005: "access violation",
    0xC000001D: "illegal instruction",
    0xC0000094: "integer division by zero",
    0xC00000FD: "stack overflow",
    0xC0000374: "heap corruption",
    0xC0000409: "stack buffer overrun",
}
_SIGNALS_OF_CRASHES = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"}


def open_file(path: Path | str, flags: int) -> int:
    """Descriptor of a file, its bytes as they are (Windows would turn line ends). Raises OSError."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o644)


def lock(descriptor: int, is_shared: bool = False, waits: bool = False) -> None:
    """Lock an open file alone or together with others; the system releases it when the file is closed.

    A lock that is held alone may be turned into a shared one. Raises BlockingIOError if another holds it
    (unless `waits`), and OSError where the file system has no locks.
    """
    if fcntl is not None:
        kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind if waits else kind | fcntl.LOCK_NB)
        return
    while True:
        try:
            _lock_bytes(descriptor, is_shared)
            return
        except BlockingIOError:
            if not waits:
                raise
        time.sleep(_RETRY_SECONDS)


def _lock_bytes(descriptor: int, is_shared: bool) -> None:
    """All bytes of a range for a lock alone, any one of them for a shared lock."""
    import msvcrt

    api: Any = msvcrt  # its functions are declared for Windows only
    if not is_shared:
        pieces = [(_FIRST_BYTE, _N_BYTES)]
    else:
        pieces = [(_FIRST_BYTE + i, 1) for i in range(_N_BYTES)]
        with contextlib.suppress(OSError):  # held alone until now
            os.lseek(descriptor, _FIRST_BYTE, os.SEEK_SET)
            api.locking(descriptor, api.LK_UNLCK, _N_BYTES)
    for position, n_bytes in pieces:
        os.lseek(descriptor, position, os.SEEK_SET)
        try:
            api.locking(descriptor, api.LK_NBLCK, n_bytes)
            return
        except PermissionError:
            continue
    raise BlockingIOError("another process holds the lock")


def write_at(descriptor: int, data: bytes | memoryview, position: int) -> int:
    """Number of bytes written at a position of a file. Raises OSError."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, position)
    with _position:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.write(descriptor, data)


def read_into(descriptor: int, buffer: memoryview, position: int) -> int:
    """Number of bytes read from a position of a file into a buffer, 0 at its end. Raises OSError."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], position)
    with _position:
        os.lseek(descriptor, position, os.SEEK_SET)
        data = os.read(descriptor, len(buffer))
    buffer[: len(data)] = data
    return len(data)


def link(source: Path, target: Path) -> None:
    """Give a file a second name. Raises OSError, on file systems without such names, too."""
    os.link(source, target)


def max_open_files() -> int:
    """Files that this process may have open at once."""
    try:
        import resource
    except ImportError:  # Windows
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**16 if soft == resource.RLIM_INFINITY else int(soft)


def reserve(descriptor: int, n_bytes: int) -> None:
    """Give a new file its size, with room on the disk where the system can promise it. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
    else:
        os.ftruncate(descriptor, n_bytes)


def flush(descriptor: int) -> None:
    """Bring what was written onto the disk; on macOS through the disk's own cache, too. Raises OSError."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        with contextlib.suppress(OSError):  # network disks do not know it
            fcntl.fcntl(descriptor, full)
            return
    os.fsync(descriptor)


def flush_folder(folder: Path) -> None:
    """Make the creations, renames and removals inside a folder durable; NTFS does so by itself."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """What may still be written to the disk of a folder. Raises OSError."""
    return shutil.disk_usage(folder).free


def remove_open(path: Path) -> bool:
    """Remove a file that may still be open; False where the system lets nobody, before it is closed."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True


def n_cores() -> int:
    """Cores that this process may use, which containers and batch systems make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_groups() -> bool:
    """True where a child process can have a group of its own, so that no Ctrl-C reaches it by itself."""
    return hasattr(os, "setsid")


def own_group() -> dict[str, Any]:
    """Arguments with which subprocess.Popen starts a child that is told of interrupts by us alone; on Linux
    it also ends when we do. On Windows it gets the console's Ctrl-C itself."""
    if not has_groups():
        return {}
    return {"process_group": 0, "preexec_fn": _begin_in_own_group}


def _begin_in_own_group() -> None:
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # or `stty tostop` would stop it at its first word for ever
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


class Forked:
    """A child process of `fork`: waited for and sent signals as one of subprocess.Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def wait(self) -> int:
        """Its exit code; of a signal that ended it, the negative number."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def can_fork() -> bool:
    """True where a child may go on with what this process has loaded: on Linux, without a second thread (of
    native code, too), which would leave its locks locked in the child."""
    return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1


def fork(handlers: Mapping[int, Any]) -> Forked | None:
    """A child that goes on from here, as one of `own_group` else; None in that child, which then has these
    handlers of signals: no signal is lost before it has."""
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or the child would write it once more
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handlers)
    try:
        if pid := os.fork():
            return Forked(pid)
        os.setpgid(0, 0)
        _begin_in_own_group()
        if os.getppid() != parent:  # it was gone before it could be told to us
            os._exit(1)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def signals_of_terminals() -> list[int]:
    """What ends or stops a process that was typed: Ctrl-C, a request to end, Ctrl-Z, a terminal that is
    closed; those that are ignored left out (`nohup`)."""
    names = ("SIGINT", "SIGTERM", "SIGTSTP", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def pass_on(child: "subprocess.Popen[Any] | Forked", number: int) -> None:
    """Send a signal that we got to a child of `own_group`, if it has not had it already: an interrupt as it
    is, what stops us as a stop until we go on ourselves, all else as a request to end."""
    if not has_groups():
        if number != signal.SIGINT:
            child.send_signal(signal.SIGTERM)
    elif number == signal.SIGTSTP:
        _stop_together(child)
    else:
        child.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
        child.send_signal(signal.SIGCONT)  # a stopped one would not hear of it


def _stop_together(child: "subprocess.Popen[Any] | Forked") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGSTOP)
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTSTP)  # until somebody says `fg` or `bg`
    signal.signal(signal.SIGTSTP, handler)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGCONT)


def interrupt_main_thread() -> None:
    """Have the main thread interrupted as by Ctrl-C, whichever thread asks for it."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # wakes it from waiting, too
    else:
        signal.raise_signal(signal.SIGINT)


def is_parent(pid: int) -> bool:
    """True if a process started this one; always on Windows, where Python's launcher stands between."""
    return os.getppid() == pid or not has_groups()


def is_running(pid: int) -> bool | None:
    """True if a process of this machine runs; None where asking might harm it (Windows)."""
    if not has_groups():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def ended_by(code: int) -> str | None:
    """What ended a process from without or by a crash, such as `SIGKILL`; None if it ended by itself."""
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    if code >= 0xC0000000:
        return _NATIVE_CRASHES.get(code, f"0x{code:08X}")
    return None


def is_crash(code: int) -> bool:
    """True if an exit code says that native code crashed."""
    return ended_by(code) in _SIGNALS_OF_CRASHES or code in _NATIVE_CRASHES


def prepare_streams() -> None:
    """Make standard streams that can be written to whatever the shell, the locale or a closed pipe left us.

    A closed one is opened on nothing: else the next file that is opened would get its number, and be
    written into by whoever prints. What cannot be encoded is escaped instead of ending the program.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def let_go(code: int = 141) -> None:
    """Whoever read the output has left (`| head`): end without a word, as a signal would have done it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
