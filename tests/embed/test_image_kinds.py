"""Every kind of image file that people have, and what becomes of it (the table of docs/reliability.md)."""

import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from embed.backbones.loading import load_backbone
from embed.crashes import CrashNotes
from embed.images.datasets import DatasetConfig, ImageTable, build_table
from embed.images.decode import decode_image
from embed.images.geometry import pixel_steps, resized_size
from embed.options import Decoding
from embed.pipeline import Options, embed_images
from embed.reading import load_row
from embed.update import update_images
from store import IdentityError, open_features

RNG = np.random.default_rng(21)
PIXELS = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize(
        (90, 60), Image.Resampling.BICUBIC
    )
)
PHOTO = Image.fromarray(PIXELS)


def encoded(image, fmt, **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, depth, colour, rows):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = (b"IHDR", header), (b"IDAT", body), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*c) for c in chunks)


def sixteen_bits(colour, n_channels):
    """A ramp from 0 to 65535."""
    ramp = np.linspace(0, 65535, 64).astype(">u2")
    return raw_png(64, 8, 16, colour, [np.repeat(ramp[:, None], n_channels, 1).tobytes()] * 8)


def ycck():
    """A true YCCK JPEG: the inks as luminance and chrominance, the Adobe marker saying so.

    Pillow writes inverted inks; libjpeg turns (Y, Cb, Cr) back into inks as 255 - RGB. So the channels
    written are those of the inks' own colour picture, inverted once more."""
    inks = Image.fromarray(255 - PIXELS).convert("YCbCr")
    channels = [channel.point(lambda v: 255 - v) for channel in inks.split()]
    black = Image.new("L", PHOTO.size, 0)
    data = bytearray(encoded(Image.merge("CMYK", [*channels, black]), "JPEG", quality=97))
    marker = data.find(b"Adobe")
    data[marker + 11] = 2
    return bytes(data)


def transparent_palette():
    image = PHOTO.convert("P", palette=Image.Palette.ADAPTIVE)
    return encoded(image, "PNG", transparency=bytes([0, 128] * 20))


def animated(fmt, **options):
    red, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    return encoded(red, fmt, save_all=True, append_images=[blue], **options)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(PHOTO, "JPEG", exif=exif)


JPEG = encoded(PHOTO, "JPEG", quality=92)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(80)

GOOD = {
    "PNG named jpg": (encoded(PHOTO, "PNG"), PIXELS),
    "CMYK JPEG": (encoded(PHOTO.convert("CMYK"), "JPEG"), None),
    "YCCK JPEG": (ycck(), None),
    "grey JPEG": (encoded(PHOTO.convert("L"), "JPEG"), None),
    "16-bit grey": (sixteen_bits(0, 1), "ramp"),
    "16-bit RGB": (sixteen_bits(2, 3), "ramp"),
    "16-bit grey and alpha": (sixteen_bits(4, 2), "ramp"),
    "16-bit RGBA": (sixteen_bits(6, 4), "ramp"),
    "16-bit TIFF": (encoded(Image.fromarray(np.full((30, 40), 25700, np.uint16)), "TIFF"), 100),
    "1-bit": (encoded(PHOTO.convert("1"), "PNG"), None),
    "palette with transparency": (transparent_palette(), None),
    "grey and alpha": (encoded(PHOTO.convert("LA"), "PNG"), np.asarray(PHOTO.convert("L").convert("RGB"))),
    "animated GIF": (animated("GIF"), (255, 0, 0)),
    "animated WebP": (animated("WEBP", lossless=True), (255, 0, 0)),
    "AVIF": (
        encoded(Image.new("RGB", (40, 30), (90, 90, 90)), "AVIF") if features.check("avif") else None,
        90,
    ),
    "1 x 1": (encoded(Image.new("RGB", (1, 1), (7, 8, 9)), "PNG"), (7, 8, 9)),
    "280 x 37": (encoded(Image.new("RGB", (280, 37), (7, 8, 9)), "PNG"), (7, 8, 9)),
    **{f"EXIF orientation {i}": (turned(i), None) for i in range(1, 9)},
}
BAD = {
    "empty": (b"", "^empty file$"),
    "text": (b"hello, this is no picture\n", "^not an image of a known format .starts with b'hello"),
    "HTML named jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "starts with b'<!DOCTYPE html"),
    "HEIC cut": (HEIC, "^cannot decode: damaged HEIC: "),
    "PNG bomb": (
        raw_png(60_000, 60_000, 8, 2, [b"\0"]),
        "^60000 x 60000 pixels, more than the limit of 200000000$",
    ),
    "PNG cut": (encoded(PHOTO, "PNG")[:-900], "^cannot decode: "),
    "WebP cut": (encoded(PHOTO, "WEBP")[:-300], "^cannot decode: damaged WebP"),
    "GIF cut": (encoded(PHOTO, "GIF")[:-1500], "^cannot decode: "),
    "JPEG header alone": (JPEG[:200], "^cannot decode: damaged JPEG"),
    "float TIFF": (encoded(Image.fromarray(np.zeros((9, 9), np.float32)), "TIFF"), "^floating-point pixels"),
    "1 x 5000": (
        encoded(Image.new("RGB", (1, 5000)), "PNG"),
        "^224 x 1120000 pixels when resized, more than",
    ),
}


@pytest.fixture(scope="module")
def steps():
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return [pixel_steps(image_transform_v2(PreprocessCfg(size=224), is_train=False))]


def load(tmp_path, data, steps, is_exact=False, rotate=False):
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    return load_row(path, Decoding(steps, rotate, 200_000_000, is_exact))


@pytest.mark.parametrize("is_exact", [False, True])
@pytest.mark.parametrize("kind", GOOD)
def test_kinds_that_are_read(tmp_path, steps, kind, is_exact):
    data, expected = GOOD[kind]
    if data is None:
        pytest.skip("this Pillow has no AVIF")
    row = load(tmp_path, data, steps, is_exact)
    assert row.reason == "" and row.pixels[0].shape == (224, 224, 3) and row.size == len(data)
    decoded = np.asarray(decode_image(data)).astype(int)
    if isinstance(expected, str):
        assert np.abs(decoded[0, :, 0] - np.linspace(0, 255, 64)).max() <= 1.01, "scaled, not clipped"
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(decoded, expected)
    elif expected is not None:
        assert np.abs(decoded - expected).max() <= 2
        assert np.abs(row.pixels[0].astype(int) - expected).max() <= 2
    elif "JPEG" in kind or "orientation" in kind:
        assert kind == "grey JPEG" or np.abs(decoded - PIXELS).mean() < 4


@pytest.mark.parametrize("is_exact", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_kinds_that_are_failed_rows_with_a_reason(tmp_path, steps, kind, is_exact):
    if kind.startswith("HEIC"):
        pytest.importorskip("pillow_heif", reason="no HEIC plug-in on this system")
    data, reason = BAD[kind]
    row = load(tmp_path, data, steps, is_exact)
    assert row.pixels is None and row.size == len(data)
    assert re.search(reason, row.reason), row.reason


@pytest.mark.parametrize("is_exact", [False, True])
def test_a_jpeg_cut_anywhere_is_a_failed_row(tmp_path, steps, is_exact):
    for keep in np.linspace(0, len(JPEG) - 3, 20).astype(int):
        row = load(tmp_path, JPEG[:keep], steps, is_exact)
        assert row.pixels is None and row.reason, keep


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_both_paths_alike_and_only_when_asked(tmp_path, steps, orientation):
    for rotate in (False, True):
        fast, exact = (load(tmp_path, turned(orientation), steps, e, rotate).pixels[0] for e in (False, True))
        assert np.abs(fast.astype(int) - exact).max() <= 2
    is_turned = not np.array_equal(exact, load(tmp_path, turned(orientation), steps, True).pixels[0])
    assert is_turned == (orientation != 1)


def test_the_limit_of_pixels_can_be_lowered_and_raised():
    with pytest.raises(Exception, match="90 x 60 pixels, more than the limit of 5000"):
        decode_image(encoded(PHOTO, "PNG"), max_pixels=5000)
    large = encoded(Image.new("1", (20_000, 10_000)), "PNG")  # over the limit that Pillow itself would set
    assert decode_image(large, max_pixels=10**9).size == (20_000, 10_000)


def test_the_size_after_resizing_is_that_of_the_library(steps):
    for size in ((1, 50), (280, 37), (640, 480), (3, 224)):
        image = Image.new("RGB", size)
        sizes = [size] + [(image := step(image)).size for step in steps[0][:1]]
        assert resized_size(steps[0], *size)[0] * resized_size(steps[0], *size)[1] == pytest.approx(
            max(w * h for w, h in sizes), rel=0.02
        )


def test_odd_names_and_odd_files_in_one_folder(tmp_path):
    """Unicode, spaces and newlines in names, a loop of links, a folder named x.jpg: N listed, N rows."""
    root = tmp_path / "images"
    (root / "x.jpg").mkdir(parents=True)
    names = [
        "ünï cödé 日本.jpg",
        "with space.jpg",
        "new\nline.jpg",
        "x.jpg/inside.jpg",
        os.fsdecode(b"raw\xff.jpg"),
    ]
    for name in names:
        (root / name).write_bytes(JPEG)
    os.symlink(root / "loop.jpg", root / "loop.jpg")
    os.symlink(root, root / "again")
    os.symlink(root / "gone", root / "dead.jpg")
    (root / "empty.jpg").write_bytes(b"")
    table = build_table(DatasetConfig("t", "folder", {"images": str(root)}, tmp_path))
    assert sorted(table.path.tolist()) == sorted([*names, "loop.jpg", "dead.jpg", "empty.jpg"])
    outcome = embed_images(table, [load_backbone("demo_vit")], tmp_path / "f", Options(n_threads=2))[0]
    with open_features(outcome.path) as features:
        assert features.image_id.tolist() == table.image_id.tolist()
        failed = {str(features.image_id[row]): reason for row, reason in features.failures.items()}
    assert failed == {
        "loop.jpg": "cannot read: Too many levels of symbolic links",
        "dead.jpg": "cannot read: No such file or directory",
        "empty.jpg": "empty file",
    }


def test_removed_or_turned_into_a_folder_after_listing(tmp_path):
    (tmp_path / "b.jpg").mkdir()
    (tmp_path / "c.jpg").write_bytes(JPEG)
    names = np.array(["a.jpg", "b.jpg", "c.jpg"])
    table = ImageTable("t", tmp_path, names, names)
    outcome = embed_images(table, [load_backbone("demo_vit")], tmp_path / "f", Options(n_threads=2))[0]
    with open_features(outcome.path) as features:
        assert features.failures == {
            0: "cannot read: No such file or directory",
            1: "cannot read: Is a directory",
        }


def test_a_row_known_to_crash_is_hashed_and_not_decoded(tmp_path):
    names = np.array(["a.jpg", "b.jpg"])
    for name in names:
        (tmp_path / name).write_bytes(JPEG)
    notes = tmp_path / "notes"
    notes.mkdir()
    table = ImageTable("t", tmp_path, names, names)
    CrashNotes(notes, table.digest).convict({1: "the decoder crashed (SIGSEGV)"})
    options = Options(n_threads=2, crash_folder=notes)
    outcome = embed_images(table, [load_backbone("demo_vit")], tmp_path / "f", options)[0]
    with open_features(outcome.path) as features:
        assert features.failures == {1: "the decoder crashed (SIGSEGV)"}
        assert features.file.view("source_size").tolist() == [len(JPEG)] * 2


def test_a_list_that_grows_since_more_names_count_goes_through_update(tmp_path, monkeypatch):
    """A folder embedded when only old names counted: refused with the way out, and its rows are kept."""
    root = tmp_path / "images"
    root.mkdir()
    for name in ("1.jpg", "2.jfif", "3.jpg", "4.ppm"):
        Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
            root / name, "JPEG" if name != "4.ppm" else "PPM"
        )
    config = DatasetConfig("t", "folder", {"images": str(root)}, tmp_path)
    backbones, options = [load_backbone("demo_vit")], Options(n_threads=2)
    monkeypatch.setattr("embed.images.files.IMAGE_SUFFIXES", (".jpg", ".png"))
    old = build_table(config)
    assert old.path.tolist() == ["1.jpg", "3.jpg"] and old.passed_over == {".jfif": 1, ".ppm": 1}
    outcome = embed_images(old, backbones, tmp_path / "f", options)[0]
    with open_features(outcome.path) as features:
        before = dict(zip(features.image_id.tolist(), features.read("pre_logits"), strict=True))
    monkeypatch.undo()
    new = build_table(config)
    with pytest.raises(IdentityError, match="n_images: the file has 2, asked for 4") as refused:
        embed_images(new, backbones, tmp_path / "f", options)
    assert "iaa embed --update" in "".join(refused.value.__notes__)
    updated = update_images(new, backbones, tmp_path / "f", options)[0]
    assert (updated.n_images, updated.n_new, updated.n_failed) == (4, 2, 0)
    with open_features(outcome.path) as features:
        after = dict(zip(features.image_id.tolist(), features.read("pre_logits"), strict=True))
        assert features.identity["images"] == new.digest
    assert list(after) == ["1.jpg", "2.jfif", "3.jpg", "4.ppm"]
    for name, vector in before.items():
        np.testing.assert_array_equal(after[name], vector)
