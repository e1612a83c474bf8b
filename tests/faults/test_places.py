"""Full disks, places that cannot be written and files that cannot be read: a clear error, nothing lost."""

import ctypes
import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from analysis.evidence.bootstrap import Prediction
from analysis.probing.heads import Head, save_head
from analysis.results.predictions import Predicted, write_predictions
from iaa.exchange import FORMATS
from iaa.library.table import Table
from store import SpaceError, StoreError, open_features, verify_folder
from store.locks import write_lock
from store.parts import begin, merge_parts, missing_parts, write_part
from tests.faults import test_crash_states as crash_states
from tests.faults.conftest import REPOSITORY

MS_RDONLY, MS_REMOUNT = 1, 32


def mount(folder: Path, options: str, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a given size, and a way to make it read-only; needs the right to mount."""
    mounted = []

    def make(n_kib: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        try:
            mount(folder, f"size={n_kib}k")
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.ENODEV):
                pytest.skip(f"no small disk can be mounted here: {error.strerror}")
            raise
        mounted.append(folder)
        return folder

    yield make
    libc = ctypes.CDLL(None)
    for folder in mounted:
        libc.umount2(os.fsencode(folder), 2)


def fill(folder: Path) -> tuple[int, str]:
    """Write parts and merge until something refuses: the number of parts promised, and the complaint."""
    plan = crash_states.make_plan(folder)
    n_promised = 0
    try:
        with write_lock(plan.path.with_name("b.h5.lock")):
            begin(plan)
            for index in missing_parts(plan):
                write_part(plan, index, crash_states.part_arrays(plan, index))
                n_promised += 1
            merge_parts(plan)
    except SpaceError as error:
        return n_promised, str(error)
    return n_promised, ""


@pytest.mark.parametrize(
    "sizes",
    [
        (40, 550, 1000),
        pytest.param((8, 150, 300, 450, 620, 700, 800, 900, 1100), marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_fills_up_anywhere_loses_nothing(small_disk, tmp_path, monkeypatch, sizes):
    """Disks of every size between nothing and enough; then room is made and the run goes on. The check of
    free space before writing is switched off, so that the system calls themselves fail."""
    expected, _ = crash_states.run(tmp_path / "whole")
    monkeypatch.setattr("store.sealed._require_space", lambda *_: None)
    complaints = set()
    for n_kib in sizes:
        folder = small_disk(n_kib)
        n_promised, complaint = fill(folder)
        assert complaint, f"{n_kib} KiB were enough"
        assert "No space left on device" in complaint and "Free some space" in complaint
        complaints.add("b.h5.parts" in complaint)
        for verdict in verify_folder(folder):
            assert verdict.is_intact
        plan = crash_states.make_plan(folder)
        missing = missing_parts(plan)
        assert not set(range(n_promised)) & set(missing), "a promised part is lost"
        assert not list(folder.rglob("*.h5.partial")), "a failed write keeps its space"
        mount(folder, "size=8m", MS_REMOUNT)
        digest, made = crash_states.run(folder)
        assert digest == expected and made == missing
    assert complaints == {True, False}, "both the parts and the merge have met a full disk"


def test_free_space_is_looked_at_before_writing(small_disk):
    _, complaint = fill(small_disk(1000))
    assert "MiB needed" in complaint and "MiB free" in complaint


def test_a_read_only_disk_is_refused_at_once_and_read_from(small_disk):
    folder = small_disk(8000)
    digest, _ = crash_states.run(folder)
    mount(folder, "", MS_REMOUNT | MS_RDONLY)
    with open_features(folder / "features/b.h5") as features:
        assert features.digest == digest
    refusal = r"cannot write .*lock: Read-only file system. Choose another place"
    with pytest.raises(SpaceError, match=refusal), write_lock(folder / "features" / "c.h5.lock"):
        pass


def as_nobody(code: str, folder: Path, imports: str = "") -> str:
    """What a program prints that may not override permissions."""
    if os.getuid() == 0:
        for part in (folder, *folder.parents):
            if not part.stat().st_mode & 0o001:
                os.chmod(part, part.stat().st_mode | 0o011)
    program = (
        "import mmap, os\n"
        "from pathlib import Path\n"
        "from store import StoreError, open_features, verify_file\n"
        "from store.locks import write_lock\n"
        f"{imports}\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        f"folder = Path({str(folder)!r})\n"
        f"try:\n    {code}\nexcept StoreError as error: print(type(error).__name__, error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def finished(tmp_path):
    crash_states.run(tmp_path)
    return tmp_path


def test_a_file_without_permission_is_not_called_damaged(finished):
    file = finished / "features/b.h5"
    os.chmod(file, 0o000)
    assert as_nobody("open_features(folder / 'features/b.h5')", finished) == (
        f"StoreError {file} cannot be read: Permission denied\n"
    )
    told = as_nobody("print(verify_file(folder / 'features/b.h5').problems)", finished)
    assert "Permission denied" in told and "damaged" not in told


def test_a_folder_without_permission_is_a_clear_error(finished):
    os.chmod(finished / "features", 0o555)
    told = as_nobody("write_lock(folder / 'features/c.h5.lock').__enter__()", finished)
    assert told.startswith("SpaceError cannot write") and "Permission denied. Choose another place" in told
    assert (
        as_nobody("print(open_features(folder / 'features/b.h5').n_images)", finished)
        == f"{crash_states.N_ROWS}\n"
    )


def test_rows_that_a_bad_sector_takes_are_named(finished, monkeypatch):
    """A read that fails while verifying is a problem of these rows, neither a crash nor a signal."""
    from store.verify import verify_file

    file = finished / "features/b.h5"
    real, n_calls = os.preadv, 0

    def preadv(*arguments):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments)

    monkeypatch.setattr(os, "preadv", preadv)
    problems = verify_file(file, 1).problems
    assert len(problems) == 1 and "rows 0 to" in problems[0] and "Input/output error" in problems[0]


def test_no_finished_file_is_overwritten_by_a_folder_of_that_name(tmp_path):
    (tmp_path / "features/b.h5").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"b\.h5 is no file"):
        open_features(tmp_path / "features/b.h5")


def test_an_image_without_permission_is_a_failed_row(tmp_path):
    image = tmp_path / "x.jpg"
    image.write_bytes(b"x")
    os.chmod(image, 0)
    code = "print(load_row(folder / 'x.jpg', Decoding()).reason)"
    assert (
        as_nobody(code, tmp_path, "from embed.reading import Decoding, load_row")
        == "cannot read: Permission denied\n"
    )


def save_a_head(path: Path, finished: Path) -> None:
    weight = np.random.default_rng(1).normal(size=(1, 4000))
    save_head(path, Head(((weight, np.zeros(1)),), "b", "embedding", True, {"origin": "nowhere"}))


def save_predictions(path: Path, finished: Path) -> None:
    n = 4000
    y = np.random.default_rng(1).normal(size=n)
    predicted = Predicted(np.arange(n).astype(str), y, y > 0, Prediction(y, y > 0))
    write_predictions(path, {"a method": predicted})


def export_as(name: str) -> Callable[[Path, Path], None]:
    def write(path: Path, finished: Path) -> None:
        with open_features(finished / "features/b.h5") as features:
            FORMATS[name].write(features, path, ["embedding"])

    return write


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "a.csv": lambda path, _: Table("", {"n": list(range(9000))}).to_csv(path),
    "b.csv": export_as("csv"),
    "c.parquet": export_as("parquet"),
    "d.safetensors": export_as("safetensors"),
    "e": export_as("clip-retrieval"),
    "h": export_as("parquet-folder"),
    "i.lance": export_as("lance"),
    "j.parquet": export_as("embedding-atlas"),
    "f.safetensors": save_a_head,
    "g.npz": save_predictions,
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_answer_that_does_not_fit_is_a_clear_error_and_leaves_nothing(small_disk, finished, name):
    folder = small_disk(16)
    mount(folder, "size=64k", MS_REMOUNT)
    (folder / "other").write_bytes(bytes(56 << 10))
    path = folder / name
    with pytest.raises(SpaceError, match=f"cannot write {re.escape(str(path))}: .*Free some space"):
        WRITERS[name](path, finished)
    assert [p.name for p in folder.iterdir()] == ["other"]
    mount(folder, "size=8m", MS_REMOUNT)
    WRITERS[name](path, finished)
    assert path.exists()
    if path.suffix == ".csv" and name[0] == "a":
        before = path.read_bytes()
        mount(folder, f"size={len(before) + (64 << 10)}", MS_REMOUNT)
        with pytest.raises(SpaceError):
            Table("", {"n": list(range(90_000))}).to_csv(path)
        assert path.read_bytes() == before


def test_two_that_write_one_file_wait_for_each_other(tmp_path):
    path = tmp_path / "table.csv"
    tables = [Table("", {"n": [k] * 3000}) for k in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(table.to_csv, path) for table in tables * 4]:
            done.result()
    (value,) = set(path.read_text().split()[1:])
    assert int(value) in range(8) and path.read_text().count("\n") == 3001
    assert list(tmp_path.iterdir()) == [path]
