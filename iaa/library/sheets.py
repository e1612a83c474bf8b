"""Contact sheets: the page's grid, frozen. HTML that needs no network and no script; up to a few hundred
pictures are in the file itself, more lie in a folder beside it."""

import base64
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.photographs import Thumbnail

if TYPE_CHECKING:
    from jinja2 import Template

    from iaa.library.painting import Painting

Section = tuple[str, Sequence[Mapping[str, Any]]]
"""A heading, and the rows below it: image_id, file and, where they are ranked, rank, score and percentile."""


MAX_INSIDE = 300
"""Pictures that a sheet holds itself: about 5 MB."""

PICTURE = re.compile("[0-9a-f]{24}\\.jpg")
"""Names of the pictures that lie beside a sheet."""

Address = Callable[[bytes], str]
"""Where the page finds a JPEG."""


def page(
    title: str,
    facts: Sequence[str],
    sections: Sequence[Section],
    thumbnails: Iterable[Thumbnail],
    score: str,
    address: "Address | None" = None,
) -> Iterator[str]:
    """The page in pieces; `thumbnails` are those of all the sections' rows, in order, `score` is the rows'
    key of what they are ranked by, `address` where a picture is (default: in the page). Names are text."""
    shown = iter(thumbnails)
    return _template("sheet.html").generate(
        title=title,
        facts=facts,
        sections=sections,
        score=score,
        picture=lambda: _as_picture(next(shown), address or _inside),
    )


def beside(folder: Path, name: str) -> Address:
    """Writes pictures into a folder, and finds them by that folder's `name`. A file is named by its content,
    so that a page of before never shows another picture under a photograph's name."""
    return partial(_kept, folder, name)


def _kept(folder: Path, name: str, jpeg: bytes) -> str:
    from urllib.parse import quote

    file = f"{hashlib.sha256(jpeg).hexdigest()[:24]}.jpg"
    (folder / file).write_bytes(jpeg)
    return f"{quote(name, safe='', errors='surrogateescape')}/{file}"


def _inside(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def strip(
    title: str, rows: Sequence[Mapping[str, Any]], thumbnails: Iterable[Thumbnail], score: str, n_more: int
) -> str:
    """A few pictures with their scores as a piece of HTML, for a notebook."""
    shown = iter(thumbnails)
    return _template("strip.html").render(
        title=title, rows=rows, score=score, n_more=n_more, picture=lambda: _as_picture(next(shown), _inside)
    )


def _as_picture(thumbnail: Thumbnail, address: Address) -> dict[str, Any]:
    from PIL import Image

    if thumbnail.jpeg is None:
        return {"address": "", "remark": thumbnail.remark, "width": 4, "height": 3}
    with Image.open(io.BytesIO(thumbnail.jpeg)) as image:
        width, height = image.size
    return {
        "address": address(thumbnail.jpeg),
        "remark": thumbnail.remark,
        "width": width,
        "height": height,
    }


def painting_page(paintings: "Sequence[Painting]") -> str:
    """Painted pictures side by side as the paper's Figure 4 sets them: a column per subject, a row per
    adjective, a table per seed; the pictures lie in the page."""
    from iaa.library.painting import png_bytes

    subjects, adjectives, seeds = (
        list(dict.fromkeys(getattr(each, name) for each in paintings))
        for name in ("subject", "adjective", "seed")
    )
    cells = {
        (each.seed, each.adjective, each.subject): {
            "address": f"data:image/png;base64,{base64.b64encode(png_bytes(each.pixels)).decode('ascii')}",
            "about": each.about,
            "height": each.pixels.shape[0],
            "width": each.pixels.shape[1],
        }
        for each in paintings
    }
    shared = paintings[0].about if paintings else {}
    return _template("painting.html").render(
        subjects=subjects, adjectives=adjectives, seeds=seeds, cells=cells, shared=shared
    )


@cache
def _template(name: str) -> "Template":
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("iaa.library")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(name)
