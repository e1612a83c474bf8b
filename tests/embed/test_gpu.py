"""On a GPU: the same rows, whatever is asynchronous, and a real lack of memory."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from embed.backbones.device import free_memory
from embed.backbones.loading import load_backbone
from embed.batching import Encoder, largest_batch
from embed.images.datasets import ImageTable
from embed.pipeline import Options, embed_images
from store import open_features

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: none is here")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    names = [f"{i:03d}.jpg" for i in range(300)]
    for i, name in enumerate(names):
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((320, 240), Image.Resampling.BICUBIC).save(folder / name)
        if i == 100:
            (folder / name).write_bytes(b"<html>")
    return ImageTable("t", folder, np.array(names), np.array(names))


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory):
    """ViT-B/32 of CLIP with random weights."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32-quickgelu")
    file = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, file)
    return file


def rows(folder, backbone, output):
    with open_features(folder / f"{backbone.id}.h5") as features:
        return features.read(output), features.digest


def test_rows_equal_the_cpus_and_repeat_to_the_bit(tmp_path, table):
    options = Options(batch_size=32, n_threads=4)
    names = ("demo_clip", "demo_vit", "efficientnet_lite0.in1k")
    on_cpu = [load_backbone(name) for name in names]
    on_gpu = [load_backbone(name, device="cuda") for name in names]
    embed_images(table, on_cpu, tmp_path / "cpu", options)
    embed_images(table, on_gpu, tmp_path / "gpu", options)
    embed_images(table, on_gpu, tmp_path / "again", options)
    for backbone, output in zip(on_gpu, ("embedding", "pre_logits", "pooled"), strict=True):
        expected, _ = rows(tmp_path / "cpu", backbone, output)
        got, digest = rows(tmp_path / "gpu", backbone, output)
        assert digest == rows(tmp_path / "again", backbone, output)[1]
        ok = np.isfinite(expected).all(axis=1)
        assert (np.flatnonzero(~ok) == [100]).all() and np.isnan(got[100]).all()
        scale = np.abs(expected[ok]).max()
        np.testing.assert_allclose(got[ok] / scale, expected[ok] / scale, atol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_fewer_bits_point_the_same_way(tmp_path, table, vit_file, precision):
    """Cosine to float32 of at least 0.9999 for every image."""
    options = Options(batch_size=64, n_threads=4)
    full = load_backbone("vit_b32.openai", vit_file, "cuda")
    fewer = load_backbone("vit_b32.openai", vit_file, "cuda", precision)
    embed_images(table, [full], tmp_path / "full", options)
    embed_images(table, [fewer], tmp_path / "fewer", options)
    a, _ = rows(tmp_path / "full", full, "embedding")
    b, _ = rows(tmp_path / "fewer", fewer, "embedding")
    ok = np.isfinite(a).all(axis=1)
    a, b = a[ok].astype(np.float64), b[ok].astype(np.float64)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() >= 0.9999


def test_a_real_lack_of_memory_is_survived(vit_file):
    """With room for some 50 MB beside the weights, 256 images do not fit and fewer do."""
    backbone = load_backbone("vit_b32.openai", vit_file, "cuda")
    pixels = torch.randint(0, 256, (256, 224, 224, 3), dtype=torch.uint8)
    expected = Encoder(backbone, 256).encode(pixels.cuda())["embedding"].cpu()
    free_memory("cuda")
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 120e6) / total)
        encoder = Encoder(backbone, 256)
        got = encoder.encode(pixels.cuda())["embedding"].cpu()
        assert 1 <= encoder.size < 256
        assert largest_batch([backbone]) < 256
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
