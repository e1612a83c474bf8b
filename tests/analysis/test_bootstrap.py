"""Resampling: equal to the slow way, seeded, covers what it promises to cover."""

import numpy as np
import pytest
from scipy import stats

from analysis.evidence import metrics
from analysis.evidence.bootstrap import (
    Prediction,
    bootstrap_metrics,
    bootstrap_replicates,
    holm,
    interval,
    measure,
    p_value,
    paired_differences,
    resample_counts,
    resamples_needed,
    resolution,
    smallest_corrected_p,
)

ALL = ("accuracy", "recall_low", "recall_high", "srcc", "plcc", "rmse")


def a_world(rng: np.random.Generator, n: int = 60) -> tuple[np.ndarray, np.ndarray, Prediction]:
    y = np.round(rng.normal(5, 1, n), 1)  # rounded: ties
    score = np.round(y + rng.normal(0, 1, n), 1)
    return y, y > 5, Prediction(score, score > 5)


def test_every_replicate_equals_the_metric_of_the_resampled_images(rng: np.random.Generator) -> None:
    y, is_high, prediction = a_world(rng)
    found = bootstrap_replicates(y, is_high, {"a": prediction}, 20, np.random.default_rng(7), ALL)["a"]
    counts = resample_counts(len(y), 20, np.random.default_rng(7))
    for replicate, row in enumerate(counts):
        rows = np.repeat(np.arange(len(y)), row)
        assert len(rows) == len(y)
        expected = {
            "accuracy": np.mean(is_high[rows] == prediction.high[rows]),
            "recall_low": np.mean(~prediction.high[rows][~is_high[rows]]),
            "recall_high": np.mean(prediction.high[rows][is_high[rows]]),
            "srcc": stats.spearmanr(y[rows], prediction.score[rows])[0],
            "plcc": stats.pearsonr(y[rows], prediction.score[rows])[0],
            "rmse": metrics.rmse(y[rows], prediction.score[rows]),
        }
        for name in ALL:
            assert found[name][replicate] == pytest.approx(expected[name], abs=1e-12)


def test_the_same_seed_gives_the_same_intervals(rng: np.random.Generator) -> None:
    y, is_high, prediction = a_world(rng)
    first = bootstrap_metrics(y, is_high, prediction, 50, np.random.default_rng(1))
    again = bootstrap_metrics(y, is_high, prediction, 50, np.random.default_rng(1))
    other = bootstrap_metrics(y, is_high, prediction, 50, np.random.default_rng(2))
    assert first == again != other


def test_each_image_is_drawn_equally_often(rng: np.random.Generator) -> None:
    drawn = np.sum(list(resample_counts(40, 5_000, rng)), axis=0)
    assert drawn.sum() == 40 * 5_000
    assert stats.chisquare(drawn).pvalue > 1e-4


def test_only_metrics_that_are_defined_come_back(rng: np.random.Generator) -> None:
    y, is_high, prediction = a_world(rng)
    labels_only = bootstrap_metrics(None, is_high, Prediction(None, prediction.high), 5, rng)
    assert set(labels_only) == {"accuracy", "recall_low", "recall_high"}
    assert set(bootstrap_metrics(y, None, prediction, 5, rng)) == {"srcc", "plcc"}
    with pytest.raises(ValueError, match="1 test images: an interval needs 2"):
        bootstrap_metrics(y[:1], None, Prediction(y[:1], None), 5, rng)


def test_a_constant_prediction_gives_undefined_correlations_with_undefined_bounds(
    rng: np.random.Generator,
) -> None:
    y, is_high, _ = a_world(rng)
    constant = Prediction(np.full(len(y), 0.1), np.ones(len(y), bool))
    found = bootstrap_metrics(y, is_high, constant, 30, rng)
    assert np.isnan([found["srcc"].value, found["srcc"].low, found["plcc"].value]).all()
    assert found["recall_high"].value == 1.0


def test_holm_by_hand() -> None:
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])


def test_p_value_by_hand() -> None:
    assert p_value(np.array([1.0] * 99)) == pytest.approx(2 / 100)
    assert p_value(np.array([-1.0] * 50 + [1.0] * 49)) == 1.0


def test_paired_comparison_finds_the_better_method_and_sees_no_difference_from_itself(
    rng: np.random.Generator,
) -> None:
    y = rng.normal(size=300)
    good, bad = y + 0.5 * rng.normal(size=300), y + 2 * rng.normal(size=300)
    methods = {
        "good": Prediction(good, None),
        "bad": Prediction(bad, None),
        "same": Prediction(good * 2, None),
    }
    found = {(d.first, d.second): d for d in paired_differences(y, None, methods, "srcc", 400, rng)}
    better = found["good", "bad"]
    expected = measure(y, None, methods["good"])["srcc"] - measure(y, None, methods["bad"])["srcc"]
    assert better.value == pytest.approx(expected)
    assert 0 < better.low < better.value < better.high and better.p_holm < 0.05
    assert found["good", "same"].value == 0.0 and found["good", "same"].p_value == 1.0


@pytest.mark.parametrize("n_tests", [1, 2, 5, 6, 21, 28, 190])
def test_the_smallest_corrected_p_is_what_the_comparisons_were_made_for(n_tests: int) -> None:
    needed = resamples_needed(n_tests, at_least=1)
    assert smallest_corrected_p(n_tests, needed) <= 0.005 < smallest_corrected_p(n_tests, needed - 1)
    assert resamples_needed(n_tests) == max(1000, needed)


def test_a_clear_difference_among_28_reaches_the_floor_and_a_fixed_number_says_its_own(
    rng: np.random.Generator,
) -> None:
    y = rng.normal(size=60)
    methods = {f"m{i}": Prediction(y + i * rng.normal(size=60), None) for i in range(8)}
    found = {(d.first, d.second): d for d in paired_differences(y, None, methods, "srcc", None, rng)}
    assert len(found) == 28 and {d.n_boot for d in found.values()} == {11_199}
    clear = found["m0", "m7"]
    assert clear.p_holm == pytest.approx(clear.p_floor) == pytest.approx(0.005)
    assert min(d.p_holm for d in found.values()) >= clear.p_floor
    coarse = paired_differences(y, None, methods, "srcc", 1000, rng)
    assert min(d.p_holm for d in coarse) == pytest.approx(0.0559, abs=1e-4)
    assert resolution(coarse) == (
        "1,000 resamples for 28 comparisons: no corrected p can fall below 0.0559."
    )
    assert resolution([]) == ""


def test_resamples_are_the_same_in_blocks_of_any_size(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, is_high, prediction = a_world(rng)
    whole = bootstrap_replicates(y, is_high, {"a": prediction}, 50, np.random.default_rng(3), ALL)["a"]
    monkeypatch.setattr("analysis.evidence.bootstrap._COUNTS_AT_ONCE", 7 * len(y))
    parts = bootstrap_replicates(y, is_high, {"a": prediction}, 50, np.random.default_rng(3), ALL)["a"]
    for name in ALL:
        np.testing.assert_allclose(parts[name], whole[name], rtol=0, atol=1e-13)


def test_pairing_narrows_the_interval_of_a_difference(rng: np.random.Generator) -> None:
    y = rng.normal(size=200)
    score = y + rng.normal(size=200)
    methods = {"a": Prediction(score, None), "b": Prediction(score + 0.1 * rng.normal(size=200), None)}
    (paired,) = paired_differences(y, None, methods, "srcc", 400, rng)
    alone = bootstrap_metrics(y, None, methods["a"], 400, rng)["srcc"]
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "srcc", "plcc"])
def test_intervals_cover_the_truth_in_500_worlds(metric: str) -> None:
    """Nominal 95 %, observed within 93 to 97 %, on normal worlds with known population values."""
    rng = np.random.default_rng(4)
    rho = 0.6
    truth = {
        "plcc": rho,
        "srcc": 6 / np.pi * np.arcsin(rho / 2),
        "accuracy": 0.5 + np.arcsin(rho) / np.pi,
    }[metric]
    covered = []
    for _ in range(500):
        y = rng.normal(size=400)
        score = rho * y + np.sqrt(1 - rho**2) * rng.normal(size=400)
        found = bootstrap_metrics(y, y > 0, Prediction(score, score > 0), 600, rng, (metric,))
        covered.append(found[metric].covers(truth))
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.slow
def test_the_paired_test_keeps_its_level_under_the_null() -> None:
    rng = np.random.default_rng(5)
    rejected = []
    for _ in range(500):
        y = rng.normal(size=200)
        methods = {name: Prediction(y + rng.normal(size=200), None) for name in "ab"}
        (found,) = paired_differences(y, None, methods, "srcc", 400, rng)
        rejected.append(found.p_value <= 0.05)
    assert 0.02 <= np.mean(rejected) <= 0.075


def test_interval_ignores_undefined_resamples() -> None:
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(interval(np.array([np.nan]))).all()
