"""MLSP's head on stored features, as the library trains it and as people type it."""

import csv
import json
import shutil

import numpy as np
import pytest
from scipy.stats import spearmanr

from iaa.library.layout import Layout
from iaa.library.stacked import train_from_features
from store import open_targets

SMALL = {"widths": (16,), "dropouts": (0.1,), "rates": (1e-2, 1e-3), "epochs": 6}


@pytest.fixture
def planted(rated_world, tmp_path):
    """The planted world in a data root of its own; rows of `dull` lie in another order than the ratings."""
    shutil.copytree(rated_world, tmp_path / "data" / "planted")
    return Layout(tmp_path / "data", "planted")


@pytest.mark.parametrize(("backbone", "least"), [("sharp", 0.55), ("dull", 0.3)])
def test_scores_belong_to_their_images(planted, backbone, least):
    done = train_from_features(planted, f"{backbone}.pooled", device="cpu", n_boot=50, **SMALL)
    targets = open_targets(planted.targets)
    with (done.folder / "predictions.csv").open(newline="", encoding="utf-8") as handle:
        scores = {row["image_id"]: float(row["score"]) for row in csv.DictReader(handle)}
    mean = targets.votes @ np.arange(1, 11) / targets.votes.sum(axis=1)
    test = [i for i in np.flatnonzero(targets.split == "test") if np.isfinite(scores[targets.image_id[i]])]
    srcc = spearmanr(mean[test], [scores[targets.image_id[i]] for i in test]).statistic
    assert srcc > least and done.result.srcc.value == pytest.approx(srcc)
    assert sum(np.isnan(list(scores.values()))) == 2  # the failed rows keep their place
    assert done.card["n_fitted"] + done.card["n_held_out"] == done.result.n_train
    again = train_from_features(planted, f"{backbone}.pooled", device="cpu", n_boot=50, **SMALL)
    assert again.folder == done.folder and again.card == done.card
    assert done.table().columns["method"] == ["head of three layers (MLSP's)"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("sharp.narrow",), "no features 'sharp.narrow' of planted: expected BACKBONE.OUTPUT, one of dull."),
        (("mlsp.narrow",), "iaa embed --dataset planted --backbone mlsp"),
        (("sharp.pooled", "--lr-head", "0.1"), "leave out --lr-head"),
        (("sharp.pooled", "-b", "demo_vit"), "leave out --backbone"),
    ],
)
def test_mistakes_are_told(run, planted, typed, message):
    code, _, errors = run("finetune", "-d", "planted", "--from-features", *typed)
    assert code in (1, 2)
    assert message in " ".join(errors.split()), errors


def test_json_of_a_short_training(run, planted, monkeypatch):
    import finetune.stacked as stacked

    short = stacked.StackSettings(**SMALL)
    monkeypatch.setattr(stacked, "StackSettings", lambda **given: short)
    code, out, errors = run(
        "finetune", "-d", "planted", "--from-features", "sharp.embedding", "--n-boot", 20, "--json"
    )
    assert code == 0, errors
    told = json.loads(out)
    assert told["identity"]["output"] == "embedding" and told["result"]["key"] == "stacked"
    assert "rate 0.01" in errors and "held out" in errors
