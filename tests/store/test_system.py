"""Other systems, as far as they can be seen from here: without POSIX, and with the habits of Windows."""

import ast
import os
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from store import system

ROOT = Path(__file__).parents[2]
PACKAGES = ("store", "analysis", "embed", "finetune", "iaa", "notebooks")
MODULES = sorted(
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")
    if not module.name.endswith("__main__")
)


def elsewhere(code, *more, **environment):
    """Run code in a process without POSIX; returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("without_posix.py")), code, *more],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_is_loaded_without_posix():
    assert len(MODULES) > 100
    code = "import importlib, sys\n" + "".join(f"importlib.import_module({m!r})\n" for m in MODULES)
    code += "from store import system\nassert system.LOCKS_ARE_APART\nprint('loaded')"
    assert elsewhere(code) == "loaded\n"


@pytest.mark.slow
def test_a_run_is_begun_resumed_updated_and_verified_without_posix(tmp_path):
    """A whole round with Windows's locks, where no open or mapped file can be removed or replaced."""
    code = f"""
import os
from pathlib import Path
import numpy as np
from PIL import Image
from iaa.cli.app import main
os.environ['IAA_DATA'] = {str(tmp_path / "data")!r}
photos = Path({str(tmp_path / "photos")!r})
photos.mkdir()
rng = np.random.default_rng(2)
def paint(*names):
    for name in names:
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(photos / name)
def iaa(*arguments):
    try:
        main(list(arguments))
    except SystemExit as stop:
        assert not stop.code, arguments
paint(*[f'{{i}}.png' for i in range(12)])
iaa('dataset', 'add', 'mine', '--kind', 'folder', '--images', str(photos))
on = ['-d', 'mine', '-b', 'demo_clip']
for worker in ('2/2', '1/2'):
    iaa('embed', *on, '--batch-size', '4', '--worker', worker)
paint('3.png', '12.png')
iaa('embed', *on, '--update')
(photos / '5.png').unlink()
iaa('embed', *on, '--update')
iaa('embed', *on, '--overwrite')
iaa('embed', *on, '-p', 'paper_fixed')
iaa('export', {str(tmp_path / "x.parquet")!r}, '-d', 'mine', '-b', 'demo_clip', '--to', 'parquet')
iaa('verify')
left = sorted(p.name for p in Path({str(tmp_path / "data/mine/features")!r}).iterdir())
print(left)
"""
    said = elsewhere(code)
    assert said.splitlines()[-1] == "['demo_clip.h5', 'demo_clip.h5.lock', 'demo_clip.h5.seen']"
    assert "damaged" not in said


def test_windows_locks_exclude_and_are_shared(tmp_path):
    code = f"""
import os
from store import system
path = {str(tmp_path / "x.lock")!r}
a, b, c = (system.open_file(path, os.O_RDWR | os.O_CREAT) for _ in range(3))
def is_refused(descriptor, is_shared=False):
    try:
        system.lock(descriptor, is_shared)
    except BlockingIOError:
        return True
    return False
system.write_at(a, b'who', 0)
assert not is_refused(a) and is_refused(b) and is_refused(b, True)
held = bytearray(9)
assert system.read_into(b, memoryview(held), 0) == 3 and held[:3] == b'who'
assert not is_refused(a, True), 'from alone to shared'
assert not is_refused(b, True) and is_refused(c)
os.close(a)
assert is_refused(c)
os.close(b)
assert not is_refused(c)
print('ok')
"""
    assert elsewhere(code) == "ok\n"


def test_who_may_run_beside_whom_is_the_same_with_windows_locks(tmp_path):
    code = f"""
from pathlib import Path
import subprocess, sys
from store.errors import BusyError
from store.locks import lock_path, turn, worker_lock, write_lock
path = lock_path(Path({str(tmp_path / "x.h5")!r}))
def refused(lock, *arguments):
    try:
        with lock(path, *arguments):
            return ''
    except BusyError as error:
        return str(error)
with worker_lock(path, (1, 3), 'r'):
    assert 'is at work already' in refused(worker_lock, (1, 3), 'r')
    assert refused(worker_lock, (2, 3), 'r') == ''
    assert 'workers of 3' in refused(worker_lock, (1, 2), 'r')
    assert 'other settings' in refused(worker_lock, (2, 3), 'another')
    assert '3 workers' in refused(write_lock)
with write_lock(path):
    assert 'another run' in refused(worker_lock, (1, 3), 'r')
with turn(path):
    pass
print([p.name for p in path.parent.iterdir()])
"""
    assert elsewhere(code) == "['x.h5.lock']\n"


def test_how_processes_end_on_windows():
    assert system.ended_by(0xC0000005) == "access violation" and system.is_crash(0xC0000005)
    assert system.ended_by(0xC000013A) == "0xC000013A" and not system.is_crash(0xC000013A)
    assert system.ended_by(-signal.SIGSEGV) == "SIGSEGV" and system.is_crash(-signal.SIGSEGV)
    assert system.ended_by(-signal.SIGKILL) == "SIGKILL" and not system.is_crash(-signal.SIGKILL)
    assert system.ended_by(-60) == "signal 60" and system.ended_by(1) is None and not system.is_crash(1)


def sources():
    return [(p, ast.parse(p.read_text(encoding="utf-8"))) for f in PACKAGES for p in (ROOT / f).rglob("*.py")]


def test_processes_are_started_by_spawn_everywhere():
    """On Linux the default is another than on macOS and Windows: no pool is made without a context. One run
    is forked, behind the door, where `can_fork` says that it is safe."""
    forks = []
    starters = {"Pool", "Process", "ProcessPoolExecutor", "set_start_method"}
    n_seen = 0
    for path, tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name == "get_context":
                assert ast.unparse(node.args[0]) == "'spawn'", f"{path}:{node.lineno}"
            elif name == "fork":
                forks.append(path.relative_to(ROOT).as_posix())
            elif name in starters:
                n_seen += 1
                context = [k for k in node.keywords if k.arg == "mp_context"]
                assert context and "get_context('spawn')" in ast.unparse(context[0]), f"{path}:{node.lineno}"
    assert n_seen == 3
    assert sorted(forks) == ["iaa/library/supervision.py", "store/system.py"]


def test_what_differs_between_systems_is_called_in_one_place_alone():
    """Outside store/system.py nobody imports what Windows lacks, nor calls it."""
    sys.path.insert(0, str(Path(__file__).parent))
    from without_posix import UNIX_ALONE, UNIX_CALLS, UNIX_SIGNALS

    for path, tree in sources():
        if path == ROOT / "store" / "system.py":
            continue
        for node in ast.walk(tree):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                assert not {n.name for n in node.names} & set(UNIX_ALONE), where
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in UNIX_ALONE, where
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                gone = {"os": UNIX_CALLS, "signal": UNIX_SIGNALS}.get(node.value.id, ())
                assert node.attr not in gone, f"{where}: {node.value.id}.{node.attr}"


def test_the_disk_cache_of_macs_is_flushed_through(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(system.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(system.fcntl, "fcntl", lambda descriptor, command: asked.append(command))
    with (tmp_path / "x").open("wb") as file:
        system.flush(file.fileno())
    assert asked == [51]


@pytest.mark.parametrize("name", ["pwrite", "preadv", "posix_fallocate"])
def test_bytes_are_the_same_without_a_call(tmp_path, monkeypatch, name):
    monkeypatch.delattr(os, name)
    descriptor = system.open_file(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    system.reserve(descriptor, 10)
    assert system.write_at(descriptor, b"\r\n\n", 4) == 3
    found = bytearray(20)
    assert system.read_into(descriptor, memoryview(found), 2) == 8
    os.close(descriptor)
    assert found[:8] == b"\0\0\r\n\n\0\0\0" and (tmp_path / "x").stat().st_size == 10


def test_text_files_have_an_encoding_whatever_the_system_prefers():
    for path, tree in sources():
        for node in ast.walk(tree):
            name = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
            if name in ("read_text", "write_text"):
                assert "encoding" in {k.arg for k in node.keywords}, f"{path}:{node.lineno}"
            elif name == "open" or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open"):
                if "force_zip64" in {k.arg for k in getattr(node, "keywords", [])}:
                    continue  # a member of an archive: bytes
                given = [a.value for a in node.args if isinstance(a, ast.Constant)]
                if any(mode in ("r", "w", "a", "x", "r+", "w+") for mode in given):
                    assert "encoding" in {k.arg for k in node.keywords}, f"{path}:{node.lineno}"
