"""Both sorts give the order that numpy gives, and the correlations that scipy gives, whatever the scores."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.prompting import sorting
from analysis.prompting.pairs import VoteRanks, sortable_bits
from analysis.prompting.sorting import Sort, faster_sort, sort_by_buckets, sort_whole

N = 3000
SORTS = [sort_whole, sort_by_buckets]


def score_kinds(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Scores of each kind that a sort may stumble over."""
    normal = rng.normal(0.01, 0.03, N)
    mixed = rng.choice([-np.inf, -1e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, 3e38, np.inf], N)
    kinds = {
        "normal": normal,
        "ties": np.round(normal * 64) / 64,
        "two": rng.choice([-0.5, 0.25], N),
        "constant": np.full(N, 0.25),
        "zeros": rng.choice([-0.0, 0.0], N),
        "subnormal": rng.integers(-40, 40, N) * 1.4e-45,
        "outlier": np.where(np.arange(N) == 17, 1e30, normal),
        "widest": rng.choice([-3.4e38, 0.0, 3.4e38], N),
        "infinite": mixed,
        "neighbours": 1 + rng.integers(0, 3, N) * 2.0**-23,
    }
    return {name: values.astype(np.float32) for name, values in kinds.items()}


KINDS = list(score_kinds(np.random.default_rng(0)))


@pytest.mark.parametrize("kind", KINDS)
def test_sorts_agree_to_the_bit_and_correlations_with_scipy(rng: np.random.Generator, kind: str) -> None:
    score = score_kinds(rng)[kind]
    votes = rng.integers(10, 60, N) / 10
    found = []
    for sort in SORTS:
        ranks = VoteRanks(votes)
        ranks.sort = sort
        keys = sortable_bits(score).astype(np.int64) << 32 | ranks.payload
        assert np.array_equal(sort(keys.copy(), score), np.sort(keys))
        found.append(ranks.srcc(score))
    np.testing.assert_array_equal(*found)  # NaN equals NaN
    if len(np.unique(score)) > 1:
        assert found[0] == pytest.approx(spearmanr(score, votes).statistic, abs=1e-12)
    else:
        assert np.isnan(found[0])


@pytest.mark.parametrize("score", [np.full(N, np.nan), np.where(np.arange(N) % 3, 0.5, np.nan)])
@pytest.mark.parametrize("sort", SORTS)
def test_scores_that_say_nothing_still_sort(rng: np.random.Generator, sort: Sort, score: np.ndarray) -> None:
    keys = rng.integers(-(2**62), 2**62, N)
    assert np.array_equal(sort(keys.copy(), score.astype(np.float32)), np.sort(keys))


@pytest.mark.parametrize("n", [0, 1, 2, 70_000])
@pytest.mark.parametrize("sort", SORTS)
def test_scores_that_contradict_the_keys_change_nothing(rng: np.random.Generator, sort: Sort, n: int) -> None:
    keys = rng.integers(-(2**62), 2**62, n)
    assert np.array_equal(sort(keys.copy(), rng.normal(size=n).astype(np.float32)), np.sort(keys))


def test_many_keys_take_the_sort_that_was_faster(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = rng.normal(size=60_000).astype(np.float32)
    keys = sortable_bits(score).astype(np.int64) << 32
    before = keys.copy()
    clock = iter([0.0, 3.0, 3.0, 4.0, 0.0, 1.0, 1.0, 4.0])
    monkeypatch.setattr(sorting.time, "thread_time", lambda: next(clock))
    assert faster_sort(keys, score) is sort_by_buckets
    assert faster_sort(keys, score) is sort_whole
    assert np.array_equal(keys, before)
    assert faster_sort(keys[:100], score[:100]) is sort_whole  # no clock is left to ask
