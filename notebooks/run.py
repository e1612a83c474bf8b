"""The strict runner: executes the report's notebooks with papermill and writes one linked set of pages.

Stricter than papermill alone: an unknown parameter is an error, a failing cell fails the run with its
traceback, and a notebook that was not executed to its end is never published.
"""

import ast
import html
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from analysis.results.methods import REPORT_VARIABLE
from store.durable import whole_file
from store.json_files import read_json
from store.raters import FILE_NAME as RATERS_FILE

FOLDER = Path(__file__).resolve().parent
SYNTHETIC = (
    "This data set is a synthetic world, rendered and rated by a program. It shows that the machinery works; "
    "it is no evidence for or against anything the paper says."
)

OF_RATERS = ("50_taste",)
"""Pages for data sets with scores of single people."""

#: Pages show pictures and styles that they hold themselves; nothing runs, nothing is fetched or sent.
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'\">"
)


class ReportError(Exception):
    """The report could not be made; the text says which notebook and why."""


@dataclass(frozen=True)
class Page:
    """One notebook of the report, executed."""

    stem: str
    title: str
    summary: str
    seconds: float


def report_notebooks() -> list[Path]:
    """The notebooks of the report in reading order: those whose names start with a number."""
    return sorted(p for p in FOLDER.glob("[0-9]*.ipynb"))


def known_parameters(notebook: Any, name: str) -> set[str]:
    """Names assigned in the cell tagged `parameters`. Raises ReportError if there is no such cell."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            targets = [n.targets for n in ast.parse(cell.source).body if isinstance(n, ast.Assign)]
            return {t.id for group in targets for t in group if isinstance(t, ast.Name)}
    raise ReportError(f"{name} has no cell tagged 'parameters'")


def execute(path: Path, output: Path, parameters: Mapping[str, Any], progress: bool = False) -> Any:
    """The executed notebook; it is also written to `output`.

    Raises ReportError for unknown parameters, a failing cell (with its traceback), or an unfinished run.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    known = known_parameters(notebook, path.name)
    unknown = set(parameters) - known
    if unknown:
        raise ReportError(
            f"{path.name} has no parameters {sorted(unknown)}; its parameters are {sorted(known)}"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _report_run(parameters.get("report_dir")):
            executed = papermill.execute_notebook(
                str(path),
                str(output),
                parameters=dict(parameters),
                kernel_name="python3",
                cwd=str(FOLDER),
                progress_bar=progress,
                log_output=False,
                extra_arguments=["--log-level=CRITICAL"],  # the kernel's notes on its own transport
            )
    except papermill.PapermillExecutionError as error:
        traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
        raise ReportError(
            f"{path.name} failed in cell {error.exec_count}: {error.ename}: {error.evalue}\n{traceback}\n"
            f"The notebook up to there: {output}"
        ) from error
    for number, cell in enumerate(executed.cells):
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            raise ReportError(f"{path.name}: cell {number} was not executed; the run is incomplete")
    return executed


@contextmanager
def _report_run(report_dir: str | None) -> Iterator[None]:
    """Inside, kernels that start may write the results of this report (`results.methods.is_report_run`)."""
    before = os.environ.get(REPORT_VARIABLE)
    os.environ[REPORT_VARIABLE] = report_dir or ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[REPORT_VARIABLE]
        else:
            os.environ[REPORT_VARIABLE] = before


def run_report(
    report_dir: Path,
    parameters: Mapping[str, Any],
    notebooks: Sequence[Path] | None = None,
    on_page: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Execute the notebooks, write their pages and an index; returns the index page.

    `on_page(name, number, total)` is called before each notebook. Old results are removed first, so that no
    page can show numbers of an earlier run.
    """
    logging.getLogger("traitlets").setLevel(logging.ERROR)  # nbconvert's wish for texts beside figures
    notebooks = list(notebooks or report_notebooks())
    if not (Path(parameters.get("dataset_dir", "")) / "derived" / RATERS_FILE).exists():
        notebooks = [path for path in notebooks if path.stem not in OF_RATERS]
    results = report_dir / "results"
    for stale in [*results.glob("*.json"), *results.glob("*.npz"), *report_dir.glob("*.html")]:
        stale.unlink()
    results.mkdir(parents=True, exist_ok=True)
    pages: list[Page] = []
    executed: list[tuple[Page, Any]] = []
    for number, path in enumerate(notebooks, start=1):
        if on_page is not None:
            on_page(path.stem, number, len(notebooks))
        started = time.perf_counter()
        notebook = execute(path, report_dir / "notebooks" / path.name, parameters)
        title, summary = _heading(notebook, path.stem)
        pages.append(Page(path.stem, title, summary, time.perf_counter() - started))
        executed.append((pages[-1], notebook))
    for page, notebook in executed:
        _write(report_dir / f"{page.stem}.html", _page_html(page, pages, notebook))
    index = report_dir / "index.html"
    _write(index, _index_html(pages, parameters, results))
    return index


def _heading(notebook: Any, stem: str) -> tuple[str, str]:
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


def _markdown_to_html(source: str) -> str:
    """Every Markdown cell and output goes through here."""
    return str(MarkdownWithMath(renderer=_Renderer()).render(source))


def _page_html(page: Page, pages: Sequence[Page], notebook: Any) -> str:
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        require_js_url="",
        mathjax_url="",
        jquery_url="",
    )
    exporter.register_filter("markdown2html", _markdown_to_html)  # type: ignore[no-untyped-call]
    notebook.metadata["title"] = page.title
    notebook.cells = spoken_cells(notebook.cells)
    body, _ = exporter.from_notebook_node(notebook)
    links = " ".join(
        f"<b>{html.escape(p.title)}</b>"
        if p == page
        else f'<a href="{p.stem}.html">{html.escape(p.title)}</a>'
        for p in pages
    )
    style = (
        "<style>nav.report{font:14px sans-serif;padding:10px 24px;border-bottom:1px solid #ccc;display:flex;"
        "gap:18px;flex-wrap:wrap}main{max-width:1100px;margin:auto}"
        # The second column of Table 1 may hold a command with a long backbone id.
        ".jp-RenderedHTMLCommon td:nth-child(2){overflow-wrap:anywhere;min-width:9em}"
        # On paper nothing scrolls: wide tables shrink, and neither rows nor pictures are cut in two.
        "@media print{nav.report{display:none}.jp-OutputArea-output,.jp-RenderedHTMLCommon"
        "{overflow:visible!important}.jp-RenderedHTMLCommon table{font-size:6.5pt!important}"
        ".jp-RenderedHTMLCommon table td,.jp-RenderedHTMLCommon table th{padding:1px 3px!important}"
        "tr,img{break-inside:avoid}}</style>"
    )
    nav = (
        f'{style}<nav class="report"><a href="index.html">Report</a> {links}'
        f' <a href="notebooks/{page.stem}.ipynb">this notebook, with code</a></nav>'
    )
    body = re.sub(r"(<body[^>]*>)", lambda match: match.group(1) + nav, body, count=1)
    body = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL)  # the template's own, of no use here
    return re.sub(r"(<head[^>]*>)", lambda match: match.group(1) + POLICY, body, count=1)


def _index_html(pages: Sequence[Page], parameters: Mapping[str, Any], results: Path) -> str:
    dataset = html.escape(str(parameters.get("dataset", "")))
    notice = f'<p class="notice">{SYNTHETIC}</p>' if dataset == "demo" else ""
    rows = "".join(
        f'<li><a href="{p.stem}.html">{html.escape(p.title)}</a> <span>{p.seconds:.0f} s</span>'
        f"<p>{html.escape(p.summary)}</p></li>"
        for p in pages
    )
    return f"""<!doctype html><html lang="en"><head>{POLICY}<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Report: {dataset}</title><style>
body{{font:16px/1.5 sans-serif;max-width:1060px;margin:3em auto;padding:0 1em;color:#222}}
li{{margin:.8em 0}} li p{{margin:.1em 0;color:#555}} span{{color:#888;font-size:85%}}
table{{border-collapse:collapse;font-size:90%}} td,th{{padding:.25em .6em;border-bottom:1px solid #ddd;
text-align:right;white-space:nowrap}} td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){{
text-align:left;white-space:normal}} svg{{vertical-align:middle}}
.notice{{background:#fff4d6;border-left:4px solid #e0a800;padding:.6em 1em}}</style></head><body>
<h1>How photographs look to people: {dataset}</h1>{notice}
<p>Every number below came from images that went through a frozen backbone into the store, and out of the
store through the analysis. Intervals are 95 % by bootstrap over test images.</p>
{_summary_table(results)}<ul>{rows}</ul></body></html>"""


def _summary_table(results: Path) -> str:
    rows: dict[tuple[str, ...], str] = {}
    for file in sorted(results.glob("*.json")):
        for row in read_json(file, "Make the report again: iaa report")["results"]:
            named = (row["method"], f"{row['backbone']} {row['output']}".strip())
            cells = [html.escape(text) for text in named]
            cells += [_interval(row.get(name)) for name in ("accuracy", "srcc", "plcc")]
            cells.append(_whisker(row.get("srcc")))
            rows[(row["key"], row["backbone"], row["output"], row["method"])] = "".join(
                f"<td>{cell}</td>" for cell in cells
            )
    if not rows:
        return ""
    columns = ("method", "backbone", "accuracy", "SRCC", "PLCC", "SRCC, 0 to 1")
    head = "".join(f"<th>{name}</th>" for name in columns)
    ordered = sorted(rows, key=lambda key: key[0] != "majority")  # what there is to beat stands first
    body = "".join(f"<tr>{rows[key]}</tr>" for key in ordered)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _interval(metric: Mapping[str, float] | None) -> str:
    if not metric:
        return ""
    value, low, high = metric["value"], metric.get("low"), metric.get("high")
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} <span>[{low:.3f}, {high:.3f}]</span>"


def _whisker(metric: Mapping[str, float] | None) -> str:
    """A value from 0 to 1 as a dot on a scale, its interval as a line."""
    if not metric or metric.get("value") is None:
        return ""
    ends = [metric[name] if metric.get(name) is not None else metric["value"] for name in ("low", "high")]
    low, high, value = (5 + 150 * min(max(v, 0.0), 1.0) for v in (*ends, metric["value"]))
    return (
        '<svg width="160" height="12"><path d="M5 6H155" stroke="#e4e4e4"/>'
        f'<path d="M{low:.1f} 6H{high:.1f}" stroke="#4c72b0" stroke-width="3"/>'
        f'<circle cx="{value:.1f}" cy="6" r="4" fill="#4c72b0"/></svg>'
    )


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
