"""A recorder of every system call that changes a folder, and the folders that a crash could have left.

The recorder stands in for the functions of `os`; that nothing is written around it is checked by replaying
all it saw and comparing with the real folder, byte for byte.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from store import MissingFileError, open_features
from store.parts import Plan, begin, clean_up, missing_parts, write_part

Op = tuple[Any, ...]
"""("write", file, position, bytes) | ("resize", file, size) | ("fsync", file) | ("link", path, file) |
("rename", source, target, file) | ("unlink", path) | ("mkdir", path) | ("rmdir", path) |
("fsync_folder", path) | ("mark", what). A file is a number, as an inode is; paths are relative."""

ON_FILE = ("write", "resize")
ON_FOLDER = ("link", "rename", "unlink", "mkdir", "rmdir")


@dataclass
class Recording:
    """What was done to the folder `root`, in order."""

    root: Path
    ops: list[Op] = field(default_factory=list)

    def mark(self, *what: Any) -> None:
        """Note that something was promised at this point."""
        self.ops.append(("mark", what))

    def marks(self, end: int, kind: str) -> list[Any]:
        """What was promised before op number `end`."""
        return [op[1][1] for op in self.ops[:end] if op[0] == "mark" and op[1][0] == kind]


@contextmanager
def recorded(root: Path) -> Iterator[Recording]:
    """Record what happens in `root` while the body runs; nothing may be there before."""
    recording = Recording(root)
    files: dict[int, int] = {}  # open descriptor to file
    inodes: dict[str, int] = {}  # path to file
    n_files = 0
    real = {name: getattr(os, name) for name in _WATCHED}

    def inside(path: Any) -> str | None:
        path = Path(os.fspath(path)).absolute()
        return str(path.relative_to(root)) if path.is_relative_to(root) else None

    def note(*op: Any) -> None:
        recording.ops.append(op)

    def os_open(path: Any, flags: int, mode: int = 0o777, **other: Any) -> int:
        nonlocal n_files
        descriptor = real["open"](path, flags, mode, **other)
        if (name := inside(path)) is not None:
            if os.path.isdir(path):
                files[descriptor] = name  # type: ignore[assignment]
                return descriptor
            if name not in inodes:
                inodes[name] = n_files = n_files + 1
                note("link", name, inodes[name])
            elif flags & os.O_TRUNC:
                note("resize", inodes[name], 0)
            files[descriptor] = inodes[name]
        return descriptor

    def os_close(descriptor: int) -> None:
        files.pop(descriptor, None)
        real["close"](descriptor)

    def pwrite(descriptor: int, data: Any, position: int) -> int:
        written = real["pwrite"](descriptor, data, position)
        if descriptor in files:
            note("write", files[descriptor], position, bytes(data)[:written])
        return written

    def posix_fallocate(descriptor: int, start: int, length: int) -> None:
        real["posix_fallocate"](descriptor, start, length)
        note("resize", files[descriptor], start + length)

    def ftruncate(descriptor: int, length: int) -> None:
        real["ftruncate"](descriptor, length)
        note("resize", files[descriptor], length)

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        if descriptor in files:
            kind = "fsync_folder" if isinstance(files[descriptor], str) else "fsync"
            note(kind, files[descriptor])

    def replace(source: Any, target: Any) -> None:
        real["replace"](source, target)
        inodes[inside(target)] = inodes.pop(inside(source))
        note("rename", inside(source), inside(target), inodes[inside(target)])

    def link(source: Any, target: Any) -> None:
        real["link"](source, target)
        inodes[inside(target)] = inodes[inside(source)]
        note("link", inside(target), inodes[inside(target)])

    def unlink(path: Any) -> None:
        real["unlink"](path)
        inodes.pop(inside(path))
        note("unlink", inside(path))

    def mkdir(path: Any, *mode: Any) -> None:
        real["mkdir"](path, *mode)
        note("mkdir", inside(path))

    def rmdir(path: Any) -> None:
        real["rmdir"](path)
        note("rmdir", inside(path))

    stand_ins = dict(zip(_WATCHED, (os_open, os_close, pwrite, posix_fallocate, ftruncate, fsync, replace,
                                    unlink, mkdir, rmdir, link), strict=True))  # fmt: skip
    try:
        for name, function in stand_ins.items():
            setattr(os, name, function)
        yield recording
    finally:
        for name, function in real.items():
            setattr(os, name, function)


_WATCHED = (
    "open", "close", "pwrite", "posix_fallocate", "ftruncate", "fsync", "replace", "unlink", "mkdir", "rmdir",
    "link",
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """A folder that a crash could have left: each file by the numbers of the ops its content is made of."""

    ops: list[Op]
    end: int
    """The crash came before this op."""
    files: dict[str, tuple[int, ...]]
    folders: frozenset[str]
    torn: bool = False
    """True if the last write reached the file only in part."""

    def content(self, path: str) -> bytes:
        """The bytes of one file."""
        data = np.zeros(0, np.uint8)
        last = max(self.files[path], default=-1)
        for number in self.files[path]:
            kind, _, *arguments = self.ops[number]
            if kind == "resize":
                (size,) = arguments
            else:
                position, piece = arguments
                if self.torn and number == last == self.end - 1:
                    piece = piece[: len(piece) // 2]
                size = max(len(data), position + len(piece))
            grown = np.zeros(size, np.uint8)
            grown[: min(size, len(data))] = data[:size]
            data = grown
            if kind == "write":
                data[position : position + len(piece)] = np.frombuffer(piece, np.uint8)
        return data.tobytes()

    def key(self, path: str) -> tuple[Any, ...]:
        """Equal for equal contents of a path."""
        is_torn = self.torn and self.end - 1 in self.files[path]
        return (path, self.files[path], is_torn)

    def make(self, folder: Path) -> None:
        """Write the state down as a real folder."""
        for name in sorted(self.folders):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in self.files:
            (folder / name).write_bytes(self.content(name))


def state_after(
    ops: list[Op], end: int, lost: Callable[[int], bool] = lambda number: False, torn: bool = False
) -> State:
    """The folder after the ops before `end`, less those which are `lost`."""
    entries: dict[str, int] = {}
    folders: set[str] = set()
    contents: dict[int, list[int]] = {}
    for number, (kind, *arguments) in enumerate(ops[:end]):
        if kind not in ON_FILE + ON_FOLDER or lost(number):
            continue
        if kind in ON_FILE:
            contents.setdefault(arguments[0], []).append(number)
        elif kind == "link":
            entries[arguments[0]] = arguments[1]
        elif kind == "rename":
            source, target, file = arguments
            if entries.get(source) == file:
                del entries[source]
            entries[target] = file
        elif kind == "unlink":
            entries.pop(arguments[0], None)
        elif kind == "mkdir":
            folders.add(arguments[0])
        else:
            folders.discard(arguments[0])
    there = {"."} | {f for f in folders if all(str(p) in folders | {"."} for p in Path(f).parents)}
    files = {
        name: tuple(contents.get(file, []))
        for name, file in entries.items()
        if str(Path(name).parent) in there
    }
    return State(ops, end, files, frozenset(there), torn)


def unsynced(ops: list[Op], end: int) -> list[int]:
    """Numbers of the ops before `end` that a power loss could undo: no fsync of their file or folder yet."""
    pending: dict[Any, list[int]] = {}
    for number, (kind, *arguments) in enumerate(ops[:end]):
        if kind in ON_FILE:
            pending.setdefault(arguments[0], []).append(number)
        elif kind in ON_FOLDER:
            pending.setdefault(str(Path(arguments[0]).parent), []).append(number)
        elif kind in ("fsync", "fsync_folder"):
            pending.pop(arguments[0], None)
    return sorted(number for numbers in pending.values() for number in numbers)


def kill_states(ops: list[Op]) -> Iterator[State]:
    """What a kill could leave: the folder up to every op, and every write half done."""
    for end in range(len(ops) + 1):
        if end and ops[end - 1][0] in ("fsync", "fsync_folder"):
            continue  # changes nothing that a reader sees
        if end and ops[end - 1][0] == "write":
            yield state_after(ops, end, torn=True)
        yield state_after(ops, end)


def power_loss_states(ops: list[Op], rng: np.random.Generator) -> Iterator[State]:
    """What a power loss could leave: after every op, nothing that was not fsynced; each such op alone
    missing; and random choices."""
    for end in range(len(ops) + 1):
        if not (pending := unsynced(ops, end)):
            continue
        yield state_after(ops, end, set(pending).__contains__)
        if ops[end - 1][0] in ON_FILE and end < len(ops) and ops[end][0] in ON_FILE:
            choices = [{int(rng.choice(pending))}]  # inside a file: one at a time; all of them at its end
        else:
            choices = [{number} for number in pending]
        choices.append({number for number in pending if rng.random() < 0.5})
        for lost in choices:
            yield state_after(ops, end, lost.__contains__)


def run_to_the_end(
    plan: Plan,
    arrays_of: Callable[[Plan, int], dict[str, np.ndarray]],
    finish: Callable[[Plan], str],
    mark: Callable[..., None] = lambda *what: None,
) -> tuple[str, list[int]]:
    """What a run does, as in embed.pipeline and prompts.text; returns the digest and the parts it made."""
    try:
        with open_features(plan.path, plan.identity) as features:
            clean_up(plan)
            return features.digest, []
    except MissingFileError:
        begin(plan)
    todo = missing_parts(plan)
    for index in todo:
        mark("begun", index)
        write_part(plan, index, arrays_of(plan, index))
        mark("promised", index)
    digest = finish(plan)
    mark("finished", digest)
    return digest, todo
