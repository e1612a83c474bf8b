"""The runner is stricter than papermill, and the notebooks keep to their rules."""

import ast
import json
import os
import re
import shutil

import nbformat
import pytest
from nbclient import NotebookClient

from analysis.report.needs import NEEDS
from analysis.report.study import NothingToShowError
from analysis.results.methods import REPORT_VARIABLE
from notebooks.pages import spoken_cells
from notebooks.run import FOLDER, ReportError, execute, known_parameters, report_notebooks, run_report

NAMES = {"dataset", "dataset_dir", "images_dir", "report_dir", "backbones", "seed", "n_boot"}


def make_notebook(path, *sources, parameters="n = 1"):
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [nbformat.v4.new_markdown_cell("# A title\n\nWhat it *says*."), first]
    notebook = nbformat.v4.new_notebook(cells=cells + [nbformat.v4.new_code_cell(s) for s in sources])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


def test_an_unknown_parameter_is_an_error(tmp_path):
    path = make_notebook(tmp_path / "a.ipynb", "n")
    with pytest.raises(ReportError, match=r"a.ipynb has no parameters \['m'\]; its parameters are \['n'\]"):
        execute(path, tmp_path / "out.ipynb", {"m": 2})


def test_a_notebook_without_parameters_is_an_error():
    with pytest.raises(ReportError, match="no cell tagged 'parameters'"):
        known_parameters(nbformat.v4.new_notebook(), "x.ipynb")


def test_a_section_that_shows_nothing_has_no_prose_on_the_page():
    prose, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    shown = [nbformat.v4.new_output("stream", text="0.7")]
    silent, spoken = prose("## What the dots mean"), prose("## Figure 2")
    title, closing = prose("# The title"), prose("## What this says")
    cells = [title, code("import x"), silent, code(""), code("for n in []: plot(n)")]
    cells += [spoken, code("quiet()"), code("plot()", outputs=shown), closing]
    assert [c for c in cells if c not in spoken_cells(cells)] == [silent]


@pytest.mark.notebook
def test_a_failing_cell_fails_with_its_traceback(tmp_path):
    path = make_notebook(tmp_path / "a.ipynb", "1 / 0")
    with pytest.raises(ReportError, match="ZeroDivisionError(.|\n)*1 / 0"):
        execute(path, tmp_path / "out.ipynb", {"n": 2})


@pytest.mark.notebook
def test_the_kernel_stands_where_the_notebooks_are_and_this_process_where_it_stood(tmp_path, monkeypatch):
    """The folder belongs to all threads of a process: two notebooks at once left it in the wrong place."""
    moved = []
    monkeypatch.setattr(os, "chdir", moved.append)
    path = make_notebook(tmp_path / "a.ipynb", "import os; print(os.getcwd())")
    executed = execute(path, tmp_path / "out.ipynb", {})
    assert executed.cells[-1].outputs[0].text.strip() == str(FOLDER)
    assert set(moved) <= {os.getcwd()}


@pytest.mark.notebook
def test_pages_are_linked_with_their_files_and_stale_results_removed(tmp_path):
    """One that says it has nothing to show is no page; the others get tables, figures and their files."""
    results = tmp_path / "report" / "results"
    results.mkdir(parents=True)
    (results / "old.json").write_text("[]")
    shows = (
        "import matplotlib.pyplot as plt\n"
        "from analysis.figures.drawn import Drawn\n"
        "from analysis.results.printed import Number, Printed\n"
        "figure, axes = plt.subplots()\n"
        "display(Printed('t', ['a', 'b'], [['x', Number(.5, .4, .6)]], 'A caption'),\n"
        "        Drawn('f', figure, 'words for it', ('v',), [[1]]))"
    )
    path = make_notebook(tmp_path / "a.ipynb", shows, "print('value', n * 21)")
    says = "from analysis.report.study import NothingToShowError\nraise NothingToShowError('for want of x')"
    silent = make_notebook(tmp_path / "b.ipynb", says)
    index = run_report(tmp_path / "report", {"n": 2}, [path, silent])
    page = index.read_text(encoding="utf-8")
    assert index.name == "a.html" and "value 42" in page and "print(" not in page.split("<body", 1)[1]
    assert "A caption" in page and 'aria-label="words for it"' in page and "[.40, .60]" in page
    links = re.findall('href="([^"#]+)"', page)
    assert {"tables/t.csv", "tables/t.tex", "figures/f.svg", "figures/f.png", "figures/f.csv"} <= set(links)
    assert all((index.parent / link).exists() for link in links)  # so they do when the folder is moved
    assert not (results / "old.json").exists() and not (tmp_path / "report" / "b.html").exists()
    with pytest.raises(ReportError, match="for want of x"):
        run_report(tmp_path / "report", {"n": 2}, [silent])
    with pytest.raises(NothingToShowError, match="for want of x"):
        execute(silent, tmp_path / "out.ipynb", {"n": 2})


def test_no_kernel_is_started_for_a_page_that_has_nothing_to_say(rated_world, tmp_path, monkeypatch):
    """Rated, two backbones, no prompts and nothing fine-tuned, altered or shared."""
    started, told = [], []

    def begin(path, *_):
        started.append(path.stem)
        raise NothingToShowError("not executed here")

    monkeypatch.setattr("notebooks.run.execute", begin)
    where = {"dataset": "planted", "dataset_dir": str(rated_world), "images_dir": "", "report_dir": ""}
    with pytest.raises(ReportError) as raised:
        run_report(tmp_path, where, on_page=lambda *page: told.append(page))
    assert sorted(started) == ["00_data", "20_probing", "21_pretraining", "index"]
    assert [page[1:] for page in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for why in ("iaa embed --prompts", "iaa finetune", "iaa style", "no other rated", "single people's"):
        assert why in str(raised.value)
    assert set(NEEDS) < {path.stem for path in report_notebooks()}


@pytest.mark.notebook
def test_only_the_runner_writes_a_reports_results(tmp_path):
    """A saved page that is copied and executed elsewhere has the report's parameters and leaves it alone."""
    report = tmp_path / "report"
    source = (
        "from pathlib import Path\nfrom analysis.results.methods import is_report_run, write_results\n"
        "if is_report_run(report_dir):\n    write_results(Path(report_dir) / 'results' / 'a.json', [])\n"
        "print('kept', is_report_run(report_dir))"
    )
    path = make_notebook(tmp_path / "a.ipynb", source, parameters="report_dir = ''")
    page = run_report(report, {"report_dir": str(report)}, [path]).read_text()
    assert "kept True" in page
    kept = report / "results" / "a.json"
    kept.write_text("what the report found")
    copy = tmp_path / "elsewhere" / "a.ipynb"
    copy.parent.mkdir()
    shutil.copy(report / "notebooks" / "a.ipynb", copy)
    assert str(report) in copy.read_text()
    notebook = nbformat.read(copy, as_version=4)
    resources = {"metadata": {"path": str(copy.parent)}}
    NotebookClient(notebook, kernel_name="python3", resources=resources).execute()
    assert "kept False" in str(notebook.cells) and kept.read_text() == "what the report found"
    assert REPORT_VARIABLE not in os.environ


@pytest.mark.slow
@pytest.mark.notebook
def test_the_notebook_that_explores_shows_a_photograph_its_votes_and_neighbours(rated_world, tmp_path):
    where = {"dataset": "planted", "dataset_dir": str(rated_world), "images_dir": str(tmp_path)}
    notebook = execute(FOLDER / "explore.ipynb", tmp_path / "out.ipynb", where | {"report_dir": ""})
    (state,) = notebook.metadata["widgets"].values()
    models = list(state["state"].values())
    (choice,) = [m["state"] for m in models if m["model_name"] == "ComboboxModel"]
    assert choice["value"] == "photo0000" and len(choice["options"]) == 700
    (shown,) = [m["state"]["outputs"] for m in models if m["model_name"] == "OutputModel"]
    votes, *near = (output["data"]["text/html"] for output in shown)
    assert "photo0000: mean vote" in votes and votes.count("<tr>") == 11
    assert len(near) == 2 and all(grid.count("cosine") == 7 and "this one" in grid for grid in near)


@pytest.mark.parametrize("path", report_notebooks(), ids=lambda p: p.stem)
def test_cells_are_short(path):
    """What they call returns tables and figures; the reader sees prose, a call, and what came of it."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 14, cell.source


@pytest.mark.parametrize("path", report_notebooks(), ids=lambda p: p.stem)
def test_notebooks_write_only_where_the_report_is_being_made(path):
    """Every call of a function that writes stands below `is_report_run(report_dir)`."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        guarded = [
            node
            for node in ast.walk(tree)
            if (isinstance(node, ast.If) and ast.unparse(node.test) == "is_report_run(report_dir)")
            or (isinstance(node, ast.For) and "if is_report_run(report_dir) else" in ast.unparse(node.iter))
        ]
        allowed = {id(inner) for node in guarded for part in node.body for inner in ast.walk(part)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and re.match(r"write|save|to_", name := ast.unparse(node.func)):
                assert name == "to_markdown" or id(node) in allowed, ast.unparse(node)


@pytest.mark.parametrize("path", report_notebooks(), ids=lambda p: p.stem)
def test_notebooks_keep_to_their_rules(path):
    """A parameters cell, no def or class, store and analysis only, no outputs committed."""
    notebook = nbformat.read(path, as_version=4)
    assert known_parameters(notebook, path.name) == NAMES
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert all("id" in cell for cell in raw["cells"])
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert not cell.outputs and cell.execution_count is None
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef), cell.source
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert module.split(".")[0] not in {"embed", "finetune", "iaa", "torch", "h5py"}, cell.source
