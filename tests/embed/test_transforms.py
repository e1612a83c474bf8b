"""Recipes: read off the libraries' transforms, true to them, and never with a step left out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as tv

from embed.backbones.architectures import build_architecture
from embed.backbones.registry import BACKBONES, resolve_backbone
from embed.backbones.transforms import Recipe, UnknownTransform, recipe_from_transform

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
NORMALIZE = tv.Normalize((0.5,) * 3, (0.5,) * 3)


def transform_of(id):
    return build_architecture(resolve_backbone(id), device="meta")[1]


@pytest.mark.shared_data
def test_clips_transform_equals_openais_exactly(shared_data):
    """The reference tensors were made by OpenAI's own code; not one bit may differ."""
    folder = shared_data / "clip_transform"
    reference = np.load(folder / "expected_tensors.npz")
    by_id = dict(zip(reference["image_id"].astype(str), reference["tensor"], strict=True))
    transform = transform_of("vit_b32.openai")
    files = sorted((folder / "images").glob("*.jpg"))
    assert len(files) == 7
    for file in files:
        with Image.open(file) as image:
            tensor = transform(image).numpy()
        assert np.abs(tensor - by_id[file.stem]).max() == 0.0


@pytest.mark.parametrize(
    ("id", "resize", "interpolation", "crop", "crop_mode"),
    [
        ("vit_b32.openai", 224, "bicubic", (224, 224), "center"),
        ("rn50.yfcc15m", 224, "bicubic", (224, 224), "center"),
        ("vit_b32.in21k", 248, "bicubic", (224, 224), "center"),
        ("rn50.in21k_miil", 235, "bicubic", (224, 224), "center"),
        ("rn50.in21k_miil_unscaled", 256, "bilinear", (224, 224), "center"),
        ("efficientnet_lite0.in1k", 256, "bicubic", (224, 224), "center"),
        ("dinov2_s14.lvd142m", 518, "bicubic", (518, 518), "center"),
        ("siglip2_b16.webli", (224, 224), "bicubic", (224, 224), "none"),
        ("demo_clip", 64, "bicubic", (64, 64), "center"),
    ],
)
def test_recipe_of_a_registered_backbone(id, resize, interpolation, crop, crop_mode):
    recipe = recipe_from_transform(transform_of(id))
    assert recipe.geometry == (resize, interpolation, True, crop, crop_mode)


def test_mean_and_std_survive_the_library_unchanged():
    clip = recipe_from_transform(transform_of("vit_b32.openai"))
    assert clip.mean == CLIP_MEAN
    imagenet = recipe_from_transform(transform_of("rn50.in21k_miil"))  # timm keeps float32 tensors
    assert (imagenet.mean, imagenet.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    unscaled = recipe_from_transform(transform_of("rn50.in21k_miil_unscaled"))
    assert (unscaled.mean, unscaled.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("id", ["vit_b32.openai", "vit_b32.in21k", "siglip2_b16.webli",
                                "rn50.in21k_miil_unscaled"])  # fmt: skip
@pytest.mark.parametrize("size", [(401, 287), (100, 333), (224, 224)])
def test_the_recipe_describes_the_transform(id, size, rng):
    """Pillow and numpy alone, following the numbers, give the library's tensor to the last bit."""
    image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    transform = transform_of(id)
    by_hand = apply_by_hand(recipe_from_transform(transform), image)
    assert np.array_equal(by_hand, transform(image).numpy())


def apply_by_hand(recipe: Recipe, image: Image.Image) -> np.ndarray:
    width, height = image.size
    if isinstance(recipe.resize, int):
        shorter = min(width, height)
        new = tuple(
            recipe.resize if edge == shorter else int(recipe.resize * edge / shorter)
            for edge in (width, height)
        )
    else:
        new = recipe.resize[::-1]
    image = image.resize(new, Image.Resampling[recipe.interpolation.upper()])
    if recipe.crop_mode == "center":
        top = round((image.height - recipe.crop[0]) / 2)
        left = round((image.width - recipe.crop[1]) / 2)
        image = image.crop((left, top, left + recipe.crop[1], top + recipe.crop[0]))
    scaled = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in (recipe.mean, recipe.std))
    return (scaled - mean) / std


def test_backbones_with_equal_geometry_can_share_their_pixels():
    clip, vit = (recipe_from_transform(transform_of(id)) for id in ("demo_clip", "demo_vit"))
    assert clip.to_rgb and not vit.to_rgb
    assert len({clip.geometry, vit.geometry}) == 1
    other = recipe_from_transform(transform_of("vit_b32.openai"))
    assert other.geometry != clip.geometry


def test_a_recipe_is_json():
    recipe = recipe_from_transform(transform_of("siglip2_b16.webli"))
    again = json.loads(json.dumps(recipe.to_json()))
    assert again["resize"] == [224, 224] and again["mean"] == [0.5, 0.5, 0.5]


def test_an_unknown_step_is_named_not_ignored():
    transform = tv.Compose(
        [tv.Resize(32), tv.CenterCrop(32), tv.GaussianBlur(3), tv.ToTensor(), NORMALIZE]
    )
    with pytest.raises(UnknownTransform, match="GaussianBlur"):
        recipe_from_transform(transform)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([tv.CenterCrop(32), tv.Resize(32), tv.ToTensor(), NORMALIZE], "out of the order"),
        ([tv.Resize(32), tv.Resize(32), tv.ToTensor(), NORMALIZE], "twice"),
        ([tv.Resize(32), tv.CenterCrop(32), tv.ToTensor()], "no step for normalize"),
        ([tv.Resize(32), tv.ToTensor(), NORMALIZE], "crops nothing"),
        ([tv.Resize(32, max_size=64), tv.CenterCrop(32), tv.ToTensor(), NORMALIZE], "max_size"),
    ],
)
def test_a_transform_that_a_recipe_cannot_express_is_refused(steps, message):
    with pytest.raises(UnknownTransform, match=message):
        recipe_from_transform(tv.Compose(steps))


def test_a_random_crop_is_no_centre_crop():
    steps = [tv.Resize(32), tv.RandomCrop(32), tv.ToTensor(), NORMALIZE]
    with pytest.raises(UnknownTransform, match="RandomCrop"):
        recipe_from_transform(tv.Compose(steps))


def test_something_else_than_a_compose_is_refused():
    with pytest.raises(UnknownTransform, match="Compose"):
        recipe_from_transform(lambda image: torch.zeros(3, 2, 2))


def test_every_registered_backbone_has_a_recipe():
    for id in BACKBONES:
        recipe = recipe_from_transform(transform_of(id))
        assert len(recipe.crop) == 2 and recipe.antialias
