"""Every folder that a kill or a power loss can leave of a run that ends in shards, and of their way into one
file: the feature file opens and is right or is not there, no promised row is lost, the run goes on."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from store import MissingFileError, Status, open_features
from store.features import FEATURES_SCHEMA
from store.parts import Plan, begin, merge_parts, open_part, write_part
from store.sharding import keep_parts
from store.shards import ShardedFile, merge_shards
from tests.faults.crashes import (
    Recording,
    State,
    kill_states,
    power_loss_states,
    recorded,
    run_to_the_end,
    state_after,
)

PART, N_ROWS = 50, 180
MATRIX = np.random.default_rng(1).standard_normal((N_ROWS, 2)).astype(np.float32)
SHA256 = np.random.default_rng(2).integers(0, 256, (N_ROWS, 32), dtype=np.uint8)
SHA256[170] = SHA256[3]
"""A copy, in another part than what it is a copy of: that part is written anew."""
EXPECTED = MATRIX.copy()
EXPECTED[170] = EXPECTED[3]
EXPECTED[::PART] = np.nan


def make_plan(folder: Path) -> Plan:
    ids = {"image_id": np.arange(N_ROWS).astype("U6")}
    identity = {"backbone": "b", "images": "1234"}
    path = folder / "features" / "b.h5"
    return Plan(path, FEATURES_SCHEMA, identity, {"v": 1}, N_ROWS, ids, "", PART, is_sharded=True)


def part_arrays(plan: Plan, index: int) -> dict[str, np.ndarray]:
    start, stop = plan.parts[index]
    status, rows = np.full(stop - start, Status.OK, np.uint8), MATRIX[start:stop].copy()
    status[0], rows[0] = Status.FAILED, np.nan
    failures = {"failures/row": np.array([0]), "failures/reason": np.array(["empty file"])}
    sources = {"source_sha256": SHA256[start:stop], "source_size": np.arange(start, stop)}
    return {"status": status, "outputs/embedding": rows, **failures, **sources}


def run(folder: Path, mark=lambda *what: None) -> tuple[str, list[int]]:
    """A run whose parts stay as shards; returns the digest and the parts it made."""
    return run_to_the_end(
        make_plan(folder), part_arrays, lambda plan: keep_parts(plan, "source_sha256"), mark
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    with recorded(folder) as recording:
        run(folder, recording.mark)
        recording.mark("merging", "")
        merge_shards(folder / "features" / "b.h5")
    return recording


def test_the_recording_is_complete(recording):
    """Replayed to the end, it is the real folder: one file, as one that was never in shards."""
    end = state_after(recording.ops, len(recording.ops))
    real = {str(p.relative_to(recording.root)): p for p in recording.root.rglob("*") if p.is_file()}
    assert set(end.files) == set(real) == {"features/b.h5"}
    content = end.content("features/b.h5")
    assert content == real["features/b.h5"].read_bytes()
    plan = make_plan(recording.root / "again")
    begin(plan)
    for index in range(len(plan.parts)):
        write_part(plan, index, part_arrays(plan, index))
    merge_parts(replace(plan, is_sharded=False), "source_sha256")
    assert plan.path.read_bytes() == content
    shutil.rmtree(recording.root / "again")


def check(state: State, recording: Recording, folder: Path, digest: str) -> bool:
    """True if the state had the finished file; it and what follows from the state are right."""
    shutil.rmtree(folder, ignore_errors=True)
    state.make(folder)
    plan = make_plan(folder)
    try:
        with open_features(plan.path, plan.identity) as features:
            assert features.digest == digest and np.array_equal(
                features.read("embedding"), EXPECTED, equal_nan=True
            )
            is_there = True
    except MissingFileError:
        is_there = False
        assert not recording.marks(state.end, "finished"), "the finished file is lost"
        for index in recording.marks(state.end, "promised"):
            with open_part(plan, index) as part:
                part.check_all()
    found, made = run(folder)
    assert found == digest
    assert not set(made) & set(recording.marks(state.end, "promised")), "promised work was done again"
    with open_features(plan.path) as features:
        assert np.array_equal(features.read("embedding"), EXPECTED, equal_nan=True)
        n_files = 1 + (len(features.file.shards) if isinstance(features.file, ShardedFile) else 0)
    left = [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".partial")]
    assert len(left) == n_files, left
    return is_there


def after_the_parts(recording: Recording, states) -> list[State]:
    """Those of the sealing and the merging; what comes before is as in a run that ends in one file."""
    start = max(i for i, op in enumerate(recording.ops) if op[0] == "mark" and op[1][0] == "promised")
    return [state for state in states if state.end > start]


def test_no_manifest_stands_without_its_shards(recording, rng):
    """In any state: a power loss takes nothing of the folder of shards once the manifest is there."""
    ops = recording.ops
    end = next(i for i, op in enumerate(ops) if op[0] == "mark" and op[1][0] == "finished")
    whole = state_after(ops, end)
    shards = [name for name in whole.files if ".shards/" in name]
    assert len(shards) == 4
    n_states = 0
    for state in itertools.chain(kill_states(ops), power_loss_states(ops, rng)):
        if state.files.get("features/b.h5") == whole.files["features/b.h5"]:
            n_states += 1
            assert all(state.files.get(name) == whole.files[name] for name in shards), state.end
    assert n_states > 20


def test_every_state_a_kill_can_leave(recording, tmp_path):
    digest = recording.marks(len(recording.ops), "finished")[0]
    states = after_the_parts(recording, kill_states(recording.ops))
    print(f"{len(states)} states")
    found = [check(state, recording, tmp_path / "s", digest) for state in states[::20]]
    assert len(states) > 100 and 0 < sum(found) < len(found)


def test_states_a_power_loss_can_leave(recording, tmp_path, rng):
    digest = recording.marks(len(recording.ops), "finished")[0]
    states = after_the_parts(recording, power_loss_states(recording.ops, rng))
    print(f"{len(states)} states")
    found = [check(state, recording, tmp_path / "s", digest) for state in states[::60]]
    assert len(states) > 100 and 0 < sum(found) < len(found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_state(recording, tmp_path, rng):
    digest = recording.marks(len(recording.ops), "finished")[0]
    states = [*kill_states(recording.ops), *power_loss_states(recording.ops, rng)]
    found = [check(state, recording, tmp_path / "s", digest) for state in states]
    assert len(states) > 500 and 0 < sum(found) < len(found)
