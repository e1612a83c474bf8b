"""Photographs with what was said about them, as HTML: large enough to judge, in as many columns as fit."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageOps

from analysis.results.markup import visible
from analysis.results.methods import is_any_report_run

_EDGE = 420
"""Longer side of a photograph in a notebook, in pixels."""
_ALONE = (
    "<style>.shots{display:grid;gap:.8em;grid-template-columns:repeat(auto-fill,minmax(150px,1fr))}"
    ".shots.matrix{grid-template-columns:repeat(var(--columns),minmax(0,1fr))}"
    ".shot img{width:100%;aspect-ratio:4/3;object-fit:contain}.shot span,.shot i{display:block}"
    ".shot p{margin:.2em 0;overflow-wrap:anywhere}</style>"
)
"""How photographs stand in a notebook, where the pages' style is not."""
_SIGNS = {"right": "✓", "wrong": "✗", "": ""}


@dataclass(frozen=True)
class Shot:
    """One photograph, the lines below it, and whether what a method said of it was right."""

    image_id: str
    file: str
    """Its path as the data set names it."""
    lines: Sequence[str]
    verdict: Literal["", "right", "wrong"] = ""


@dataclass(frozen=True)
class PhotoGrid:
    """Photographs side by side. The report's runner puts the pictures in (upright, checked, of any source);
    outside it, they are made from the files below `images`."""

    name: str
    shots: Sequence[Shot]
    images: Path
    caption: str = ""
    columns: int = 4
    place: str = ""
    """Folder of the data set in which the files lie; '' for its photographs."""
    is_matrix: bool = False
    """Rows and columns mean something: they stay as they are on a narrow screen."""

    def to_html(self, pictures: Mapping[int, str]) -> str:
        """The grid with a picture's address for each number."""
        parts = []
        for number, shot in enumerate(self.shots):
            picture = pictures.get(number, "")
            name = html.escape(visible(shot.image_id))
            shown = (
                f'<img src="{picture}" alt="Photograph {name}">'
                if picture
                else f'<div class="missing">{name}</div>'
            )
            said = "".join(f"<span>{html.escape(visible(line))}</span>" for line in shot.lines)
            sign = (
                f'<b title="{shot.verdict}">{_SIGNS[shot.verdict]} {shot.verdict}</b>' if shot.verdict else ""
            )
            parts.append(f'<div class="shot {shot.verdict}">{shown}<p>{sign}{said}<i>{name}</i></p></div>')
        kind = "shots matrix" if self.is_matrix else "shots"
        return f'<div class="{kind}" style="--columns:{self.columns}">{"".join(parts)}</div>'

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        place = {"place": self.place} if self.place else {}
        listed = [{"image_id": shot.image_id, "file": shot.file, **place} for shot in self.shots]
        marks = {i: placeholder(i) for i in range(len(listed))}
        pictures = (
            marks
            if is_any_report_run()
            else {i: address(self.images / s.file) for i, s in enumerate(self.shots)}
        )
        about = {
            "kind": "photographs",
            "name": self.name,
            "caption": self.caption,
            "shots": listed,
            "files": {},
        }
        said = "; ".join(f"{shot.image_id}: {', '.join(shot.lines)}" for shot in self.shots)
        style = "" if is_any_report_run() else f"{_ALONE}<p>{html.escape(visible(self.caption))}</p>"
        return {"text/html": style + self.to_html(pictures), "text/plain": said}, {"iaa": about}


def placeholder(number: int) -> str:
    """What stands in a picture's place until the runner puts it in."""
    return f"photo:{number}"


def address(file: Path) -> str:
    """A small upright copy of a picture as an address that holds its content; '' where none can be made."""
    made = io.BytesIO()
    try:
        with Image.open(file) as picture:
            picture.draft("RGB", (2 * _EDGE, 2 * _EDGE))
            small = ImageOps.exif_transpose(picture)
            small.thumbnail((_EDGE, _EDGE))
            small.convert("RGB").save(made, "JPEG", quality=85)
    except Exception:  # whatever Pillow raises of a damaged file: the photograph's name stands there then
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(made.getvalue()).decode()}"
