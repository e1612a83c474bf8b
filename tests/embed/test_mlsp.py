"""Multi-level features of Inception networks: which numbers, in which order, and images at their own size."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from embed.backbones.engines import fastest_exact
from embed.backbones.levels import Levels, average_cells, levels
from embed.backbones.loading import load_backbone
from embed.backbones.registry import BACKBONES, BackboneError, resolve_backbone
from embed.images.datasets import ImageTable
from embed.images.geometry import OwnSize
from embed.options import Options
from embed.painting.errors import PaintingError
from embed.painting.guide import Guide, HeadAim
from embed.pipeline import embed_images
from finetune.errors import FinetuneError
from finetune.model import build_model
from finetune.settings import Settings
from store import open_features
from store.verify import verify_folder
from tests.nets import random_net

#: Of each level of Inception-ResNet-v2, in order; 16,928 in all (Hosu et al. 2019).
RESNET = [320, *[128] * 10, 1088, *[384] * 20, 2080, *[448] * 10]
V3 = [256, 288, 288, *[768] * 5, 1280, 2048, 2048]


@pytest.fixture(scope="module")
def v3_weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "v3.safetensors"
    save_file(random_net("inception_v3").state_dict(), file)
    return file


@pytest.mark.parametrize(("name", "widths"), [("inception_resnet_v2", RESNET), ("inception_v3", V3)])
def test_each_level_is_what_a_hook_on_the_block_sees(name, widths):
    """A whole forward pass of timm's own, and the concatenations of each block's branches made by hand."""
    net = random_net(name)
    images = torch.randn(1, 3, 75, 90, generator=torch.Generator().manual_seed(1))
    seen = []

    def branches(module, inputs, output):
        x = inputs[0]
        parts = [getattr(module, f"branch{i}")(x) for i in range(3) if hasattr(module, f"branch{i}")]
        seen.append(torch.cat(parts, dim=1))

    for module in net.modules():
        kind = type(module).__name__
        if kind in ("Block35", "Block17", "Block8"):
            module.register_forward_hook(branches)
        elif kind.startswith(("Mixed", "Inception")) and module is not net and kind != "InceptionAux":
            module.register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.inference_mode():
        net(images)
        by_hand = torch.cat([level.mean(dim=(2, 3)) for level in seen], dim=1)
        # Each pixel five times each way: then no border of a cell cuts one, and torch's pooling is exact.
        cells = [
            torch.nn.functional.adaptive_avg_pool2d(
                level.repeat_interleave(5, dim=2).repeat_interleave(5, dim=3), 5
            )
            for level in seen
        ]
        for module in net.modules():
            module._forward_hooks.clear()
        found = Levels(net, is_wide=True)(images)
        ours = found["narrow"]
        assert torch.equal(Levels(net)(images)["narrow"], ours)
    assert [each.shape[1] for each in seen] == widths
    assert len(levels(net)) == len(widths) and ours.shape == (1, sum(widths))
    torch.testing.assert_close(ours, by_hand, rtol=1e-4, atol=1e-5)
    grid = found["wide"].view(5, 5, -1)
    in_cells = torch.cat(cells, dim=1)[0].permute(1, 2, 0)
    for i, level in enumerate(torch.split(grid, widths, dim=2)):
        torch.testing.assert_close(
            level, torch.split(in_cells, widths, dim=2)[i], rtol=1e-4, atol=1e-5, msg=f"level {i}"
        )
    torch.testing.assert_close(grid.mean(dim=(0, 1)), ours[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(35, 20), (1, 7), (3, 5), (13, 41)])
def test_cells_by_area(height, width):
    """Where five goes into the edges: torch's adaptive pooling. Elsewhere: a picture of whole cells, whose
    pixels at the borders are mixed by hand."""
    level = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = average_cells(level).permute(0, 3, 1, 2).double()
    exact = torch.zeros(2, 3, 5, 5, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            rows, columns = [
                [max(0, min(k + 1, (c + 1) * n / 5) - max(k, c * n / 5)) for k in range(n)]
                for c, n in ((i, height), (j, width))
            ]
            weights = torch.tensor(rows)[:, None] * torch.tensor(columns)
            exact[:, :, i, j] = (level * weights / weights.sum()).sum(dim=(2, 3))
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)
    if height % 5 == width % 5 == 0:
        pooled = torch.nn.functional.adaptive_avg_pool2d(level, 5)
        torch.testing.assert_close(found, pooled, rtol=1e-4, atol=1e-5)


def test_widths_of_the_registry():
    assert dict(BACKBONES["mlsp"].outputs) == {"narrow": sum(RESNET)} == {"narrow": 16_928}
    assert dict(BACKBONES["mlsp_v3"].outputs) == {"narrow": sum(V3)} == {"narrow": 10_048}
    assert dict(BACKBONES["mlsp_wide"].outputs) == {"narrow": 16_928, "wide": 5 * 5 * 16_928}
    assert dict(BACKBONES["mlsp_v3_wide"].outputs) == {"narrow": 10_048, "wide": 5 * 5 * 10_048}
    assert resolve_backbone("mlsp:inception_v3.tf_in1k").id == "mlsp_v3"
    with pytest.raises(BackboneError, match="unknown backbone 'mlsp:resnet50'"):
        resolve_backbone("mlsp:resnet50")


def test_own_size_up_to_a_longest_edge():
    step = OwnSize()
    assert step.size_of(640, 427) == (640, 427)
    assert step.size_of(2048, 1000) == (1024, 500)
    assert step.size_of(5000, 1) == (1024, 1)
    image = Image.new("RGB", (90, 80))
    assert step(image).size == (90, 80)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Eight pictures: three sizes, a strip, and a file that is none."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    sizes = [(90, 80), (100, 75), (90, 80), (5000, 1), (80, 90), None, (90, 80), (100, 75)]
    for i, size in enumerate(sizes):
        if size is None:
            (folder / f"{i}.png").write_bytes(b"no picture")
        else:
            Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(
                folder / f"{i}.png"
            )
    return folder


def table(folder, order=range(8)):
    names = np.array([str(i) for i in order])
    return ImageTable("toy", folder, names, np.array([f"{i}.png" for i in order]))


def test_rows_do_not_depend_on_batches_or_order(v3_weights, photographs, tmp_path):
    backbone = load_backbone("mlsp_v3_wide", v3_weights)
    how = {"max_failed_share": 1.0, "n_threads": 1}
    (three,) = embed_images(table(photographs), [backbone], tmp_path / "a", Options(batch_size=3, **how))
    (eight,) = embed_images(table(photographs), [backbone], tmp_path / "b", Options(batch_size=8, **how))
    turned = table(photographs, range(7, -1, -1))
    (other,) = embed_images(turned, [backbone], tmp_path / "c", Options(batch_size=8, **how))
    with open_features(three.path) as a, open_features(eight.path) as b, open_features(other.path) as c:
        X = a.read("narrow")
        np.testing.assert_array_equal(X, b.read("narrow"))
        np.testing.assert_array_equal(X, c.read("narrow")[::-1])
        assert set(a.failures) == {3, 5}
        assert a.failures[3].startswith("1024 x 1 pixels: mlsp_v3_wide takes images at their own size")
        assert "needs 75 pixels each way" in a.failures[3]
        assert np.isfinite(X[a.ok]).all() and np.isnan(X[[3, 5]]).all()
        pixels = np.asarray(Image.open(photographs / "1.png").convert("RGB"))
        image = (torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.5
        with torch.inference_mode():
            alone = backbone.model(image[None].contiguous(memory_format=torch.channels_last))
        np.testing.assert_allclose(X[1], alone["narrow"][0].numpy(), rtol=1e-5, atol=1e-6)
        wide = a.read("wide")
        assert a.file.arrays["outputs/wide"] == ((8, 25 * 10_048), np.float16) and wide.dtype == np.float32
        np.testing.assert_array_equal(wide, b.read("wide"))
        np.testing.assert_array_equal(wide, c.read("wide")[::-1])
        np.testing.assert_allclose(wide[1], alone["wide"][0].numpy(), rtol=1e-3, atol=1e-6)  # float16
        np.testing.assert_allclose(wide[a.ok].reshape(6, 25, -1).mean(axis=1), X[a.ok], rtol=2e-3, atol=1e-5)
        assert np.isnan(wide[[3, 5]]).all() and a.provenance["cells"] == {"wide": [5, 5]}
        assert [len(rows) for _, rows in a.blocks("wide")] == [8]
        assert a.provenance["preprocessing"]["crop_mode"] == "own size"


def test_a_killed_run_and_shards_give_the_same_rows(v3_weights, photographs, tmp_path, monkeypatch):
    """Parts of one row: a run that stops, goes on with what is there, and ends in shards or in one file."""
    import embed.pipeline as pipeline

    backbone = load_backbone("mlsp_v3_wide", v3_weights)
    monkeypatch.setattr(pipeline, "PIECE_BYTES", backbone.row_bytes)
    how = {"max_failed_share": 1.0, "n_threads": 1, "batch_size": 1}
    small = table(photographs, (1, 5, 0, 7))

    class KilledError(Exception):
        pass

    def kill(n_rows, n_failed, is_new):
        seen.append(n_rows)
        if len(seen) == 3:
            raise KilledError

    seen = []
    with pytest.raises(KilledError):
        embed_images(small, [backbone], tmp_path / "a", Options(**how), kill)
    assert len(list((tmp_path / "a").glob("*.parts/part-*.h5"))) == 2
    (one,) = embed_images(small, [backbone], tmp_path / "a", Options(**how))
    monkeypatch.setattr(pipeline, "SHARD_BYTES", 2 * backbone.row_bytes)
    (many,) = embed_images(small, [backbone], tmp_path / "b", Options(**how))
    assert one.n_new == 2 and many.digest == one.digest
    assert len(list((tmp_path / "b").glob("*.shards/*.h5"))) == 4
    assert [verdict.problems for verdict in verify_folder(tmp_path)] == [(), ()]
    with open_features(one.path) as a, open_features(many.path) as b:
        np.testing.assert_array_equal(a.read("wide", np.array([3, 0])), b.read("wide", np.array([3, 0])))
        assert set(b.failures) == {1}


def test_what_float16_cannot_hold_is_a_failed_row(v3_weights, photographs, tmp_path, monkeypatch):
    backbone = load_backbone("mlsp_v3_wide", v3_weights)
    monkeypatch.setattr("embed.backbones.levels.average_cells", lambda level: 1e5 + 0 * average_cells(level))
    how = Options(batch_size=1, max_failed_share=1.0, n_threads=1)
    (made,) = embed_images(table(photographs, [0]), [backbone], tmp_path, how)
    with open_features(made.path) as features:
        assert features.failures[0].startswith("the backbone gave values beyond 65,504 in wide")
        assert np.isnan(features.read("narrow")).all()


def test_what_needs_one_size_refuses(v3_weights):
    backbone = load_backbone("mlsp_v3", v3_weights)
    with pytest.raises(FinetuneError, match="own size.*--from-features mlsp_v3.narrow"):
        build_model(backbone, "narrow", 10, Settings())
    with pytest.raises(PaintingError, match="own size"):
        Guide(backbone, head=HeadAim([(np.zeros((1, 10_048)), np.zeros(1))], "narrow", False))
    assert fastest_exact(backbone) == "torch"


def test_what_mlsp_cannot_fails_no_row_of_another_backbone(v3_weights, photographs, tmp_path):
    both = [load_backbone("mlsp_v3", v3_weights), load_backbone("demo_vit")]
    how = Options(batch_size=4, max_failed_share=1.0, n_threads=1)
    _, together = embed_images(table(photographs), both, tmp_path / "a", how)
    (alone,) = embed_images(table(photographs), both[1:], tmp_path / "b", how)
    assert together.digest == alone.digest
    assert json.dumps(together.n_failed) == "1"
