"""Executed notebooks as pages: one style, one script that sorts tables, nothing fetched, nothing sent."""

import base64
import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from analysis.figures.photographs import placeholder
from analysis.results.markup import visible
from store.durable import whole_file

TEMPLATES = Path(__file__).resolve().parent / "templates"
SCRIPT = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
STYLE = (TEMPLATES / "report.css").read_text(encoding="utf-8")
SYNTHETIC = (
    "This data set is a synthetic world, rendered and rated by a program. It shows that the machinery works; "
    "it is no evidence for or against anything the paper says."
)
_SMALL = 320.0
"""Points; narrower figures stand side by side."""
_TURNED = {
    "#262626": "--ink", "#e6e6e6": "--line", "#777777": "--soft", "#0072b2": "--blue", "#444444": "--ash",
}  # fmt: skip
"""Colours of figures that the dark has others for."""
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode("utf-8")).digest()).decode()

#: Pages show pictures and styles that they hold themselves, and run the script that sorts tables, known by
#: its hash; nothing else runs, nothing is fetched or sent.
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    f"script-src 'sha256-{_HASH}'; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; "
    "form-action 'none'\">"
)

Pictures = Callable[[Sequence[Mapping[str, str]]], Sequence[bytes | None]]
"""A small upright JPEG, or None, for each of the photographs (with `image_id` and `file`)."""


@dataclass(frozen=True)
class Page:
    """One notebook of the report, executed."""

    stem: str
    title: str
    summary: str
    seconds: float

    @property
    def short(self) -> str:
        """What stands in the list of pages."""
        return "Summary" if self.stem == "index" else self.title.partition(":")[0]


@dataclass(frozen=True)
class Frame:
    """What all pages of a report share."""

    dataset: str
    pages: Sequence[Page]
    absent: Sequence[tuple[str, str]]
    """Titles of the pages that had nothing to say, and why."""
    folder: Path
    pictures: Pictures


def heading(notebook: Any, stem: str) -> tuple[str, str]:
    """Title and first paragraph of a notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.lstrip().startswith("# "):
            title, _, rest = cell.source.lstrip()[2:].partition("\n")
            paragraph = rest.strip().split("\n\n")[0].replace("\n", " ")
            return title.strip(), re.sub(r"[*`_]|\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)
    return stem, ""


def spoken_cells(cells: Sequence[Any]) -> list[Any]:
    """The cells without the prose of sections in which nothing was shown, such as results of a data set
    without ratings. A section is a markdown cell with the code cells after it; the title always stays."""
    kept: list[Any] = []
    for start, cell in enumerate(cells):
        if cell.cell_type != "markdown" or cell.source.lstrip().startswith("# "):
            kept.append(cell)
            continue
        section = list(itertools.takewhile(lambda c: c.cell_type != "markdown", cells[start + 1 :]))
        if not section or any(code.get("outputs") for code in section):
            kept.append(cell)
    return kept


def by_reason(absent: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pages that are absent for one reason, together."""
    names: dict[str, list[str]] = {}
    for name, why in absent:
        names.setdefault(why, []).append(name)
    return [(", ".join(found), why) for why, found in names.items()]


def write_page(page: Page, notebook: Any, frame: Frame) -> Path:
    """Write one page, and the files of its tables and figures beside it; returns the page."""
    parts: list[str] = []
    sections: list[dict[str, str]] = []
    lead = ""
    for cell in spoken_cells(notebook.cells):
        if cell.cell_type == "markdown":
            source = cell.source.lstrip()
            if source.startswith("# ") and not lead:
                lead = markdown_to_html(source.partition("\n")[2])
                continue
            if source.startswith("## "):
                title = source[3:].partition("\n")[0].strip()
                sections.append({"id": f"s{len(sections) + 1}", "title": re.sub(r"[*`_]", "", title)})
                parts.append(f'<div id="{sections[-1]["id"]}"></div>')
            parts.append(markdown_to_html(source))
        elif cell.cell_type == "code":
            parts += [_output(output, frame) for output in cell.get("outputs", [])]
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    text = environment.get_template("page.html").render(
        policy=POLICY,
        style=STYLE,
        script=SCRIPT,
        page=page,
        pages=frame.pages,
        dataset=visible(frame.dataset),
        notice=SYNTHETIC if frame.dataset == "demo" else "",
        lead=lead,
        sections=sections,
        absent=by_reason(frame.absent) if page.stem == "index" else (),
        body="\n".join(part for part in parts if part),
    )
    path = frame.folder / f"{page.stem}.html"
    write(path, text)
    return path


def _output(output: Any, frame: Frame) -> str:
    if output.output_type == "stream":
        return f"<pre>{escape(output.text)}</pre>"
    data, about = output.get("data", {}), output.get("metadata", {}).get("iaa")
    if about is not None:
        return {"table": _table, "figure": _figure, "photographs": _photographs, "text": _text}[
            about["kind"]
        ](data, about, frame)
    if "image/png" in data:  # a figure by its own means
        return (
            '<figure class="drawn"><img alt="figure" '
            f'src="data:image/png;base64,{data["image/png"]}"></figure>'
        )
    if "text/markdown" in data:
        return markdown_to_html(data["text/markdown"])
    return f"<pre>{escape(str(data.get('text/plain', '')))}</pre>"


def _table(data: Any, about: Any, frame: Frame) -> str:
    links = _write_files("tables", about["name"], about["files"], frame)
    table, _, notes = data["text/html"].partition("</table>")
    caption = re.search("<caption>(.*?)</caption>", table, re.DOTALL)
    table = re.sub("<caption>.*?</caption>", "", table, flags=re.DOTALL)
    said = f'<figcaption class="over">{caption.group(1)}</figcaption>' if caption else ""
    label = escape(about["name"].replace("_", " "))
    kind = (
        "scroll"
        + (" wide" if table.count('scope="col"') > 7 else "")
        + ("" if 'class="n"' in table else " words")
    )
    box = f'<div class="{kind}" tabindex="0" role="region" aria-label="Table: {label}">{table}</table></div>'
    return f"<figure>{said}{box}{notes}{links}</figure>"


def _figure(data: Any, about: Any, frame: Frame) -> str:
    svg = data["image/svg+xml"]
    png = base64.b64decode(data["image/png"])
    links = _write_files("figures", about["name"], {".svg": svg, ".png": png, **about["files"]}, frame)
    for colour, variable in _TURNED.items():
        svg = svg.replace(colour, f"var({variable},{colour})")
    svg = svg.replace('style="fill: #ffffff"', 'style="fill: none"')  # the grounds, not letters on colours
    caption = f"<figcaption>{escape(about['caption'])}</figcaption>" if about["caption"] else ""
    alt = escape(visible(about["alt"]), quote=True)
    scroll = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Figure: '
        f'{escape(about["name"].replace("_", " "))}">'
    )
    shown = svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
    width = re.search(r'width="([0-9.]+)pt"', svg)
    kind = "drawn small" if width and float(width.group(1)) < _SMALL else "drawn"
    return f'<figure class="{kind}">{scroll}{shown}</div>{caption}{links}</figure>'


def _photographs(data: Any, about: Any, frame: Frame) -> str:
    text = data["text/html"]
    for number, jpeg in enumerate(frame.pictures(about["shots"])):
        mark = f'src="{placeholder(number)}"'
        if jpeg is None:
            text = re.sub(f"<img {mark}[^>]*>", '<div class="missing">cannot be shown here</div>', text)
        else:
            text = text.replace(mark, f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"')
    caption = f"<figcaption>{escape(about['caption'])}</figcaption>" if about["caption"] else ""
    return f"<figure>{text}{caption}</figure>"


def _text(data: Any, about: Any, frame: Frame) -> str:
    """Prose made from numbers: Markdown, with its files beside it."""
    return markdown_to_html(data["text/markdown"]) + _write_files(
        "text", about["name"], about["files"], frame
    )


def _write_files(kind: str, name: str, files: Mapping[str, str | bytes], frame: Frame) -> str:
    links = []
    for ending, content in files.items():
        path = frame.folder / kind / f"{re.sub('[^A-Za-z0-9_.+-]', '-', name)}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
        words = {
            ".csv": "CSV",
            ".tex": "LaTeX",
            ".md": "Markdown",
            ".svg": "SVG",
            ".png": "PNG",
            ".bib": "BibTeX",
        }
        links.append(f'<a href="{kind}/{path.name}">{words.get(ending, ending)}</a>')
    return f'<p class="files">{" ".join(links)}</p>' if links else ""


class _Renderer(IPythonRenderer):
    """nbconvert's own, but HTML in the Markdown is text, and no address runs a program."""

    def __init__(self) -> None:
        super().__init__(escape=False, allow_harmful_protocols=False)

    def inline_html(self, html: str) -> str:
        """The tag as text."""
        return escape(html)

    def block_html(self, html: str) -> str:
        """The block as text."""
        return f"<p>{escape(html)}</p>\n"


def markdown_to_html(source: str) -> str:
    """Every Markdown cell and output goes through here."""
    text = str(MarkdownWithMath(renderer=_Renderer()).render(source))
    text = re.sub(r'<a class="anchor-link".*?</a>', "", text)  # each heading's link to itself
    text = re.sub(r'(<h[1-6]) id="[^"]*"', r"\1", text)
    return text.replace(
        "<table>", '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>'
    ).replace("</table>", "</table></div>")


def write(path: Path, content: str | bytes) -> None:
    """Write a file, complete or not at all."""
    with whole_file(path) as partial:
        if isinstance(content, bytes):
            partial.write_bytes(content)
        else:
            partial.write_text(content, encoding="utf-8", errors="backslashreplace")
