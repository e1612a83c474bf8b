"""Cameras' raw files: the preview where it is large enough, else half-size pixels, and which is recorded."""

import io

import numpy as np
import pytest
from PIL import Image

from embed.backbones.loading import load_backbone
from embed.images.datasets import DatasetConfig, build_table
from embed.images.decode import ImageError, decode_image
from embed.images.raw import is_raw
from embed.pipeline import Options, embed_images
from embed.update import update_images
from store import open_features
from tests.embed.raw_files import make_dng

rawpy = pytest.importorskip("rawpy", reason="the extra `raw` is not installed")


def sensor_scene():
    """Blue top left, green bottom left, red top right, yellow bottom right; 200 x 300."""
    y, x = np.mgrid[0:200, 0:300]
    rgb = np.zeros((200, 300, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = x * 255 // 300, y * 255 // 200
    rgb[:100, :150, 2] = 200
    return rgb


def jpeg(width, height, colour="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def test_the_sensor_is_demosaiced_to_half_its_size():
    scene = sensor_scene()
    image = decode_image(make_dng(scene))
    assert image.size == (150, 100) and image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - scene[::2, ::2]).mean() < 8
    assert image.info["decoded_by"] == f"rawpy {rawpy.__version__}, half size"


@pytest.mark.parametrize(("size", "is_used"), [((300, 200), True), ((150, 100), True), ((148, 98), False)])
def test_a_preview_of_half_the_sensor_is_used_and_a_stamp_is_not(size, is_used):
    image = decode_image(make_dng(sensor_scene(), jpeg(*size), size))
    assert image.size == (size if is_used else (150, 100))
    assert (image.getpixel((5, 5))[0] > 250) == is_used
    assert image.info["decoded_by"].endswith(", preview" if is_used else ", half size")
    damaged = jpeg(*size)[:300]
    assert decode_image(make_dng(sensor_scene(), damaged, size)).getpixel((5, 5))[2] > 150, "the sensor's"


def test_a_preview_of_1024_is_large_enough_for_any_sensor():
    rgb = np.zeros((2200, 2400, 3), np.uint8)
    for edge in (1000, 1024):
        image = decode_image(make_dng(rgb, jpeg(1100, edge), (1100, edge)))
        assert image.size == ((1100, 1024) if edge == 1024 else (1200, 1100))


@pytest.mark.parametrize(
    ("flip", "corner"), [(1, (0, 0, 200)), (3, (255, 255, 0)), (6, (0, 255, 0)), (8, (255, 0, 0))]
)
def test_it_is_upright_once_and_only_when_asked(flip, corner):
    data = make_dng(sensor_scene(), flip=flip)
    upright = decode_image(data, exif_rotate=True)
    assert upright.size == ((100, 150) if flip in (6, 8) else (150, 100))
    assert np.abs(np.array(upright.getpixel((3, 3))) - corner).max() < 20
    assert decode_image(data).getpixel((3, 3)) == decode_image(make_dng(sensor_scene())).getpixel((3, 3))
    lying, standing = jpeg(300, 200), jpeg(200, 300)
    for preview, size in ((lying, (300, 200)), (standing, (200, 300))):
        turned = decode_image(make_dng(sensor_scene(), preview, size, flip), exif_rotate=True)
        if flip in (6, 8):
            assert turned.size == (200, 300), "a preview that the camera has turned is not turned again"


def test_raw_is_told_by_content_not_by_its_name():
    data = make_dng(np.zeros((8, 8, 3), np.uint8))
    assert is_raw(data)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "TIFF")
    assert not is_raw(buffer.getvalue()) and not is_raw(jpeg(9, 9)) and not is_raw(b"II*\0")
    for cut in range(0, 400, 7):
        is_raw(data[:cut])  # never raises


def test_what_is_wrong_with_a_raw_file_is_said():
    data = make_dng(sensor_scene())
    with pytest.raises(ImageError, match="300 x 200 pixels, more than the limit of 50000"):
        decode_image(data, max_pixels=50_000)
    with pytest.raises(ImageError, match="raw file"):
        decode_image(data[:500])
    with pytest.raises(ImageError, match="^cannot decode: this kind of raw file is not read: Unsupported"):
        decode_image(b"FUJIFILMCCD-RAW " + bytes(2000))


def test_without_the_extra_the_row_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rawpy", None)
    with pytest.raises(
        ImageError, match=r"raw files need rawpy: pip install 'image-aesthetics-store\[raw\]'"
    ):
        decode_image(make_dng(sensor_scene()))


def test_what_made_the_rows_stands_in_the_provenance_also_after_an_update(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    (root / "1.jpg").write_bytes(jpeg(60, 40))
    (root / "1.dng").write_bytes(make_dng(sensor_scene()))
    (root / "2.dng").write_bytes(make_dng(sensor_scene()))
    (root / "3.DNG").write_bytes(make_dng(sensor_scene(), jpeg(300, 200), (300, 200)))
    config = DatasetConfig("t", "folder", {"images": str(root)}, tmp_path)
    table = build_table(config)
    assert table.path.tolist() == ["1.jpg", "2.dng", "3.DNG"]
    assert table.notes == (
        "1 raw files lie beside a JPEG or HEIF of the same name and are one image with it",
    )
    backbones, options = [load_backbone("demo_vit")], Options(n_threads=2)
    outcome = embed_images(table, backbones, tmp_path / "f", options)[0]
    version = rawpy.__version__
    made = [[f"rawpy {version}, half size", 1], [f"rawpy {version}, preview", 1]]
    with open_features(outcome.path) as features:
        assert not features.failures and features.provenance["other_decoders"] == made
    (root / "4.jpg").write_bytes(jpeg(50, 40))
    update_images(build_table(config), backbones, tmp_path / "f", options)
    with open_features(outcome.path) as features:
        assert features.provenance["updates"]["other_decoders"] == [name for name, _ in made]
