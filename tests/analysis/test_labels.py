"""Mean votes and exact labels."""

import csv
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from analysis.evidence import labels
from store.targets import Targets


def a_targets(**changes: object) -> Targets:
    n = 3
    return replace(
        Targets(
            image_id=np.array(list("abc")),
            path=np.array(["a.jpg", "b.jpg", "c.jpg"]),
            votes=None,
            scores=None,
            levels=None,
            threshold=5.0,
            split=np.array(["train"] * n),
            split_name="demo",
            dataset="small",
        ),
        **changes,
    )


def test_mean_shares_and_spread_of_known_votes() -> None:
    votes = np.array([[1, 0, 3], [0, 2, 0]])
    assert labels.mos(votes).tolist() == [2.5, 2.0]
    assert labels.vote_shares(votes).tolist() == [[0.25, 0.0, 0.75], [0.0, 1.0, 0.0]]
    assert labels.vote_std(votes) == pytest.approx([np.sqrt(0.75), 0.0])
    assert labels.mos(votes, np.array([0, 5, 10])).tolist() == [7.5, 5.0]


def test_a_mean_exactly_at_the_threshold_is_not_high() -> None:
    votes = np.array([[0, 7, 0, 7, 0], [0, 7, 1, 7, 1]])
    assert labels.is_high(votes, 3.0).tolist() == [False, True]


def test_a_decimal_threshold_means_the_decimal_number() -> None:
    # Mean 4.3 = 43/10 exactly, while the float 4.3 lies below 43/10.
    votes = np.zeros((1, 10), dtype=np.int64)
    votes[0, 3], votes[0, 4] = 7, 3
    assert Fraction(43, 10) > 4.3
    assert labels.is_high(votes, 4.3).tolist() == [False]
    assert labels.is_high(votes, 4.299).tolist() == [True]


def test_label_is_exact_for_counts_and_thresholds_that_would_overflow(rng: np.random.Generator) -> None:
    votes = np.array([[2**52 + 1, 2**52], [2**52, 2**52 + 1]])
    assert labels.is_high(votes, 1.5).tolist() == [False, True]
    votes = rng.integers(2**49, 2**51, size=(200, 3))
    for threshold in (1.500000000000001, 2.000000000000001, 1.9999999999):
        bound = Fraction(repr(threshold))
        expected = [
            Fraction(sum((i + 1) * v for i, v in enumerate(row)), sum(row)) > bound for row in votes.tolist()
        ]
        assert labels.is_high(votes, threshold).tolist() == expected


def test_images_without_votes_and_data_sets_without_ratings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"row 1 .*one vote or more"):
        labels.mos(np.array([[1, 2], [0, 0]]))
    with pytest.raises(ValueError, match="neither votes nor scores"):
        labels.high_from_targets(a_targets())
    with pytest.raises(ValueError, match=r"no finite numbers, first at row 2 \(c\)"):
        labels.targets_mos(a_targets(scores=np.array([1.0, 2.0, np.nan])))


def test_targets_with_scores_and_with_votes() -> None:
    scored = a_targets(scores=np.array([4.0, 5.0, 5.5]))
    assert labels.high_from_targets(scored).tolist() == [False, False, True]
    assert labels.targets_mos(scored).tolist() == [4.0, 5.0, 5.5]
    voted = a_targets(votes=np.array([[2, 0], [1, 1], [0, 2]]), levels=np.array([4, 6]))
    assert labels.high_from_targets(voted).tolist() == [False, False, True]
    assert labels.targets_mos(voted).tolist() == [4.0, 5.0, 6.0]


def test_majority_prediction_is_the_commoner_class_of_train() -> None:
    assert labels.majority_prediction(np.array([True, False, True]), 2).tolist() == [True, True]
    assert labels.majority_prediction(np.array([False, False, True]), 1).tolist() == [False]


@pytest.mark.shared_data
def test_real_ava_votes_give_the_papers_majority(shared_data: Path) -> None:
    with (shared_data / "ava" / "test_votes.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    votes = np.array([row[1:] for row in rows], dtype=np.int64)
    high = labels.is_high(votes, 5.0)
    assert (len(high), int(high.sum())) == (25_551, 17_952)
    # Floating point gets a dozen ties wrong, which is why labels are decided in integers.
    # Summed column by column: a matrix product rounds as the processor likes (on some 17,964 are high).
    shares = votes / votes.sum(1, keepdims=True)
    assert int((sum(level * shares[:, level - 1] for level in range(1, 11)) > 5).sum()) == 17_965
