"""Hostile names in report and contact sheets: they reach the pages as text, and a browser runs none."""

import io
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.figures.probing import plot_distributions
from analysis.results.markup import literal, to_markdown, visible
from iaa.library.photographs import Thumbnail, encode_thumbnail
from iaa.library.sheets import page
from notebooks.pages import POLICY, SCRIPT, markdown_to_html
from notebooks.run import report_notebooks, run_report
from store import Targets, write_targets
from store.features import FEATURES_SCHEMA
from store.prompts import PROMPTS_SCHEMA
from store.sealed import write_sealed

RUNS = "document.documentElement.dataset.ran='{}'"
ELEMENTS = [
    f"<script>{RUNS.format('script')}</script>",
    f'<img src=x onerror="{RUNS.format("error")}">',
    f'"onerror="{RUNS.format("attribute")}" x="',
    f"</style><script>{RUNS.format('style')}</script>",
    f"</title></textarea><script>{RUNS.format('title')}</script>",
    f"]]><svg onload={RUNS.format('svg')}>",
    f'<iframe srcdoc="<script>parent.{RUNS.format("frame")}</script>">',
    f"<details open ontoggle={RUNS.format('toggle')}>",
    f"x\n\n<script>{RUNS.format('block')}</script>\n\n",
    '<meta http-equiv=refresh content="0;url=about:blank">',
]
LINKS = [
    f"[k](javascript:{RUNS.format('link')})",
    f"![k](javascript:{RUNS.format('image')})",
    f"<javascript:{RUNS.format('auto')}>",
    f"<a href=javascript:{RUNS.format('anchor')}>k</a>",
    "[k]: javascript:1",
]
MARKUP = [
    "&lt;b&gt; &amp; & <b>", "$\\frac{$ \\(x\\) $$", "a\u202egpj.exe\u2066", "`code` *bold* _i_ ~~s~~ | bar",
    "# head", "- item", "no UTF-8 \udcff", "\x1b[31mred", "back\\slash", "**", "`",
]  # fmt: skip
ALL = [*ELEMENTS, *LINKS, *MARKUP]


class Page(HTMLParser):
    """What is on a page: the words it shows, and whatever could run or be fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.risks, self.alts = "", [], []
        self.within_style = False
        self.feed(html.replace(f"<script>{SCRIPT}</script>", ""))

    def handle_starttag(self, tag, attrs):
        self.within_style = tag == "style"
        if tag in ("script", "iframe", "object", "embed", "base", "form", "details", "video"):
            self.risks.append(tag)
        for name, value in attrs:
            scheme = re.sub(r"[\x00-\x20]", "", value or "").lower()
            if name == "alt":
                self.alts.append(value)
            if name.startswith("on") or name == "srcdoc":
                self.risks.append(f"{tag} {name}={value}")
            if name in ("href", "src", "action", "content") and re.match(r"javascript:|https?:|0;", scheme):
                self.risks.append(f"{tag} {name}={value}")
            if tag == "img" and name == "src" and not scheme.startswith("data:image/"):
                self.risks.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag):
        self.within_style = False if tag == "style" else self.within_style

    def handle_data(self, data):
        self.text += "" if self.within_style else data


@pytest.mark.parametrize("text", ALL, ids=range(len(ALL)))
def test_foreign_text_is_shown_as_it_is_in_lines_and_in_cells(text):
    for html in (markdown_to_html(f"- {literal(text)}"), markdown_to_html(to_markdown(["a"], [[text]]))):
        shown = Page(html)
        assert shown.risks == []
        assert " ".join(visible(text).split()) in " ".join(shown.text.split())


@pytest.mark.parametrize("text", [*ELEMENTS, *LINKS])
def test_the_pages_own_way_to_html_runs_nothing_even_where_somebody_forgot(text):
    """Markdown in which a name was not made literal: it may look odd, but it is no element and no address."""
    for markdown in (text, f"| a |\n| --- |\n| {text} |"):
        assert [risk for risk in Page(markdown_to_html(markdown)).risks if "img" not in risk] == []


@pytest.fixture(scope="module")
def hostile_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rated data set whose ids, files, columns, categories, labels, contents, reasons are all hostile."""
    folder = tmp_path_factory.mktemp("data") / "planted"
    rng = np.random.default_rng(3)
    n, dim = 480, 12
    quality = rng.normal(size=n)
    vectors = (2 + rng.normal(size=(n, dim))).astype(np.float32)
    vectors[:, 0] += 2 * quality
    failed = np.arange(10)
    vectors[failed] = np.nan
    image_id = np.array([f"{ALL[i % len(ALL)]} {i}".replace("\n", " ") for i in range(n)])
    status = np.ones(n, np.uint8)
    status[failed] = 2
    write_sealed(
        folder / "features" / "toy.h5", FEATURES_SCHEMA, {
            "backbone": "toy", "preprocessing": ELEMENTS[0], "precision": LINKS[0], "weights_sha256": "`<i>",
        }, {}, {
            "image_id": image_id, "status": status, "failures/row": failed,
            "failures/reason": np.array([ALL[i] for i in failed]), "outputs/embedding": vectors,
        },
    )  # fmt: skip
    high, low = [*ELEMENTS[:4], LINKS[0]], [*ELEMENTS[5:8], LINKS[1], MARKUP[1]]
    for name, contents in (("paper_fixed", [""]), ("paper_context", ["dog", ELEMENTS[1], MARKUP[1]])):
        rows = [(label, c) for label in (*high, *low) for c in contents]
        polarity = np.array([1 if label in high else -1 for label, _ in rows], np.int8)
        text = rng.normal(size=(len(rows), dim)) + 3 * polarity[:, None] * np.eye(dim)[0]
        write_sealed(
            folder / "prompts" / name / "toy.h5", PROMPTS_SCHEMA, {"backbone": "toy", "prompt_set": name},
            {}, {
                "text": np.array([f"{label}{c}{i}" for i, (label, c) in enumerate(rows)]),
                "label": np.array([label for label, _ in rows]), "content": np.array([c for _, c in rows]),
                "template": np.array(["t"] * len(rows)), "polarity": polarity,
                "outputs/embedding": text.astype(np.float32),
            },
        )  # fmt: skip
    votes = np.stack([rng.multinomial(40, rng.dirichlet(np.ones(5) + np.eye(5)[2] * 9)) for _ in range(n)])
    votes[np.arange(n), np.clip(np.round(3 + quality), 1, 5).astype(int) - 1] += 60
    columns = {
        f"group <img src=x onerror={RUNS.format('column')}>{start}": np.array(
            [ALL[(start + i // 2 % 5) % len(ALL)] for i in range(n)]
        )
        for start in range(0, len(ALL), 5)
    }
    split = np.where(np.arange(n) % 2 == 0, "test", "train")
    targets = Targets(
        image_id=image_id, path=image_id, votes=votes, scores=None, levels=np.arange(1, 6), threshold=3.0,
        split=split, split_name=ELEMENTS[1], dataset=ELEMENTS[0], columns=columns,
    )  # fmt: skip
    write_targets(folder / "targets.h5", targets, {}, {})
    return folder


@pytest.fixture(scope="module")
def pages(hostile_world: Path) -> list[Path]:
    """The report of the hostile world, and a contact sheet full of such names."""
    report = hostile_world / "report"
    parameters = {
        "dataset": ELEMENTS[0], "dataset_dir": str(hostile_world), "images_dir": str(hostile_world),
        "report_dir": str(report), "backbones": [], "n_boot": 10,
    }  # fmt: skip
    chosen = [path for path in report_notebooks() if path.stem[:2] in ("00", "10", "in")]
    index = run_report(report, parameters, chosen)
    rows = [
        {"image_id": name, "file": f"{name}/{name}", "rank": i + 1, ELEMENTS[2]: 0.5, "percentile": 50.0}
        for i, name in enumerate(ALL)
    ]
    jpeg = encode_thumbnail(Image.new("RGB", (8, 6)))
    thumbnails = [Thumbnail(None if i % 2 else jpeg, name) for i, name in enumerate(ALL)]
    sections = [(ELEMENTS[4], rows)]
    text = "".join(page(ELEMENTS[4], [*ALL], sections, thumbnails, ELEMENTS[2]))
    (report / "sheet.html").write_text(text, encoding="utf-8", errors="backslashreplace")
    return [index, *sorted(report.glob("[0-9]*.html")), report / "sheet.html"]


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_figures_read_no_formulas_into_names() -> None:
    shares = np.full((len(ALL), 5), 0.2)
    figure = plot_distributions(np.arange(1, 6), shares, shares, ALL)
    figure.savefig(io.BytesIO())
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == [visible(text) for text in ALL]


@pytest.mark.timeout(900)
@pytest.mark.notebook
def test_hostile_names_reach_the_pages_as_text_and_nothing_else(pages: list[Path]) -> None:
    shown = {path.name: Page(path.read_text(encoding="utf-8")) for path in pages}
    assert {name: found.risks for name, found in shown.items() if found.risks} == {}
    words = {name: " ".join(found.text.split()) for name, found in shown.items()}
    for text in ALL:
        wanted = " ".join(visible(text).split())
        assert wanted in words["10_prompting.html"], text
    for text in ELEMENTS:
        assert " ".join(text.split()) in words["sheet.html"]
        assert " ".join(visible(text).split()) in words["00_data.html"]
    assert ELEMENTS[0] in words["index.html"] and ELEMENTS[1] in words["index.html"]
    assert all(POLICY in path.read_text(encoding="utf-8") for path in pages[:-1])


def find_browser() -> str:
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium here: install chromium, or name it in CHROMIUM=/path/to/chromium")
    return found


def dump(browser: str, path: Path, profile: Path) -> str:
    """The page as it stands in a real browser after everything in it had time to run."""
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={profile}", "--virtual-time-budget=3000",
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode("utf-8")


def what_ran(dom: str) -> str:
    found = re.search(r"<html[^>]*data-ran=\"([^\"]*)\"", dom)
    return found.group(1) if found else ""


@pytest.mark.timeout(900)
@pytest.mark.browser
@pytest.mark.notebook
def test_a_browser_runs_none_of_it(pages: list[Path], tmp_path: Path) -> None:
    browser = find_browser()
    for path in pages:
        text = path.read_text(encoding="utf-8")
        without = tmp_path / path.name  # the names alone must be harmless, without the page's own policy
        bare = re.sub(r"<meta\s+http-equiv=.Content-Security-Policy.[^>]*>", "", text)
        assert "Content-Security-Policy" not in bare
        without.write_text(bare, encoding="utf-8")
        for file in (path, without):
            dom = dump(browser, file, tmp_path / "profile")
            assert what_ran(dom) == "" and Page(dom).risks == [] and len(dom) > 0.5 * len(text), file


@pytest.mark.slow
@pytest.mark.browser
def test_the_browser_would_run_them_and_the_policy_stops_it(tmp_path: Path) -> None:
    """The control: raw, each element runs; under the report's policy, none does."""
    browser = find_browser()
    running = [ELEMENTS[0], ELEMENTS[1], ELEMENTS[3], ELEMENTS[5], ELEMENTS[6], ELEMENTS[7]]
    for number, text in enumerate(running):
        for policy in ("", POLICY):
            file = tmp_path / f"{number}.html"
            head = f"<head>{policy}<title>x</title></head>"
            file.write_text(f"<!doctype html><html>{head}<body>{text}</body></html>")
            assert bool(what_ran(dump(browser, file, tmp_path / "profile"))) == (not policy), (text, policy)
