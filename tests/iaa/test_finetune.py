"""`iaa finetune` as people type it: results in the store, tuned backbones in `iaa embed`, clear mistakes."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from analysis.probing.probes import fit_probes
from analysis.results.finetuning import compare_finetuned, evaluate_finetuned, read_runs
from store import open_features, open_targets


@pytest.fixture
def mine(run, tmp_path):
    """60 small images whose votes rise with brightness, and one that is broken."""
    rng = np.random.default_rng(1)
    (tmp_path / "photos").mkdir()
    rows = [["file", *(f"votes_{i}" for i in range(1, 6)), "split"]]
    for i in range(60):
        bright = rng.uniform()
        pixels = np.clip(rng.normal(255 * bright, 30, (66, 70, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{i}.png")
        votes = rng.multinomial(50, np.roll([0.1, 0.8, 0.1, 0, 0], round(2 * bright)))
        rows.append([f"{i}.png", *votes, "test" if i % 4 == 0 else "train"])
    (tmp_path / "photos/broken.jpg").write_bytes(b"oops")
    rows.append(["broken.jpg", 1, 2, 3, 2, 1, "train"])
    with (tmp_path / "ratings.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    add = ("dataset", "add", "mine", "--kind", "table", "--images", tmp_path / "photos")
    assert run(*add, "--ratings", tmp_path / "ratings.csv")[0] == 0
    return run


QUICK = ("--preset", "demo", "--max-epochs", 1, "--held-out", 0.3, "--n-boot", 20)


def test_from_images_to_a_row_in_the_table(mine, tmp_path):
    data = tmp_path / "data/mine"
    command = ("finetune", "-d", "mine", "-b", "demo_vit", *QUICK, "--train", "head", "--train", "all")
    code, out, err = mine(*command, "--json")
    assert code == 0, err
    head, full = json.loads(out)["runs"]
    assert (head["settings"]["train"], full["settings"]["train"]) == ("head", "all")
    assert head["n_trainable"] == 129 * 5 < full["n_trainable"]
    assert full["n_fitted"] + full["n_held_out"] in (45, 46) and "not an image" in str(full["failures"])
    code, _, err = mine(*command)
    assert code == 0 and err.count("is finished") == 2 and "epoch 1" not in err
    features = open_features(data / f"features/{full['id']}.h5")
    assert features.outputs == {"pre_logits": 128, "distribution": 5} and len(features.failures) == 1
    shares = features.read("distribution", features.ok)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    targets = open_targets(data / "targets.h5")
    result = evaluate_finetuned(features, targets, 20)
    assert (result.key, result.backbone, result.n_test) == ("finetune", "demo_vit", 15)
    test = np.flatnonzero(targets.split == "test")
    mean = features.read("distribution", test) @ np.arange(1, 6)
    votes = targets.votes[test] @ np.arange(1, 6) / targets.votes[test].sum(axis=1)
    assert result.plcc.value == pytest.approx(np.corrcoef(mean, votes)[0, 1], abs=1e-6)
    frozen = open_features(data / "features/demo_vit.h5")
    assert not np.array_equal(frozen.read("pre_logits", test), features.read("pre_logits", test))
    alone = open_features(data / f"features/{head['id']}.h5")
    np.testing.assert_array_equal(frozen.read("pre_logits", test), alone.read("pre_logits", test))
    runs = read_runs(data / "finetuned", "mine")
    assert [r.id for r in runs] == [full["id"], head["id"]] and runs[0].best_epoch == 1
    fits = [fit_probes(frozen, targets, "pre_logits")]
    differences = compare_finetuned(fits, [features, alone], targets, "srcc", 20)
    assert [(d.first, d.second) for d in differences] == [
        (full["id"], "frozen demo_vit/pre_logits"), (head["id"], "frozen demo_vit/pre_logits")
    ]  # fmt: skip
    of_probe = _srcc(votes, fits[0].predictions["ridge"])
    assert differences[0].value == pytest.approx(result.srcc.value - of_probe)
    code, out, _ = mine("verify", "--json")
    assert code == 0 and json.loads(out)["n_damaged"] == 0

    code, _, err = mine("embed", "-d", "mine", "-b", full["id"])
    assert code == 0 and "Nothing to do" in err and "Next: iaa probe" in err
    code, _, err = mine("embed", "-d", "mine", "-b", "demo_vit+finetuned.0000000000")
    assert code == 1 and "no finished fine-tuning" in err and full["id"] in err
    code, _, err = mine("embed", "-p", "paper_fixed", "-d", "mine", "-b", full["id"])
    assert code == 2 and "no text tower" in err
    tuned = data / f"finetuned/{full['id'].replace('+finetuned', '')}/tuned.safetensors"
    damaged = bytearray(tuned.read_bytes())
    damaged[-100] ^= 1
    tuned.write_bytes(damaged)
    code, _, err = mine("embed", "-d", "mine", "-b", full["id"])
    assert code == 1 and "damaged or replaced" in err


def _srcc(a, b):
    from scipy.stats import spearmanr

    return spearmanr(a, b).statistic


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "papre"], "there are paper, nima, demo"),
        (["--train", "last:9"], "has 4 blocks"),
        (["--train", "tail"], "train is all, head or last:K"),
        (["--output", "embedding"], "it has pre_logits"),
        (["--lr-tower", "0"], "above 0"),
        (["--held-out", "0.001"], "2 are needed on either side"),
    ],
)
def test_mistakes_say_what_to_do(mine, arguments, message):
    code, out, err = mine("finetune", "-d", "mine", "-b", "demo_vit", *QUICK[:2], *arguments)
    assert (code, out) == (1, "") and message in " ".join(err.split())
    assert "Traceback" not in err
