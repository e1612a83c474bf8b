"""A backbone known from its kept export is the one that would be loaded: the same file comes out of it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from embed.backbones import engines, exports
from embed.backbones.kept_images import load_kept
from embed.backbones.loading import load_backbone
from embed.backbones.spec import BackboneError
from embed.backbones.transforms import recipe_from_json, recipe_from_transform, transform_of
from embed.images.geometry import apply_steps, check_cut, pixel_steps
from embed.pipeline import Options, embed_images, feature_plan
from tests.engines import CONVOLUTIONAL, write_photographs, write_weights

OPTIONS = Options(batch_size=4, n_threads=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    load_backbone(CONVOLUTIONAL, weights).use_engine("onnxruntime", folder)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    copy = tmp_path / "engines"
    copy.mkdir()
    for path in exported.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.fixture
def table(tmp_path):
    return write_photographs(tmp_path / "i", 6)


def not_loaded(*_):
    pytest.fail("the model was loaded")


def test_the_file_is_the_one_that_the_loaded_model_makes(folder, weights, table, tmp_path, monkeypatch):
    whole = load_backbone(CONVOLUTIONAL, weights)
    assert whole.use_engine("onnxruntime", folder).is_new is False
    with monkeypatch.context() as patch:
        patch.setattr("embed.backbones.kept_images.load_backbone", not_loaded)
        kept = load_kept(CONVOLUTIONAL, weights, folder)
        assert kept.fastest_engine == "onnxruntime"
        kept.use_engine("onnxruntime", folder)
        (made,) = embed_images(table, [kept], tmp_path / "kept", OPTIONS)
        plans = [feature_plan(table, backbone, tmp_path / "a.h5", OPTIONS) for backbone in (kept, whole)]
    assert plans[0].identity == plans[1].identity and plans[0].provenance == plans[1].provenance
    (expected,) = embed_images(table, [whole], tmp_path / "whole", OPTIONS)
    assert made.digest == expected.digest and made.path.read_bytes() == expected.path.read_bytes()
    for name in ("row_bytes", "weights_identity", "remarks", "memory_format", "precision", "recipe"):
        assert getattr(kept, name) == getattr(whole, name), name


def test_the_model_is_loaded_when_it_is_asked_for(folder, weights):
    whole, kept = load_backbone(CONVOLUTIONAL, weights), load_kept(CONVOLUTIONAL, weights, folder)
    images = torch.randn(2, 3, *kept.recipe.crop, generator=torch.Generator().manual_seed(0))
    expected = whole.encode_images(images)
    for name, values in kept.encode_images(images).items():
        assert torch.equal(values, expected[name])
    assert kept.model is kept.model and isinstance(kept.model, type(whole.model))


def test_its_libraries_are_not_imported(folder, weights):
    code = (
        "import sys; from pathlib import Path; from embed.backbones.kept_images import load_kept\n"
        f"kept = load_kept({CONVOLUTIONAL!r}, Path({str(weights)!r}), Path({str(folder)!r}))\n"
        f"kept.use_engine('onnxruntime', Path({str(folder)!r}))\n"
        "print('timm' in sys.modules, kept.model is not None, 'timm' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "True", "True"]


def change(path, edit):
    magic, header, model = path.read_bytes().split(b"\n", 2)
    found = json.loads(header)
    del found["line_sha256"]
    edit(found)
    path.write_bytes(exports.header_line(found, magic + b"\n") + model)


UNUSED = {
    "an older program": lambda header: header["key"].update(program="0"),
    "another library": lambda header: header["key"]["versions"].update(timm="0"),
    "another processor": lambda header: header["key"].update(processor="pdp-11"),
    "of before": lambda header: header.pop("facts"),
    "cannot be exported": lambda header: header.update(facts=None),
    "a file of another name": lambda header: header["facts"].update(weights_file="other.safetensors"),
}


@pytest.mark.parametrize("reason", UNUSED)
def test_what_does_not_fit_is_left_to_the_model(folder, weights, reason):
    (path,) = folder.glob("*.onnx")
    assert load_kept(CONVOLUTIONAL, weights, folder) is not None
    change(path, UNUSED[reason])
    assert load_kept(CONVOLUTIONAL, weights, folder) is None


def test_a_header_that_says_another_transform_is_not_believed(folder, weights):
    """Pixels would be scaled by another mean, and the vectors be wrong without a word."""
    (path,) = folder.glob("*.onnx")
    content = path.read_bytes()
    other = content.replace(b'"mean": [0.', b'"mean": [1.', 1)
    assert other != content
    path.write_bytes(other)
    assert load_kept(CONVOLUTIONAL, weights, folder) is None


def test_other_weights_are_left_to_the_model(folder, tmp_path):
    other = write_weights(tmp_path, seed=5)
    assert load_kept(CONVOLUTIONAL, other, folder) is None
    assert load_kept("demo_vit", None, folder) is None


def test_without_onnx_runtime_the_model_is_loaded(folder, weights, monkeypatch):
    monkeypatch.setitem(exports.OLDEST, "onnxruntime", (99, 0))
    assert load_kept(CONVOLUTIONAL, weights, folder) is None


def test_a_damaged_export_is_made_anew(folder, weights):
    (path,) = folder.glob("*.onnx")
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    kept = load_kept(CONVOLUTIONAL, weights, folder)
    assert kept.use_engine("onnxruntime", folder).is_new
    assert engines.find_kept(folder, kept.spec, kept.weights_sha256, kept.weights_file).open() is not None


def test_weights_that_change_meanwhile_are_refused(folder, weights, tmp_path):
    path = tmp_path / weights.name
    path.write_bytes(weights.read_bytes())
    kept = load_kept(CONVOLUTIONAL, path, folder)
    path.write_bytes(write_weights(tmp_path, seed=5).read_bytes())
    with pytest.raises(BackboneError, match="has changed meanwhile"):
        _ = kept.model


@pytest.mark.parametrize("id", ["demo_clip", "demo_vit", "efficientnet_lite0.in1k"])
def test_a_transform_made_of_its_recipe_gives_the_same_pixels(id):
    backbone = load_backbone(id)
    recipe = recipe_from_json(json.loads(json.dumps(backbone.recipe.to_json())))
    made = transform_of(recipe)
    assert recipe == backbone.recipe == recipe_from_transform(made)
    check_cut(made, recipe.mean, recipe.std)
    for mode, size in (("RGB", (301, 457)), ("L", (90, 61)), ("RGB", (640, 480))):
        pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        image = Image.fromarray(pixels).convert(mode).convert("RGB")
        found, expected = (apply_steps(pixel_steps(each), image) for each in (made, backbone.transform))
        np.testing.assert_array_equal(found, expected)
