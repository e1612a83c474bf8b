"""Reading images: every format ends as RGB or as a reason."""

import io

import numpy as np
import pytest
from PIL import Image

from embed.decode import ImageError, decode_image, read_bytes

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encode(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_the_pixels(fmt):
    np.testing.assert_array_equal(np.asarray(decode_image(encode(Image.fromarray(PIXELS), fmt))), PIXELS)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_become_rgb(mode):
    fmt = "JPEG" if mode == "CMYK" else "PNG"
    image = (
        Image.fromarray(PIXELS).convert("L").convert(mode)
        if mode == "LA"
        else Image.fromarray(PIXELS).convert(mode)
    )
    decoded = decode_image(encode(image, fmt))
    assert decoded.mode == "RGB" and decoded.size == (60, 40)
    if mode == "L":
        np.testing.assert_array_equal(np.asarray(decoded)[..., 1], np.asarray(image))


def test_sixteen_bits_are_scaled_not_clipped_to_white():
    grey = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    decoded = np.asarray(decode_image(encode(Image.fromarray(grey))))[..., 0]
    np.testing.assert_array_equal(decoded, np.round(grey / 257).astype(np.uint8))
    assert 120 < decoded.mean() < 135


def test_a_png_named_jpg_and_the_first_frame_of_an_animation(tmp_path):
    (tmp_path / "x.jpg").write_bytes(encode(Image.fromarray(PIXELS)))
    assert decode_image(read_bytes(tmp_path / "x.jpg")).size == (60, 40)
    red, blue = (Image.new("RGB", (8, 8), c) for c in ("red", "blue"))
    animation = encode(red, "GIF", save_all=True, append_images=[blue])
    assert decode_image(animation).getpixel((2, 2)) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed_only_when_asked(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(PIXELS), "JPEG", exif=exif)
    assert decode_image(data).size == (60, 40)
    expected = (60, 40) if orientation <= 4 else (40, 60)
    assert decode_image(data, exif_rotate=True).size == expected


def test_every_truncation_is_a_reason():
    data = encode(Image.fromarray(PIXELS), "JPEG", quality=95)
    for keep in np.linspace(0, len(data) - 3, 20).astype(int):
        with pytest.raises(ImageError):
            decode_image(data[:keep])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"just text", "not an image of a known format"),
        (b"<!doctype html><html>404</html>", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
    ],
)
def test_what_is_no_image_is_a_reason(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode_image(data)


def test_a_bomb_is_refused_by_its_header():
    image = Image.fromarray(np.zeros((1000, 2000), np.uint8))
    with pytest.raises(ImageError, match="2000 x 1000 pixels, more than the limit of 1000000"):
        decode_image(encode(image), max_pixels=1_000_000)


def test_unreadable_files_are_reasons(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        read_bytes(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="Is a directory"):
        read_bytes(tmp_path)
