"""Test labels choose nothing, test features standardise nothing; training labels, as a control, do choose."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.evidence.labels import majority_prediction
from analysis.probing import evidence
from analysis.probing.distribution import fit_distribution
from analysis.probing.heads import head_of
from analysis.probing.joint import Joint
from analysis.probing.probes import Features, ProbeFit, fit_all, fit_probes
from analysis.prompting.evaluation import PromptingEvaluation, RatedImages, evaluate_prompting
from analysis.prompting.scores import LabelScores
from store import Targets, open_features, open_targets
from tests.worlds import write_features

METHODS = ("fixed", "context", "context_max", "ensemble_mean_of_raw", "ensemble_mean_of_unit")


def shuffled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(values)


def reversed_order(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same votes, the worst image getting those of the best: the strongest pull the other way."""
    rank = np.argsort(np.argsort(_means(values), kind="stable"), kind="stable")
    return values[np.argsort(_means(values), kind="stable")[::-1]][rank]


def all_high(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every image loved by everybody: means, classes and spreads that no training image has."""
    if values.ndim == 1:
        return np.full_like(values, 1e6)
    loved = np.zeros_like(values)
    loved[:, -1] = 1000
    return loved


def _means(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 1 else values @ np.arange(values.shape[1]) / values.sum(axis=1)


CHANGES = [shuffled, reversed_order, all_high]
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@pytest.fixture(scope="module")
def votes(rated_world: Path) -> Targets:
    return open_targets(rated_world / "targets.h5")


@pytest.fixture(scope="module")
def sharp(rated_world: Path) -> Iterator[Features]:
    with open_features(rated_world / "features" / "sharp.h5") as features:
        yield features


def with_changed(targets: Targets, split: str, change: Change) -> Targets:
    """The targets with the ratings of one split changed, whether votes or scores."""
    rows, rng = targets.split == split, np.random.default_rng(1)
    name = "votes" if targets.votes is not None else "scores"
    values = getattr(targets, name).copy()
    values[rows] = change(values[rows], rng)
    assert not np.array_equal(values, getattr(targets, name))
    return replace(targets, **{name: values})


def as_scores(targets: Targets) -> Targets:
    assert targets.votes is not None
    return replace(targets, votes=None, levels=None, scores=_means(targets.votes) + 1)


def chosen_by_probe(fit: ProbeFit, features: Features) -> dict[str, Any]:
    """All that a fit decides or standardises by, and what it therefore predicts."""
    basis = fit.path.basis
    found: dict[str, Any] = {
        "alpha": fit.ridge.alpha,
        "errors of the alphas": fit.cv_mse,
        "mean": basis.mean,
        "scale": basis.scale,
        "rank": basis.rank,
        "solver": basis.solver,
        "weights": np.stack([fit.ols.weights, fit.ridge.weights]),
        "bias": [fit.ols.bias, fit.ridge.bias],
        "predictions": np.stack([fit.predictions["ols"], fit.predictions["ridge"]]),
        "classes": np.stack([fit.prediction(kind).high for kind in ("ols", "ridge")]),
        "threshold": fit.threshold,
        "majority": majority_prediction(fit.rows.is_high[fit.rows.train], 1),
        "head": np.concatenate([layer.ravel() for pair in head_of(fit, fit.ridge).layers for layer in pair]),
    }
    distribution = fit_distribution(fit, features)
    if distribution is not None:
        found |= {
            "alpha of the distribution": distribution.alpha,
            "distribution": distribution.predicted,
            "mean distribution": distribution.train_mean,
        }
    return found


def moved(first: dict[str, Any], second: dict[str, Any]) -> set[str]:
    assert first.keys() == second.keys()
    return {name for name in first if not _equal(first[name], second[name])}


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and a.dtype.kind == "f":
        return np.array_equal(a, b, equal_nan=True)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["votes", "scores"])
def test_test_ratings_choose_nothing_of_a_probe(
    sharp: Features, votes: Targets, kind: str, change: Change
) -> None:
    targets = votes if kind == "votes" else as_scores(votes)
    other = with_changed(targets, "test", change)
    for n_folds in (None, 5):
        for unit_norm in (False, True):
            found = [fit_probes(sharp, t, "pooled", unit_norm, n_folds=n_folds) for t in (targets, other)]
            assert moved(*(chosen_by_probe(fit, sharp) for fit in found)) == set()


def test_test_ratings_choose_nothing_through_a_cache_or_side_by_side(
    rated_world: Path, sharp: Features, votes: Targets, tmp_path: Path
) -> None:
    other = with_changed(votes, "test", reversed_order)
    first = fit_probes(sharp, votes, "pooled", n_folds=5, cache=tmp_path)
    second = fit_probes(sharp, other, "pooled", n_folds=5, cache=tmp_path)
    assert moved(chosen_by_probe(first, sharp), chosen_by_probe(second, sharp)) == set()
    with open_features(rated_world / "features" / "dull.h5") as dull:
        joint = Joint([(sharp, "pooled"), (dull, "pooled")])
        found = [fit_probes(joint, targets, joint.output) for targets in (votes, other)]
        assert moved(*(chosen_by_probe(fit, joint) for fit in found)) == set()


def test_training_ratings_do_choose(sharp: Features, votes: Targets) -> None:
    """The control: the comparison above would see it if a rating had a say."""
    other = with_changed(votes, "train", reversed_order)
    found = [chosen_by_probe(fit_probes(sharp, t, "pooled"), sharp) for t in (votes, other)]
    assert moved(*found) >= {"errors of the alphas", "weights", "bias", "predictions", "distribution"}
    peeking = replace(votes, split=np.where(np.arange(votes.n_images) % 5 == 1, "test", "train"))
    assert "weights" in moved(found[0], chosen_by_probe(fit_probes(sharp, peeking, "pooled"), sharp))


def test_learning_curves_choose_alpha_without_the_test_ratings(
    sharp: Features, votes: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    alphas: list[float] = []
    original = evidence.probe_of

    def recorded(path: Any, alpha: float, *more: Any) -> Any:
        alphas.append(alpha)
        return original(path, alpha, *more)

    monkeypatch.setattr(evidence, "probe_of", recorded)
    for targets in (votes, with_changed(votes, "test", reversed_order)):
        evidence.learning_curve(fit_probes(sharp, targets, "pooled"), sharp, n_sizes=4, n_repeats=2)
    assert len(alphas) == 16 and len(set(alphas)) > 1 and alphas[:8] == alphas[8:]


def test_test_features_choose_and_standardise_nothing(
    sharp: Features, votes: Targets, tmp_path: Path
) -> None:
    """Test images are moved far away; every number but the predictions for them stays."""
    test = votes.split == "test"
    rng = np.random.default_rng(2)
    outputs = {name: sharp.read(name).astype(np.float64) for name in sharp.outputs}
    for rows in outputs.values():
        rows[test] = 1000 + 50 * rng.normal(size=rows[test].shape)
    write_features(tmp_path / "sharp.h5", "sharp", sharp.image_id, outputs)
    with open_features(tmp_path / "sharp.h5") as elsewhere:
        for n_folds in (None, 5):
            for unit_norm in (False, True):
                found = [
                    chosen_by_probe(fit_probes(f, votes, "pooled", unit_norm, n_folds=n_folds), f)
                    for f in (sharp, elsewhere)
                ]
                assert moved(*found) <= {"predictions", "classes", "distribution"}
                assert "predictions" in moved(*found)
        assert len(fit_all([elsewhere], votes)) == 2 * len(outputs)


N_IMAGES = 400
LABELS = tuple(f"good{i}" for i in range(6)) + tuple(f"bad{i}" for i in range(5))
POLARITY = np.array([1] * 6 + [-1] * 5)


@pytest.fixture(scope="module")
def prompted() -> tuple[dict[str, LabelScores], RatedImages]:
    """Label scores of five methods, in which other labels are best, and ratings that go with them."""
    rng = np.random.default_rng(8)
    quality = rng.normal(size=N_IMAGES)
    scores = {}
    for method in METHODS:
        strength = POLARITY * rng.uniform(0, 0.6, len(LABELS)) * quality[:, None]
        strength = (strength + 0.5 * rng.normal(size=strength.shape)).astype(np.float32)
        decision = (strength + 0.2 * rng.normal(size=strength.shape)).astype(np.float32)
        same = method.startswith(("fixed", "ensemble"))
        scores[method] = LabelScores(method, LABELS, POLARITY, strength if same else decision, strength)
    mos = np.round(5.3 + 0.7 * quality + 0.3 * rng.normal(size=N_IMAGES), 2)
    split = np.where(np.arange(N_IMAGES) % 4 == 0, "test", "train")
    names = np.array([f"photo{i:03d}" for i in range(N_IMAGES)])
    rated = RatedImages(
        names, names, mos, mos > 5, split == "train", split == "test", 0, 0, "planted", "given", 5.0
    )
    return scores, rated


def with_changed_ratings(rated: RatedImages, rows: np.ndarray, change: Change) -> RatedImages:
    mos = rated.mos.copy()
    mos[rows] = change(mos[rows], np.random.default_rng(1))
    assert not np.array_equal(mos, rated.mos)
    return replace(rated, mos=mos, is_high=mos > rated.threshold)


def chosen_by_prompting(found: PromptingEvaluation) -> dict[str, Any]:
    """Pairs of every method for both tasks, ensembles, the bottleneck's alpha and scale, and predictions."""
    chosen: dict[str, Any] = {"steps": [dataclasses.astuple(s) for s in found.greedy]}
    for result in found.results:
        chosen[result.key] = {k: v for k, v in result.detail.items() if not k.startswith("n_")}
    for method, table in found.train_tables.items():
        chosen[f"{method}, table"] = np.stack([table.accuracy, table.srcc, table.plcc])
    for method, prediction in found.predictions.items():
        chosen |= {f"{method}, {part}": values for part, values in vars(prediction).items()}
    for part, values in vars(found.bottleneck).items():
        chosen[f"bottleneck, {part}"] = values
    return chosen


@pytest.mark.parametrize("extras_from", ["fixed", "context", "ensemble_mean_of_raw"])
@pytest.mark.parametrize("change", CHANGES)
def test_test_ratings_choose_no_pair_no_ensemble_and_no_alpha(
    prompted: tuple[dict[str, LabelScores], RatedImages], change: Change, extras_from: str
) -> None:
    scores, rated = prompted
    other = with_changed_ratings(rated, rated.test, change)
    found = [
        chosen_by_prompting(evaluate_prompting(scores, r, "b", "embedding", 0, 20, extras_from=extras_from))
        for r in (rated, other)
    ]
    assert found[0].keys() >= {f"prompting.{m}" for m in (*METHODS, "clip_iqa", "greedy", "bottleneck")}
    pairs = {tuple(found[0][f"prompting.{method}"]["binary_pair"]) for method in METHODS}
    assert len(pairs) > 1  # the methods do not all choose the same anyway
    assert moved(*found) == set()


def test_training_ratings_do_choose_pairs(prompted: tuple[dict[str, LabelScores], RatedImages]) -> None:
    scores, rated = prompted
    other = with_changed_ratings(rated, rated.train, shuffled)
    found = [chosen_by_prompting(evaluate_prompting(scores, r, "b", "o", 0, 20)) for r in (rated, other)]
    assert moved(*found) >= {*(f"prompting.{m}" for m in METHODS), "prompting.greedy", "bottleneck, weight"}


def test_test_images_standardise_nothing_of_prompting(
    prompted: tuple[dict[str, LabelScores], RatedImages],
) -> None:
    scores, rated = prompted
    far = {}
    for method, found in scores.items():
        decision, strength = found.decision.copy(), found.strength.copy()
        decision[rated.test] += 40
        strength[rated.test] *= -30
        far[method] = replace(found, decision=decision, strength=strength)
    found = [chosen_by_prompting(evaluate_prompting(s, rated, "b", "o", 0, 20)) for s in (scores, far)]
    predictions = {name for name in found[0] if name.endswith((", score", ", high"))}
    assert moved(*found) <= predictions and "bottleneck, score" in moved(*found)


def test_the_comparison_sees_pairs_that_were_chosen_on_test_images_too(
    prompted: tuple[dict[str, LabelScores], RatedImages],
) -> None:
    """Another control: test images among those that choose would be noticed."""
    scores, rated = prompted
    peeking = replace(rated, train=rated.train | rated.test)
    found = [
        chosen_by_prompting(evaluate_prompting(scores, r, "b", "o", 0, 20))
        for r in (peeking, with_changed_ratings(peeking, rated.test, reversed_order))
    ]
    assert moved(*found) >= {*(f"prompting.{method}" for method in METHODS), "bottleneck, weight"}
