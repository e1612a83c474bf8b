"""A figure as it leaves the project: SVG whose text is text, PNG, its data as CSV, and words for those who
do not see it."""

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from analysis.figures.style import styled
from store.csv_files import write_rows

_DPI = 150
_PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


@dataclass(frozen=True)
class Drawn:
    """A figure with a name for its files, a text in its place, and the numbers in it."""

    name: str
    figure: Figure
    alt: str
    headings: Sequence[str] = ()
    lines: Sequence[Sequence[Any]] = ()
    caption: str = ""
    shows_photographs: bool = False
    """Its pictures stand in the SVG as JPEG, a tenth of the bytes of PNG."""

    def __post_init__(self) -> None:
        plt.close(self.figure)  # whoever shows this object shows it once

    def to_svg(self) -> str:
        """As SVG, equal for equal figures; letters are letters, so that they can be found and copied."""
        svg = _render(self.figure, "svg", self.name).decode("utf-8")
        return re.sub(_PICTURE, _as_jpeg, svg) if self.shows_photographs else svg

    def to_png(self) -> bytes:
        """As PNG with 150 dots per inch on white."""
        return _render(self.figure, "png", self.name)

    def to_csv(self) -> str:
        """The numbers shown, '' where there are none to give."""
        if not self.headings:
            return ""
        stream = io.StringIO()
        write_rows(stream, self.headings, [[_plain(value) for value in line] for line in self.lines])
        return stream.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        about = {"kind": "figure", "name": self.name, "alt": self.alt, "caption": self.caption}
        data = {"image/svg+xml": self.to_svg(), "image/png": self.to_png(), "text/plain": self.alt}
        return data, {"iaa": {**about, "files": {".csv": self.to_csv()} if self.headings else {}}}


def _render(figure: Figure, kind: str, salt: str) -> bytes:
    stream = io.BytesIO()
    with styled(), plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=_DPI, metadata=metadata)
    figure.set_layout_engine("none")  # found once, for all formats
    if kind == "png":
        return stream.getvalue()
    text = stream.getvalue().decode("utf-8")
    return re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", text, flags=re.DOTALL).encode("utf-8")


def _as_jpeg(found: re.Match[str]) -> str:
    pixels = plt.imread(io.BytesIO(base64.b64decode(found.group(1))))
    stream = io.BytesIO()
    plt.imsave(stream, np.ascontiguousarray(pixels[..., :3]), format="jpeg", pil_kwargs={"quality": 88})
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return "" if isinstance(value, float) and math.isnan(value) else value
