"""MLSP's head on stored features, as the library trains it and as people type it."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import spearmanr

from analysis.results.stacked import evaluate_stack, print_stacks, read_stacks
from analysis.results.tables import TABLE_1, compare
from finetune.errors import FinetuneError
from iaa.library.layout import Layout
from iaa.library.stacked import train_from_features
from store import open_features, open_targets
from tests.nets import random_net
from tests.worlds import write_features

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
    assert done.table().columns["method"] == ["head of several layers", "linear probe, ridge"]
    (paired,) = done.differences
    ridge = next(result for result in done.results if result.key == "probe.ridge")
    assert paired.value == pytest.approx(done.result.srcc.value - ridge.srcc.value)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("sharp.narrow",), "no features 'sharp.narrow' of planted: expected BACKBONE.OUTPUT, one of dull."),
        (("mlsp.narrow",), "planted has no features of mlsp yet: they are made first"),
        (("sharp.pooled", "--preset", "nima"), "has the presets narrow, wide, not 'nima'"),
        (("sharp.pooled", "--preset", "wide"), "sharp.pooled is one vector of 24 numbers. Leave"),
        (("sharp.pooled", "--train", "head"), "leave out --train"),
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
    monkeypatch.setattr(stacked, "STACKS", {"narrow": short})
    code, out, errors = run(
        "finetune", "-d", "planted", "--from-features", "sharp.embedding", "--n-boot", 20, "--json"
    )
    assert code == 0, errors
    told = json.loads(out)
    assert told["identity"]["output"] == "embedding" and told["results"][0]["key"] == "stacked.narrow"
    assert "rate 0.01" in errors and "held out" in errors


def with_cells(planted, cells, dim=25 * 2):
    """A file of vectors that claim to be of cells."""
    targets = open_targets(planted.targets)
    X = np.random.default_rng(0).normal(size=(targets.n_images, dim)).astype(np.float32)
    path = planted.features_of("grid")
    outputs = {"wide": X, "narrow": X[:, :2]}
    write_features(path, "grid", targets.image_id, outputs, {"cells": {"wide": cells}})


@pytest.mark.parametrize(
    ("cells", "dim", "preset", "message"),
    [
        ([5, 5], 50, "narrow", r"each of 5 x 5 cells, 50 numbers in all.*take grid.narrow"),
        ([7, 7], 98, None, "grid.wide has 98 numbers of 7 x 7 cells; the wide head reads 5 x 5 cells"),
        ([5, 5], 51, None, "grid.wide has 51 numbers of 5 x 5 cells"),
    ],
)
def test_heads_of_another_shape_than_the_features(planted, cells, dim, preset, message):
    with_cells(planted, cells, dim)
    with pytest.raises(FinetuneError, match=message):
        train_from_features(planted, "grid.wide", device="cpu", preset=preset)


def test_rows_of_table_1(planted, monkeypatch):
    """Both heads of MLSP stand in their own rows; one of other features, settings or ratings in none."""
    import finetune.stacked as stacked

    small = stacked.StackSettings(**SMALL)
    grid = replace(small, block=4, decides="plcc")
    monkeypatch.setattr(stacked, "STACKS", {"narrow": small, "wide": grid})
    with_cells(planted, [5, 5])
    wide = train_from_features(planted, "grid.wide", device="cpu", n_boot=20)
    sharp = train_from_features(planted, "sharp.pooled", device="cpu", n_boot=20)
    other = train_from_features(planted, "sharp.pooled", device="cpu", n_boot=20, widths=(8,))
    keys = [done.result.key for done in (wide, sharp, other)]
    assert keys == ["stacked.wide", "stacked.narrow", "stacked.other"]
    targets = open_targets(planted.targets)
    files = {name: open_features(planted.features_of(name)) for name in ("grid", "sharp")}
    found, stale = read_stacks(planted.finetuned, files, targets)
    assert not stale and {stack.folder for stack in found} == {wide.folder, sharp.folder, other.folder}
    results = [evaluate_stack(stack, files[stack.source[0]], targets, 20)[0] for stack in found]
    assert {r.key: r.srcc for r in results}["stacked.wide"] == wide.result.srcc
    names = {"stacked.wide": "mlsp_wide", "stacked.narrow": "mlsp"}
    as_mlsp = [
        replace(r, backbone=names.get(r.key, r.backbone), output=r.key.partition(".")[2]) for r in results
    ]
    rows = {row.label: row.result for row in compare(TABLE_1, as_mlsp, with_others=False) if row.result}
    assert {label: r.key for label, r in rows.items()} == {
        "MLSP, trained on the paper's split: narrow features": "stacked.narrow",
        "MLSP, trained on the paper's split: wide features": "stacked.wide",
    }
    assert not [row for row in compare(TABLE_1, results, with_others=False) if row.result]
    with_cells(planted, [5, 5], 75)  # other features than it was trained on
    files["grid"] = open_features(planted.features_of("grid"))
    found, stale = read_stacks(planted.finetuned, files, targets)
    assert len(found) == 2 and "was trained on other features than there are now" in stale[0]
    assert print_stacks(found, stale).notes == [f"Left out: {stale[0]}."]
    (sharp.folder / "predictions.csv").write_text("image_id,score\n", encoding="utf-8")
    with pytest.raises(ValueError, match="predictions.csv is not what was written"):
        read_stacks(planted.finetuned, files, targets)


@pytest.mark.slow
def test_one_command_from_photographs_to_both_heads(run, tmp_path, monkeypatch):
    """Weights by file, features made on the way, as a new user types it; then the probe and its limits."""
    import finetune.stacked as stacked

    monkeypatch.setattr(stacked, "STACKS", {
        "narrow": stacked.StackSettings(widths=(8,), dropouts=(0.0,), rates=(1e-2,), epochs=2, batch_size=16),
        "wide": stacked.StackSettings(4, (8,), (0.0,), (1e-2,), 2, 2, "plcc", 16),
    })  # fmt: skip
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    lines = ["image_id,path,score,split"]
    for i in range(60):
        picture = rng.integers(0, 256, (80, 76 + i % 3, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "photos" / f"{i}.png")
        lines.append(f"{i},{i}.png,{1 + i % 7},{'test' if i % 5 == 0 else 'train'}")
    (tmp_path / "ratings.csv").write_text("\n".join(lines), encoding="utf-8")
    weights = tmp_path / "v3.safetensors"
    save_file(random_net("inception_v3").state_dict(), weights)
    code, _, errors = run(
        "dataset", "add", "mine", "--kind", "table", "--images", tmp_path / "photos", "--ratings",
        tmp_path / "ratings.csv",
    )  # fmt: skip
    assert code == 0, errors
    how = ("--device", "cpu", "--n-boot", 20, "--json", "--weights", f"mlsp_v3_wide={weights}")
    monkeypatch.setattr("iaa.library.embedding.SAID_FROM", 0)
    code, out, errors = run("finetune", "-d", "mine", "--from-features", "mlsp_v3_wide.wide", *how)
    assert code == 0, errors
    told = " ".join(errors.split())
    assert "mine has no features of mlsp_v3_wide yet: they are made first" in told
    assert "narrow 10,048, wide 251,200 numbers, 542.6 kB a photograph, 0.0 GB for 60" in told
    results = json.loads(out)["results"]
    assert [r["key"] for r in results] == ["stacked.wide", "probe.ridge"]
    code, out, errors = run("finetune", "-d", "mine", "--from-features", "mlsp_v3_wide.narrow", *how)
    assert code == 0 and json.loads(out)["head"] == "narrow", errors
    code, out, errors = run("probe", "-d", "mine", "-b", "mlsp_v3_wide", "--n-boot", 20, "--json")
    assert code == 0 and "wide" not in {r["output"] for r in json.loads(out)["results"]}, errors
    monkeypatch.setattr("analysis.probing.probes.MAX_NUMBERS", 10**6)
    code, _, errors = run("probe", "-d", "mine", "-b", "mlsp_v3_wide", "--output", "wide")
    assert code != 0 and "Up to 3 can be fitted" in errors and "--output narrow" in errors
