"""Fitted on all, measured by folds: scikit-learn's numbers, and what belongs together stays together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from analysis.evidence.folds import assign_folds
from analysis.evidence.labels import RatingsError, targets_mos
from analysis.probing import heads, probes
from analysis.probing.crossing import deal_folds, fit_on_all, fit_votes_on_all, join_all
from analysis.probing.vote_probes import STRENGTHS, evaluate_votes, fit_votes
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


class _ByHash:
    """scikit-learn's way of naming folds, ours of dealing them: by the ids of the rows it is given."""

    def __init__(self, ids):
        self.ids = ids

    def get_n_splits(self, *_, **__):
        return 5

    def split(self, x, y=None, groups=None):
        return PredefinedSplit(assign_folds(self.ids[x[:, 0].astype(int)], 5)).split()


def test_probes_of_votes_are_scikit_learns_cross_validation(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ridge on the mean vote: each photograph by a search over strengths within the other nine folds."""
    monkeypatch.setitem(STRENGTHS, "mean", (20.0, 10.0, 5.0))
    x = rng.normal(size=(N, DIM)) @ rng.normal(size=(DIM, DIM))
    features, targets = world(tmp_path, x, np.zeros(N))
    chance = 1 / (1 + np.exp(-(x @ rng.normal(size=DIM)) / 6))
    votes = np.stack([rng.binomial(20, chance), np.zeros(N)], axis=1).astype(np.int64)
    votes[:, 1] = 20 - votes[:, 0]
    targets = replace(targets, votes=votes, levels=np.array([1, 2]), scores=None, threshold=1.5)
    entries = [[(features, "pooled")]]
    found = fit_votes_on_all(entries, targets, ("mean", "levels"), n_folds=4)
    ids, y = features.image_id[1:], targets_mos(targets)[1:]
    with_row = np.column_stack([np.arange(N - 1), features.read("pooled")[1:].astype(float)])
    model = make_pipeline(FunctionTransformer(lambda rows: rows[:, 1:]), StandardScaler(), Ridge())
    tried = {"ridge__alpha": STRENGTHS["mean"]}
    search = GridSearchCV(model, tried, cv=_ByHash(ids), scoring="neg_mean_squared_error")
    folds = deal_folds(ids, {}, 4)
    expected = cross_val_predict(search, with_row, y, cv=PredefinedSplit(folds))
    np.testing.assert_allclose(found.fits[0].mean, expected, rtol=1e-6)
    seen = np.stack([votes[1:][folds != k].mean(axis=0) / 20 for k in range(4)])[folds]
    np.testing.assert_allclose(found.constant, seen, rtol=1e-12)
    assert found.test_id.tolist() == ids.tolist() and found.split_name == "all, 4 folds"
    whole = fit_votes(entries, targets, ("mean",), rows=replace(found.rows, is_crossed=False)).fits[0]
    assert found.fits[0].strength == whole.strength, "the strength that is told is that of the fit on all"
    results = evaluate_votes(found, n_boot=20)
    assert all((r.n_train, r.n_test, r.detail["n_folds"]) == (N - 1, N - 1, 4) for r in results)
    assert results[0].srcc is not None
    assert results[0].srcc.value == pytest.approx(spearmanr(expected, y).statistic, abs=1e-12)
    assert np.abs(found.fits[1].predicted.sum(axis=1) - 1).max() < 1e-9
