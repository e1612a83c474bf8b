"""Tables: nothing published that is not known, ours beside it, missing ones with their command; the pages."""

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from analysis.probing.heads import head_of, save_head
from analysis.probing.probes import fit_probes
from analysis.results import published, tables
from analysis.results.methods import NOT_KEPT, REPORT_VARIABLE, MethodResult, Metric, read_results
from store import open_features, open_targets, write_targets

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def a_result(key: str, backbone: str, output: str, accuracy: Metric, **detail: Any) -> MethodResult:
    return MethodResult(
        key, "linear probe, OLS", backbone, output, "ava", "paper", 10, 5, 0, accuracy, detail=detail
    )


def row(rows: list[tables.Row], start: str) -> tables.Row:
    return next(r for r in rows if r.label.startswith(start))


def test_the_paper_s_own_values_are_those_of_its_text_and_notebooks_and_no_others() -> None:
    rows = (*published.TABLE_1, *published.TABLE_2)
    own = {r.label: dict(r.values) for r in rows if r.source in ("section 4", published.NOTEBOOK)}
    assert own == {
        "majority": {"accuracy": 0.703},
        "CLIP, fixed prompts": {"accuracy": 0.7253, "recall_low": 0.3182, "recall_high": 0.8976},
        "CLIP, linear probe": {"accuracy": 0.7933, "srcc": 0.6738, "plcc": 0.6820},
    }
    assert all(r.split == "paper" for r in rows if r.label in own)
    assert all(bool(r.split) == bool(r.source) == bool(r.values) for r in rows)


OF_ROW = {
    "CLIP, fixed prompts (outstanding/atrocious)": "CLIP, fixed prompts",
    "linear probe (CLIP, see note 1)": "CLIP, linear probe",
    "MLSP (original)": "MLSP",
}
OF_SPLIT = {"paper (by the authors' list)": "paper, by its authors' list"}


@pytest.mark.shared_data
def test_published_values_splits_and_rows_are_those_of_the_collected_list(shared_data: Path) -> None:
    file = shared_data.parent / "paper" / "published_values.csv"
    if not file.exists():
        pytest.skip(f"the collected published values are not here: {file}")
    listed: dict[tuple[str, str], tuple[float, str]] = {}
    for line in csv.DictReader(file.open(encoding="utf-8", newline="")):
        if line["kind"] != "today's state of the art":  # not among the paper's rows
            label = OF_ROW.get(line["row"], line["row"])
            split = OF_SPLIT.get(line["split"], line["split"])
            listed[label, line["metric"]] = float(line["value"]), split
    ours = {
        (r.label, metric): (value, r.split)
        for r in (*published.TABLE_1, *published.TABLE_2)
        for metric, value in r.values.items()
    }
    assert len(listed) >= 25 and ours == listed


@pytest.mark.shared_data
def test_what_is_said_to_stand_in_the_papers_text_stands_there(shared_data: Path) -> None:
    texts = sorted((shared_data.parent / "paper").glob("*.txt"))
    if not texts:
        pytest.skip(f"the paper's text is not in {shared_data.parent / 'paper'}")
    sections = _sections(texts[0].read_text(encoding="utf-8"))
    for section, *words in SAID:
        assert all(word in sections[section] for word in words), (section, words)
    for high_low, section in (
        (published.BEST_PAIRS["prompting.fixed"], "4.1.1"),
        (published.BEST_PAIRS["prompting.context"], "4.1.2"),
    ):
        for label in " / ".join(high_low).split(" / "):
            assert label in sections[section]
    for epoch in published.BEST_EPOCH.values():
        assert str(epoch) in sections["4.3"]


SAID = (
    ("2", "229,971 training and 25,551 test", "threshold (typically being five)"),
    ("4", "70.3", "certainly train and validate their models on a different dataset split"),
    ("4", "same datasplit as MPada", "evaluate MLSP on our datasplit"),
    ("4.1", "27 positive and 12 negative", "(1)", "(2)"),
    ("4.1.2", "improves all evaluation metrics in contrast to the fixed"),
    ("4.1.3", "improves the performance", "labels are the same as for the context-aware"),
    ("4.2", "focuses on only one dimension of the ViT features", "a broader set of features from CLIP"),
    ("4.2", "the last layer before the output", "768", "approx. 3", "approx. 0.1", "thresholded at five"),
    ("4.3", "batch size of 128", "momentum of 0.5", "10 consecutive epochs", "highest Pearson and Spearman"),
    ("4.3", "Linear Probing CLIP achieves better performance on all metrics than the fine-tuned ImageNet"),
    ("5", "both CLIP models show better performance than the ImageNet21k model", "ResNet-50"),
)
"""What tables, notebooks and docs ascribe to the paper: section, and words that must stand in it."""


def _sections(text: str) -> dict[str, str]:
    """The text below each numbered heading, spaces evened out."""
    parts = re.split(r"^(\d(?:\.\d)*)\. [A-Z][^\n]*$", text, flags=re.MULTILINE)
    return {number: " ".join(body.split()) for number, body in zip(parts[1::2], parts[2::2], strict=True)}


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
    assert lines["CLIP, prompt ensemble"][PUBLISHED].startswith("not known to us; better than context")
    assert lines["ViT (ImageNet-21k), linear probe"][PUBLISHED].endswith("below CLIP's, says section 4.2")
    assert lines["CLIP, fixed prompts"]["split, n test"].startswith("make it: iaa embed --prompts")
    stands_in = lines["CLIP, linear probe [demo_clip in its place]"]
    assert stands_in["ours - published"] == "another backbone" and stands_in["interval covers it"] == ""


PUBLISHED = "published on AVA (split; source)"


@pytest.mark.parametrize("split", ["official", "random", "given"])
def test_no_difference_is_formed_across_splits(split: str) -> None:
    ours = replace(
        a_result("probe.ols", "vit_b32.openai", "pre_projection", Metric(0.79, 0.785, 0.795)),
        split_name=split,
        srcc=Metric(0.67, 0.66, 0.68),
    )
    rows = tables.compare(tables.TABLE_1, [ours])
    found = row(rows, "CLIP, linear probe")
    assert found.result is ours and found.apart == f"another split ({split})"
    assert all(cell.difference is None and cell.covers is None for cell in found.cells.values())
    headings, cells = tables.comparison_cells(rows)
    line = next(dict(zip(headings, c, strict=True)) for c in cells if c[0] == found.label)
    assert line["split, n test"] == f"ava, {split}, 5"
    assert "(split paper; authors' notebook" in line[PUBLISHED]
    assert line["ours - published"] == f"another split ({split})" and line["interval covers it"] == ""
    headings, values = tables.comparison_values(rows)
    lines = [dict(zip(headings, v, strict=True)) for v in values if v[0] == found.label]
    assert {v["published_split"] for v in lines} == {"paper", ""}
    assert {v["difference"] + v["covers"] for v in lines} == {""}


def test_every_published_number_has_its_split_beside_it() -> None:
    headings, cells = tables.comparison_cells(tables.compare(tables.TABLE_1, []))
    for published_row, line in zip(tables.TABLE_1, cells, strict=True):
        cell = dict(zip(headings, line, strict=True))[PUBLISHED]
        expected = f"(split {published_row.split}; {published_row.source}"
        assert expected in cell if published_row.values else cell.startswith("not known to us")


def test_the_notebooks_bare_numbers_stand_beside_ours_on_the_papers_split_only() -> None:
    prints = dict(zip(published.NOTEBOOK_PRINTS, (5.38, 2.5, 7.25, 5.37), strict=True))
    ours = a_result("probe.ols", "vit_b32.openai", "pre_projection", Metric(0.79), prints=prints)
    headings, cells = tables.notebook_cells([ours])
    assert headings[1:] == ["intercept", "lowest prediction", "highest prediction", "mean prediction"]
    assert cells[0] == ["authors' notebook", "5.3840265", "2.3244534", "7.304132", "5.3783875"]
    assert cells[1][1:] == ["5.38", "2.5", "7.25", "5.37"] and "vit_b32.openai" in cells[1][0]
    assert tables.notebook_cells([replace(ours, split_name="official")])[1] == []


def test_the_resnets_probe_reads_what_the_authors_code_reads() -> None:
    made = [a_result("probe.ols", "rn50.cc12m", output, Metric(0.7)) for output in ("pooled", "embedding")]
    (found,) = [r for r in tables.compare(tables.TABLE_2, made, with_others=False) if r.result]
    assert found.result is made[1]


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
    assert missing["missing"].startswith("make it: iaa embed --prompts")
    assert (ours["published_split"], ours["published_source"]) == ("paper", "authors' notebook")
    assert of["A-Lamp", "srcc"]["published"] == of["A-Lamp", "srcc"]["published_split"] == ""
    assert of["MLSP", "srcc"]["published_split"] == "official"


def test_values_are_written_with_interval_or_named_undefined() -> None:
    assert tables.format_metric(Metric(12.34, 10.0, 15.0), 1) == "12.3 [10.0, 15.0]"
    assert tables.format_metric(Metric(0.5, 0.4, 0.6)) == "0.5000 [0.4000, 0.6000]"
    assert tables.format_metric(Metric(0.5)) == "0.5000"
    assert tables.format_metric(Metric(float("nan"))) == "undefined"
    assert tables.format_metric(None) == ""


def run_cells(name: str, by_hand: bool = False, **parameters: Any) -> str:
    """The Markdown a notebook shows, its code cells executed here with other parameters, as the report's
    runner does or as somebody does who opened it."""
    import IPython.display
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    shown: list[str] = []
    notebook = json.loads((NOTEBOOKS / name).read_text())
    space: dict[str, Any] = {}
    original, before = IPython.display.display, os.environ.get(REPORT_VARIABLE)
    os.environ[REPORT_VARIABLE] = "" if by_hand else str(parameters.get("report_dir", ""))
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
        os.environ.pop(REPORT_VARIABLE)
        if before is not None:
            os.environ[REPORT_VARIABLE] = before
    return "\n\n".join(shown)


@pytest.mark.notebook
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize(
    "kind", ["votes", pytest.param("scores", marks=pytest.mark.slow), "one backbone", "unrated"]
)
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
    assert "sharp | pooled" in pretraining and "Differences are formed only on the split" in overview
    assert (report / "tables" / "table_1.tex").exists() and NOT_KEPT not in probing + overview
    made = {path: path.read_bytes() for path in sorted(report.rglob("*")) if path.is_file()}
    again = parameters | {"n_boot": 5, "seed": 3}
    for name in ("20_probing.ipynb", "90_tables.ipynb"):
        assert NOT_KEPT in run_cells(name, by_hand=True, **again)
    assert {path: path.read_bytes() for path in sorted(report.rglob("*")) if path.is_file()} == made
    assert "| majority | linear probe, ridge (sharp/pooled) |" in overview
    if kind == "one backbone":
        assert "Only one backbone here" in pretraining and "dull" not in probing + pretraining
        assert "| head kept | sharp/pooled | planted, split random |" in probing
        assert "elsewhere was fitted on another split of planted" in probing
    else:
        assert "sharp + dull" in pretraining or "dull + sharp" in pretraining
        assert "No head for these backbones" in probing


def test_the_demo_says_that_it_is_no_evidence(tmp_path: Path) -> None:
    overview = run_cells("90_tables.ipynb", report_dir=str(tmp_path))
    assert "no evidence for or against anything the paper says" in overview
    assert "No differences from them are formed here" in overview
