"""Taste: planted raters are recovered, left-out predictions are exact, a random rater is unpredictable."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from analysis.results.methods import Metric
from analysis.taste.chance import under_chance, widen
from analysis.taste.choosing import choose_next, choose_pairs
from analysis.taste.evaluation import (
    GENERAL,
    HALFWAY,
    RECENT,
    STEPS,
    TASTE,
    Standing,
    count_missing,
    evaluate_taste,
)
from analysis.taste.fitting import fit_taste
from analysis.taste.gram import Gram, Scaling, scaling_of
from analysis.taste.opinions import Opinions

N, DIM = 300, 64


@pytest.fixture(scope="module")
def world():
    """Features with a few strong directions, as backbones give, a general opinion, and one's own."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(N, 12)) @ rng.normal(size=(12, DIM)) + 0.3 * rng.normal(size=(N, DIM))
    features = (5 + features).astype(np.float32)
    features[:, 3] = 7.0  # and one that says nothing
    standard = scaling_of(features).apply(features)
    general, own = (standard @ rng.normal(size=DIM) for _ in range(2))
    general, own = general / general.std(), own / own.std()
    return features, standard, general, own


def gram_of(features: np.ndarray) -> Gram:
    return Gram(features, scaling_of(features))


def stars_of(score: np.ndarray, noise: float, seed: int = 1) -> np.ndarray:
    noisy = score + noise * np.random.default_rng(seed).normal(size=len(score))
    return np.clip(np.round(3 + noisy), 1, 5)


def test_scaling_leaves_failed_rows_out_and_what_does_not_vary_at_zero(world) -> None:
    features = world[0].copy()
    features[7] = np.nan
    scaling = scaling_of(features)
    kept = np.delete(features, 7, axis=0).astype(np.float64)
    np.testing.assert_allclose(scaling.mean, kept.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(scaling.scale[4:], kept.std(axis=0)[4:], rtol=1e-9)
    assert scaling.scale[3] == 1 and np.abs(scaling.apply(kept)[:, 3]).max() < 1e-6
    with pytest.raises(ValueError, match="no photograph"):
        scaling_of(np.full((3, 2), np.nan))


def test_the_gram_grows_row_by_row_to_the_same_products(world) -> None:
    features, standard, *_ = world
    gram = gram_of(features)
    for wanted in ([5, 2], [2, 9, 5, 1], [1, 2]):
        rows = standard[wanted]
        np.testing.assert_allclose(gram.of(np.array(wanted)), rows @ rows.T, rtol=1e-9)


def test_stars_are_ridge_with_a_free_mean(world) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    features, standard, _, own = world
    taste = fit_taste(gram_of(features), Opinions(np.arange(40), own[:40]), alphas=(30.0,))
    model = linear.Ridge(alpha=30.0, tol=1e-12).fit(standard[:40], own[:40])
    np.testing.assert_allclose(taste.predict(standard), model.predict(standard), atol=1e-8)


def test_pairs_are_a_logistic_model_of_differences(world) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    features, standard, _, own = world
    rng = np.random.default_rng(3)
    first, second = rng.permutation(N)[:160].reshape(2, 80)
    outcome = (own[first] + 0.5 * rng.normal(size=80) > own[second]) * 1.0
    taste = fit_taste(
        gram_of(features), Opinions(first=first, second=second, outcome=outcome), alphas=(100.0,)
    )
    k = np.pi / np.sqrt(6)  # 2 loss(k w'd) + alpha |w|^2 is C loss(v'd) + |v|^2 / 2 with v = k w
    model = linear.LogisticRegression(C=k * k / 100, fit_intercept=False, tol=1e-10, max_iter=10_000)
    model.fit(standard[first] - standard[second], outcome)
    np.testing.assert_allclose(taste.weights, model.coef_[0] / k, atol=1e-5)


@pytest.mark.parametrize("has_general", [False, True])
def test_left_out_predictions_are_those_of_a_fit_without(world, has_general: bool) -> None:
    features, standard, general, own = world
    start = general if has_general else None
    rows, stars = np.arange(30), stars_of(own, 0.3)[:30]
    taste = fit_taste(gram_of(features), Opinions(rows, stars), start)
    for out in (0, 11, 29):
        rest = np.delete(rows, out)
        without = fit_taste(gram_of(features), Opinions(rest, stars[rest]), start, alphas=(taste.alpha,))
        at = None if start is None else start[[out]]
        assert without.predict(standard[[out]], at)[0] == pytest.approx(taste.left_out[out], abs=1e-9)


def test_stars_and_pairs_together_know_more_than_either(world) -> None:
    features, standard, _, own = world
    rng = np.random.default_rng(5)
    rows, pairs = np.arange(30), 100 + rng.permutation(120).reshape(2, 60)
    outcome = (own[pairs[0]] > own[pairs[1]]) * 1.0
    gram, stars = gram_of(features), stars_of(own, 0.5)[:30]

    def reached(opinions: Opinions) -> float:
        score = fit_taste(gram, opinions).predict(standard[220:])
        return float(np.corrcoef(score, own[220:])[0, 1])

    only_stars, only_pairs = Opinions(rows, stars), Opinions(first=pairs[0], second=pairs[1], outcome=outcome)
    both = Opinions(rows, stars, pairs[0], pairs[1], outcome)
    assert reached(both) > max(reached(only_stars), reached(only_pairs))
    assert reached(only_pairs) > 0.6


def test_equal_pairs_say_that_two_are_equal(world) -> None:
    features, standard, *_ = world
    said = Opinions(first=np.array([0, 2]), second=np.array([1, 3]), outcome=np.array([0.5, 1.0]))
    taste = fit_taste(gram_of(features), said, alphas=(10.0,))
    score = taste.predict(standard)
    assert abs(score[0] - score[1]) < 0.1 * (score[2] - score[3])


def test_a_taste_starts_from_the_general_head(world) -> None:
    features, standard, general, own = world
    mixed = 0.8 * general + 0.6 * own
    opinions = Opinions(np.arange(8), stars_of(mixed, 0.2)[:8])
    gram = gram_of(features)
    after = np.arange(100, N)

    def reached(start: np.ndarray | None) -> float:
        score = fit_taste(gram, opinions, start).predict(
            standard[after], None if start is None else start[after]
        )
        return float(np.corrcoef(score, mixed[after])[0, 1])

    assert reached(general) > reached(None) + 0.02


def test_who_agrees_with_the_general_head_keeps_it(world) -> None:
    features, standard, general, _ = world
    taste = fit_taste(gram_of(features), Opinions(np.arange(20), 3 + general[:20]), general)
    np.testing.assert_allclose(taste.predict(standard, general), 3 + general, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_ratings_break_nothing(world, n: int) -> None:
    features, standard, general, own = world
    for start in (None, general):
        taste = fit_taste(gram_of(features), Opinions(np.arange(n), stars_of(own, 0)[:n]), start)
        assert np.isfinite(taste.predict(standard, start)).all()
    assert np.isfinite(fit_taste(gram_of(features), Opinions(np.arange(9), np.full(9, 4.0))).weights).all()
    with pytest.raises(ValueError, match="nothing was said"):
        fit_taste(gram_of(features), Opinions())


def test_a_planted_rater_is_found_to_be_predictable(world) -> None:
    features, _, general, own = world
    opinions = Opinions(np.arange(80), stars_of(own, 0.4)[:80])
    worth = evaluate_taste(gram_of(features), opinions, general, n_boot=200)
    assert worth.srcc[TASTE].low > 0.4 and worth.pairwise[TASTE].accuracy.value > 0.7
    assert worth.is_better and worth.rival == GENERAL and worth.sentence == "better than general head"
    assert worth.calibration is not None and 0.6 < worth.calibration.slope < 1.4
    assert worth.calibration.error < np.std(opinions.stars)


@pytest.mark.parametrize("n_people, far", [(4, 0.2), pytest.param(12, 0.12, marks=pytest.mark.slow)])
def test_a_rater_who_answers_at_random_is_unpredictable(world, n_people, far) -> None:
    features, *_ = world
    gram, rng = gram_of(features), np.random.default_rng(11)
    claims, values = [], []
    for seed in range(n_people):
        opinions = Opinions(rng.permutation(N)[:40], rng.integers(1, 6, 40).astype(float))
        worth = evaluate_taste(gram, opinions, n_boot=100, seed=seed, n_repeats=3)
        claims.append(worth.is_better)
        values.append(worth.srcc[TASTE].value)
        assert worth.is_better or "not better than chance" in worth.sentence
    assert sum(claims) <= 1 and abs(np.mean(values)) < far


def test_a_random_rater_of_pairs_is_unpredictable_and_a_planted_one_is_not(world) -> None:
    features, _, _, own = world
    rng = np.random.default_rng(2)
    first, second = rng.permutation(N)[:160].reshape(2, 80)
    for outcome, is_better in (
        (rng.integers(0, 2, 80) * 1.0, False),
        ((own[first] > own[second]) * 1.0, True),
    ):
        worth = evaluate_taste(gram_of(features), Opinions(first=first, second=second, outcome=outcome))
        assert worth.is_better == is_better and worth.n_stars == 0
        assert worth.compared[TASTE].n_pairs == 80


def test_within_groups_only_pairs_of_a_group_count(world) -> None:
    features, _, _, own = world
    group = np.full(N, -1)
    group[:60] = np.arange(60) // 3
    worth = evaluate_taste(gram_of(features), Opinions(np.arange(80), own[:80]), group=group, n_boot=100)
    within = worth.within[TASTE]
    assert (within.n_pairs, within.n_groups) == (60, 20) and within.accuracy.low < within.accuracy.value


def test_too_few_to_hold_back_say_so(world) -> None:
    with pytest.raises(ValueError, match="from 10 on"):
        evaluate_taste(gram_of(world[0]), Opinions(np.arange(9), np.arange(9.0)))


def test_opinions_that_do_not_fit_together() -> None:
    for wrong, said in (
        ({"row": np.array([1, 1]), "stars": np.array([1.0, 2.0])}, "twice"),
        ({"row": np.array([1]), "stars": np.array([1.0, 2.0])}, "lengths"),
        ({"row": np.array([1]), "stars": np.array([np.nan])}, "finite"),
    ):
        with pytest.raises(ValueError, match=said):
            Opinions(**wrong)


def test_what_is_asked_next_is_of_every_kind_and_no_moment_twice() -> None:
    rng = np.random.default_rng(4)
    kinds = np.repeat(np.eye(5) * 10, 20, axis=0)
    rows = kinds + 0.1 * rng.normal(size=kinds.shape)
    everybody = np.ones(100, dtype=bool)
    chosen = choose_next(rows, np.array([0]), 4, everybody)
    assert sorted(chosen // 20) == [1, 2, 3, 4]
    group = np.arange(100) // 2
    chosen = choose_next(rows, np.array([0]), 60, everybody, group)
    assert len(chosen) == 49 and len(set(group[chosen])) == 49 and 0 not in group[chosen]
    everybody[20:] = False
    assert set(choose_next(rows, np.array([], dtype=int), 30, everybody)) == set(range(20))
    score = np.array([0, 0, 0, 1, 9, 1.1, np.nan])
    assert choose_pairs(np.array([3, 4, 5]), score) == [(3, 5)]
    assert choose_pairs(np.array([6, 3, 4, 5]), score) == [(6, 3), (4, 5)]
    assert choose_pairs(np.array([3]), np.zeros(100)) == []


def test_a_thousand_ratings_are_learned_anew_in_no_time() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1100, 1280)).astype(np.float32)
    gram = Gram(features, Scaling(np.zeros(1280), np.ones(1280)))
    stars = rng.integers(1, 6, 1001).astype(float)
    before = fit_taste(gram, Opinions(np.arange(1000), stars[:1000]))
    started = time.process_time()
    after = fit_taste(gram, Opinions(np.arange(1001), stars), alphas=(before.alpha,))
    assert time.process_time() - started < 1.0  # a tenth of that on an idle machine
    assert after.n_stars == 1001


def test_no_interval_is_narrower_than_chance(world) -> None:
    gram, rng = gram_of(world[0]), np.random.default_rng(6)
    rows, stars = np.arange(30), rng.integers(1, 6, 30).astype(float)
    chance = under_chance(gram.of(rows), stars, [rng.permutation(30) % 5], None, None, rng)
    assert len(chance.srcc) == 200 and abs(chance.srcc.mean()) < 0.1 and chance.srcc.std() > 0.1
    reach = np.quantile(chance.srcc, 0.975)
    narrow = Metric(0.9 * reach, 0.8 * reach, reach)
    assert widen(narrow, chance.srcc).low < 0 and widen(Metric(1.5, 1.4, 1.6), chance.srcc).low > 0


def test_how_many_are_missing_is_told_by_the_law_and_calmly() -> None:
    """Made standings of which the answer is known: 0.3 above chance at last, half of that by 30 ratings."""

    def standing(n: int, bump: float = 0.0, error: float = 0.5) -> Standing:
        value = 0.5 + 0.3 * n / (n + HALFWAY) + bump
        return Standing(n, value, 0.6, error / np.sqrt(n), value - 0.6 > 1.96 * error / np.sqrt(n))

    first = next(n for n in range(10, 300) if standing(n).is_better)
    assert 50 < first < 90
    for n in (10, 25, first - 12):
        told = count_missing([standing(n)])
        assert told in STEPS and 0 <= told - (first - n) <= 20
    assert count_missing([standing(first)]) == 0
    assert count_missing([Standing(20, 0.5, 0.5, 0.1, False)]) is None
    assert count_missing([Standing(20, 0.55, 0.6, math.nan, False)]) is None
    noise = np.random.default_rng(1).normal(0, 0.02, 30)
    trace = [standing(n, bump) for n, bump in enumerate(noise, 12)]
    alone = [count_missing([each]) or 2000 for each in trace]
    together = [count_missing(trace[max(0, i - RECENT) : i]) or 2000 for i in range(1, len(trace) + 1)]
    jumps = [np.abs(np.diff(np.log2(told))) >= 1 for told in (alone, together)]
    assert jumps[0].sum() > 2 * jumps[1].sum()


def test_standings_before_are_taken_in(world) -> None:
    features, _, general, own = world
    said = Opinions(np.arange(16), stars_of(own, 0.5)[:16])
    one = evaluate_taste(gram_of(features), said, beside=0.9 * own + general, n_boot=20, n_repeats=2)
    assert one.standing.n == 16 and one.n_more == count_missing([one.standing])
    near = [replace(one.standing, n=15 - i, value=0.9, rival=0.5, is_better=False) for i in range(4)]
    again = evaluate_taste(
        gram_of(features), said, beside=0.9 * own + general, n_boot=20, n_repeats=2, recent=near
    )
    assert again.n_more == count_missing([*near, one.standing]) != one.n_more
