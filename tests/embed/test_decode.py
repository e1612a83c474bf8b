"""Reading images: every format ends as RGB or as a reason."""

import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from embed.images.decode import ImageError, decode_image, read_bytes

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


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(png, *chunks):
    """The PNG with chunks after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


LARGE = bytes(2_000_000)


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LARGE))],
        [chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LARGE))],
        [chunk(b"iCCP", b"profile\0\0" + zlib.compress(LARGE))],
        [chunk(b"tEXt", b"Comment\0" + LARGE[:1_000_000])] * 70,
        [chunk(b"tEXt", b"Comment\0words")[:-4] + b"\0\0\0\0"],
        [b"\0\0\0\4gAMA\0\0\0\0\0\0\0\0"],
        [chunk(b"zTXt", b"Comment\0\0not compressed")],
    ],
    ids=["zTXt", "iTXt", "iCCP", "70 MB of tEXt", "damaged tEXt", "damaged gAMA", "broken zTXt"],
)
def test_metadata_costs_no_png_its_pixels(chunks):
    exif = Image.Exif()
    exif[0x0112] = 6
    png = encode(Image.fromarray(PIXELS), exif=exif)
    data = with_chunks(png, *chunks)
    np.testing.assert_array_equal(np.asarray(decode_image(data)), PIXELS)
    assert decode_image(data, exif_rotate=True).size == (40, 60), "EXIF stays"


def test_a_png_whose_pixels_are_damaged_is_called_that():
    png = encode(Image.fromarray(PIXELS))
    for at in (17, 29, 45, len(png) // 2, len(png) - 20):
        damaged = bytearray(png)
        damaged[at] ^= 64
        with pytest.raises(ImageError, match="^cannot decode: damaged PNG: "):
            decode_image(bytes(damaged))


def available(fmt):
    Image.init()
    if fmt == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    return fmt in Image.SAVE


NAMES = {
    "JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "WEBP": "WebP", "BMP": "BMP", "TIFF": "TIFF",
    "JPEG2000": "JPEG 2000", "PPM": "PNM", "AVIF": "AVIF", "HEIF": "HEIC", "MPO": "JPEG",
}  # fmt: skip


@pytest.mark.parametrize("fmt", NAMES)
def test_a_file_that_is_cut_short_is_called_by_its_format(fmt):
    if not available(fmt):
        pytest.skip(f"this Pillow writes no {fmt}")
    data = encode(Image.fromarray(PIXELS), fmt)
    assert decode_image(data).size == (60, 40)
    for keep in (24, 60, len(data) // 3, len(data) // 2):
        with pytest.raises(
            ImageError, match=f"^cannot decode: (damaged|this kind of) {re.escape(NAMES[fmt])}"
        ):
            decode_image(data[:keep])


def test_a_kind_that_is_not_read_is_named():
    with pytest.raises(ImageError, match="JPEG XL is not read; export"):
        decode_image(b"\xff\x0a" + bytes(50))
    with pytest.raises(ImageError, match="^cannot decode: this kind of TIFF is not read: "):
        decode_image(tiff_of_unknown_compression())


def tiff_of_unknown_compression():
    data = bytearray(encode(Image.fromarray(PIXELS), "TIFF"))
    start = struct.unpack_from("<I", data, 4)[0]
    for at in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        if struct.unpack_from("<H", data, at)[0] == 259:
            struct.pack_into("<H", data, at + 8, 4242)
    return bytes(data)


def pnm(kind, maximum, values):
    height, width = values.shape[:2]
    return (
        b"P%d %d %d %d\n" % (kind, width, height, maximum)
        + values.astype(">u2" if maximum > 255 else "u1").tobytes()
    )


def test_portable_maps_of_8_and_16_bits():
    ramp = np.arange(2400).reshape(40, 60) * 27
    np.testing.assert_array_equal(np.asarray(decode_image(pnm(6, 255, PIXELS))), PIXELS)
    grey = np.asarray(decode_image(pnm(5, 65535, ramp)))[..., 0]
    np.testing.assert_array_equal(grey, np.round(ramp / 257))
    colour = np.asarray(decode_image(pnm(6, 65535, np.repeat(ramp[..., None], 3, 2)))).astype(int)
    assert np.abs(colour - ramp[..., None] / 257).max() <= 1
    ten_bits = np.asarray(decode_image(pnm(5, 1023, ramp % 1024)))[..., 0].astype(int)
    assert np.abs(ten_bits - (ramp % 1024) / 1023 * 255).max() <= 1
    assert decode_image(b"P1 2 1\n0 1").getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(b"P3 1 1 255\n1 2 3\n").getpixel((0, 0)) == (1, 2, 3)


def test_jpeg_2000_of_8_and_16_bits():
    data = encode(Image.fromarray(PIXELS), "JPEG2000")
    np.testing.assert_array_equal(np.asarray(decode_image(data)), PIXELS)
    ramp = (np.arange(2400).reshape(40, 60) * 27).astype(np.uint16)
    grey = np.asarray(decode_image(encode(Image.fromarray(ramp), "JPEG2000")))[..., 0]
    np.testing.assert_array_equal(grey, np.round(ramp / 257))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_upright_once_whatever_is_asked(orientation):
    """Its turn is a property of the picture; EXIF repeats it, and must not turn it again."""
    if not available("HEIF"):
        pytest.skip("this pillow-heif writes no HEIC")
    scene = np.zeros((48, 64, 3), np.uint8)
    scene[:24, :32] = 255  # white where the picture's own top left is
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(scene), "HEIF", exif=exif.tobytes(), quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encode(Image.fromarray(scene), exif=exif))))
    for rotate in (False, True):
        decoded = np.asarray(decode_image(data, exif_rotate=rotate)).astype(int)
        assert np.abs(decoded - np.asarray(upright)).mean() < 8
    assert decode_image(data).info["decoded_by"].startswith("pillow-heif ")


def test_files_that_would_hang_or_fill_the_memory_are_not_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="a pipe or device, no file"):
        read_bytes(tmp_path / "pipe.jpg")
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(3 * 2**30)  # holes: it takes no room
    with pytest.raises(ImageError, match="3,221,225,472 bytes, more than the limit of 2,147,483,648"):
        read_bytes(tmp_path / "large.jpg")
