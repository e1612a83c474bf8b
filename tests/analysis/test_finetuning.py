"""Fine-tuned runs as read from their records, their place in Table 1, and their figures."""

import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.figures.finetuning import plot_cost, plot_epochs
from analysis.results.finetuning import (
    Cost,
    compare_finetuned,
    evaluate_finetuned,
    print_epochs,
    print_runs,
    read_distributions,
    read_runs,
)
from analysis.results.methods import MethodResult, Metric
from analysis.results.tables import TABLE_1, compare
from store.targets import Targets

SETTINGS = {"preset": "paper", "train": "all", "optimizer": "sgd", "momentum": 0.5, "lr_head": 0.01,
            "lr_tower": 0.0001, "batch_size": 128}  # fmt: skip


def write_run(folder, name, backbone="vit_b32.openai", losses=(0.3, 0.1, 0.2), **settings):
    run = folder / name
    run.mkdir(parents=True)
    record = {
        "id": f"{backbone}+finetuned.{name}", "best_epoch": int(np.argmin(losses)) + 1, "n_trainable": 1000,
        "identity": {"dataset": "d", "backbone": backbone, "settings": {**SETTINGS, **settings}},
        "n_fitted": 90, "n_held_out": 10, "seconds": 12.5, "stopped": "no improvement",
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(record))
    lines = [
        {"epoch": i, "train_loss": x, "held_out_loss": x, "held_out_srcc": 1 - x}
        for i, x in enumerate(losses, start=1)
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_runs_are_read_with_their_epochs(tmp_path):
    write_run(tmp_path, "a", losses=(0.3, 0.15, 0.2), preset="other")
    write_run(tmp_path, "b")
    write_run(tmp_path, "c", backbone="vit_b32.in21k", losses=(0.4, 0.3))
    (tmp_path / "unfinished").mkdir()
    runs = read_runs(tmp_path, "d")
    assert [run.id.rpartition(".")[2] for run in runs] == ["c", "b", "a"], "the paper's settings first"
    assert read_runs(tmp_path, "other data") == []
    assert runs[1].epoch.tolist() == [1, 2, 3] and runs[1].best_epoch == 2
    cells = print_epochs(runs).texts()
    assert [line[1] for line in cells] == ["2 of 2", "2 of 3", "2 of 3"]
    assert [line[4] for line in cells] == ["247", "35", "35"]
    assert len(print_runs(runs)) == 3
    figure = plot_epochs(runs)
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), [0.4, 0.3])
    plt.close(figure)
    (tmp_path / "b/log.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="no whole fine-tuning.*iaa finetune again"):
        read_runs(tmp_path, "d")


def test_the_cost_figure_shows_every_method(tmp_path):
    costs = [
        Cost("prompts", "a", 0, None, Metric(0.3, 0.2, 0.4)),
        Cost("probe", "a", 129, 0.1, Metric(0.6, 0.5, 0.7)),
        Cost("all", "b", 10**6, 60.0, Metric(0.7, 0.6, 0.8)),
    ]
    figure = plot_cost(costs)
    left, right = figure.axes
    assert (len(left.lines), len(right.lines)) == (6, 4), "what has no seconds stands left alone"
    figure.canvas.draw()
    plt.close(figure)


def tuned_features(shares, levels, image_id, ok, settings=SETTINGS):
    """A stand-in with what the functions read of an open feature file."""
    record = {
        "identity": {"backbone": "demo_clip", "output": "x", "dataset": "d", "settings": settings},
        "levels": levels, "best_epoch": 2, "n_trainable": 7,
    }  # fmt: skip
    return SimpleNamespace(
        path="f.h5", backbone="demo_clip+finetuned.0", provenance={"finetune": record}, digest="0",
        outputs={"distribution": len(levels)}, image_id=image_id, ok=ok,
        read=lambda name, rows=None: shares if rows is None else shares[rows],
        check_images=lambda images: None,
    )  # fmt: skip


@pytest.fixture
def planted():
    """Predictions that are the votes themselves, one level too high: ranks right, means off by 1."""
    rng = np.random.default_rng(0)
    votes = np.zeros((60, 7), np.int64)
    votes[:, :6] = rng.multinomial(30, rng.dirichlet(np.ones(6), 60))
    shares = np.roll(votes / votes.sum(axis=1, keepdims=True), 1, axis=1).astype(np.float32)
    ids = np.array([f"{i:02d}" for i in range(60)])
    split = np.where(np.arange(60) < 30, "train", "test")
    targets = Targets(ids, ids, votes, None, np.arange(1, 8), 4.0, split, "given", "d", digest="1")
    return shares, targets, ids


def test_metrics_are_those_of_the_distributions_means(planted):
    shares, targets, ids = planted
    ok = np.arange(60) != 59
    order = np.random.default_rng(1).permutation(60)  # the file has another order than the targets
    features = tuned_features(shares[order], list(range(1, 8)), ids[order], ok[order])
    result = evaluate_finetuned(features, targets, 20)
    assert (result.key, result.backbone, result.n_test) == ("finetune", "demo_clip", 29)
    # float32 shares break the ties of equal mean votes
    assert result.srcc.value == pytest.approx(1, abs=0.005) and result.plcc.value == pytest.approx(1)
    votes = targets.votes[30:59]
    mean = votes @ np.arange(1, 8) / 30
    assert result.accuracy.value == pytest.approx(np.mean((mean + 1 > 4) == (mean > 4)), abs=0.04)
    cdf = np.cumsum(votes / 30 - shares[30:59], axis=1)
    assert result.detail["emd_r2"][0] == pytest.approx(np.sqrt((cdf**2).mean(axis=1)).mean())
    variant = tuned_features(shares, list(range(1, 8)), ids, ok, {**SETTINGS, "train": "last:2"})
    assert evaluate_finetuned(variant, targets, 20).key == "tuned.last:2"
    nima = tuned_features(shares, list(range(1, 8)), ids, ok, {**SETTINGS, "preset": "nima"})
    assert evaluate_finetuned(nima, targets, 20).key == "nima"


def test_a_file_that_was_not_fine_tuned_is_refused():
    plain = SimpleNamespace(provenance={}, outputs={"embedding": 5}, path="f.h5", backbone="demo_clip")
    with pytest.raises(ValueError, match=r"f\.h5: demo_clip was not fine-tuned"):
        read_distributions(plain)


def test_differences_join_on_ids(planted):
    from analysis.evidence.bootstrap import Prediction

    shares, targets, ids = planted
    y = targets.votes[30:] @ np.arange(1, 8) / 30
    noise = np.random.default_rng(2).normal(size=30)
    fit = SimpleNamespace(
        backbone="demo_clip", name="demo_clip/x", test_id=ids[30:][::-1], y_test=y[::-1],
        is_high_test=(y > 4)[::-1], prediction=lambda kind: Prediction(noise, noise > 0),
    )  # fmt: skip
    features = tuned_features(shares, list(range(1, 8)), ids, np.ones(60, bool))
    (found,) = compare_finetuned([fit], [features], targets, "srcc", 50)
    assert (found.first, found.second) == ("demo_clip+finetuned.0", "frozen demo_clip/x")
    mean = shares[30:].astype(float) @ np.arange(1, 8)
    expected = spearmanr(y, mean).statistic - spearmanr(y[::-1], noise).statistic
    assert found.value == pytest.approx(expected)


def test_table_1_has_the_rows():
    def result(key, backbone):
        metric = Metric(0.5, 0.4, 0.6)
        return MethodResult(key, "m", backbone, "x", "d", "s", 1, 2, accuracy=metric, srcc=metric)

    kinds = [("tuned.head", "demo_clip"), ("finetune", "demo_clip"), ("finetune", "demo_vit")]
    made = [result(*kind) for kind in kinds]
    rows = {row.label: row for row in compare(TABLE_1, made, with_others=False)}
    assert rows["CLIP, fine-tuned†"].result is made[1]
    assert rows["ViT (ImageNet-21k), fine-tuned†"].result is made[2]
    nima = rows["NIMA, re-implementation (idealo)"]
    assert nima.result is None and "--preset nima" in nima.missing
