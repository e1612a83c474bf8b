"""Contact sheets: photographs as one HTML file that needs no network, no script and no other file."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from iaa.library.photographs import Thumbnail

if TYPE_CHECKING:
    from jinja2 import Template

Section = tuple[str, Sequence[Mapping[str, Any]]]
"""A heading, and the rows below it: image_id, file and, where they are ranked, rank, score and percentile."""


def page(
    title: str, facts: Sequence[str], sections: Sequence[Section], thumbnails: Iterable[Thumbnail], score: str
) -> Iterator[str]:
    """The page in pieces; `thumbnails` are those of all the sections' rows, in order, `score` is the rows'
    key of what they are ranked by. Every name is text."""
    shown = iter(thumbnails)
    return _template("sheet.html").generate(
        title=title, facts=facts, sections=sections, score=score, picture=lambda: _as_picture(next(shown))
    )


def strip(
    title: str, rows: Sequence[Mapping[str, Any]], thumbnails: Iterable[Thumbnail], score: str, n_more: int
) -> str:
    """A few pictures with their scores as a piece of HTML, for a notebook."""
    shown = iter(thumbnails)
    return _template("strip.html").render(
        title=title, rows=rows, score=score, n_more=n_more, picture=lambda: _as_picture(next(shown))
    )


def _as_picture(thumbnail: Thumbnail) -> dict[str, str]:
    data = "" if thumbnail.jpeg is None else base64.b64encode(thumbnail.jpeg).decode("ascii")
    return {"data": data, "remark": thumbnail.remark}


@cache
def _template(name: str) -> "Template":
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("iaa.library")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(name)
