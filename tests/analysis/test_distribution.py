"""The distribution probe, the simplex projection, the ceiling of the votes, the evidence around a probe."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from analysis.evidence.metrics import emd_r2, plcc, srcc
from analysis.probing import distribution, evidence, probes
from store import open_features, open_targets


@pytest.fixture(scope="module")
def fitted(rated_world: Path):
    targets = open_targets(rated_world / "targets.h5")
    features = {name: open_features(rated_world / "features" / f"{name}.h5") for name in ("sharp", "dull")}
    fits = {name: probes.fit_probes(file, targets, "pooled") for name, file in features.items()}
    return targets, features, fits


def test_projection_gives_the_nearest_distribution(rng: np.random.Generator) -> None:
    rows = rng.normal(0.2, 0.5, size=(5, 4))
    found = distribution.project_simplex(rows)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found.min() >= 0
    for row, projected in zip(rows, found, strict=True):
        nearest = minimize(
            lambda p, row=row: ((p - row) ** 2).sum(),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(projected, nearest.x, atol=1e-5)
    inside = np.array([[0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_allclose(distribution.project_simplex(inside), inside)


def test_distribution_probe_beats_the_mean_distribution_and_agrees_with_the_probe_of_the_mean(fitted) -> None:
    _, features, fits = fitted
    found = distribution.fit_distribution(fits["sharp"], features["sharp"])
    assert found is not None
    np.testing.assert_allclose(found.predicted.sum(axis=1), 1)
    np.testing.assert_allclose(found.train_mean.sum(), 1)
    result = distribution.evaluate_distribution(fits["sharp"], found, n_boot=50)
    assert result.detail["emd_r2"][2] < result.detail["emd_r2_train_mean"][1]
    assert result.detail["emd_r2"][0] == pytest.approx(emd_r2(found.shares, found.predicted).mean())
    assert plcc(found.mean, fits["sharp"].predictions["ridge"]) > 0.99


def test_a_data_set_with_scores_has_no_distribution(rated_world: Path, fitted) -> None:
    from dataclasses import replace

    targets, features, _ = fitted
    scored = replace(targets, votes=None, levels=None, scores=np.linspace(1, 9, targets.n_images))
    fit = probes.fit_probes(features["sharp"], scored, "pooled")
    assert distribution.fit_distribution(fit, features["sharp"]) is None
    assert evidence.residuals_by_spread(fit, "ridge") is None


def test_split_votes_draws_without_replacement(rng: np.random.Generator) -> None:
    votes = rng.integers(0, 9, size=(200, 10)) + 1
    wanted = votes.sum(axis=1) // 2
    drawn = np.stack([distribution.split_votes(votes, wanted, rng) for _ in range(200)])
    assert (drawn.sum(axis=2) == wanted).all() and (drawn >= 0).all() and (drawn <= votes).all()
    np.testing.assert_allclose(drawn.mean(axis=0), votes * (wanted / votes.sum(1))[:, None], atol=0.5)


def test_noise_ceiling_is_the_correlation_with_the_true_means(rng: np.random.Generator) -> None:
    truth = rng.uniform(3, 7, 3000)
    levels = np.arange(1, 11)
    weight = np.exp(-0.5 * ((levels - truth[:, None]) / 2) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    for n_votes in (6, 60):
        votes = rng.multinomial(n_votes, weight)
        found = distribution.noise_ceiling(votes, levels, 10, rng)
        actual = plcc(weight @ levels, votes @ levels / n_votes)
        assert found.plcc.value == pytest.approx(actual, abs=0.012)
        assert found.split_half_srcc.value < found.srcc.value < 1


def test_learning_curve_rises_and_ends_at_all_training_images(fitted) -> None:
    _, features, fits = fitted
    curve = evidence.learning_curve(fits["sharp"], features["sharp"], n_sizes=5, n_repeats=3)
    assert curve.n_train[-1] == len(fits["sharp"].rows.train)
    assert curve.n_train.tolist() == sorted({curve.n_train[-1] >> step for step in range(5)})
    assert curve.srcc[:, 0].mean() < curve.srcc[:, -1].mean()
    # The last step has all images whatever their order.
    np.testing.assert_allclose(curve.srcc[:, -1], curve.srcc[0, -1], atol=1e-3)
    whole = srcc(fits["sharp"].y_test, fits["sharp"].predictions["ridge"])
    assert curve.srcc[0, -1] == pytest.approx(whole, abs=0.01)
    small = evidence.learning_curve(fits["sharp"], features["sharp"], n_sizes=7, n_repeats=1)
    assert small.n_train[0] < 24 and np.isfinite(small.srcc).all()
    again = evidence.learning_curve(fits["sharp"], features["sharp"], n_sizes=5, n_repeats=3)
    assert np.array_equal(curve.srcc, again.srcc)


def test_bins_hold_equally_many_images_and_their_means() -> None:
    x = np.array([4.0, 1, 3, 2, 6, 5])
    found = evidence.bin_means(x, 10 * x, 3)
    assert found.n.tolist() == [2, 2, 2]
    assert found.x.tolist() == [1.5, 3.5, 5.5] and found.y.tolist() == [15, 35, 55]


def test_probes_are_compared_on_the_same_images_though_their_files_differ_in_order(fitted) -> None:
    _, _, fits = fitted
    (found,) = evidence.compare_fits([fits["sharp"], fits["dull"]], n_boot=200)
    assert (found.first, found.second) == ("sharp/pooled", "dull/pooled")
    assert found.low > 0 and found.p_holm < 0.05
    reversed_ids = evidence.compare_fits([fits["dull"], fits["sharp"]], n_boot=200)[0]
    assert reversed_ids.value == pytest.approx(-found.value)
