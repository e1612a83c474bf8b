"""The report's pages in a real browser: for those who do not see, on a phone, in the dark, on paper."""

import base64
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

from analysis.figures.drawn import Drawn
from analysis.figures.photographs import PhotoGrid, Shot
from analysis.figures.style import styled
from analysis.results.printed import Code, Number, Printed
from analysis.results.prose import Prose
from notebooks.pages import Frame, Page, write_page
from notebooks.run import run_report
from store import open_targets, write_targets
from tests.web.browser.conftest import Open, attribute_is, comes_to, serious, sights

pytestmark = pytest.mark.browser

A4 = 794
"""Width of a sheet in pixels of CSS."""
MARGIN = 61
"""16 mm on either side, as the style says."""
WIDE = [f"a rather long heading {i}" for i in range(10)]


def shown(*things: Any) -> Any:
    """A code cell with what `display` gives."""
    outputs = []
    for thing in things:
        data, metadata = thing._repr_mimebundle_()
        data = {kind: plain(content) for kind, content in data.items()}
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata))
    return nbformat.v4.new_code_cell("display()", outputs=outputs)


def plain(content: Any) -> str:
    """Bytes as notebooks keep them."""
    if isinstance(content, bytes):
        return base64.b64encode(content).decode()
    return str(content)


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (60, 40), "teal").save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a report of two pages with everything that a page can hold, and one of next to nothing."""
    folder = tmp_path_factory.mktemp("report")
    number = Number(0.7, 0.65, 0.75, mark="best", note="1")
    rows = [["a method of several words", *[number] * 9, Code("0123456789ab")] for _ in range(8)]
    wide = Printed(
        "wide", ["method", *WIDE], rows, "A caption", ["One"] * 4 + ["Two"] * 4,
        [("", 1), ("over", 10)], ["A note"],
    )  # fmt: skip
    words = Printed("words", ["what", "why"], [["A sentence of some length " * 6, "because " * 30]] * 3)
    with styled():
        figure, axes = plt.subplots(figsize=(11, 4))
        axes.plot([0, 1], [0, 1], color="#0072b2")
        axes.set_title("A figure wider than the sheet")
    drawn = Drawn("figure", figure, "A line that rises", ("x",), [[1]], "Its caption")
    shots = [Shot(f"{i:03d}", f"{i}.jpg", ["score 0.1"], "right" if i % 2 else "wrong") for i in range(9)]
    grid = PhotoGrid("grid", shots, folder, "Photographs", 4)
    prose = Prose(
        "prose", "A paragraph with `code`.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |", {".bib": "@x{}"}
    )
    text = nbformat.v4.new_markdown_cell
    cells = [text("# Title: of a page\n\nThe lead, with *emphasis*.")]
    for part in range(4):
        cells += [
            text(f"## Section {part}\n\nWords."),
            shown(*[(wide, drawn), (words,), (drawn,), (drawn,)][part]),
        ]
    cells += [text("## Photographs"), shown(grid), text("## Words"), shown(prose)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    pages = [Page("index", "The summary: of all", "", 1.0), Page("10_title", "Title: of a page", "", 2.0)]
    made = Frame("demo", pages, [("Absent", "for a reason")], folder, lambda shots: [picture(), None] * 5)
    write_page(pages[0], notebook, made)
    write_page(pages[1], nbformat.v4.new_notebook(cells=cells[:2]), made)
    return folder


def pages_of(report: Path) -> list[str]:
    return [path.as_uri() for path in sorted(report.glob("*.html"))]


@sights(("dark", 390), ("light", 1440))
def test_nothing_serious_for_those_who_do_not_see(
    open_page: Open, report: Path, axe: str, scheme: str, width: int
) -> None:
    assert_pages_are_accessible(open_page, report, axe, scheme, width)


def assert_pages_are_accessible(open_page: Open, report: Path, axe: str, scheme: str, width: int) -> None:
    found = {}
    for address in pages_of(report):
        size = {"width": width, "height": 844}
        page = open_page(address, wait="main", viewport=size, color_scheme=scheme)
        found |= {(address.rpartition("/")[2], rule): nodes for rule, nodes in serious(page, axe).items()}
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        page.context.close()
    assert not found, "\n".join(f"{where}: {what}" for where, what in found.items())


def test_no_table_and_no_figure_is_wider_than_the_sheet(open_page: Open, report: Path) -> None:
    assert_pages_fit_paper(open_page, report)


def assert_pages_fit_paper(open_page: Open, report: Path) -> None:
    """Laid out as print is: what does not fit is cut off there, as paper does not scroll."""
    for address in pages_of(report):
        page = open_page(address, wait="main", viewport={"width": A4 - 2 * MARGIN, "height": 900})
        page.emulate_media(media="print")
        too_wide = page.evaluate(
            "Array.from(document.querySelectorAll('main table, main svg, main img, main pre'))"
            ".filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
            ".map(e => e.outerHTML.slice(0, 80) + Math.round(e.getBoundingClientRect().right))"
        )
        assert too_wide == [], address
        hidden = "nav, .files, footer a"
        assert not page.locator(hidden).filter(visible=True).count(), "what cannot be clicked on paper"
        page.context.close()


def test_a_click_sorts_a_table_and_keeps_its_groups(open_page: Open, tmp_path: Path) -> None:
    numbers = [0.3, -0.2, 0.11, 0.9]
    rows = [[name, Number(value)] for name, value in zip("abcd", numbers, strict=True)]
    table = Printed("t", ["method", "score"], rows, groups=["one", "one", "two", "two"])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T"), shown(table)])
    pages = [Page("index", "T", "", 1.0)]
    path = write_page(pages[0], notebook, Frame("x", pages, [], tmp_path, lambda shots: []))
    page = open_page(path.as_uri(), wait="table")
    names = "Array.from(document.querySelectorAll('tbody tr:not(.group) th'), e => e.textContent).join('')"
    comes_to(page, lambda: page.evaluate(names), "abcd")
    page.get_by_role("button", name="score").click()
    comes_to(page, lambda: page.evaluate(names), "abdc")
    page.keyboard.press("Enter")
    comes_to(page, lambda: page.evaluate(names), "bacd")
    attribute_is(page, "th[aria-sort]", "aria-sort", "ascending")


@pytest.fixture(scope="module")
def reports(rated_world: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The real pages of a small rated data set, and of the same without its ratings."""
    root = tmp_path_factory.mktemp("both")
    made = []
    for name in ("rated", "unrated"):
        folder = root / name
        shutil.copytree(rated_world, folder)
        if name == "unrated":
            targets = open_targets(folder / "targets.h5")
            (folder / "targets.h5").unlink()
            nothing = np.full(targets.n_images, "")
            bare = replace(targets, votes=None, levels=None, split=nothing, split_name="none", dataset=name)
            write_targets(folder / "targets.h5", bare, {}, {})
        parameters = {
            "dataset": name, "dataset_dir": str(folder), "images_dir": str(folder / "images"),
            "report_dir": str(folder / "report"), "backbones": ["dull", "sharp"], "seed": 0, "n_boot": 100,
        }  # fmt: skip
        made.append(run_report(folder / "report", parameters).parent)
    return made


@pytest.mark.slow
@pytest.mark.notebook
def test_the_real_pages_are_accessible_and_fit_paper(open_page: Open, reports: list[Path], axe: str) -> None:
    """Light and dark, screen, phone and paper."""
    rated, unrated = ({path.stem for path in report.glob("*.html")} for report in reports)
    assert {"index", "00_data", "20_probing", "21_pretraining"} <= rated and "05_photographs" not in rated
    assert {"index", "00_data", "05_photographs"} == unrated
    for report in reports:
        for scheme, width in (("light", 1300), ("dark", 1300), ("light", 390), ("dark", 390)):
            assert_pages_are_accessible(open_page, report, axe, scheme, width)
        assert_pages_fit_paper(open_page, report)
