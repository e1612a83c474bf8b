"""Runs that end in shards: the digest of one file, gone on from, updated, joined."""

import os
from dataclasses import replace

import numpy as np
import pytest

from embed.images.datasets import ImageTable
from embed.pipeline import Options, embed_images, feature_path, merge_run, one_file, part_rows, sharded_files
from store import IntegrityError, open_features, verify_folder
from store.digests import BLOCK_ROWS
from store.shards import ShardedFile, shard_folder
from tests.embed.test_update import Library
from tests.engines import load_on

ONE = Options(batch_size=4, n_threads=2)
MANY = Options(batch_size=4, n_threads=2, shard_above=10)
NAMES = [f"{i:02}.png" for i in range(14)]


@pytest.fixture(scope="module")
def backbones():
    return load_on("torch", "demo_vit")


@pytest.fixture
def library(tmp_path):
    library = Library(tmp_path)
    library.paint(*NAMES)
    (library.images / "09.png").write_bytes((library.images / "02.png").read_bytes())
    (library.images / "05.png").write_bytes(b"no picture")
    return library


def test_a_run_may_end_in_shards_or_not(library, backbones, tmp_path):
    (one,) = embed_images(library.table, backbones, tmp_path / "one", ONE)
    (many,) = embed_images(library.table, backbones, library.features, MANY)
    assert many.digest == one.digest and many.n_failed == 1 and many.n_new == 14
    with open_features(many.path) as features:
        assert isinstance(features.file, ShardedFile) and len(features.file.shards) == 4
        vectors = features.read("pre_logits")
        assert np.array_equal(vectors[2], vectors[9])
    assert all(v.is_intact for v in verify_folder(library.features))
    (again,) = embed_images(library.table, backbones, library.features, MANY)
    assert again.n_new == 0
    # --merge
    assert sharded_files(library.features) == [many.path]
    assert one_file(many.path) and not one_file(many.path)
    assert many.path.read_bytes() == one.path.read_bytes()
    assert not shard_folder(many.path).exists()


def test_workers_end_in_shards(library, backbones, tmp_path):
    (one,) = embed_images(library.table, backbones, tmp_path / "one", ONE)
    for number in (2, 1):
        options = replace(MANY, worker=(number, 2))
        (found,) = embed_images(library.table, backbones, library.features, options)
    assert found.digest == one.digest and shard_folder(found.path).is_dir()
    assert merge_run(library.table, found.path, 10).digest == one.digest
    assert shard_folder(found.path).is_dir()


def test_an_update_of_shards_gives_what_an_update_of_one_file_does(library, backbones, tmp_path):
    one = Library.__new__(Library)
    one.images, one.features = library.images, tmp_path / "one"
    embed_images(library.table, backbones, one.features, ONE)
    embed_images(library.table, backbones, library.features, MANY)
    path = feature_path(library.features, "demo_vit")
    before = set(os.listdir(shard_folder(path)))
    library.paint("99.png", "98.png")
    (library.images / "13.png").unlink()
    library.paint("12.png", seed=1)
    (updated,) = library.update(backbones, MANY)
    (expected,) = one.update(backbones, ONE)
    assert updated.digest == expected.digest and updated.n_new == expected.n_new == 4
    with open_features(path) as features:
        assert isinstance(features.file, ShardedFile)
    after = set(os.listdir(shard_folder(path)))
    assert len(after) == 4 and len(after & before) == 2
    assert all(v.is_intact for v in verify_folder(library.features))


def test_an_update_may_leave_shards_or_come_to_them(library, backbones):
    few = ImageTable("t", library.images, *[library.table.image_id[:8]] * 2)
    (first,) = embed_images(few, backbones, library.features, MANY)
    assert not shard_folder(first.path).exists()
    (second,) = library.update(backbones, MANY)
    assert shard_folder(second.path).is_dir()
    (library.images / "05.png").unlink()
    (third,) = library.update(backbones, ONE)
    assert third.digest and not shard_folder(first.path).exists()
    assert all(v.is_intact for v in verify_folder(library.features))


def test_a_lost_shard_is_an_error_until_the_file_is_deleted(library, backbones):
    (found,) = embed_images(library.table, backbones, library.features, MANY)
    lost = shard_folder(found.path) / sorted(os.listdir(shard_folder(found.path)))[1]
    lost.unlink()
    with pytest.raises(IntegrityError, match="1 of 4 shards are missing.*delete both"):
        embed_images(library.table, backbones, library.features, MANY)
    found.path.unlink()
    (again,) = embed_images(library.table, backbones, library.features, MANY)
    assert again.digest == found.digest and len(os.listdir(shard_folder(found.path))) == 4


def test_parts_of_large_runs_hold_whole_blocks():
    """So batches lie where they lay, and shards are not too many."""
    assert part_rows(1_000_000, 32) == BLOCK_ROWS and part_rows(1_000_001, 32) == 8 * BLOCK_ROWS
    assert part_rows(100_000_000, 48) == 8 * BLOCK_ROWS
    assert part_rows(300_000, 32, shard_above=200_000) == 3 * BLOCK_ROWS
    assert part_rows(5_000, 32, shard_above=0) == part_rows(5_000, 32)
