"""Metrics against scipy and against values known by hand."""

import numpy as np
import pytest
from scipy import stats

from analysis.evidence import metrics


def test_correlations_equal_scipys_with_ties(rng: np.random.Generator) -> None:
    y = rng.integers(0, 8, 400).astype(float)
    prediction = y + rng.integers(0, 8, 400)
    assert metrics.srcc(y, prediction) == pytest.approx(stats.spearmanr(y, prediction)[0], abs=1e-14)
    assert metrics.plcc(y, prediction) == pytest.approx(stats.pearsonr(y, prediction)[0], abs=1e-14)


def test_rank_correlation_sees_order_alone(rng: np.random.Generator) -> None:
    y = rng.normal(size=50)
    assert metrics.srcc(y, np.exp(3 * y)) == 1.0
    assert metrics.srcc(y, -(y**3)) == -1.0
    assert metrics.plcc(y, np.exp(3 * y)) < 0.95
    assert metrics.plcc(y, 1e-12 * y + 5.0) == pytest.approx(1.0, abs=1e-3)
    assert metrics.plcc(y * 1e-200, y) == pytest.approx(1.0)


@pytest.mark.parametrize("prediction", [np.zeros(3), np.full(3, 0.1), np.full(3, 1e9 / 3)])
def test_a_constant_prediction_has_no_correlation(prediction: np.ndarray) -> None:
    y = np.array([1.0, 2.0, 4.0])
    assert np.isnan(metrics.plcc(y, prediction))
    assert np.isnan(metrics.srcc(prediction, y))


def test_accuracy_and_recalls_by_hand() -> None:
    is_high = np.array([True, True, True, False])
    predicted = np.array([True, False, True, True])
    assert metrics.accuracy(is_high, predicted) == 0.5
    assert metrics.recall_high(is_high, predicted) == pytest.approx(2 / 3)
    assert metrics.recall_low(is_high, predicted) == 0.0
    assert np.isnan(metrics.recall_low(is_high[:3], predicted[:3]))


def test_rmse_by_hand() -> None:
    assert metrics.rmse(np.array([1.0, 2.0]), np.array([4.0, 6.0])) == pytest.approx(np.sqrt(12.5))


def test_emd_of_two_point_masses_counts_the_levels_between_them() -> None:
    masses = np.eye(10)
    # All mass on level 1 against level 4: the cumulative shares differ by 1 on 3 of 10 levels.
    assert metrics.emd_r2(masses[[0]], masses[[3]]) == pytest.approx(np.sqrt(3 / 10))
    assert metrics.emd_r2(masses, masses).tolist() == [0.0] * 10
    assert metrics.emd_r2(masses[[3]], masses[[0]]) == metrics.emd_r2(masses[[0]], masses[[3]])


@pytest.mark.parametrize(
    "values",
    [
        [],
        [3.0],
        [2.0, 2.0, 2.0],
        [0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, np.inf, 5.0],
        [1.0, np.nan, 2.0],
        [3, 1, 3, 2, 1],
    ],
)
def test_average_ranks_are_scipys(values: list[float]) -> None:
    for dtype in (np.float64, np.float32):
        given = np.array(values, dtype)
        assert np.array_equal(metrics.average_ranks(given), stats.rankdata(given), equal_nan=True)


def test_average_ranks_of_many_ties_are_scipys(rng: np.random.Generator) -> None:
    given = rng.integers(0, 40, 500) / 8
    assert np.array_equal(metrics.average_ranks(given), stats.rankdata(given))
