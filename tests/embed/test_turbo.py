"""The fast path: the same picture as the library's own transform, within two levels."""

import io

import numpy as np
import pytest
from PIL import Image

from embed import turbo
from embed.decode import ImageError, decode_image
from embed.geometry import apply_steps, pixel_steps
from embed.loading import load_backbone

RNG = np.random.default_rng(8)


@pytest.fixture(scope="module")
def steps():
    """CLIP's at 224: bicubic to the shorter edge, centre crop."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return pixel_steps(image_transform_v2(PreprocessCfg(size=224), is_train=False))


def scene(height, width):
    """Smooth colour with some noise, as photographs are."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (17 + 9 * c) + c) * np.cos(y / (23 - 5 * c)) for c in range(3)]
    noise = RNG.normal(0, 8, (height, width, 3))
    return np.clip(128 + 90 * np.stack(waves, axis=2) + noise, 0, 255).astype(np.uint8)


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def compare(data, steps):
    ours = turbo.apply_steps(steps, turbo.decode_jpeg(data)).astype(int)
    theirs = apply_steps(steps, decode_image(data)).astype(int)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(640, 480), (481, 643), (300, 224), (224, 224), (231, 1000), (100, 90)])
def test_any_subsampling_and_size(steps, subsampling, size):
    data = jpeg(Image.fromarray(scene(*size)), subsampling=subsampling)
    np.testing.assert_array_equal(turbo.decode_jpeg(data), np.asarray(decode_image(data)))
    difference = compare(data, steps)
    assert difference.max() <= 2 and (difference == 0).mean() >= 0.99


def test_grey_and_progressive(steps):
    for data in (
        jpeg(Image.fromarray(scene(400, 333)).convert("L")),
        jpeg(Image.fromarray(scene(400, 333)), progressive=True),
    ):
        assert compare(data, steps).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_as_pillow_turns_it(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(Image.fromarray(scene(40, 70)), exif=exif)
    for rotate in (True, False):
        expected = np.asarray(decode_image(data, exif_rotate=rotate))
        np.testing.assert_array_equal(turbo.decode_jpeg(data, exif_rotate=rotate), expected)


def test_what_is_not_for_this_path_is_left_to_pillow():
    image = Image.fromarray(scene(50, 60))
    assert turbo.decode_jpeg(b"") is None
    assert turbo.decode_jpeg(jpeg(image.convert("CMYK"))) is None
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert turbo.decode_jpeg(buffer.getvalue()) is None


def test_truncated_damaged_and_huge_are_reasons():
    data = jpeg(Image.fromarray(scene(300, 300)), quality=95)
    for keep in np.linspace(700, len(data) - 3, 20).astype(int):
        with pytest.raises(ImageError):
            if turbo.decode_jpeg(data[:keep]) is None:
                decode_image(data[:keep])
    with pytest.raises(ImageError, match="300 x 300 pixels, more than the limit of 1000"):
        turbo.decode_jpeg(data, max_pixels=1000)


@pytest.mark.shared_data
def test_three_hundred_photographs(shared_data, steps):
    photographs = sorted((shared_data / "oasis" / "images").glob("*.jpg"))[:300]
    photographs += sorted((shared_data / "clip_transform" / "images").glob("*.jpg"))
    n_equal = n_bytes = 0
    n_fast = 0
    for photograph in photographs:
        data = photograph.read_bytes()
        if turbo.decode_jpeg(data) is None:  # one of the reference images is no plain JPEG
            continue
        n_fast += 1
        difference = compare(data, steps)
        assert difference.max() <= 2, photograph.name
        n_equal += int((difference == 0).sum())
        n_bytes += difference.size
    assert n_fast >= 300 and n_equal / n_bytes >= 0.99


def test_the_demo_backbones_steps_are_understood():
    for name in ("demo_clip", "demo_vit"):
        backbone = load_backbone(name)
        pixels = turbo.apply_steps(pixel_steps(backbone.transform), scene(128, 160))
        assert pixels.shape == (64, 64, 3)
