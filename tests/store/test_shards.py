"""A file in shards is the one file: same digest, same rows; and what is not its own is found."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from store import IntegrityError, SchemaError, Status, durable, open_features, verify_file, verify_folder
from store.digests import BLOCK_ROWS
from store.errors import ReplacedError
from store.features import FEATURES_SCHEMA
from store.joined import write_joined
from store.parts import Plan, begin, merge_parts, part_bounds, write_part
from store.rows import first_of_equal, first_of_equal_rows
from store.sharding import keep_parts
from store.shards import ShardedFile, merge_shards, open_arrays, shard_folder, shard_path

N = 9 * BLOCK_ROWS + 100
DIM = 3
IDS = np.array([f"image {row}" for row in range(N)])


def vectors(n: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, DIM)).astype(np.float32)


def make_plan(folder: Path, n: int = N, part_rows: int = 2 * BLOCK_ROWS) -> Plan:
    identity = {"backbone": "b", "images": "1234", "n_images": n}
    path = folder / "d" / "features" / "b.h5"
    return Plan(path, FEATURES_SCHEMA, identity, {"v": 1}, n, {"image_id": IDS[:n]}, part_rows=part_rows)


def write_parts(plan: Plan, equal: tuple[int, int] | None = None) -> np.ndarray:
    """All parts; the first row of each fails. `equal` are two rows of one image with vectors that differ."""
    rows = vectors(plan.n_rows)
    sha256 = np.random.default_rng(2).integers(0, 256, (plan.n_rows, 32), dtype=np.uint8)
    if equal:
        sha256[equal[1]] = sha256[equal[0]]
    begin(plan)
    for index, (start, stop) in enumerate(plan.parts):
        status = np.full(stop - start, Status.OK, np.uint8)
        status[0], rows[start] = Status.FAILED, np.nan
        reason = "empty file" if index % 2 else "no picture at all"
        write_part(
            plan,
            index,
            {
                "status": status,
                "source_sha256": sha256[start:stop],
                "source_size": np.arange(start, stop),
                "failures/row": np.array([0]),
                "failures/reason": np.array([reason]),
                "outputs/embedding": rows[start:stop],
            },
            {"other_decoders": [["x", index]]},
        )
    return rows


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """One file and shards of the same run."""
    root = tmp_path_factory.mktemp("forms")
    for name, finish in (("one", merge_parts), ("many", keep_parts)):
        plan = make_plan(root / name)
        write_parts(plan, (7, 5 * BLOCK_ROWS + 8))
        finish(plan, "source_sha256")
    return root


@pytest.fixture
def forms(original, tmp_path):
    """Their feature files, to be damaged."""
    shutil.copytree(original, tmp_path / "f")
    return tmp_path / "f" / "one/d/features/b.h5", tmp_path / "f" / "many/d/features/b.h5"


def test_digest_and_everything_that_is_read_are_those_of_the_one_file(forms):
    one, many = (open_features(path) for path in forms)
    assert isinstance(many.file, ShardedFile) and len(many.file.shards) == 5
    assert one.digest == many.digest and one.identity == many.identity and one.provenance == many.provenance
    assert one.outputs == many.outputs and one.failures == many.failures
    assert one.file.arrays == many.file.arrays
    for name, (_, dtype) in one.file.arrays.items():
        assert one.file.view(name).tobytes() == many.file.view(name).tobytes(), name
        assert one.file.view(name).dtype == dtype
    picked = np.random.default_rng(3).integers(-N, N, 500)
    mask = np.random.default_rng(4).random(N) < 0.1
    border = slice(2 * BLOCK_ROWS - 5, 2 * BLOCK_ROWS + 5)
    for rows in (None, slice(3, 9), border, slice(5, 3), slice(0, N, 7), picked, mask, picked[:0]):
        for unit in (False, True):
            a, b = (file.read("embedding", rows, unit) for file in (one, many))
            assert a.tobytes() == b.tobytes() and not b.flags.writeable
    for (a, x), (b, y) in zip(one.blocks("embedding"), many.blocks("embedding"), strict=True):
        assert a == b and x.tobytes() == y.tobytes()
    assert many.image_id.tolist() == one.image_id.tolist()
    with pytest.raises(IndexError):
        many.read("embedding", np.array([N]))
    with pytest.raises(IndexError):
        many.read("embedding", mask[1:])


def test_rows_of_equal_images_share_a_vector(forms):
    """Their part alone is written anew; the others are the parts as they were."""
    rows = open_features(forms[1]).read("embedding")
    written = write_parts(make_plan(forms[0].parents[2] / "again"), (7, 5 * BLOCK_ROWS + 8))
    assert np.array_equal(rows[7], rows[5 * BLOCK_ROWS + 8])
    assert not np.array_equal(written[7], written[5 * BLOCK_ROWS + 8])
    rows = np.delete(rows, 5 * BLOCK_ROWS + 8, 0)
    assert np.array_equal(rows, np.delete(written, 5 * BLOCK_ROWS + 8, 0), equal_nan=True)


@pytest.mark.parametrize("part_rows", [300, 2 * BLOCK_ROWS])
def test_the_digest_does_not_depend_on_the_size_of_the_shards(tmp_path, part_rows):
    digests = set()
    for n_part, finish in ((500, merge_parts), (part_rows, keep_parts)):
        plan = make_plan(tmp_path / str(finish), 3000, n_part)
        write_parts(replace(plan, part_rows=BLOCK_ROWS))  # the same rows fail, whatever the parts
        whole = merge_parts(replace(plan, part_rows=BLOCK_ROWS))
        rows = open_features(plan.path)
        begin(plan)
        for index, (start, stop) in enumerate(plan.parts):
            names = [name for name in rows.file.arrays if name != "image_id"]
            some = {name: rows.file.view(name, start, stop) for name in names}
            failed = [(row - start, reason) for row, reason in rows.failures.items() if start <= row < stop]
            some["failures/row"] = np.array([row for row, _ in failed], np.int64)
            some["failures/reason"] = np.array([reason for _, reason in failed], str)
            write_part(plan, index, some)
        notes = {"other_decoders": rows.provenance["other_decoders"]}
        plan = replace(plan, provenance={**plan.provenance, **notes})
        begin(replace(plan, path=plan.path.with_name("c.h5")))
        os.rename(plan.folder, tmp_path / "moved")
        digests |= {whole, _finished_of(plan, tmp_path / "moved", finish)}
        shutil.rmtree(tmp_path / "moved", ignore_errors=True)
    assert len(digests) == 1


def _finished_of(plan: Plan, parts: Path, finish) -> str:
    """Parts that were written under a shorter provenance, sealed under the plan's."""
    for index, (start, stop) in enumerate(plan.parts):
        with open_arrays(parts / f"part-{index:05d}.h5") as part:
            assert part.arrays["status"][0] == (stop - start,)
            write_part(plan, index, {name: part.view(name) for name in part.arrays})
    return finish(plan)


def test_merged_it_is_the_one_file_byte_for_byte(forms):
    one, many = forms
    with open_features(many) as file:
        assert merge_shards(many) == file.digest
    assert many.read_bytes() == one.read_bytes()
    assert not shard_folder(many).exists()
    assert merge_shards(many) == open_features(one).digest  # one file is left alone


def test_parts_become_shards_without_being_written_again(tmp_path):
    plan = make_plan(tmp_path)
    write_parts(plan)
    before = {os.stat(plan.part_path(i)).st_ino for i in range(len(plan.parts))}
    keep_parts(plan, "source_sha256")
    assert {entry.inode() for entry in os.scandir(shard_folder(plan.path))} == before
    assert not plan.folder.exists()


def test_a_file_system_without_second_names_gets_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(durable.system, "link", refuse)
    plan = make_plan(tmp_path, 5000)
    write_parts(plan)
    digest = keep_parts(plan)
    assert open_features(plan.path).digest == digest and verify_file(plan.path).is_intact
    assert sorted(os.listdir(plan.path.parent)) == ["b.h5", "b.h5.shards"]
    assert all(len(name) == 67 for name in os.listdir(shard_folder(plan.path)))


def test_few_files_are_open_at_once(forms):
    file = open_arrays(forms[1])
    file.rows._n_open = 2
    for start in range(0, N, 1000):
        file.view("outputs/embedding", start, start + 1000)
        assert len(file.rows._opened) <= 2


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 4]))


def shard_of(many: Path, index: int) -> Path:
    with open_arrays(many) as file:
        return file.shard_path(index)


def test_a_flipped_bit_is_found_wherever_it_is(forms):
    """In the rows when they are read, in a header when the shard is; by `verify` in any case."""
    shard = shard_of(forms[1], 2)
    with h5py.File(shard) as file:
        at = file["outputs/embedding"].id.get_offset() + 50 * DIM * 4
    original, n_bytes = shard.read_bytes(), shard.stat().st_size
    expected = open_features(forms[0]).read("embedding").tobytes()
    flip(shard, at)
    with open_features(forms[1]) as features:
        features.read("embedding", slice(0, 4 * BLOCK_ROWS))
        with pytest.raises(IntegrityError, match="/outputs/embedding rows 0 to 2047 are not what"):
            features.read("embedding", slice(4 * BLOCK_ROWS, 4 * BLOCK_ROWS + 1))
    (verdict,) = verify_folder(forms[1].parent)
    assert not verdict.is_intact and "shard 2" in verdict.problems[0]
    found = 0
    for position in np.random.default_rng(5).integers(0, n_bytes, 12).tolist():
        shard.write_bytes(original)
        flip(shard, position)
        try:
            with open_features(forms[1]) as features:
                same = features.read("embedding").tobytes() == expected
        except (IntegrityError, SchemaError):
            continue
        else:
            assert same, position
            found += not verify_file(forms[1]).is_intact
    assert found  # in arrays that were not read: sizes, hashes


def test_flips_in_the_manifest_are_found(forms):
    original = forms[1].read_bytes()
    expected = open_features(forms[0])
    for position in np.random.default_rng(6).integers(0, len(original), 15).tolist():
        forms[1].write_bytes(original)
        flip(forms[1], position)
        try:
            with open_features(forms[1]) as features:
                assert features.digest == expected.digest
                assert features.image_id.tolist() == expected.image_id.tolist()
                assert features.read("embedding").tobytes() == expected.read("embedding").tobytes()
        except (IntegrityError, SchemaError):
            continue


def test_a_missing_shard_is_named(forms):
    shard = shard_of(forms[1], 1)
    shard.unlink()
    with pytest.raises(IntegrityError, match=r"1 of 5 shards are missing: number 1 \(rows 4096 to 8191\)"):
        open_features(forms[1])
    assert "shards are missing" in verify_file(forms[1]).problems[0]
    shutil.rmtree(shard_folder(forms[1]))
    with pytest.raises(IntegrityError, match="5 of 5 shards are missing"):
        open_features(forms[1])


def test_swapped_and_foreign_shards_are_refused(forms):
    first, second = shard_of(forms[1], 1), shard_of(forms[1], 2)
    swap = first.with_name("swap")
    os.rename(first, swap), os.rename(second, first), os.rename(swap, second)
    with pytest.raises(IntegrityError, match="number 1 .*8191"):
        open_features(forms[1])
    found = verify_file(forms[1]).problems
    assert len(found) == 2 and all("another file lies in the place of a shard" in each for each in found)
    plan = make_plan(forms[1].parents[2] / "other", 5000)
    write_parts(plan)
    keep_parts(plan)
    shutil.copy(shard_of(plan.path, 0), first)
    with pytest.raises(IntegrityError, match="another file lies"):
        open_features(forms[1])


def test_a_swapped_order_or_another_digest_in_a_mended_manifest_is_refused(forms):
    """Sealed again by an honest writer, so that its own digest is right."""
    from store.sealed import write_sealed
    from store.shards import SHARDS_SCHEMA

    with open_arrays(forms[1]) as file:
        arrays = {name: file.manifest.view(name).copy() for name in file.manifest.arrays}
        about = (SHARDS_SCHEMA, file.identity, file.provenance)
    for name, change, said in (
        ("features_sha256", lambda a: a ^ 1, "not what its digest of the features says"),
        ("array/sha256", lambda a: a[::-1].copy(), "not what its digest of the features says"),
        ("array/dtype", lambda a: np.where(a == b"<f4", b"|O8", a), "declares"),
        ("shard/n_rows", lambda a: a - 1, "do not have a row for each image"),
        ("image_id", lambda a: a[::-1].copy(), "not what its digest of the features says"),
    ):
        write_sealed(forms[1], *about, {**arrays, name: change(arrays[name])})
        with pytest.raises(IntegrityError, match=said):
            open_features(forms[1])
        assert not verify_file(forms[1]).is_intact
    order = np.array([0, 2, 1, 3, 4])
    write_sealed(forms[1], *about, arrays | {"shard/sha256": arrays["shard/sha256"][order]})
    (found,) = verify_file(forms[1]).problems
    assert "of the shards is not what the digest of the features says" in found


def test_what_an_update_keeps_in_place_is_not_written_again(forms):
    """Of rows that stay in their place the shards stay; the digest is that of the one file updated alike."""
    digests = []
    for path, is_sharded in zip(forms, (False, True), strict=True):
        plan = replace(make_plan(path.parents[2], N - 5), is_sharded=is_sharded)
        before = set(os.listdir(shard_folder(path))) if is_sharded else set()
        old_row = np.arange(N - 5)
        old_row[3 * BLOCK_ROWS :] += 5  # five photographs went
        with open_features(path) as old:
            bad = np.flatnonzero(old.status[old_row] != Status.OK)
            old_row[bad] = 1
            digests.append(write_joined(plan, old.file, None, old_row, np.full(N - 5, -1), {"v": 2}))
        assert verify_file(path).is_intact
        if is_sharded:
            after = set(os.listdir(shard_folder(path)))
            assert len(after) == 5 and len(after & before) == 0  # a failed row of each was made anew
    assert digests[0] == digests[1]
    plan = replace(make_plan(forms[1].parents[2], N - 5), is_sharded=True)
    before = set(os.listdir(shard_folder(forms[1])))
    old_row = np.arange(N - 5)
    old_row[-1] = 0
    with open_features(forms[1]) as old:
        write_joined(plan, old.file, None, old_row, np.full(N - 5, -1), {"v": 3})
    after = set(os.listdir(shard_folder(forms[1])))
    assert len(after) == 5 and len(after & before) == 4


def test_a_reader_of_a_file_that_was_replaced_is_told_so(forms):
    with open_features(forms[1]) as features:
        features.read("embedding", slice(0, 5))
        merge_shards(forms[1])
        features.file.rows.close()
        with pytest.raises(ReplacedError, match="Open it again"):
            features.read("embedding", slice(N - 5, N))


def test_shards_of_nobody_are_removed_at_the_end_of_the_next_run(forms):
    orphan = shard_path(forms[1], "0" * 64)
    orphan.write_bytes(b"x")
    plan = make_plan(forms[1].parents[2])
    write_parts(plan, (7, 5 * BLOCK_ROWS + 8))
    keep_parts(plan, "source_sha256")
    assert not orphan.exists() and verify_file(forms[1]).is_intact
    write_parts(plan, (7, 5 * BLOCK_ROWS + 8))
    merge_parts(plan, "source_sha256")
    assert not shard_folder(forms[1]).exists() and forms[1].read_bytes() == forms[0].read_bytes()


def test_parts_of_several_blocks_hold_whole_ones():
    assert part_bounds(5000, 2 * BLOCK_ROWS) == [(0, 4096), (4096, 5000)]
    with pytest.raises(ValueError, match="or a multiple up to 16384, not 3000"):
        make_plan(Path("x"), part_rows=3000)
    with pytest.raises(ValueError, match="not 18432"):
        make_plan(Path("x"), part_rows=9 * BLOCK_ROWS)


def test_first_of_equal_rows_is_first_of_equal():
    rng = np.random.default_rng(7)
    cells = rng.integers(0, 2, (300, 12), dtype=np.uint8)
    cells[:, :8] *= rng.random((300, 1)) < 0.2  # many share the first bytes and differ after them
    usable = rng.random(300) < 0.8
    keys = [row.tobytes() if ok else None for row, ok in zip(cells, usable, strict=True)]
    expected = first_of_equal(keys)
    assert np.array_equal(first_of_equal_rows(cells, usable), expected)
    assert len(np.unique(expected)) < 300
