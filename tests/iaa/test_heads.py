"""Heads on the command line: fitted, kept, used elsewhere, refused elsewhere; LAION's imported."""

import csv
import hashlib
import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import safetensors.numpy
import torch

from analysis.results.methods import MethodResult, Metric
from iaa.library.results import edge_note, folds_note
from store import Targets, open_targets, write_targets
from tests.worlds import FAILED, write_features


@pytest.fixture
def run(rated_world, invoke, tmp_path, monkeypatch):
    """Runs a command on a data root with the rated data set 'planted' and the unrated 'holiday'."""
    root = tmp_path / "data"
    root.mkdir()
    (root / "planted").symlink_to(rated_world)
    rng = np.random.default_rng(3)
    ids = np.array([f"beach{i:03d}" for i in range(660)])
    write_features(root / "holiday/features/sharp.h5", "sharp", ids, {"pooled": rng.normal(size=(660, 24))})
    unrated = Targets(
        image_id=ids, path=np.char.add(ids, ".jpg"), votes=None, scores=None, levels=None, threshold=5.0,
        split=np.full(660, ""), split_name="none", dataset="holiday",
    )  # fmt: skip
    write_targets(root / "holiday/targets.h5", unrated, {}, {})
    monkeypatch.setenv("IAA_DATA", str(root))
    return invoke


FIT = ("probe", "-d", "planted", "-b", "sharp", "--output", "pooled", "--n-boot", 20)


def test_a_probe_is_kept_and_scores_other_photographs(run, tmp_path):
    code, out, _ = run(*FIT, "--save", "mine", "--json")
    fitted = json.loads(out)
    ridge = next(r for r in fitted["results"] if r["key"] == "probe.ridge")
    assert code == 0 and fitted["head"].endswith("heads/mine.json")
    code, out, _ = run("rank", "--head", "mine", "-d", "planted", "--n-boot", 20, "--json")
    scored = json.loads(out)
    assert code == 0 and scored["n_ranked"] == 698 and scored["n_failed"] == len(FAILED)
    for metric in ("accuracy", "srcc", "plcc"):
        assert scored["result"][metric]["value"] == pytest.approx(ridge[metric]["value"], abs=1e-9)
    code, out, _ = run("rank", "--head", "mine", "-d", "holiday", "--csv", tmp_path / "s.csv", "--json")
    elsewhere = json.loads(out)
    assert code == 0 and elsewhere["result"] is None and elsewhere["fitted_on"] == "planted, split random"
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    values = [float(row["score"]) for row in rows]
    assert len(rows) == 658 and values == sorted(values, reverse=True)
    assert rows[0]["file"] == rows[0]["image_id"] + ".jpg" and float(rows[0]["percentile"]) == 100


def test_all_ratings_can_be_fitted_on_where_that_is_asked_for(run):
    code, out, err = run(*FIT, "--fit-on", "all", "--save", "every", "--json")
    results = {r["key"]: r for r in json.loads(out)["results"]}
    assert code == 0 and results["probe.ridge"]["n_train"] == results["probe.ridge"]["n_test"] == 698
    assert results["majority"]["detail"]["n_folds"] == 10
    assert results["probe.ridge"]["srcc"]["value"] > 0.7
    shown = run(*FIT, "--fit-on", "all")
    assert "planted: all 698 rated, each predicted from other folds (10)" in " ".join(shown[1].split())
    assert "On the split instead: --fit-on train" in " ".join(shown[2].split())
    code, out, err = run("rank", "--head", "every", "-d", "planted")
    assert code == 0 and "it was fitted on planted, all 698 rated photographs" in " ".join(err.split())
    assert run(*FIT, "--fit-on", "test")[0] == 2


@pytest.mark.parametrize(
    ("alphas", "said"), [([1.0], "OLS is as good"), ([1e6], "their mean is as good"), ([], "")]
)
def test_an_alpha_at_the_edge_is_explained(alphas, said):
    results = [
        MethodResult(
            "probe.ridge", "ridge", "b", "o", "d", "s", 9, 9, detail={"alpha": a, "alpha_is_at_edge": True}
        )
        for a in alphas
    ]
    inside = MethodResult("probe.ridge", "ridge", "b", "o", "d", "s", 9, 9, detail={"alpha": 1.0})
    notes = edge_note([*results, inside])
    assert len(notes) == len(alphas) and all(note.startswith("(edge): ") and said in note for note in notes)


@pytest.mark.parametrize(
    ("srcc", "detail", "is_said"),
    [
        ((-0.2, -0.3, -0.1), {"n_folds": 10}, True),
        ((0.1, -0.1, 0.3), {"n_folds": 10}, True),
        ((0.5, 0.4, 0.6), {"n_folds": 10}, False),
        ((-0.2, -0.3, -0.1), {}, False),
        (None, {"n_folds": 10}, False),
    ],
)
def test_what_falls_below_zero_by_folds_is_explained(srcc, detail, is_said):
    metric = None if srcc is None else Metric(*srcc)
    result = MethodResult("probe.ridge", "ridge", "b", "o", "d", "s", 9, 9, srcc=metric, detail=detail)
    assert bool(folds_note([result])) is is_said


def test_the_ols_and_the_unit_length_probe_can_be_kept_too(run):
    assert run(*FIT, "--save", "ols", "--save-fit", "ols")[0] == 0
    assert run(*FIT, "--save", "unit", "--unit-norm")[0] == 0
    shown = {name: json.loads(run("head", "show", name, "--json")[1]) for name in ("ols", "unit")}
    assert shown["ols"]["about"]["alpha"] == 0 and shown["ols"]["unit_norm"] is False
    assert shown["unit"]["about"]["alpha"] > 0 and shown["unit"]["unit_norm"] is True
    assert shown["ols"]["layers"] == [[1, 24]] and shown["ols"]["about"]["dataset"] == "planted"
    code, out, _ = run("head", "show", "ols", "-d", "planted", "--json")
    assert code == 0 and 1 < json.loads(out)["importance"]["effective_dimensions"] < 24


def test_laions_mlp_is_imported_and_shown_as_one_vector(run, tmp_path):
    widths = (768, 1024, 128, 64, 16, 1)
    state = {}
    for i, (n_in, n_out) in zip((0, 2, 4, 6, 7), pairwise(widths), strict=True):
        state |= {f"layers.{i}.weight": torch.randn(n_out, n_in), f"layers.{i}.bias": torch.randn(n_out)}
    torch.save(state, tmp_path / "sac+logos.pth")
    code, _, err = run("head", "import", tmp_path / "sac+logos.pth", "-b", "vit_l14.openai")
    assert code == 0 and "iaa rank --head sac+logos" in " ".join(err.split())
    again = ("head", "import", tmp_path / "sac+logos.pth", "-b", "vit_l14.openai")
    code, _, err = run(*again)
    assert code == 2 and "exists: choose another name, or give --overwrite" in " ".join(err.split())
    assert run(*again, "--overwrite")[0] == 0
    code, out, _ = run("head", "show", "sac+logos", "--json")
    described = json.loads(out)
    assert code == 0 and described["backbone"] == "vit_l14.openai" and described["unit_norm"] is True
    assert described["layers"] == [[b, a] for a, b in pairwise(widths)]
    code, _, err = run("rank", "--head", "sac+logos", "-d", "planted")
    assert code == 1 and "iaa embed --dataset planted --backbone vit_l14.openai" in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["probe", "-d", "planted", "-b", "sharp", "--save", "x"], 2, "2 outputs are fitted: name one"),
        ([*FIT, "--save", "taken"], 2, "taken exists: choose another name, or give --overwrite"),
        (["probe", "-d", "holiday", "-b", "sharp"], 1, "neither votes nor scores"),
        (["probe", "-d", "planted", "-b", "sharp", "--joint"], 2, "needs two backbones"),
        (
            ["rank", "--head", "nowhere", "-d", "planted"],
            1,
            "there are: oasis-beauty, taken. Make one: iaa probe",
        ),
        (["rank", "--head", "taken", "-d", "plantde"], 1, "no data set 'plantde'"),
        (["probe", "-d", "plantde", "-b", "sharp"], 1, "no data set 'plantde'"),
        (["rank", "--head", "taken", "-d", "planted", "--csv", "/nowhere/x.csv"], 2, "folder that exists"),
        (["head", "import", "nothing.pth", "-b", "vit_b32.openai"], 2, "does not exist"),
    ],
)
def test_mistakes_say_what_to_do(run, arguments, code, message):
    assert run(*FIT, "--save", "taken")[0] == 0
    got, out, err = run(*arguments)
    assert (got, out) == (code, "") and message in " ".join(err.split())
    assert "Traceback" not in err


def test_backbones_side_by_side_are_fitted_too(run):
    code, out, _ = run(
        "probe", "-d", "planted", "-b", "sharp", "-b", "dull", "--joint", "--n-boot", 20, "--json"
    )
    last = json.loads(out)["results"][-1]
    assert code == 0 and (last["backbone"], last["output"]) == ("sharp + dull", "pooled + pooled")
    assert last["srcc"]["value"] > 0.7


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.full((1, 512), torch.nan), "bias": torch.zeros(1)}, "weight holds NaN"),
        ({f"layers.{i}.{k}": torch.ones(1, 512) if k == "weight" else torch.ones(1)
          for i in (0, 3) for k in ("weight", "bias")}, "do not lead|has layers at 0, 3"),
    ],
)  # fmt: skip
def test_heads_that_are_no_linear_heads_are_not_imported(run, tmp_path, state, message):
    torch.save(state, tmp_path / "h.pth")
    code, out, err = run("head", "import", tmp_path / "h.pth", "-b", "vit_b32.openai")
    assert (code, out) == (1, "") and re.search(message, " ".join(err.split())) and "Traceback" not in err
    assert not (tmp_path / "data/heads").exists()


def test_a_damaged_head_is_told_and_measures_nothing(run, tmp_path):
    assert run(*FIT, "--save", "mine")[0] == 0
    path = tmp_path / "data/heads/mine.json"
    described = json.loads(path.read_text())
    tensors = {"layers.0.weight": np.full((1, 24), np.nan), "layers.0.bias": np.zeros(1)}
    content = safetensors.numpy.save(tensors)
    path.with_suffix(".safetensors").write_bytes(content)
    path.write_text(json.dumps(described | {"sha256": hashlib.sha256(content).hexdigest()}))
    for command in (("rank", "--head", "mine", "-d", "planted"), ("head", "show", "mine")):
        code, out, err = run(*command)
        assert (code, out) == (1, "") and "layer 0 holds NaN or infinity" in " ".join(err.split())


def test_a_head_that_ranks_nothing_says_so(run, tmp_path):
    assert run(*FIT, "--save", "flat")[0] == 0
    path = tmp_path / "data/heads/flat.json"
    content = safetensors.numpy.save({"layers.0.weight": np.zeros((1, 24)), "layers.0.bias": np.ones(1)})
    path.with_suffix(".safetensors").write_bytes(content)
    described = json.loads(path.read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(described))
    code, _, err = run("rank", "--head", "flat", "-d", "planted", "--n-boot", 10)
    err = " ".join(err.split())
    assert code == 0 and "every image has the same score" in err and "SRCC not defined" in err


def test_images_that_are_all_for_testing_are_scored_and_why_they_are_not_measured_is_said(run, tmp_path):
    assert run(*FIT, "--save", "mine")[0] == 0
    root = tmp_path / "data"
    (root / "tested/features").mkdir(parents=True)
    (root / "tested/features/sharp.h5").write_bytes((root / "planted/features/sharp.h5").read_bytes())
    planted = open_targets(root / "planted/targets.h5")
    tested = replace(planted, dataset="tested", split=np.full(len(planted.image_id), "test"))
    write_targets(root / "tested/targets.h5", tested, {}, {})
    code, _, err = run("rank", "--head", "mine", "-d", "tested")
    assert code == 0 and "698 images ranked" in err and "not measured: " in err
