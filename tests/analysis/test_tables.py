"""Tables: nothing published that is not known, ours beside it, missing ones with their command; the pages."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from analysis import tables
from analysis.heads import head_of, save_head
from analysis.probes import fit_probes
from analysis.results import MethodResult, Metric, read_results
from store import open_features, open_targets, write_targets

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def a_result(key: str, backbone: str, output: str, accuracy: Metric, **detail: Any) -> MethodResult:
    return MethodResult(
        key, "linear probe, OLS", backbone, output, "ava", "paper", 10, 5, 0, accuracy, detail=detail
    )


def row(rows: list[tables.Row], start: str) -> tables.Row:
    return next(r for r in rows if r.label.startswith(start))


def test_published_values_are_those_of_the_design_and_no_others() -> None:
    known = {r.label: dict(r.values) for r in (*tables.TABLE_1, *tables.TABLE_2) if r.values}
    assert known == {
        "majority": {"accuracy": 0.703},
        "CLIP, fixed prompts": {"accuracy": 0.7253, "recall_low": 0.3182, "recall_high": 0.8976},
        "CLIP, linear probe": {"accuracy": 0.7933, "srcc": 0.6738, "plcc": 0.6820},
    }


def test_ours_stands_beside_the_published_value_with_difference_and_coverage() -> None:
    result = a_result("probe.ols", "vit_b32.openai", "pre_projection", Metric(0.79, 0.785, 0.795))
    rows = tables.compare(tables.TABLE_1, [result])
    found = row(rows, "CLIP, linear probe")
    assert found.label == "CLIP, linear probe" and found.result is result
    cell = found.cells["accuracy"]
    assert cell.difference == pytest.approx(-0.0033) and cell.covers is True
    assert found.cells["srcc"].covers is None
    narrow = replace(result, accuracy=Metric(0.79, 0.789, 0.791))
    assert row(tables.compare(tables.TABLE_1, [narrow]), "CLIP, linear").cells["accuracy"].covers is False


@pytest.mark.parametrize(
    "other",
    [
        a_result("probe.ols", "vit_b32.openai", "embedding", Metric(0.79)),
        a_result("probe.ols", "vit_b32.openai", "pre_projection", Metric(0.79), unit_norm=True),
        a_result("probe.ridge", "vit_b32.openai", "pre_projection", Metric(0.79)),
        a_result("probe.ols", "vit_l14.openai", "pre_projection", Metric(0.79)),
    ],
)
def test_another_probe_than_the_papers_does_not_pass_for_it(other: MethodResult) -> None:
    rows = tables.compare(tables.TABLE_1, [other])
    found = row(rows, "CLIP, linear probe")
    assert found.result is None
    assert found.missing == "make it: iaa embed --dataset ava --backbone vit_b32.openai"
    assert rows[-1].result is other


def test_a_stand_in_says_so_and_unknown_values_say_so() -> None:
    demo = a_result("probe.ols", "demo_clip", "pre_projection", Metric(0.8, 0.7, 0.9))
    rows = tables.compare(tables.TABLE_1, [demo])
    assert row(rows, "CLIP, linear probe").label.endswith("[demo_clip in its place]")
    headings, cells = tables.comparison_cells(rows)
    lines = {line[0]: dict(zip(headings, line, strict=True)) for line in cells}
    assert lines["NIMA"]["published"] == "not known to us"
    assert lines["ViT (ImageNet-21k), linear probe"]["published"].startswith("not known to us (published as")
    assert lines["CLIP, fixed prompts"]["split, n test"].startswith("make it: iaa embed-prompts")
    assert "accuracy +0.0067" in lines["CLIP, linear probe [demo_clip in its place]"]["ours - published"]


def test_markdown_latex_and_csv_hold_the_same_cells(tmp_path: Path) -> None:
    headings, table = ["a|b", "share"], [["x_1 & {y}", "70 %"], ["", "#2"]]
    markdown, latex, text = (tmp_path / f"t{suffix}" for suffix in (".md", ".tex", ".csv"))
    assert tables.write_table(tmp_path / "t", headings, table, "A_caption") == [markdown, latex, text]
    assert markdown.read_text().splitlines()[0] == "| a\\|b | share |"
    assert "x\\_1 \\& \\{y\\} & 70 \\% \\\\" in latex.read_text()
    assert "\\toprule" in latex.read_text() and "\\caption{A\\_caption}" in latex.read_text()
    assert list(csv.reader(io.StringIO(text.read_text()))) == [headings, *table]


def test_csv_has_one_number_per_cell_with_difference_and_coverage(tmp_path: Path) -> None:
    result = a_result("probe.ols", "vit_b32.openai", "pre_projection", Metric(0.79, 0.785, 0.795))
    rows = tables.compare(tables.TABLE_1, [result])
    written = tables.write_table(tmp_path / "t", ["a"], [["b"]], values=tables.comparison_values(rows))
    lines = list(csv.DictReader(io.StringIO(written[2].read_text())))
    assert len(lines) == 5 * len(tables.TABLE_1)
    of = {(line["method"], line["metric"]): line for line in lines}
    ours = of["CLIP, linear probe", "accuracy"]
    assert (ours["ours"], ours["low"], ours["high"]) == ("0.79", "0.785", "0.795")
    assert ours["published"] == "0.7933"
    assert float(ours["difference"]) == pytest.approx(-0.0033) and ours["covers"] == "true"
    assert ours["split"] == "paper" and ours["missing"] == ""
    missing = of["CLIP, fixed prompts", "recall_low"]
    assert (missing["ours"], missing["published"], missing["covers"]) == ("", "0.3182", "")
    assert missing["missing"].startswith("make it: iaa embed-prompts")
    assert of["MUSIQ", "srcc"]["published"] == ""


def test_values_are_written_with_interval_or_named_undefined() -> None:
    assert tables.format_metric(Metric(12.34, 10.0, 15.0), 1) == "12.3 [10.0, 15.0]"
    assert tables.format_metric(Metric(0.5, 0.4, 0.6)) == "0.5000 [0.4000, 0.6000]"
    assert tables.format_metric(Metric(0.5)) == "0.5000"
    assert tables.format_metric(Metric(float("nan"))) == "undefined"
    assert tables.format_metric(None) == ""


def run_cells(name: str, **parameters: Any) -> str:
    """The Markdown a notebook shows, its code cells executed here with other parameters."""
    import IPython.display
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    shown: list[str] = []
    notebook = json.loads((NOTEBOOKS / name).read_text())
    space: dict[str, Any] = {}
    original = IPython.display.display
    IPython.display.display = lambda *items: shown.extend(str(getattr(i, "data", i)) for i in items)
    try:
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert not cell["outputs"] and cell["execution_count"] is None
                exec(compile("".join(cell["source"]), f"{name}:{cell['id']}", "exec"), space)
                if "parameters" in cell["metadata"].get("tags", []):
                    assert set(parameters) <= set(space)
                    space |= parameters
                plt.close("all")
    finally:
        IPython.display.display = original
    return "\n\n".join(shown)


@pytest.mark.notebook
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("kind", ["votes", "scores", "one backbone", "unrated"])
def test_pages_run_for_votes_scores_and_no_ratings(rated_world: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "data"
    (folder / "features").mkdir(parents=True)
    for file in (rated_world / "features").glob("*.h5"):
        (folder / "features" / file.name).symlink_to(file)
    targets = open_targets(rated_world / "targets.h5")
    if kind in ("scores", "unrated"):
        scores = np.linspace(1, 9, targets.n_images) if kind == "scores" else None
        targets = replace(targets, votes=None, levels=None, scores=scores)
    write_targets(folder / "targets.h5", targets, {}, {})
    report = tmp_path / "report"
    parameters = {
        "dataset": "planted",
        "dataset_dir": str(folder),
        "images_dir": str(folder),
        "report_dir": str(report),
        "backbones": ["sharp"] if kind == "one backbone" else [],
        "n_boot": 20,
    }
    if kind == "one backbone":
        with open_features(folder / "features" / "sharp.h5") as features:
            kept = head_of(fit := fit_probes(features, targets, "pooled"), fit.ridge)
        save_head(tmp_path / "heads" / "kept", kept)
        other = replace(kept, about=kept.about | {"split": "another"})
        save_head(tmp_path / "heads" / "elsewhere", other)
    probing = run_cells("20_probing.ipynb", **parameters)
    pretraining = run_cells("21_pretraining.ipynb", **parameters)
    overview = run_cells("90_tables.ipynb", **parameters)
    assert "A synthetic world" not in overview
    if kind == "unrated":
        assert "no ratings" in probing and "There is nothing to fit" in pretraining
        assert "No results yet" in overview
        return
    keys = {result.key for result in read_results([report / "results" / "20_probing.json"])}
    assert keys >= {"majority", "probe.ols", "probe.ridge"}
    assert ("probe.distribution" in keys) == (kind != "scores")
    assert "failed rows left out: 1 and 1" in probing
    assert "sharp | pooled" in pretraining and "Differences from them say nothing" in overview
    assert (report / "tables" / "table_1.tex").exists()
    assert "| majority | linear probe, ridge (sharp/pooled) |" in overview
    if kind == "one backbone":
        assert "Only one backbone here" in pretraining and "dull" not in probing + pretraining
        assert "| head kept | sharp/pooled | planted, split random |" in probing
        assert "`elsewhere` was fitted on another split of planted" in probing
    else:
        assert "sharp + dull" in pretraining or "dull + sharp" in pretraining
        assert "No head for these backbones" in probing


def test_the_demo_says_that_it_is_no_evidence(tmp_path: Path) -> None:
    overview = run_cells("90_tables.ipynb", report_dir=str(tmp_path))
    assert "no evidence for or against anything the paper says" in overview
    assert "Differences from them mean nothing here" in overview
