"""Fitted on all, measured by folds: scikit-learn's numbers, and what belongs together stays together."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.evidence.labels import RatingsError
from analysis.probing import heads, probes
from analysis.probing.crossing import deal_folds, fit_on_all, join_all
from store import Features, Targets, open_features, open_targets, write_targets
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed

N, DIM = 120, 12


def world(folder: Path, x: np.ndarray, y: np.ndarray) -> tuple[Features, Targets]:
    """Features and scores of photographs whose ids are not in their order; the first has failed."""
    ids = np.array([f"{(number * 7) % len(y):03d}.jpg" for number in range(len(y))])
    status = np.ones(len(y), np.uint8)
    status[0] = 2
    x = np.where(status[:, None] == 1, x, np.nan).astype(np.float32)
    arrays = {
        "image_id": ids, "status": status, "failures/row": np.array([0]),
        "failures/reason": np.array(["gone"]), "outputs/pooled": x,
    }  # fmt: skip
    write_sealed(folder / "f.h5", FEATURES_SCHEMA, {"backbone": "b"}, {}, arrays)
    split = np.where(np.arange(len(y)) < 100, "train", "test")
    targets = Targets(ids, ids, None, y, None, float(np.median(y)), split, "given", "mine")
    write_targets(folder / "targets.h5", targets, {}, {})
    return open_features(folder / "f.h5"), open_targets(folder / "targets.h5")


@pytest.fixture
def planted(rng: np.random.Generator, tmp_path: Path) -> tuple[Features, Targets]:
    x = rng.normal(size=(N, DIM)) @ rng.normal(size=(DIM, DIM))
    return world(tmp_path, x, x @ rng.normal(size=DIM) + 4 * rng.normal(size=N))


def test_it_is_scikit_learns_cross_validation(planted: tuple[Features, Targets]) -> None:
    features, targets = planted
    assert targets.scores is not None
    fit = fit_on_all(features, targets, "pooled")
    x, y = features.read("pooled")[1:].astype(float), targets.scores[1:]
    model = make_pipeline(StandardScaler(), RidgeCV(probes.ALPHAS))
    folds = deal_folds(features.image_id[1:], {}, 10)
    expected = cross_val_predict(model, x, y, cv=PredefinedSplit(folds))
    np.testing.assert_allclose(fit.predictions["ridge"], expected, rtol=1e-6)
    result = probes.evaluate_probe(fit, n_boot=20)[1]
    assert result.srcc is not None and (result.n_train, result.n_test) == (N - 1, N - 1)
    assert result.srcc.value == pytest.approx(spearmanr(expected, y).statistic, abs=1e-12)
    assert result.detail["n_folds"] == 10 and not result.detail["is_grouped"]
    whole = model.fit(x, y)
    np.testing.assert_allclose(fit.ridge.predict(x), whole.predict(x), rtol=1e-6)
    assert abs(result.srcc.value - spearmanr(whole.predict(x), y).statistic) > 0.005, "not what it has seen"


def test_what_belongs_together_gives_nothing_away(rng: np.random.Generator, tmp_path: Path) -> None:
    """60 bursts of two, liked at random: one picture of a burst tells the other's rating, and no more."""
    x = np.repeat(rng.normal(size=(60, 200)), 2, axis=0) + 0.01 * rng.normal(size=(120, 200))
    features, targets = world(tmp_path, x, np.repeat(rng.normal(size=60), 2))
    bursts = features.image_id.reshape(60, 2)
    together = {name: f"burst {number}" for number, burst in enumerate(bursts) for name in burst}
    reached = {}
    for known in ({}, together):
        fit = fit_on_all(features, targets, "pooled", together=known)
        reached[fit.is_grouped] = spearmanr(fit.predictions["ridge"], fit.y_test).statistic
    assert reached[False] > 0.8 and reached[True] < 0.3


def test_folds_are_even_whole_and_not_by_order(rng: np.random.Generator) -> None:
    ids = np.array([f"{number}.jpg" for number in range(103)])
    fold = deal_folds(ids, {}, 10)
    assert set(np.bincount(fold)) == {10, 11} and (fold != deal_folds(ids, {}, 10, seed=1)).any()
    order = rng.permutation(103)
    np.testing.assert_array_equal(deal_folds(ids[order], {}, 10), fold[order])
    together = {f"{number}.jpg": str(number // 7) for number in range(35)}
    fold = deal_folds(ids, together, 10)
    assert all(len(set(fold[start : start + 7])) == 1 for start in range(0, 35, 7))
    assert np.bincount(fold).max() <= 11
    with pytest.raises(RatingsError, match="1 after counting those that belong together as one"):
        deal_folds(ids, dict.fromkeys(ids.tolist(), "one"), 2)


def test_a_head_of_all_says_so_and_is_not_measured_on_what_it_saw(
    planted: tuple[Features, Targets], tmp_path: Path
) -> None:
    features, targets = planted
    fit = fit_on_all(features, targets, "pooled", together={"007.jpg": "014.jpg", "014.jpg": "014.jpg"})
    result = probes.evaluate_probe(fit, n_boot=20)[1]
    heads.save_head(tmp_path / "h", heads.head_of(fit, fit.ridge, result))
    head = heads.load_head(tmp_path / "h")
    assert result.srcc is not None and head.origin == "mine, all 119 rated photographs"
    assert head.reaches.startswith(f"SRCC {result.srcc.value:.3f} [") and head.reaches.endswith("by folds")
    assert head.about["metrics_of"] == (
        "each photograph by fits on other folds (10, those that belong together in one)"
    )
    rows = probes.join_rows(features, targets)
    with pytest.raises(heads.HeadError, match="all 119 rated photographs, so no image is left .* SRCC"):
        heads.evaluate_head(head, features, rows, targets)


def test_five_photographs_are_five_folds(rng: np.random.Generator, tmp_path: Path) -> None:
    features, targets = world(tmp_path, rng.normal(size=(6, 3)), rng.normal(size=6))
    assert fit_on_all(features, targets, "pooled", rows=join_all(features, targets)).n_folds == 5
