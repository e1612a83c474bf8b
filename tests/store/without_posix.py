"""What a system without POSIX lacks, taken away: run as `python without_posix.py CODE` in a process apart.

For this project's own modules fcntl and its like cannot be imported, what Windows lacks is gone from `os` and
`signal`, msvcrt is there (made of Linux's own locks on byte ranges), and a file that this process has open or
mapped can be neither removed nor replaced, which is how Windows treats it.
"""

import builtins
import os
import pathlib
import signal
import struct
import sys
import types

UNIX_ALONE = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix_ipc", "syslog", "readline")
UNIX_CALLS = (
    "chown", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups",
    "getloadavg", "getpgid", "getuid", "killpg", "mkfifo", "nice", "pread", "preadv", "posix_fadvise",
    "posix_fallocate", "posix_spawn", "pwrite", "pwritev", "sched_getaffinity", "setpgid", "setsid",
    "setuid", "statvfs", "sysconf", "uname", "wait3", "wait4", "O_DIRECTORY", "O_NOFOLLOW",
    "O_NONBLOCK", "O_SYNC", "O_CLOEXEC",
)
UNIX_SIGNALS = ("SIGKILL", "SIGBUS", "SIGHUP", "SIGALRM", "SIGQUIT", "SIGPIPE", "SIGUSR1", "SIGCHLD")
OURS = ("store", "analysis", "embed", "finetune", "iaa", "notebooks")


def take_away() -> None:
    """Make this process one without POSIX, as far as this project's own modules can see."""
    import fcntl

    poorer = {
        "msvcrt": _msvcrt(fcntl),
        "os": _without(os, UNIX_CALLS, {"unlink": _unlink, "replace": _replace}),
        "signal": _without(signal, UNIX_SIGNALS, {}),
    }
    really_import = builtins.__import__

    def import_(name, globals=None, locals=None, fromlist=(), level=0):
        if (globals or {}).get("__name__", "").partition(".")[0] in OURS and not level:
            if name.partition(".")[0] in UNIX_ALONE:
                raise ImportError(f"No module named {name!r} on this system")
            if name in poorer:
                return poorer[name]
        return really_import(name, globals, locals, fromlist, level)

    builtins.__import__ = import_
    pathlib.Path.unlink = _path_unlink


def _without(module, names, instead):
    poorer = types.ModuleType(module.__name__)
    poorer.__dict__.update({k: v for k, v in vars(module).items() if k not in names} | instead)
    return poorer


def _path_unlink(self, missing_ok=False):
    try:
        _unlink(self)
    except FileNotFoundError:
        if not missing_ok:
            raise


def _refuse_open(path) -> None:
    """PermissionError if this process has a file open or mapped."""
    wanted = os.path.realpath(path)
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{descriptor}") == wanted:
                raise PermissionError(13, "The process cannot access the file: it is open", str(path))
        except FileNotFoundError:
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        if any(line.rstrip("\n").endswith(" " + wanted) for line in maps):
            raise PermissionError(13, "The process cannot access the file: it is mapped", str(path))


_really_unlink, _really_replace = os.unlink, os.replace


def _unlink(path, **more):
    if os.path.lexists(path):
        _refuse_open(path)
    _really_unlink(path, **more)


def _replace(source, target):
    for path in (source, target):
        if os.path.exists(path):
            _refuse_open(path)
    _really_replace(source, target)


def _msvcrt(fcntl):
    """Windows's locks on byte ranges: each belongs to one open file and excludes all others."""
    module = types.ModuleType("msvcrt")
    module.LK_UNLCK, module.LK_LOCK, module.LK_NBLCK = 0, 1, 2

    def locking(descriptor, mode, n_bytes):
        # Open file description locks (Linux) behave as Windows's do; 37 is F_OFD_SETLK.
        kind = fcntl.F_UNLCK if mode == 0 else fcntl.F_WRLCK
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        lock = struct.pack("hhqqi", kind, os.SEEK_SET, place, n_bytes, 0)
        try:
            fcntl.fcntl(descriptor, 37, lock)
        except BlockingIOError as error:
            raise PermissionError(13, "Permission denied") from error

    module.locking = locking
    return module


if __name__ == "__main__":
    take_away()
    exec(sys.argv[1])
