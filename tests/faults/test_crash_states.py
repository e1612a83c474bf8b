"""Every folder that a kill or a power loss can leave: finished files open and are right, no promised row is
lost, and the same run goes on to the same digest."""

import io
import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from store import Status
from store.digests import BLOCK_ROWS
from store.durable import make_folder
from store.features import FEATURES_SCHEMA
from store.parts import Plan, merge_parts
from store.verify import verify_file
from tests.faults.crashes import (
    Recording,
    State,
    kill_states,
    power_loss_states,
    recorded,
    run_to_the_end,
    state_after,
)

N_PARTS = 20
N_FEW_PARTS = 6
"""What a crash can leave of a run of many parts it can leave of one of few: parts are alike."""
N_ROWS = (N_PARTS - 1) * BLOCK_ROWS + 700
MATRIX = np.random.default_rng(1).standard_normal((N_ROWS, 2)).astype(np.float32)
IDS = np.arange(N_ROWS).astype("U6")


def make_plan(folder: Path, n_parts: int = N_PARTS) -> Plan:
    identity = {"backbone": "b", "images": "1234"}
    path = folder / "features" / "b.h5"
    n_rows = (n_parts - 1) * BLOCK_ROWS + 700
    return Plan(path, FEATURES_SCHEMA, identity, {"v": 1}, n_rows, {"image_id": IDS[:n_rows]})


def part_arrays(plan: Plan, index: int) -> dict[str, np.ndarray]:
    start, stop = plan.parts[index]
    status = np.full(stop - start, Status.OK, np.uint8)
    rows = MATRIX[start:stop].copy()
    status[0], rows[0] = Status.FAILED, np.nan
    return {
        "status": status,
        "failures/row": np.array([0], np.int64),
        "failures/reason": np.array(["empty file"]),
        "outputs/embedding": rows,
    }


def run(
    folder: Path, mark: Callable[..., None] = lambda *what: None, n_parts: int = N_PARTS
) -> tuple[str, list[int]]:
    """A run whose parts are joined; returns the digest and the parts it made."""
    return run_to_the_end(make_plan(folder, n_parts), part_arrays, merge_parts, mark)


def record(folder: Path, n_parts: int) -> Recording:
    with recorded(folder) as recording:
        run(folder, recording.mark, n_parts)
    return recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("recorded"), N_FEW_PARTS)


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("long"), N_PARTS)


def n_parts_of(recording: Recording) -> int:
    return len(recording.marks(len(recording.ops), "promised"))


def test_the_recording_is_complete(recording):
    """Replayed to the end, it is the real folder: nothing was written around the recorder."""
    end = state_after(recording.ops, len(recording.ops))
    real = {str(p.relative_to(recording.root)): p for p in recording.root.rglob("*") if p.is_file()}
    assert set(end.files) == set(real) == {"features/b.h5"}
    for name, path in real.items():
        assert end.content(name) == path.read_bytes()
    kinds = [op[0] for op in recording.ops]
    assert kinds.count("rename") == N_FEW_PARTS + 2 and kinds.count("fsync") == N_FEW_PARTS + 2
    assert len(kinds) > 25 * N_FEW_PARTS


class Checker:
    """Looks at states; a file's content is looked at once."""

    def __init__(self, recording: Recording, scratch: Path, is_right: Callable[[Path], bool]) -> None:
        self.recording, self.scratch, self.is_right = recording, scratch, is_right
        self.seen: dict[Any, bool] = {}

    def problems(self, state: State) -> list[str]:
        found = []
        for name in state.files:
            if not name.endswith(".partial") and not self._right(state, name):
                found.append(f"{name} is there and wrong")
        final = "features/b.h5" in state.files
        for index in self.recording.marks(state.end, "promised"):
            if not final and f"features/b.h5.parts/part-{index:05d}.h5" not in state.files:
                found.append(f"the rows of part {index} were promised and are lost")
        if self.recording.marks(state.end, "finished") and not final:
            found.append("the finished file is lost")
        return found

    def _right(self, state: State, name: str) -> bool:
        key = state.key(name)
        if key not in self.seen:
            path = self.scratch / Path(name).name
            path.write_bytes(state.content(name))
            self.seen[key] = self.is_right(path)
        return self.seen[key]


def sealed_and_right(path: Path) -> bool:
    """Intact, and the rows are the ones meant."""
    if path.name == "plan.json":
        return path.stat().st_size > 0 and path.read_text(encoding="utf-8").endswith("}\n")
    if not verify_file(path).is_intact:
        return False
    with h5py.File(path) as file:
        rows = file["outputs/embedding"][()]
    start = int(path.stem[5:]) * BLOCK_ROWS if path.stem.startswith("part-") else 0
    expected = MATRIX[start : start + len(rows)].copy()
    expected[::BLOCK_ROWS] = np.nan
    return np.array_equal(rows, expected, equal_nan=True)


def goes_on(state: State, recording: Recording, folder: Path, digest: str) -> None:
    """The same run, started again in what the crash left."""
    shutil.rmtree(folder, ignore_errors=True)
    state.make(folder)
    resumed, made = run(folder, n_parts=n_parts_of(recording))
    assert resumed == digest
    assert not set(made) & set(recording.marks(state.end, "promised")), "promised work was done again"
    assert len(set(made) & set(recording.marks(state.end, "begun"))) <= 1, "more than one part was repeated"
    left = [p.name for p in (folder / "features").iterdir()]
    assert left == ["b.h5"], f"left behind: {left}"


def check(states: Iterable[State], recording: Recording, tmp_path: Path, every: int) -> int:
    """No problem in any state, and for one of so many a real resume; returns the number of states."""
    checker = Checker(recording, tmp_path, sealed_and_right)
    digest = recording.marks(len(recording.ops), "finished")[0]
    n_states = 0
    for n_states, state in enumerate(states, start=1):
        assert not (found := checker.problems(state)), (state.end, state.torn, found)
        if n_states % every == 0:
            goes_on(state, recording, tmp_path / "resumed", digest)
    print(f"{n_states} states, {n_states // every} resumed")
    return n_states


def test_every_state_a_kill_can_leave(recording, tmp_path):
    assert check(kill_states(recording.ops), recording, tmp_path, every=31) > 25 * N_FEW_PARTS


def test_states_a_power_loss_can_leave(recording, tmp_path, rng):
    states = power_loss_states(recording.ops, rng)
    assert check(itertools.islice(states, 0, None, 3), recording, tmp_path, every=61) > 25 * N_FEW_PARTS


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_state_is_gone_on_from(long_recording, tmp_path, rng):
    recording = long_recording
    assert check(kill_states(recording.ops), recording, tmp_path, every=1) > 500
    assert check(power_loss_states(recording.ops, rng), recording, tmp_path, every=7) > 2000


class _Grown(io.RawIOBase):
    """A file that HDF5 grows in place, through the recorded system calls."""

    def __init__(self, path: Path) -> None:
        self.position = self.size = 0
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)

    def seek(self, offset, whence=0):
        self.position = offset + {0: 0, 1: self.position, 2: self.size}[whence]
        return self.position

    def tell(self):
        return self.position

    def readinto(self, buffer):
        data = os.pread(self.descriptor, len(buffer), self.position)
        buffer[: len(data)] = data
        return len(data)

    def write(self, data):
        os.pwrite(self.descriptor, bytes(data), self.position)
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def truncate(self, size):
        os.ftruncate(self.descriptor, size)
        self.size = size

    def flush(self):
        os.fsync(self.descriptor)


def test_a_writer_that_grows_a_file_in_place_fails_the_same_test(tmp_path, rng):
    """The negative control: the test can fail. Every part's rows are appended, flushed and fsynced."""
    root = tmp_path / "control"
    with recorded(root) as control:
        make_folder(root / "features")
        file = h5py.File(_Grown(root / "features/b.h5"), "w")
        rows = file.create_dataset(
            "outputs/embedding", (0, 2), np.float32, maxshape=(None, 2), chunks=(512, 2)
        )
        for start in range(0, 4 * BLOCK_ROWS, BLOCK_ROWS):
            rows.resize(start + BLOCK_ROWS, axis=0)
            rows[start:] = MATRIX[start : start + BLOCK_ROWS]
            file.flush()
        file.close()
        end = state_after(control.ops, len(control.ops))
        assert end.content("features/b.h5") == (root / "features/b.h5").read_bytes()

    def opens_and_is_right(path: Path) -> bool:
        try:
            with h5py.File(path, locking=False) as file:
                rows = file["outputs/embedding"][()]
        except (OSError, KeyError, RuntimeError):
            return False
        return np.array_equal(rows, MATRIX[: len(rows)])

    checker = Checker(control, tmp_path, opens_and_is_right)
    killed = [bool(checker.problems(state)) for state in kill_states(control.ops)]
    assert not killed[-1], "the control is right at its end"
    assert np.mean(killed) > 0.05
    lost = [bool(checker.problems(s)) for s in power_loss_states(control.ops, rng)]
    assert np.mean(lost) > 0.05
    print(
        f"control: {np.mean(killed):.0%} of {len(killed)} and {np.mean(lost):.0%} of {len(lost)} states fail"
    )
