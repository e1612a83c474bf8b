"""The pair search against scipy on each pair, and a world whose right pair is known."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from analysis.evidence.labels import is_high as exact_is_high
from analysis.evidence.labels import mos as mean_vote
from analysis.prompting.ensembles import fit_bottleneck, grow_ensemble
from analysis.prompting.pairs import VoteRanks, search_pairs, sortable_bits, untangle_pairs
from analysis.prompting.scores import LabelScores, predict_is_high, score_continuous, score_fixed

HIGH = ("fair", "splendid", "neutral-high", "large")
LOW = ("dull", "dreadful", "small")
POLARITY = np.array([1] * 4 + [-1] * 3, dtype=np.int8)


def random_scores(rng: np.random.Generator, n_images: int, levels: int | None = None) -> LabelScores:
    """Independent decision and strength columns; with few levels there are ties everywhere."""

    def draw() -> np.ndarray:
        values = rng.normal(0.2, 0.05, size=(n_images, 7))
        return (np.round(values * levels) / levels if levels else values).astype(np.float32)

    return LabelScores("context", HIGH + LOW, POLARITY, draw(), draw())


@pytest.mark.parametrize("levels", [None, 64, 8])
def test_all_pairs_equal_scipy_on_each_pair_ties_included(
    rng: np.random.Generator, levels: int | None
) -> None:
    scores = random_scores(rng, 500, levels)
    votes = rng.multinomial(20, [0.1] * 10, size=500)
    mos, high = mean_vote(votes), exact_is_high(votes, 5.0)
    table = search_pairs(scores, mos, high, n_threads=2)
    for i, h in enumerate(HIGH):
        for j, name in enumerate(LOW):
            score = scores.strength[:, i].astype(np.float64) - scores.strength[:, 4 + j]
            predicted = scores.decision[:, i] >= scores.decision[:, 4 + j]
            assert table.srcc[i, j] == pytest.approx(spearmanr(score, mos).statistic, abs=1e-12)
            assert table.plcc[i, j] == pytest.approx(pearsonr(score, mos).statistic, abs=1e-9)
            assert table.accuracy[i, j] == np.mean(predicted == high)
            assert table.recall_low[i, j] == np.mean(~predicted[~high])
            assert table.recall_high[i, j] == np.mean(predicted[high])
            assert np.array_equal(predicted, predict_is_high(scores, [h], [name]))


def test_order_of_images_and_number_of_threads_do_not_matter(rng: np.random.Generator) -> None:
    scores = random_scores(rng, 300, 32)
    mos = rng.integers(10, 60, 300) / 10
    order = rng.permutation(300)
    a = search_pairs(scores, mos, mos > 5, n_threads=1)
    b = search_pairs(scores.take(order), mos[order], mos[order] > 5, n_threads=3)
    np.testing.assert_array_equal(a.accuracy, b.accuracy)
    np.testing.assert_allclose(a.srcc, b.srcc, atol=1e-13)
    np.testing.assert_allclose(a.plcc, b.plcc, atol=1e-12)


def test_swapped_polarity_negates_correlations_and_complements_accuracy(rng: np.random.Generator) -> None:
    scores = random_scores(rng, 300)
    mos = rng.normal(5, 1, 300)
    table = search_pairs(scores, mos, mos > 5)
    flipped = LabelScores("x", scores.labels, -POLARITY, scores.decision, scores.strength)
    swapped = search_pairs(flipped, mos, mos > 5)
    np.testing.assert_allclose(swapped.srcc, -table.srcc.T, atol=1e-13)
    np.testing.assert_allclose(swapped.plcc, -table.plcc.T, atol=1e-13)
    np.testing.assert_allclose(swapped.accuracy, 1 - table.accuracy.T, atol=1e-15)  # no ties here


def test_swapped_polarity_with_ties_counts_tied_images_as_high_both_times(rng: np.random.Generator) -> None:
    scores = random_scores(rng, 400, levels=32)
    mos = rng.normal(5, 1, 400)
    is_high = mos > 5
    there = search_pairs(scores, mos, is_high)
    flipped = LabelScores("x", scores.labels, -POLARITY, scores.decision, scores.strength)
    back = search_pairs(flipped, mos, is_high)
    for i in range(4):
        for j in range(3):
            tied = scores.decision[:, i] == scores.decision[:, 4 + j]
            assert tied.sum() > 5
            surplus = np.count_nonzero(tied & is_high) - np.count_nonzero(tied & ~is_high)
            assert there.accuracy[i, j] + back.accuracy[j, i] == pytest.approx(1 + surplus / 400, abs=1e-15)


def test_constant_score_has_no_correlation_and_is_never_best(rng: np.random.Generator) -> None:
    scores = random_scores(rng, 200, levels=64)  # binary fractions: the sum below is exact
    scores.strength[:, 0] = scores.strength[:, 4] + np.float32(0.125)
    mos = rng.normal(size=200)
    table = search_pairs(scores, mos, mos > 0)
    assert np.isnan(table.srcc[0, 0])
    assert np.isnan(table.plcc[0, 0])
    assert len(table.ranked("srcc")) == 11
    with pytest.raises(ValueError, match="undefined for every pair"):
        search_pairs(scores, np.full(200, 5.0), mos > 0).best("srcc")


def test_sortable_bits_order_as_the_numbers_do() -> None:
    values = np.array([-np.inf, -3e38, -1.5, -1e-45, -0.0, 0.0, 1e-45, 0.25, 2.0, np.inf], np.float32)
    bits = sortable_bits(values)
    assert (np.diff(bits.astype(np.float64)) >= 0).all()
    assert bits[4] == bits[5]
    assert len(np.unique(bits)) == len(values) - 1


def test_vote_ranks_handle_ties_on_both_sides() -> None:
    mos = np.array([1, 2, 2, 3, 3, 3, 5, 5.0])
    score = np.array([1, 1, 2, 2, 2, 3, 3, 3], np.float32)
    assert VoteRanks(mos).srcc(score) == pytest.approx(spearmanr(score, mos).statistic, abs=1e-14)
    assert VoteRanks(mos).srcc(mos.astype(np.float32)) == pytest.approx(1.0, abs=1e-15)


def test_faulty_input_is_refused_with_counts(rng: np.random.Generator) -> None:
    scores = random_scores(rng, 50)
    mos = rng.normal(size=50)
    with pytest.raises(ValueError, match="50 images have scores, 49 a mean vote and 50 a class"):
        search_pairs(scores, mos[:-1], mos > 0)
    scores.decision[3] = scores.strength[3] = np.nan
    with pytest.raises(ValueError, match=r"1 of 50 images have no score or vote .*scores.take"):
        search_pairs(scores, mos, mos > 0)
    one_sided = LabelScores("fixed", HIGH + LOW, np.abs(POLARITY), scores.decision, scores.strength)
    with pytest.raises(ValueError, match="got 7 and 0"):
        search_pairs(one_sided.take(scores.ok), mos[scores.ok], mos[scores.ok] > 0)


N_PLANTED = 4000


@pytest.fixture
def planted(rng: np.random.Generator) -> tuple[LabelScores, np.ndarray, float]:
    """A quality axis that "splendid" and "dreadful" lie on, others half or not at all.

    score = cos(splendid) - cos(dreadful) is proportional to the quality seen by the image tower,
    quality + noise, up to the length of the image vector, which is constant: SRCC is that of the two.
    """
    dim = 16
    axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0].T
    quality = rng.normal(size=N_PLANTED)
    seen = np.clip(quality + rng.normal(size=N_PLANTED) * 0.5, -3.2, 3.2)
    content = rng.normal(size=(N_PLANTED, 3))
    images = 0.1 * seen[:, None] * axes[0] + 0.15 * content @ axes[1:4]
    rest = 4.0 - (images**2).sum(axis=1)
    images += np.sqrt(rest)[:, None] * axes[4]  # all of length 2
    strength = {"fair": 0.5, "splendid": 1.0, "neutral-high": 0.0, "large": 0.0}
    strength |= {"dull": -0.5, "dreadful": -1.0, "small": 0.0}
    text = []
    for i, name in enumerate(HIGH + LOW):
        stray = 0.0 if abs(strength[name]) == 1 else 0.6
        text.append(strength[name] * axes[0] + stray * axes[1 + (i + i // 4) % 3] + axes[5])
    scores = score_fixed(images, np.array(text), HIGH + LOW, POLARITY)
    return scores, 5 + 0.8 * quality, float(spearmanr(seen, quality).statistic)


def test_planted_axis_is_found_with_its_correlation(
    planted: tuple[LabelScores, np.ndarray, float],
) -> None:
    scores, mos, known_srcc = planted
    table = search_pairs(scores, mos, mos > 5)
    for metric in ("accuracy", "srcc", "plcc"):
        best = table.best(metric)  # type: ignore[arg-type]
        assert (best.high, best.low) == ("splendid", "dreadful")
    assert table.best("srcc").value == pytest.approx(known_srcc, abs=2e-5)
    assert table.srcc[HIGH.index("large"), LOW.index("small")] < 0.1


def test_pairs_of_clip_iqa_share_no_label(planted: tuple[LabelScores, np.ndarray, float]) -> None:
    scores, mos, _ = planted
    ranked = search_pairs(scores, mos, mos > 5).ranked("srcc")
    chosen = untangle_pairs(ranked, 5)
    assert (chosen[0].high, chosen[0].low) == ("splendid", "dreadful")
    assert len(chosen) == 3  # three low labels
    assert len({p.high for p in chosen} | {p.low for p in chosen}) == 6


def test_greedy_ensemble_grows_only_while_it_gains(rng: np.random.Generator) -> None:
    quality = rng.normal(size=3000)
    strength = rng.normal(size=(3000, 7))
    strength[:, :2] += 0.8 * quality[:, None]
    strength[:, 4:6] -= 0.8 * quality[:, None]
    scores = LabelScores("fixed", HIGH + LOW, POLARITY, *[strength.astype(np.float32)] * 2)
    table = search_pairs(scores, quality, quality > 0)
    for metric in ("srcc", "accuracy"):
        steps = grow_ensemble(scores, quality, quality > 0, table, metric)  # type: ignore[arg-type]
        assert set(steps[-1].high) == {"fair", "splendid"}
        assert set(steps[-1].low) == {"dull", "dreadful"}
        assert [len(s.high) + len(s.low) for s in steps] == [2, 3, 4]
        assert steps[0].train_value == pytest.approx(table.best(metric).value)  # type: ignore[arg-type]
    final = grow_ensemble(scores, quality, quality > 0, table)[-1]
    score = score_continuous(scores, final.high, final.low)
    assert final.train_value == pytest.approx(spearmanr(score, quality).statistic, abs=1e-6)
    assert len(grow_ensemble(scores, quality, quality > 0, table, max_labels=3)) == 2


def test_bottleneck_probe_recovers_planted_weights(rng: np.random.Generator) -> None:
    strength = rng.normal(0.2, 0.02, size=(5000, 7)).astype(np.float32)
    weights = np.array([0.5, 0.0, 0.0, -0.2, -0.4, 0.0, 0.0])
    standardised = (strength - strength.mean(axis=0)) / strength.std(axis=0)
    mos = 5.3 + standardised @ weights + rng.normal(size=5000) * 0.3
    scores = LabelScores("fixed", HIGH + LOW, POLARITY, strength, strength)
    probe = fit_bottleneck(scores, mos, np.random.default_rng(1), n_boot=100)
    np.testing.assert_allclose(probe.weight, weights, atol=0.02)
    assert probe.intercept == pytest.approx(5.3, abs=0.02)
    assert (probe.weight_low < probe.weight).all()
    assert (probe.weight < probe.weight_high).all()
    assert probe.weight_low[0] > 0.45
    relative = strength - strength.mean(axis=1, keepdims=True)
    assert probe.alone[0] == pytest.approx(pearsonr(relative[:, 0], mos).statistic, abs=1e-5)
    for label in range(7):
        interval = probe.alone_low[label], probe.alone_high[label]
        assert interval[0] < probe.alone[label] < interval[1]
    # Fisher's interval of a correlation: the bootstrap's is as wide.
    width = 2 * 1.96 * (1 - probe.alone[0] ** 2) / np.sqrt(5000)
    assert probe.alone_high[0] - probe.alone_low[0] == pytest.approx(width, rel=0.25)
    assert np.argmax(probe.alone) == 0
    assert np.argmin(probe.alone) == 4
    assert spearmanr(probe.predict(scores), mos).statistic > 0.85
    again = fit_bottleneck(scores, mos, np.random.default_rng(1), n_boot=100)
    np.testing.assert_array_equal(probe.weight_low, again.weight_low)


def test_bottleneck_probe_is_the_ridge_of_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.linear_model import Ridge

    strength = rng.normal(size=(300, 7)).astype(np.float32)
    mos = strength[:, 0] + rng.normal(size=300)
    scores = LabelScores("fixed", HIGH + LOW, POLARITY, strength, strength)
    probe = fit_bottleneck(scores, mos, rng, alphas=(30.0,), n_boot=2)
    X = (strength.astype(np.float64) - probe.mean) / probe.std
    reference = Ridge(alpha=30.0).fit(X, mos)
    np.testing.assert_allclose(probe.weight, reference.coef_, atol=1e-10)
    assert probe.intercept == pytest.approx(reference.intercept_, abs=1e-10)
    with pytest.raises(ValueError, match="label 'fair' is the same for all images"):
        strength[:, 0] = 0.25
        fit_bottleneck(scores, mos, rng)
