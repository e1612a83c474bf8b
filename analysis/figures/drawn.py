"""A figure as it leaves the project: SVG whose text is text, PNG, its data as CSV, and words for those who
do not see it."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from analysis.figures.style import styled
from store.csv_files import write_rows

_DPI = 150


@dataclass(frozen=True)
class Drawn:
    """A figure with a name for its files, a text in its place, and the numbers in it."""

    name: str
    figure: Figure
    alt: str
    headings: Sequence[str] = ()
    lines: Sequence[Sequence[Any]] = ()
    caption: str = ""

    def __post_init__(self) -> None:
        plt.close(self.figure)  # whoever shows this object shows it once

    def to_svg(self) -> str:
        """As SVG, equal for equal figures; letters are letters, so that they can be found and copied."""
        return _render(self.figure, "svg", self.name).decode("utf-8")

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


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return "" if isinstance(value, float) and math.isnan(value) else value
