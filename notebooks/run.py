"""The strict runner: executes the report's notebooks with papermill and writes one linked set of pages.

Stricter than papermill alone: an unknown parameter is an error, a failing cell fails the run with its
traceback, and a notebook that was not executed to its end is never published. A notebook that has
nothing to say about a data set says so (`NothingToShowError`) and is no page; where that is known beforehand
(`analysis.report.needs`), no kernel is started for it. Notebooks run side by side; the summary
(`index.ipynb`) runs last, on what the others found.
"""

import ast
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill

from analysis.report.needs import NEEDS, need
from analysis.report.study import NothingToShowError, open_study
from analysis.results.methods import REPORT_VARIABLE
from notebooks.pages import Frame, Page, Pictures, heading, write_page
from store.system import n_cores

FOLDER = Path(__file__).resolve().parent
SUMMARY = "index"
_SIDE_BY_SIDE = 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ReportError(Exception):
    """The report could not be made; the text says which notebook and why."""


def report_notebooks() -> list[Path]:
    """The report's notebooks in reading order: the summary, then those whose names start with a number."""
    return [FOLDER / f"{SUMMARY}.ipynb", *sorted(FOLDER.glob("[0-9]*.ipynb"))]


def known_parameters(notebook: Any, name: str) -> set[str]:
    """Names assigned in the cell tagged `parameters`. Raises ReportError if there is no such cell."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            targets = [n.targets for n in ast.parse(cell.source).body if isinstance(n, ast.Assign)]
            return {t.id for group in targets for t in group if isinstance(t, ast.Name)}
    raise ReportError(f"{name} has no cell tagged 'parameters'")


def execute(path: Path, output: Path, parameters: Mapping[str, Any], progress: bool = False) -> Any:
    """The executed notebook; it is also written to `output`.

    Raises NothingToShowError where the notebook says that, ReportError for unknown parameters, a failing cell
    (with its traceback), or an unfinished run.
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
                # Of the kernel alone: papermill's own `cwd` moves the whole process, and of two threads that
                # do so one moves it back to where the other had put it.
                resources={"metadata": {"path": str(FOLDER)}},
                progress_bar=progress,
                log_output=False,
                extra_arguments=["--log-level=CRITICAL"],  # the kernel's notes on its own transport
            )
    except papermill.PapermillExecutionError as error:
        if error.ename == NothingToShowError.__name__:
            raise NothingToShowError(error.evalue) from None
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
    """Inside, kernels that start may write the results of this report (`results.methods.is_report_run`), and
    share the cores."""
    before = {name: os.environ.get(name) for name in (REPORT_VARIABLE, *_THREADS)}
    os.environ[REPORT_VARIABLE] = report_dir or ""
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _silent(notebooks: Sequence[Path], parameters: Mapping[str, Any]) -> dict[Path, str]:
    """The notebooks that would have nothing to say, and why."""
    asked = [path for path in notebooks if path.parent == FOLDER and path.stem in NEEDS]
    found = {}
    if asked:
        with closing(open_study(**parameters)) as study:
            for path in asked:
                try:
                    need(study, path.stem)
                except NothingToShowError as reason:
                    found[path] = str(reason)
    return found


def _absent(path: Path, why: str) -> tuple[str, str]:
    """The title of a notebook that is no page, and why it is none."""
    title, _ = heading(nbformat.read(path, as_version=4), path.stem)  # type: ignore[no-untyped-call]
    return title.partition(":")[0], why


def run_report(
    report_dir: Path,
    parameters: Mapping[str, Any],
    notebooks: Sequence[Path] | None = None,
    on_page: Callable[[str, int, int], None] | None = None,
    pictures: Pictures | None = None,
) -> Path:
    """Execute the notebooks and write their pages; returns the first, the summary where it is among them.

    `on_page(name, number, total)` is called as each notebook begins; `pictures` gives the photographs that
    pages show. Old results are removed first, so that no page can show numbers of an earlier run.
    """
    logging.getLogger("traitlets").setLevel(logging.ERROR)  # nbconvert's wish for texts beside figures
    notebooks = list(notebooks or report_notebooks())
    results = report_dir / "results"
    for stale in [*results.glob("*.json"), *results.glob("*.npz"), *report_dir.glob("*.html")]:
        stale.unlink()
    for folder in ("figures", "tables", "text", "notebooks"):
        shutil.rmtree(report_dir / folder, ignore_errors=True)
    results.mkdir(parents=True, exist_ok=True)
    silent = _silent(notebooks, parameters)
    begun = 0

    def run(path: Path) -> tuple[Page | tuple[str, str], Any]:
        nonlocal begun
        if path in silent:
            return _absent(path, silent[path]), None
        begun += 1
        if on_page is not None:
            on_page(path.stem, begun, len(notebooks) - len(silent))
        started = time.perf_counter()
        try:
            notebook = execute(path, report_dir / "notebooks" / path.name, parameters)
        except NothingToShowError as reason:
            (report_dir / "notebooks" / path.name).unlink(missing_ok=True)
            return _absent(path, str(reason)), None
        title, summary = heading(notebook, path.stem)
        return Page(path.stem, title, summary, time.perf_counter() - started), notebook

    with _report_run(parameters.get("report_dir")):
        at_once = max(1, min(_SIDE_BY_SIDE, n_cores(), len(notebooks)))
        for name in _THREADS if at_once > 1 else ():
            os.environ.setdefault(name, str(max(1, n_cores() // at_once)))
        first = [path for path in notebooks if path.stem != SUMMARY]
        with ThreadPoolExecutor(at_once) as pool:
            done = dict(zip(first, pool.map(run, first), strict=True))
        done |= {path: run(path) for path in notebooks if path.stem == SUMMARY}
    pages = [done[path] for path in notebooks]
    shown = [(page, notebook) for page, notebook in pages if isinstance(page, Page)]
    absent = [page for page, _ in pages if not isinstance(page, Page)]
    if not shown:
        raise ReportError(f"no page has anything to say: {absent}. Embed first: iaa embed")
    frame = Frame(
        str(parameters.get("dataset", "")), [page for page, _ in shown], absent, report_dir,
        pictures or (lambda shots: [None] * len(shots)),
    )  # fmt: skip
    written = [write_page(page, notebook, frame) for page, notebook in shown]
    return written[0]
