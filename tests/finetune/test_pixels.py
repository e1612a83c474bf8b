"""The pixel cache keeps the store's discipline, and every source feeds the same pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

import finetune.pixels as pixels_module
import store.run
from embed.options import Options
from finetune.pixels import build_pixels, open_pixels, pixel_bytes, pixel_plan
from finetune.sources import CachedPixels, StoredFeatures, StreamedPixels
from store import IntegrityError, SpaceError, StoreError, verify_folder
from tests.finetune.conftest import make_world

OPTIONS = Options(n_threads=2, is_exact=True)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 16 images, so that a small world has several."""
    names = ("digests", "parts", "sealed", "sealed_file", "structure")
    for module in (*(f"store.{name}" for name in names), "finetune.pixels"):
        monkeypatch.setattr(f"{module}.BLOCK_ROWS", 16)


def test_pixels_are_the_librarys_own(tmp_path, tiny):
    table = make_world(tmp_path / "images", 37, bad=(3, 20))
    plan = pixel_plan(table, tiny, tmp_path / "pixels", OPTIONS)
    sizes = []
    cache = build_pixels(table, tiny, plan, OPTIONS, on_size=lambda *s: sizes.append(s))
    assert pixel_bytes(plan) == 37 * 3 * 16 * 16 and sizes[0][0] > pixel_bytes(plan)
    assert set(cache.failures) == {3, 20} and "not an image" in cache.failures[3]
    assert np.flatnonzero(~cache.ok).tolist() == [3, 20]
    rows = np.array([36, 0, 17, 0, 3])
    found = cache.read(rows)
    for row, image in zip(rows[:4], found, strict=False):
        expected = np.asarray(tiny.transform.transforms[0](Image.open(table.absolute(row)).convert("RGB")))
        cropped = tiny.transform.transforms[1](Image.fromarray(expected))
        np.testing.assert_array_equal(image.transpose(1, 2, 0), np.asarray(cropped))
    assert not found[4].any()
    source = CachedPixels(cache, tiny)
    for good, inputs in source.batches([rows]):
        assert good.tolist() == [36, 0, 17, 0]
        ready = source.prepare(inputs, torch.device("cpu"))
        images = torch.stack([tiny.transform(Image.open(table.absolute(r))) for r in good])
        assert torch.equal(ready, images), "bit for bit what embedding would see"


def test_cache_and_files_feed_the_same(tmp_path, tiny):
    table = make_world(tmp_path / "images", 37, bad=(3, 20))
    cache = build_pixels(table, tiny, pixel_plan(table, tiny, tmp_path / "p", OPTIONS), OPTIONS)
    batches = np.array_split(np.random.default_rng(0).permutation(37), 5)
    a, b = CachedPixels(cache, tiny), StreamedPixels(table, tiny, OPTIONS)
    for (rows, inputs), (other_rows, other) in zip(a.batches(batches), b.batches(batches), strict=True):
        np.testing.assert_array_equal(rows, other_rows)
        assert torch.equal(a.prepare(inputs, torch.device("cpu")), b.prepare(other, torch.device("cpu")))
    assert a.failures == b.failures and set(a.failures) == {3, 20}


def test_stored_features_leave_failed_rows_out():
    source = StoredFeatures(np.arange(12, dtype=np.float32).reshape(6, 2), {2: "broken"})
    (rows, inputs), (none, empty) = source.batches([np.array([5, 2, 0]), np.array([2])])
    assert rows.tolist() == [5, 0] and inputs.tolist() == [[10, 11], [0, 1]]
    assert len(none) == 0 and empty.shape == (0, 2)


def test_an_interrupted_cache_goes_on_and_ends_in_the_same_bytes(tmp_path, tiny, monkeypatch):
    table = make_world(tmp_path / "images", 37, bad=(20,))
    whole = pixel_plan(table, tiny, tmp_path / "a", OPTIONS)
    build_pixels(table, tiny, whole, OPTIONS)
    plan = pixel_plan(table, tiny, tmp_path / "b", OPTIONS)
    write = store.run.write_part
    written = []

    def write_once(plan, index, *arrays):
        if written:
            raise KeyboardInterrupt
        written.append(index)
        return write(plan, index, *arrays)

    monkeypatch.setattr(store.run, "write_part", write_once)
    with pytest.raises(KeyboardInterrupt):
        build_pixels(table, tiny, plan, OPTIONS)
    monkeypatch.setattr(store.run, "write_part", write)
    seen = []
    build_pixels(table, tiny, plan, OPTIONS, on_rows=lambda n, bad: seen.append((n, bad)))
    assert seen[0] == (16, 0), "the finished part is counted at once"
    assert sum(n for n, _ in seen) == 37 and sum(bad for _, bad in seen) == 1
    assert plan.path.read_bytes() == whole.path.read_bytes()
    for index in range(3):
        assert plan.part_path(index).read_bytes() == whole.part_path(index).read_bytes()
    assert all(verdict.is_intact for verdict in verify_folder(tmp_path / "b"))


def test_no_room_is_refused_before_anything_is_decoded(tmp_path, tiny, monkeypatch):
    table = make_world(tmp_path / "images", 20)
    plan = pixel_plan(table, tiny, tmp_path / "p", OPTIONS)
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr(pixels_module.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(pixels_module, "load_batches", lambda *a: pytest.fail("decoded"))
    with pytest.raises(SpaceError, match="--pixels stream"):
        build_pixels(table, tiny, plan, OPTIONS)


def test_damage_and_foreign_parts_are_found(tmp_path, tiny):
    table = make_world(tmp_path / "images", 37)
    plan = pixel_plan(table, tiny, tmp_path / "p", OPTIONS)
    build_pixels(table, tiny, plan, OPTIONS)
    data = bytearray(plan.part_path(1).read_bytes())
    data[data.find(b"\0" * 8 + bytes(open_pixels(plan).read(np.array([16]))[0].tobytes()[:64])) + 30] ^= 1
    plan.part_path(1).write_bytes(data)
    cache = open_pixels(plan)
    cache.read(np.array([0, 36]))
    with pytest.raises(IntegrityError, match="part-00001"):
        cache.read(np.array([17]))
    other = make_world(tmp_path / "more", 38)
    with pytest.raises(StoreError, match="n_images"):
        open_pixels(pixel_plan(other, tiny, tmp_path / "p", OPTIONS))


def test_backbones_that_resize_alike_share_a_cache(tmp_path, tiny):
    from embed.backbones.loading import load_backbone

    table = make_world(tmp_path / "images", 20)
    both = [load_backbone(name) for name in ("demo_clip", "demo_vit")]
    clip, vit = (pixel_plan(table, backbone, tmp_path, OPTIONS).path for backbone in both)
    assert clip == vit != pixel_plan(table, tiny, tmp_path, OPTIONS).path
