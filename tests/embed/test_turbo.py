"""The fast path: the same picture as the library's own transform, within two levels."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from embed.backbones.loading import load_backbone
from embed.images import turbo
from embed.images.decode import ImageError, decode_image
from embed.images.geometry import apply_steps, pixel_steps

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


def filled(data, filler):
    """The JPEG with filler before its end marker."""
    return data[:-2] + filler + data[-2:]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
@pytest.mark.parametrize(
    "filler", [bytes(1), bytes(4), bytes(5000), b"\xff" * 7, b"\xff\0" * 9, b"\0\0\xff\0\0\0\0"]
)
def test_filler_before_the_end_marker_costs_nothing(filler, options):
    data = jpeg(Image.fromarray(scene(60, 90)), **options)
    expected = turbo.decode_jpeg(data)
    for bytes_ in (filled(data, filler), filled(data, filler) + b"more after the end"):
        np.testing.assert_array_equal(turbo.decode_jpeg(bytes_), expected)
        np.testing.assert_array_equal(np.asarray(decode_image(bytes_)), expected)


def test_filler_after_every_scan_of_a_progressive_picture():
    data = jpeg(Image.fromarray(scene(60, 90)), progressive=True)
    scans = data.split(b"\xff\xda")
    assert len(scans) > 5
    filled_scans = [scans[0]]
    for scan in scans[1:]:
        markers = [
            scan.find(marker, 12) for marker in (b"\xff\xc4", b"\xff\xd9") if scan.find(marker, 12) > 0
        ]
        end = min(markers, default=len(scan))
        filled_scans.append(scan[:end] + bytes(20) + scan[end:])
    np.testing.assert_array_equal(turbo.decode_jpeg(b"\xff\xda".join(filled_scans)), turbo.decode_jpeg(data))


def test_scan_headers_with_numbers_that_a_sequential_picture_does_not_use():
    data = bytearray(jpeg(Image.fromarray(scene(60, 90))))
    start = data.find(b"\xff\xda")
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    expected = turbo.decode_jpeg(bytes(data))
    data[end - 3 : end] = b"\0\0\0"
    np.testing.assert_array_equal(turbo.decode_jpeg(bytes(data)), expected)


def test_damage_in_a_scan_is_found_as_strictly_as_by_libjpeg_itself():
    """Whatever libjpeg-turbo warns of is a failed row, also where a damaged scan ends early or late."""
    data = jpeg(Image.fromarray(scene(90, 120)))
    start = data.find(b"\xff\xda") + 14
    n_warned = 0
    for _ in range(400):
        damaged = bytearray(data)
        damaged[RNG.integers(start, len(data) - 2)] ^= 1 << RNG.integers(8)
        try:
            simplejpeg.decode_jpeg(bytes(damaged), "RGB", strict=True)
        except ValueError:
            n_warned += 1
            with pytest.raises(ImageError, match="damaged JPEG"):
                turbo.decode_jpeg(bytes(damaged))
    assert n_warned > 20
    for stray in (b"\x12\x34\x56\x78" * 5, data[start : start + 40]):
        with pytest.raises(ImageError, match="damaged JPEG: Corrupt JPEG data: .* extraneous bytes"):
            turbo.decode_jpeg(filled(data, stray))


def test_stray_bytes_between_the_segments_of_the_header_are_left_to_pillow():
    data = jpeg(Image.fromarray(scene(60, 90)))
    at = data.find(b"\xff\xdb")
    stray = data[:at] + b"\x11\x22\x33" + data[at:]
    assert turbo.decode_jpeg(stray) is None
    np.testing.assert_array_equal(np.asarray(decode_image(stray)), turbo.decode_jpeg(data))
