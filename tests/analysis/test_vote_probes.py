"""Probes of the whole vote: against independent implementations, on planted worlds, under one protocol."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from analysis.evidence.labels import RatingsError
from analysis.probing.probes import fit_probes
from analysis.probing.vote_probes import STRENGTHS, compare_votes, evaluate_votes, fit_votes
from analysis.probing.votes import fit_ordinal, fit_soft_labels, soft_shares
from store import Targets, open_features, open_targets, write_targets
from tests.worlds import write_features


def waves():
    """400 rows of three features and a class of five, without random numbers."""
    i = np.arange(400)
    x = np.stack(
        [np.sin(1.3 * i + 0.2), np.cos(0.007 * i * i + i), np.sin(0.37 * i) ** 3 + 0.2 * np.sin(1.3 * i)],
        axis=1,
    )
    hidden = x @ [1.2, -0.8, 0.5] + 1.5 * np.sin(12.9898 * i) * np.cos(78.233 * i)
    return x, np.digitize(hidden, [-1.5, -0.4, 0.6, 1.4])


def test_cumulative_logits_are_those_of_statsmodels():
    """OrderedModel(y, x, distr="logit") of statsmodels 0.15.0 on the same data, fitted by bfgs to 1e-9."""
    x, y = waves()
    assert np.bincount(y).tolist() == [50, 110, 103, 65, 72]
    (found,) = fit_ordinal(x, np.eye(5)[y], [0.0])
    np.testing.assert_allclose(found.weights, [2.8078775, -2.16034606, 1.22849129], atol=2e-5)
    np.testing.assert_allclose(
        found.thresholds, [-3.69045436, -0.72912522, 1.49494609, 3.18004039], atol=2e-5
    )
    likelihood = np.log(found.shares(x)[np.arange(len(y)), y]).sum()
    assert likelihood == pytest.approx(-412.08069455, abs=1e-6)


def test_with_two_levels_both_are_the_penalised_logistic_regression_of_scikit_learn():
    x, y = waves()
    y, strength = (y > 2).astype(int), 7.0
    expected = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000).fit(x, y)
    (ordinal,) = fit_ordinal(x, np.eye(2)[y], [strength])
    np.testing.assert_allclose(ordinal.weights, expected.coef_[0], atol=1e-4)
    np.testing.assert_allclose(-ordinal.thresholds, expected.intercept_, atol=1e-4)
    # Two columns of weights share the penalty: w and -w, each with half of the direction.
    (soft,) = fit_soft_labels(x, np.eye(2)[y], [2 * strength])
    np.testing.assert_allclose(soft.weights[:, 1] - soft.weights[:, 0], expected.coef_[0], atol=1e-4)


def test_soft_labels_are_the_softmax_regression_of_scikit_learn_on_every_vote():
    """An image with votes 1, 3, 0 is four rows there, each a quarter of an image."""
    x, y = waves()
    votes = np.eye(5)[y] + 2 * np.eye(5)[np.roll(y, 3)] + np.eye(5)[np.roll(y, 9)]
    shares = votes / votes.sum(axis=1, keepdims=True)
    rows, levels = np.nonzero(shares)
    expected = LogisticRegression(C=1 / 5.0, tol=1e-10, max_iter=10_000).fit(
        x[rows], levels, sample_weight=shares[rows, levels]
    )
    *_, found = fit_soft_labels(x, shares, [100.0, 5.0])
    np.testing.assert_allclose(found.weights.T, expected.coef_, atol=1e-4)
    np.testing.assert_allclose(soft_shares(found, x), expected.predict_proba(x), atol=1e-4)


def test_shares_of_votes_enter_the_ordinal_likelihood_as_they_are():
    """Against the likelihood written out plainly and minimised without derivatives of ours."""
    x, y = waves()
    x = x[:60, :2]
    shares = 0.7 * np.eye(5)[y[:60]] + 0.3 * np.eye(5)[y[100:160]]

    def plain(parameters):
        edges = np.concatenate([[-np.inf], np.sort(parameters[2:]), [np.inf]])
        below = 1 / (1 + np.exp(-(edges[None, :] - (x @ parameters[:2])[:, None])))
        return -(shares * np.log(np.diff(below, axis=1))).sum() + 3.0 / 2 * parameters[:2] @ parameters[:2]

    expected = minimize(plain, [0, 0, -2, -0.5, 0.5, 2], method="BFGS", options={"gtol": 1e-6}).x
    *_, found = fit_ordinal(x, shares, [50.0, 3.0])
    np.testing.assert_allclose(np.append(found.weights, found.thresholds), expected, atol=1e-4)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Votes by cumulative logits of one planted direction, told half by each of two outputs; a third, 40
    wide and
    loud, knows nothing. Level 10 is never voted for."""
    folder = tmp_path_factory.mktemp("votes")
    rng = np.random.default_rng(4)
    n = 660
    a, b = rng.standard_normal((2, n))
    edges = np.concatenate([[-np.inf], np.linspace(-4, 4, 8), [np.inf]])
    below = 1 / (1 + np.exp(-(edges[None, :] - 1.3 * (a + b)[:, None])))
    votes = np.zeros((n, 10), np.int64)
    votes[:, :9] = [rng.multinomial(60, np.diff(row)) for row in below]
    image_id = np.array([f"p{i:03}" for i in range(n)])
    targets = Targets(
        image_id, image_id, votes, None, np.arange(1, 11), 5.0,
        np.where(np.arange(n) % 4 == 0, "test", "train"), "random", "votes",
    )  # fmt: skip
    write_targets(folder / "targets.h5", targets, {}, {})
    noise = 0.3 * rng.standard_normal((n, 8))
    outputs = {
        "one": np.column_stack([a, noise[:, :4]]) @ rng.standard_normal((5, 6)) + 3,
        "two": np.column_stack([b, noise[:, 4:]]) @ rng.standard_normal((5, 6)) - 1,
        "loud": 100 * rng.standard_normal((n, 40)),
    }
    write_features(folder / "features.h5", "planted", image_id, outputs)
    return open_features(folder / "features.h5"), open_targets(folder / "targets.h5")


def test_every_target_finds_the_planted_votes_and_the_right_layers_add_up(world, monkeypatch):
    features, targets = world
    for target in ("distribution", "ordinal"):
        monkeypatch.setitem(STRENGTHS, target, (100.0, 10.0, 1.0))
    named = [(features, name) for name in ("one", "two")]
    probes = fit_votes([[named[0]], named], targets, ("mean", "levels", "distribution", "ordinal"))
    results = {(r.key.rsplit(".", 1)[1], r.output): r for r in evaluate_votes(probes, n_boot=50)}
    for target in ("mean", "levels", "distribution", "ordinal"):
        alone, both = results[target, "one"], results[target, "one + two"]
        assert 0.6 < alone.srcc.value < 0.8, "one output tells half"
        assert both.srcc.value > 0.95
        assert (both.n_train, both.n_test) == (493, 165), "two failed rows of train are left out"
        if target != "mean":
            emd, low, high = both.detail["emd_r2"]
            assert low <= emd <= high < alone.detail["emd_r2"][1]
            assert alone.detail["emd_r2"][0] < both.detail["emd_r2_train_mean"][0]
    emd = {target: results[target, "one + two"].detail["emd_r2"][0] for target in ("levels", "ordinal")}
    assert emd["ordinal"] < 0.8 * emd["levels"], "the votes were drawn by cumulative logits"
    for fit in probes.fits:
        if fit.predicted is not None:
            np.testing.assert_allclose(fit.predicted.sum(axis=1), 1, atol=1e-9)
            assert (fit.predicted >= 0).all() and not fit.predicted[:, 9].any()
    differences = compare_votes(probes, "srcc")
    layers = [d for d in differences if "one + two" in d.first and d.second.endswith("/one")]
    assert len(layers) == 4 and all(d.low > 0 for d in layers)
    assert len([d for d in differences if "mean vote" in d.second and d not in layers]) == 6
    assert {d.second.split(",")[0] for d in compare_votes(probes, "emd_r2")} == {
        "ridge per level", "soft labels (softmax"
    }  # fmt: skip


def test_the_ridge_is_that_of_the_linear_probe_with_the_same_folds(world):
    features, targets = world
    (fit,) = fit_votes([[(features, "one")]], targets, ("mean",)).fits
    expected = fit_probes(features, targets, "one", n_folds=5)
    assert fit.strength == pytest.approx(expected.ridge.alpha)
    np.testing.assert_allclose(fit.mean, expected.predictions["ridge"], atol=1e-8)


def test_an_output_that_knows_nothing_gets_a_small_share_however_loud_and_wide_it_is(world):
    features, targets = world
    probes = fit_votes([[(features, "one"), (features, "loud")]], targets, ("mean",))
    assert probes.fits[0].shares == (1.0, 0.1)
    equal = fit_votes([[(features, "one"), (features, "two")]], targets, ("mean",))
    assert equal.fits[0].shares == (1.0, 1.0)


def test_no_test_image_has_a_say_in_fit_or_choice(world, monkeypatch):
    """Other votes for the test images change no prediction."""
    features, targets = world
    votes = targets.votes.copy()
    votes[targets.split == "test"] = votes[targets.split == "test"][:, ::-1]
    wanted = ("mean", "ordinal")
    monkeypatch.setitem(STRENGTHS, "ordinal", (100.0, 1.0))
    before = fit_votes([[(features, "one")]], targets, wanted).fits
    after = fit_votes([[(features, "one")]], replace(targets, votes=votes), wanted).fits
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a.mean, b.mean)


def test_scores_without_votes_leave_the_mean_alone(world):
    features, targets = world
    scored = replace(targets, votes=None, levels=None, scores=targets.votes @ np.arange(1.0, 11) / 60)
    assert len(fit_votes([[(features, "one")]], scored, ("mean",)).fits) == 1
    with pytest.raises(RatingsError, match="no votes"):
        fit_votes([[(features, "one")]], scored, ("mean", "ordinal"))
