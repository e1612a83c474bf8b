"""Photographs in a notebook that is opened by hand."""

import base64
import io

import pytest
from PIL import Image

from analysis.figures.photographs import PhotoGrid, Shot, address


def shown(address_: str) -> Image.Image:
    kind, _, content = address_.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_a_large_photograph_becomes_small_and_upright(tmp_path, suffix):
    """Eight originals in one cell made a notebook that no browser opened."""
    picture = Image.new("RGB", (3000, 2000), "red")
    picture.paste("blue", (0, 0, 1500, 2000))
    exif = Image.Exif()
    exif[0x0112] = 6  # its left side is to be the top
    picture.save(tmp_path / f"a{suffix}", exif=exif)
    small = shown(address(tmp_path / f"a{suffix}"))
    assert small.size == (280, 420)
    top, bottom = small.getpixel((140, 100)), small.getpixel((140, 320))
    assert top[2] > 200 > 60 > top[0] and bottom[0] > 200 > 60 > bottom[2]


def test_what_cannot_be_shown_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    shots = [Shot(name, name, ["said"]) for name in ("broken.jpg", "missing.jpg", "small.png")]
    html = PhotoGrid("grid", shots, tmp_path)._repr_mimebundle_()[0]["text/html"]
    assert html.count('<div class="missing">') == 2 and html.count("<img") == 1
    assert shown(html.partition('<img src="')[2].partition('"')[0]).size == (8, 8)


def test_rows_and_columns_that_mean_something_stay(tmp_path):
    """Figure 4: a column is a subject, a row an adjective, on a phone too."""
    shots = [Shot(f"{i}.png", f"{i}.png", []) for i in range(6)]
    grids = [PhotoGrid("g", shots, tmp_path, columns=3, is_matrix=each) for each in (True, False)]
    kept, flowing = (grid.to_html({}) for grid in grids)
    assert '<div class="shots matrix" style="--columns:3">' in kept and "matrix" not in flowing
