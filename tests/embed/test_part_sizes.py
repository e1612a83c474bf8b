"""Parts are sized to the job, and the file does not know it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embed.backbones.spec import ENGINES
from embed.images.datasets import ImageTable
from embed.pipeline import (
    Options,
    embed_images,
    feature_path,
    feature_plan,
    part_rows,
    rows_per_part,
)
from store import IdentityError, IntegrityError
from store.digests import BLOCK_ROWS, block_bounds
from store.parts import begin, begun_plan, open_part, part_bounds
from tests.engines import load_on

sys.path.insert(0, str(Path(__file__).parent))
import toy_worker

N = BLOCK_ROWS + 60


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(5)
    for i in range(toy_worker.N_FILES):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i:04d}.png")
    (folder / "0007.png").write_bytes(b"<html>")
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def backbones(request):
    return load_on(request.param, "demo_clip", "demo_vit")


def small_table(folder):
    names = np.array([f"{i:04d}.png" for i in range(40)])
    return ImageTable("small", folder, names, names)


def test_484_photographs_are_16_parts_and_ava_has_those_of_before():
    assert part_rows(484, 32) == 32
    assert part_rows(10_073, 32) == 160
    assert part_rows(255_522, 32) == part_rows(131_073, 32) == BLOCK_ROWS
    assert part_rows(1, 32) == part_rows(0, 32) == 32


@pytest.mark.parametrize("batch_size", [1, 7, 32, 100, 256, 2048, 5000])
@pytest.mark.parametrize("n_images", [0, 1, 484, 2048, 2049, 9999, 300_000])
def test_batches_are_those_of_whole_blocks(n_images, batch_size):
    """The grid of batches, on which the last bits of vectors depend, is the same for all sizes of parts."""

    def batches(bounds):
        return [
            (start, min(start + batch_size, stop))
            for first, stop in bounds
            for start in range(first, stop, batch_size)
        ]

    n_part = part_rows(n_images, batch_size)
    assert 1 <= n_part <= BLOCK_ROWS and (n_part % batch_size == 0 or n_part == BLOCK_ROWS)
    assert batches(part_bounds(n_images, n_part)) == batches(block_bounds(n_images))


def old_plan(table, backbone, folder, options):
    """The plan as it was when all parts had 2,048 rows."""
    plan = feature_plan(table, backbone, feature_path(folder, backbone.id), options)
    return replace(plan, part_rows=BLOCK_ROWS)


@pytest.mark.parametrize("batch_size", [100, 256])
def test_a_run_begun_with_large_parts_goes_on_and_the_bytes_are_equal(photographs, tmp_path, batch_size):
    table, backbone = toy_worker.toy_table(photographs, N), toy_worker.toy_backbone()
    options = Options(batch_size=batch_size, n_threads=1)
    begun, fresh = tmp_path / "begun", tmp_path / "fresh"
    plan = old_plan(table, backbone, begun, options)
    begin(plan)
    embed_images(table, [backbone], begun, replace(options, worker=(2, 2)))
    open_part(plan, 1)
    (resumed,) = embed_images(table, [backbone], begun, options)
    assert resumed.n_new == BLOCK_ROWS
    assert embed_images(table, [backbone], fresh, options)[0].n_new == N
    assert resumed.path.read_bytes() == feature_path(fresh, backbone.id).read_bytes()
    assert not plan.folder.exists()


def test_small_parts_are_what_a_stopped_run_keeps(photographs, backbones, tmp_path):
    table, options = small_table(photographs), Options(batch_size=8, n_threads=1)

    class StopError(Exception):
        pass

    def stop(n_rows, n_failed, is_new, seen=[]):  # noqa: B006
        seen.append(n_rows)
        if sum(seen) >= 24:
            raise StopError

    with pytest.raises(StopError):
        embed_images(table, backbones, tmp_path, options, stop)
    assert [o.n_new for o in embed_images(table, backbones, tmp_path, options)] == [16, 16]


def test_backbones_begun_with_different_sizes_are_both_finished(photographs, backbones, tmp_path):
    table, options = small_table(photographs), Options(batch_size=8, n_threads=1)
    begin(old_plan(table, backbones[0], tmp_path / "mixed", options))
    begin(feature_plan(table, backbones[1], feature_path(tmp_path / "mixed", "demo_vit"), options))
    ids = [b.id for b in backbones]
    sizes = rows_per_part(tmp_path / "mixed", ids, len(table), 8)
    assert sizes == {"demo_clip": BLOCK_ROWS, "demo_vit": 8}
    mixed = embed_images(table, backbones, tmp_path / "mixed", options)
    plain = embed_images(table, backbones, tmp_path / "plain", options)
    assert [o.digest for o in mixed] == [o.digest for o in plain]


def test_a_backbone_follows_the_size_of_a_run_that_was_begun(photographs, backbones, tmp_path):
    begin(old_plan(small_table(photographs), backbones[0], tmp_path, Options(batch_size=8)))
    assert rows_per_part(tmp_path, ["demo_vit", "demo_clip"], 40, 8) == dict.fromkeys(
        ["demo_vit", "demo_clip"], BLOCK_ROWS
    )


@pytest.mark.parametrize("size", [0, -8, -2048, 4097, 18432, "8", None, 8.5])
def test_a_plan_with_an_impossible_size_is_damaged(photographs, backbones, tmp_path, size):
    table, options = small_table(photographs), Options(batch_size=8)
    plan = feature_plan(table, backbones[1], feature_path(tmp_path, "demo_vit"), options)
    begin(plan)
    note = plan.folder / "plan.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"part_rows": size}))
    with pytest.raises(IntegrityError, match="is no plan"):
        begun_plan(plan.path, plan.ids)
    with pytest.raises(IdentityError, match="part_rows"):
        embed_images(table, backbones[1:], tmp_path, options)


def test_a_size_that_would_cut_batches_is_refused(photographs, backbones, tmp_path):
    table, options = small_table(photographs), Options(batch_size=8)
    plan = feature_plan(table, backbones[1], feature_path(tmp_path, "demo_vit"), options)
    begin(replace(plan, part_rows=12))
    with pytest.raises(IdentityError, match="part_rows: the file has 12, asked for 8"):
        embed_images(table, backbones[1:], tmp_path, options)
