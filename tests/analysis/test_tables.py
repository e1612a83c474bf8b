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

from analysis.evidence.bootstrap import Prediction
from analysis.figures.drawn import Drawn
from analysis.probing.heads import head_of, save_head
from analysis.probing.probes import fit_probes
from analysis.report.study import NothingToShowError
from analysis.results import published, tables
from analysis.results.methods import REPORT_VARIABLE, MethodResult, Metric, read_results
from analysis.results.own import parse, write_own
from analysis.results.predictions import Predicted
from analysis.results.printed import Printed
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


def printed(rows: list[tables.Row], start: str) -> dict[str, str]:
    """The cells of a row of Table 1 by heading; for the metrics, by 'metric, published' and 'metric,
    here'."""
    table = tables.print_comparison(rows, "t", "")
    over = [title for title, n in table.over for _ in range(n)]
    headings = [f"{o}, {h}" if o else h for o, h in zip(over, table.headings, strict=True)]
    line = next(line for line in table.texts() if line[0].startswith(start))
    return dict(zip(headings, line, strict=True))


def test_a_stand_in_says_so_and_unknown_values_are_empty() -> None:
    demo = a_result("probe.ols", "demo_clip", "pre_projection", Metric(0.8, 0.7, 0.9))
    rows = tables.compare(tables.TABLE_1, [demo])
    found = row(rows, "CLIP, linear probe")
    assert found.label == "CLIP, linear probe†" and found.apart == "another backbone"
    table = tables.print_comparison(rows, "t", "")
    assert table.notes[0] == "† demo CLIP in the place of the backbones named."
    assert not any("here − published" in title for title, _ in table.over)
    assert printed(rows, "CLIP, linear probe")["accuracy, published"] == "0.7933"
    assert printed(rows, "CLIP, prompt ensemble")["accuracy, published"] == ""
    missing = tables.print_missing(rows).texts()
    assert [
        "`iaa embed --dataset ava --backbone vit_b32.in21k`",
        "ViT (ImageNet-21k), linear probe",
    ] in missing
    said = dict(line for line in tables.print_notes(rows).texts())
    assert said["CLIP, prompt ensemble"].startswith("better than context")


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
    assert not any("here − published" in title for title, _ in tables.print_comparison(rows, "t", "").over)
    assert printed(rows, found.label)["published, split; source"].startswith("paper ")
    headings, values = tables.comparison_values(rows)
    lines = [dict(zip(headings, v, strict=True)) for v in values if v[0] == found.label]
    assert {v["published_split"] for v in lines} == {"paper", ""}
    assert {v["difference"] + v["covers"] for v in lines} == {""}


def test_on_the_same_split_the_difference_stands_with_whether_the_interval_covers_it() -> None:
    near = a_result("probe.ols", "vit_b32.openai", "pre_projection", Metric(0.79, 0.785, 0.795))
    far = replace(near, accuracy=Metric(0.79, 0.789, 0.791))
    for result, sign in ((near, "✓"), (far, "✗")):
        rows = tables.compare(tables.TABLE_1, [result])
        assert printed(rows, "CLIP, linear")["here − published, accuracy"] == f"-0.0033{sign}"


def test_every_published_number_has_its_split_and_source_beside_it() -> None:
    rows = tables.compare((*tables.TABLE_1, *published.TODAY), [])
    sources = next(n for n in tables.print_comparison(rows, "t", "").notes if n.startswith("Sources: "))
    for found in rows:
        assert found.published is not None
        cells = printed(rows, found.label)
        if found.published.values:
            split, _, letter = cells["published, split; source"].rpartition(" ")
            assert split == found.published.split and f"{letter}: {found.published.source}" in sources
    groups = tables.print_comparison(rows, "t", "").groups
    assert list(dict.fromkeys(groups)) == [*published.GROUPS, published.TODAY_GROUP]
    assert len([g for i, g in enumerate(groups) if i == 0 or groups[i - 1] != g]) == len(set(groups))


def test_the_best_is_marked_and_what_cannot_be_told_from_it() -> None:
    rng = np.random.default_rng(5)
    n = 400
    y = rng.normal(size=n)
    ids = np.arange(n).astype(str)
    noise = {"good": 0.3, "like": 0.3, "poor": 3.0}
    made, predicted = [], {}
    for name, size in noise.items():
        score = y + size * rng.normal(size=n)
        result = replace(
            a_result(f"own.{name}", "", "", Metric(0.5)),
            method=name, accuracy=None, srcc=Metric(float(np.corrcoef(score, y)[0, 1])),
        )  # fmt: skip
        made.append(result)
        predicted[f"own.{name}"] = Predicted(ids, y, y > 0, Prediction(score, None))
    rows = tables.compare((), made)
    marks = tables.mark_best(rows, predicted)["srcc"]
    labels = {r.result.method: r.label for r in rows if r.result}
    assert sorted(marks.values()) == ["best", "tied"] and labels["poor"] not in marks
    table = tables.print_comparison(rows, "t", "", {"srcc": marks})
    assert "<b>" in table.to_html() and "<u>" in table.to_html() and "\\textbf" in table.to_latex()
    swapped = {
        f"own.{a}": predicted[f"own.{b}"] for a, b in (("good", "poor"), ("poor", "good"), ("like", "like"))
    }
    flipped = [
        replace(r, srcc=next(o.srcc for o in made if swapped[r.key] is predicted[o.key])) for r in made
    ]
    other = tables.mark_best(tables.compare((), flipped), swapped)["srcc"]
    assert labels["poor"] in other and labels["good"] not in other


def test_the_notebooks_bare_numbers_stand_beside_ours_on_the_papers_split_only() -> None:
    prints = dict(zip(published.NOTEBOOK_PRINTS, (5.38, 2.5, 7.25, 5.37), strict=True))
    ours = a_result("probe.ols", "vit_b32.openai", "pre_projection", Metric(0.79), prints=prints)
    headings, cells = tables.notebook_cells([ours])
    assert headings[1:] == ["intercept", "lowest prediction", "highest prediction", "mean prediction"]
    assert cells[0] == ["authors' notebook", "5.3840265", "2.3244534", "7.304132", "5.3783875"]
    assert cells[1][1:] == ["5.38", "2.5", "7.25", "5.37"] and "CLIP ViT-B/32" in cells[1][0]
    assert tables.notebook_cells([replace(ours, split_name="official")])[1] == []


def test_the_resnets_probe_reads_what_the_authors_code_reads() -> None:
    made = [a_result("probe.ols", "rn50.cc12m", output, Metric(0.7)) for output in ("pooled", "embedding")]
    (found,) = [r for r in tables.compare(tables.TABLE_2, made, with_others=False) if r.result]
    assert found.result is made[1]


def test_csv_has_one_number_per_cell_with_difference_and_coverage() -> None:
    result = a_result("probe.ols", "vit_b32.openai", "pre_projection", Metric(0.79, 0.785, 0.795))
    rows = tables.compare(tables.TABLE_1, [result])
    table = Printed("t", ["a"], [["b"]], values=tables.comparison_values(rows))
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
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
    """What a notebook shows as plain text, its code cells executed here with other parameters, as the
    report's
    runner does or as somebody does who opened it."""
    import IPython.display

    matplotlib.use("agg")
    shown: list[str] = []
    notebook = json.loads((NOTEBOOKS / name).read_text())
    space: dict[str, Any] = {}
    original, before = IPython.display.display, os.environ.get(REPORT_VARIABLE)
    os.environ[REPORT_VARIABLE] = "" if by_hand else str(parameters.get("report_dir", ""))

    def show(*items: Any) -> None:
        there = [item for item in items if item is not None]
        shown.extend(
            item.alt if isinstance(item, Drawn) else item._repr_mimebundle_()[0]["text/plain"]
            for item in there
        )

    IPython.display.display = show
    try:
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert not cell["outputs"] and cell["execution_count"] is None
                exec(compile("".join(cell["source"]), f"{name}:{cell['id']}", "exec"), space)
                if "parameters" in cell["metadata"].get("tags", []):
                    assert set(parameters) <= set(space)
                    space |= parameters
    finally:
        IPython.display.display = original
        os.environ.pop(REPORT_VARIABLE)
        if before is not None:
            os.environ[REPORT_VARIABLE] = before
    return "\n\n".join(shown)


@pytest.mark.notebook
@pytest.mark.parametrize(
    "kind", ["votes", pytest.param("scores", marks=pytest.mark.slow), "one backbone", "unrated"]
)
def test_pages_run_for_votes_scores_and_no_ratings(
    rated_world: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    if kind == "unrated":
        for name in ("20_probing.ipynb", "21_pretraining.ipynb"):
            with pytest.raises(NothingToShowError, match="for photographs that people rated"):
                run_cells(name, **parameters)
        photographs, summary = (
            run_cells(name, **parameters) for name in ("05_photographs.ipynb", "index.ipynb")
        )
        assert "Map of" in photographs and "ratings | none" in summary and "resamples" not in summary
        return
    if kind == "one backbone":
        with open_features(folder / "features" / "sharp.h5") as features:
            kept = head_of(fit := fit_probes(features, targets, "pooled"), fit.ridge)
        save_head(tmp_path / "heads" / "kept", kept)
        other = replace(kept, about=kept.about | {"split": "another"})
        save_head(tmp_path / "heads" / "elsewhere", other)
    own = parse(
        ["image_id", "score"],
        {"image_id": targets.image_id.tolist(), "score": [str(i) for i in range(targets.n_images)]},
        targets, "Mine", targets.split_name, "here",
    )  # fmt: skip
    write_own(folder / "results" / "Mine.json", own)
    probing = run_cells("20_probing.ipynb", **parameters)
    summary = run_cells("index.ipynb", **parameters)
    keys = {result.key for result in read_results([report / "results" / "20_probing.json"])}
    assert keys >= {"majority", "probe.ols", "probe.ridge"}
    assert ("probe.distribution" in keys) == (kind != "scores")
    assert "Added here (iaa results add) | Mine" in summary
    made = {path: path.read_bytes() for path in sorted(report.rglob("*")) if path.is_file()}
    monkeypatch.chdir(tmp_path)
    run_cells("20_probing.ipynb", by_hand=True, **parameters | {"n_boot": 5, "seed": 3})
    assert {path: path.read_bytes() for path in sorted(report.rglob("*")) if path.is_file()} == made
    assert (tmp_path / "results" / "20_probing.json").exists()  # executed by hand, it writes beside itself
    if kind == "one backbone":
        with pytest.raises(NothingToShowError, match="there is 1"):
            run_cells("21_pretraining.ipynb", **parameters)
        assert "dull" not in probing and "| head kept | sharp, pooled | planted, split random |" in probing
        assert "elsewhere was fitted on another split of planted" in probing
    else:
        pretraining = run_cells("21_pretraining.ipynb", **parameters)
        assert "sharp + dull" in pretraining or "dull + sharp" in pretraining


@pytest.mark.shared_data
def test_the_state_of_the_art_is_that_of_the_collected_list_and_never_compared(shared_data: Path) -> None:
    file = shared_data.parent / "paper" / "published_values.csv"
    if not file.exists():
        pytest.skip(f"the collected published values are not here: {file}")
    lines = [
        r
        for r in csv.DictReader(file.open(encoding="utf-8", newline=""))
        if r["kind"] == "today's state of the art"
    ]
    listed = {(r["row"], r["metric"]): (float(r["value"]), r["split"]) for r in lines}
    names = {"LAION-style head on CLIP, retrained on AVA": "LAION-style head on CLIP retrained on AVA"}
    ours = {
        (names.get(r.label, r.label), metric): (value, r.split)
        for r in published.TODAY
        for metric, value in r.values.items()
    }
    assert ours == listed and not any(r.key for r in published.TODAY)
