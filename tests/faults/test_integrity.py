"""Damage and edits of every kind of stored file: found on opening or by verify, and never served."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from store import (
    IdentityError,
    IntegrityError,
    SchemaError,
    StoreError,
    load_derived,
    open_features,
    open_prompts,
    open_targets,
    save_derived,
    verify_file,
    write_targets,
)
from store.digests import BLOCK_ROWS
from store.features import FEATURES_SCHEMA
from store.parts import PART_SCHEMA, Plan, begin, merge_parts, missing_parts, write_part
from store.prompts import PROMPTS_SCHEMA
from store.sealed import SealedFile, write_sealed
from tests.archives import make

Content = dict[str, Any]
N_ROWS = BLOCK_ROWS + 150
RNG = np.random.default_rng(7)
FEATURES_IDENTITY = {
    "backbone": "b.1",
    "images": "12ab",
    "preprocessing": {"resize": 224, "mean": [0.5, 0.5]},
}


def all_of(file: SealedFile) -> Content:
    """Everything a reader can get from a file."""
    arrays = {name: file.view(name).tobytes() for name in file.arrays}
    return {**arrays, "schema": file.schema, "identity": file.identity, "provenance": file.provenance}


def read_features(path: Path) -> Content:
    with open_features(path) as features:
        ids, rows = features.image_id.tolist(), [features.read(name).tobytes() for name in features.outputs]
        return {**all_of(features.file), "ids": ids, "failures": features.failures, "rows": rows}


def read_prompts(path: Path) -> Content:
    with open_prompts(path) as prompts:
        return {**all_of(prompts.file), "texts": prompts.text.tolist(), "rows": prompts.read().tobytes()}


def read_targets(path: Path) -> Content:
    targets = open_targets(path)
    with SealedFile(path) as file:
        return {**all_of(file), "ids": targets.image_id.tolist(), "votes": targets.votes.tolist()}


def read_derived(path: Path) -> Content:
    arrays = load_derived(path, make.DERIVED_KEY)
    if arrays is None:  # another key: rebuilt, not served
        raise IdentityError("another key")
    with SealedFile(path) as file:
        return {**all_of(file), "gram": arrays["gram"].tobytes()}


def read_part(path: Path) -> Content:
    with SealedFile(path, PART_SCHEMA) as file:
        return all_of(file)


READERS: dict[str, Callable[[Path], Content]] = {
    "features.h5": read_features,
    "prompts.h5": read_prompts,
    "targets.h5": read_targets,
    "derived.h5": read_derived,
    "part.h5": read_part,
}


def features_plan(folder: Path) -> Plan:
    ids = {"image_id": np.arange(N_ROWS).astype(str)}
    return Plan(folder / "features.h5", FEATURES_SCHEMA, FEATURES_IDENTITY, {"torch": "2"}, N_ROWS, ids)


def part_arrays(plan: Plan, index: int) -> dict[str, np.ndarray]:
    start, stop = plan.parts[index]
    rows = RNG.standard_normal((stop - start, 5)).astype(np.float32)
    status = np.ones(stop - start, np.uint8)
    status[3], rows[3] = 2, np.nan
    reasons = {"failures/row": np.array([3]), "failures/reason": np.array(["empty file"])}
    return {"status": status, "outputs/embedding": rows, **reasons}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """One file of each kind, and what a reader gets from it."""
    folder = tmp_path_factory.mktemp("data") / "old"
    plan = features_plan(folder)
    begin(plan)
    for index in missing_parts(plan):
        write_part(plan, index, part_arrays(plan, index))
    part = plan.part_path(0).read_bytes()
    merge_parts(plan)
    (folder / "part.h5").write_bytes(part)
    identity = {"prompt_set": "s", "backbone": "b.1"}
    write_sealed(folder / "prompts.h5", PROMPTS_SCHEMA, identity, {"p": 1}, make.prompt_arrays())
    write_targets(folder / "targets.h5", make.TARGETS, {"images": "12ab"}, {"kind": "table"})
    save_derived(
        folder / "derived.h5", {"gram": np.eye(30), "labels": np.array(["x", "yy"])}, make.DERIVED_KEY
    )
    return {folder / name: read(folder / name) for name, read in READERS.items()}


@pytest.fixture
def copy(stored, tmp_path):
    """A copy of one stored file, of all kinds in turn when asked with a number."""

    def make_copy(number_or_name) -> tuple[Path, Content]:
        names = sorted(READERS)
        name = names[number_or_name % len(names)] if isinstance(number_or_name, int) else number_or_name
        original = next(path for path in stored if path.name == name)
        (tmp_path / "old").mkdir(exist_ok=True)
        shutil.copyfile(original, tmp_path / "old" / name)
        return tmp_path / "old" / name, stored[original]

    return make_copy


def extents(path: Path) -> list[tuple[int, int, str]]:
    """(first byte, last byte + 1, what verify must say) of every block of rows."""
    with SealedFile(path) as file:
        return [
            (position, position + n_bytes, f"/{name} rows {start} to {stop - 1}")
            for name in file.arrays
            for start, stop, position, n_bytes, _ in file.extents(name)
        ]


def served(path: Path) -> Content | None:
    """What a reader gets; None if it is refused."""
    try:
        return READERS[path.name](path)
    except StoreError as error:
        assert str(path) in str(error) or isinstance(error, IdentityError)
        return None


def plain(path: Path) -> Content:
    """What a program that knows only HDF5 reads: arrays and attributes."""
    with h5py.File(path, locking=False) as file:
        found = {f"@{key}": bytes(np.asarray(value)) for key, value in file.attrs.items()}
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
        return found


def check_flips(copy, rng: np.random.Generator, n: int) -> tuple[int, int]:
    """Flip one bit `n` times; returns how many were found and how many lie in bytes without information."""
    n_found = n_harmless = 0
    for number in range(n):
        path, original = copy(number)
        blocks, clean = extents(path), plain(path)
        data = bytearray(path.read_bytes())
        position = int(rng.integers(len(data)))
        data[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        problems = verify_file(path).problems
        got = served(path)
        if problems:
            n_found += 1
            named = [what for first, end, what in blocks if first <= position < end]
            assert all(any(what in problem for problem in problems) for what in named), (named, problems)
        else:
            n_harmless += 1
            assert got == original and plain(path) == clean, f"byte {position} of {path.name} means something"
        assert got is None or got == original, f"byte {position} of {path.name} was served damaged"
    return n_found, n_harmless


def check_truncations(copy, rng: np.random.Generator, n: int) -> None:
    for number in range(n):
        path, _ = copy(number)
        data = path.read_bytes()
        path.write_bytes(data[: int(rng.integers(len(data)))])
        assert verify_file(path).problems and served(path) is None


def test_flipped_bits_and_truncations(copy, rng):
    n_found, n_harmless = check_flips(copy, rng, 300)
    assert n_found > 150 and n_harmless > 5
    check_truncations(copy, rng, 30)


@pytest.mark.slow
def test_a_thousand_flipped_bits_and_a_hundred_truncations(copy, rng):
    print("found, harmless:", check_flips(copy, rng, 1000))
    check_truncations(copy, rng, 100)


@pytest.mark.parametrize("name", READERS)
def test_edited_attributes(copy, name):
    for key in ("schema", "identity", "provenance", "digest"):
        path, _ = copy(name)
        with h5py.File(path, "r+") as file:
            value = bytearray(bytes(file.attrs[key]))
            value[len(value) // 2] = ord("x") if value[len(value) // 2] != ord("x") else ord("y")
            file.attrs[key] = np.bytes_(bytes(value))
        assert verify_file(path).problems and served(path) is None
    for key, value in (("schema_version", 2), ("block_rows", 4096), ("note", 1)):
        path, _ = copy(name)
        with h5py.File(path, "r+") as file:
            file.attrs[key] = np.int64(value)
        assert verify_file(path).problems and served(path) is None


@pytest.mark.parametrize("name", READERS)
def test_reordered_rows_removed_and_added_arrays(copy, name):
    """Also where the editor has mended the digests of the blocks: the root digest covers them."""
    path, _ = copy(name)
    with SealedFile(path) as file:
        arrays = [a for a, (shape, _) in file.arrays.items() if shape[0] > 1]
    for array in arrays:
        for is_mended in (False, True):
            path, _ = copy(name)
            with h5py.File(path, "r+") as file:
                rows = file[array][()]
                other = next((i for i in range(1, len(rows)) if rows[i].tobytes() != rows[0].tobytes()), None)
                if other is None:
                    continue
                rows[[0, other]] = rows[[other, 0]]
                file[array][...] = rows
                if is_mended:
                    from store.digests import digest_blocks

                    file[f"digests/{array}"][...] = digest_blocks(rows)
            problems = verify_file(path).problems
            assert served(path) is None and problems
            assert is_mended or f"/{array} rows 0 to" in problems[0]
    path, _ = copy(name)
    with h5py.File(path, "r+") as file:
        del file[arrays[0]], file[f"digests/{arrays[0]}"]
    assert verify_file(path).problems and served(path) is None


def test_swapped_files(tmp_path, rng):
    """Every pair of files that change places is found, by verify and by the identity asked for."""
    paths = {}
    for dataset in ("a", "b"):
        for backbone in ("x", "y"):
            path = tmp_path / dataset / "features" / f"{backbone}.h5"
            identity = {**FEATURES_IDENTITY, "backbone": backbone, "images": dataset}
            ids = {"image_id": np.arange(3).astype(str)}
            plan = Plan(path, FEATURES_SCHEMA, identity, {"dataset": dataset}, 3, ids)
            begin(plan)
            rows = rng.standard_normal((3, 5)).astype(np.float32)
            none = {"failures/row": np.zeros(0, np.int64), "failures/reason": np.array([], dtype=str)}
            write_part(plan, 0, {"status": np.ones(3, np.uint8), "outputs/embedding": rows, **none})
            merge_parts(plan)
            paths[path] = identity
            prompts = tmp_path / dataset / "prompts" / f"set_{dataset}" / f"{backbone}.h5"
            identity = {"prompt_set": f"set_{dataset}", "backbone": backbone}
            write_sealed(prompts, PROMPTS_SCHEMA, identity, {}, make.prompt_arrays())
            paths[prompts] = identity
    assert all(verify_file(path).is_intact for path in paths)
    n_swaps = 0
    for first in paths:
        for second in paths:
            if first >= second:
                continue
            n_swaps += 1
            one, two = first.read_bytes(), second.read_bytes()
            first.write_bytes(two)
            second.write_bytes(one)
            for path in (first, second):
                if verify_file(path).schema.endswith(path.parent.name):  # else it is not even of the kind
                    assert "was it swapped?" in verify_file(path).problems[0]
                opener = open_features if path.parent.name == "features" else open_prompts
                with pytest.raises((IdentityError, SchemaError)):
                    opener(path, paths[path])
            first.write_bytes(one)
            second.write_bytes(two)
    assert n_swaps >= 20


def test_a_part_in_the_place_of_another_is_made_again(tmp_path):
    plan = features_plan(tmp_path)
    begin(plan)
    for index in (0, 1):
        write_part(plan, index, part_arrays(plan, index))
    shutil.copyfile(plan.part_path(0), plan.part_path(1))
    assert missing_parts(plan) == [1]


def test_damage_between_writing_a_part_and_merging_it_is_found(tmp_path):
    plan = features_plan(tmp_path)
    begin(plan)
    for index in (0, 1):
        write_part(plan, index, part_arrays(plan, index))
    first, _, where = next(e for e in extents(plan.part_path(1)) if "outputs" in e[2])
    data = bytearray(plan.part_path(1).read_bytes())
    data[first + 9] ^= 2
    plan.part_path(1).write_bytes(data)
    with pytest.raises(IntegrityError, match=f"part-00001.h5 is damaged: {where}"):
        merge_parts(plan)
    assert not plan.path.exists()


def test_the_plan_of_a_begun_run_is_guarded(tmp_path, rng):
    """Every changed letter of plan.json is refused or changes nothing of what it says."""
    import json

    plan = features_plan(tmp_path)
    begin(plan)
    note = plan.folder / "plan.json"
    whole = note.read_bytes()
    for position in rng.integers(0, len(whole), 60):
        data = bytearray(whole)
        data[position] ^= 1 << int(rng.integers(7))
        note.write_bytes(data)
        try:
            begin(plan)
        except StoreError as error:
            assert "plan.json" in str(error) or str(plan.folder) in str(error)
        else:
            assert json.loads(data) == json.loads(whole)
