"""The inner loop: batches that do not fit, parts written beside encoding, precision."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import store.run
from embed import encoding
from embed.backbones.loading import PRECISIONS, load_backbone
from embed.batching import Encoder, largest_batch
from embed.encoding import embed_parts
from embed.images.datasets import ImageTable
from embed.pipeline import Options, Timings, embed_images
from iaa.cli.options import FloatType
from store import IdentityError, SpaceError, open_features
from store.run import Run

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.fixture
def backbone():
    return load_backbone("demo_vit")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """60 small pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    names = [f"{i:02d}.png" for i in range(60)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(folder / name)
    ids = np.array([name[:-4] for name in names])
    return ImageTable("t", folder, ids, np.array(names))


def limit_memory(backbone, monkeypatch, fits):
    """Let the backbone run out of memory where `fits(n_images, n_passes)` is false; gives the passes."""
    passes = []
    whole = backbone.encode_images

    def encode_images(images):
        if not fits(len(images), len(passes)):
            raise OUT_OF_MEMORY
        passes.append(len(images))
        return whole(images)

    monkeypatch.setattr(backbone, "encode_images", encode_images)
    return passes


def pixels(n):
    return torch.from_numpy(np.random.default_rng(6).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8))


def test_a_batch_that_does_not_fit_is_halved_until_it_does(backbone, monkeypatch):
    images = pixels(21)
    expected = torch.cat([Encoder(backbone, 6).encode(piece)["pre_logits"] for piece in images.split(6)])
    passes = limit_memory(backbone, monkeypatch, lambda n, _: n <= 7)
    encoder = Encoder(backbone, 32)
    assert torch.equal(encoder.encode(images)["pre_logits"], expected)
    assert encoder.size == 6 and passes == [6, 6, 6, 3]  # 21 images, then 11, then 6 at a time
    encoder.encode(images[:6])
    assert passes[4:] == [6], "the size that fits is kept"


def test_one_image_that_does_not_fit_is_the_devices_error(backbone, monkeypatch):
    limit_memory(backbone, monkeypatch, lambda n, _: False)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="Tried to allocate"):
        Encoder(backbone, 4).encode(pixels(4))


def test_another_error_is_not_taken_for_lack_of_memory(backbone, monkeypatch):
    calls = []

    def encode_images(images):
        calls.append(len(images))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(backbone, "encode_images", encode_images)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Encoder(backbone, 4).encode(pixels(4))
    assert calls == [4]


def test_the_largest_batch_is_found_by_trial_on_a_gpu_and_fixed_on_a_cpu(backbone, monkeypatch):
    assert largest_batch([backbone]) == 32
    small, large = (SimpleNamespace(device="cuda", recipe=backbone.recipe) for _ in range(2))
    for fake, n_fit in ((small, 100), (large, 600)):
        fake.encode_images = lambda images: None
        limit_memory(fake, monkeypatch, lambda n, _, n_fit=n_fit: n <= n_fit)
    assert [largest_batch([large]), largest_batch([small]), largest_batch([large, small])] == [256, 64, 64]


def test_memory_that_runs_out_in_a_run_loses_nothing_and_is_noted(tmp_path, table, monkeypatch):
    backbone = load_backbone("demo_vit")
    options = Options(batch_size=16, n_threads=2)
    embed_images(table, [backbone], tmp_path / "plenty", options)
    passes = limit_memory(backbone, monkeypatch, lambda n, before: n <= 8 or before == 0)
    outcome = embed_images(table, [backbone], tmp_path / "little", options)[0]
    assert (outcome.n_images, outcome.n_failed) == (60, 0)
    assert passes == [16, 8, 8, 8, 8, 8, 4], "the first batch fitted"
    with (
        open_features(tmp_path / "plenty/demo_vit.h5") as plenty,
        open_features(tmp_path / "little/demo_vit.h5") as little,
    ):
        assert "smaller_batches" not in plenty.provenance
        assert little.provenance["smaller_batches"] == [[16, 60, 8]]
        assert little.provenance["batch_size"] == 16
        np.testing.assert_array_equal(plenty.read("pre_logits")[:16], little.read("pre_logits")[:16])
        np.testing.assert_allclose(plenty.read("pre_logits"), little.read("pre_logits"), atol=2e-5)


def run_parts(table, backbone, n_per_part, on_rows=None):
    parts = [(start, min(start + n_per_part, 60)) for start in range(0, 60, n_per_part)]
    run = Run(SimpleNamespace(parts=parts), open_features)
    run.todo = list(range(len(parts)))
    options = Options(batch_size=n_per_part, n_threads=2)
    embed_parts(table, [backbone], {backbone.id: run}, options, on_rows, timings := Timings())
    return timings


def test_encoding_goes_on_while_a_part_is_written_but_not_for_ever(table, backbone, monkeypatch):
    """As on a GPU. The first write ends when rows have been encoded beside it; another takes very long."""
    encoded = threading.Semaphore(0)
    written, most_waiting, n_done = [], [], 0

    def write_part(plan, index, arrays, notes):
        if index == 0:
            assert encoded.acquire(timeout=20), "nothing was encoded while the first part was written"
        time.sleep(1.0 if index == 3 else 0.0)
        most_waiting.append(n_done - len(written))
        written.append(index)

    def on_rows(n_rows, n_failed, is_new):
        nonlocal n_done
        n_done += is_new
        if is_new:
            encoded.release()

    monkeypatch.setattr(store.run, "write_part", write_part)
    monkeypatch.setattr(encoding, "parts_waiting", lambda backbones: 1)
    timings = run_parts(table, backbone, 6, on_rows)
    assert written == list(range(10)), "every part, in order"
    assert max(most_waiting) <= 1
    assert timings.write > 0 and timings.encode > 0 and timings.decode > 0


def test_on_the_cpu_a_part_is_written_before_the_next_one_is_made(table, backbone, monkeypatch):
    """So a kill costs at most the part that is being made."""
    written, at_rows = [], []

    def write_part(plan, index, arrays, notes):
        time.sleep(0.05)
        written.append(index)

    def on_rows(n_rows, n_failed, is_new):
        at_rows.append(len(written))

    monkeypatch.setattr(store.run, "write_part", write_part)
    run_parts(table, backbone, 6, on_rows)
    assert at_rows == list(range(1, 11)), "each of the ten parts was on the disk when its rows were told"


def test_a_full_disk_stops_the_run(table, backbone, monkeypatch):
    def write_part(plan, index, arrays, notes):
        raise SpaceError("the disk is full")

    monkeypatch.setattr(store.run, "write_part", write_part)
    n_done = 0

    def on_rows(n_rows, n_failed, is_new):
        nonlocal n_done
        n_done += n_rows if is_new else 0

    with pytest.raises(SpaceError, match="the disk is full"):
        run_parts(table, backbone, 6, on_rows)
    assert n_done < 60


def test_rows_that_are_not_finite_are_failed_rows(tmp_path, table, monkeypatch):
    backbone = load_backbone("demo_vit")
    whole = backbone.encode_images

    def encode_images(images):
        outputs = {name: values.clone() for name, values in whole(images).items()}
        outputs["pre_logits"][3, 5] = float("inf")
        return outputs

    monkeypatch.setattr(backbone, "encode_images", encode_images)
    embed_images(table, [backbone], tmp_path, Options(batch_size=32, n_threads=2))
    with open_features(tmp_path / "demo_vit.h5") as features:
        assert features.failures == dict.fromkeys(
            (3, 35), "the backbone gave non-finite values in pre_logits"
        )
        assert np.isnan(features.read("pre_logits")[[3, 35]]).all()


def test_precision_is_part_of_the_identity(tmp_path, table):
    assert [p.value for p in FloatType] == list(PRECISIONS)
    options = Options(batch_size=16, n_threads=2)
    embed_images(table, [load_backbone("demo_vit")], tmp_path / "full", options)
    fewer_bits = load_backbone("demo_vit", precision="bfloat16")
    with pytest.raises(IdentityError, match="precision: the file has 'float32', asked for 'bfloat16'"):
        embed_images(table, [fewer_bits], tmp_path / "full", options)
    embed_images(table, [fewer_bits], tmp_path / "half", options)
    with (
        open_features(tmp_path / "full/demo_vit.h5") as full,
        open_features(tmp_path / "half/demo_vit.h5") as half,
    ):
        assert half.identity["precision"] == half.provenance["precision"] == "bfloat16"
        a, b = full.read("pre_logits", unit_norm=True), half.read("pre_logits", unit_norm=True)
        assert not np.array_equal(a, b) and np.einsum("nd,nd->n", a, b).min() > 0.999
