"""What ratings are worth: how well a taste predicts ratings that were held back, beside a general head and
chance.

Only photographs that were held back together are compared, by a taste that knows neither. Put together from
several folds, predictions of a person who answers at random would agree with her less than chance does: a
high rating that is held back lowers what is learned from the others, and the less there is to learn, the
more of what is predicted is that.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.evidence.bootstrap import interval
from analysis.evidence.metrics import srcc
from analysis.results.methods import Metric
from analysis.taste.agreement import Agreement, accuracy, of_pairs, over_folds, within_groups
from analysis.taste.chance import under_chance, widen
from analysis.taste.fitting import Taste, fit_taste
from analysis.taste.gram import Gram
from analysis.taste.opinions import Opinions
from store.shapes import Bool, Float, Int

FEWEST = 10
"""Opinions from which on something is held back and measured."""
N_FOLDS = 5
HALFWAY = 30
"""Ratings at which a taste is half as far above chance as it will be. Taken as known, for what few ratings
say of it changes with every one of them (benchmarks/how_many_more.py)."""
RECENT = 5
"""Standings, the present one among them, that the missing ratings are told from."""
_MOST_MORE = 2000
STEPS = (5, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 400, 500, 700, 1000, 1500, 2000)
"""Numbers of missing ratings that are told: finer ones would claim more than is known."""
TASTE, GENERAL = "taste", "general head"


@dataclass(frozen=True)
class HeldBack:
    """What others predict of each opinion, repeat by repeat; one alone is learned from for each fold."""

    stars: Float[np.ndarray, "n_repeats n_stars"]
    fold: Int[np.ndarray, "n_repeats n_stars"]
    margin: Float[np.ndarray, " n_pairs"]
    """First less second, mean over repeats."""

    def folds(self) -> Iterator[tuple[Float[np.ndarray, " n_held"], Int[np.ndarray, " n_held"]]]:
        """Scores and numbers of those that were held back together."""
        for score, fold in zip(self.stars, self.fold, strict=True):
            for number in np.unique(fold):
                held = np.flatnonzero(fold == number)
                yield score[held], held


@dataclass(frozen=True)
class Calibration:
    """From a taste's score to stars as they were held back: a line, since what few ratings predict is drawn
    to their mean too much or too little."""

    mean_stars: float
    mean_score: float
    slope: float
    error: float
    """Root mean squared error of a single photograph's stars."""

    def stars(
        self, score: Float[np.ndarray, " n"], lowest: float = 1.0, highest: float = 5.0
    ) -> Float[np.ndarray, " n"]:
        """Expected stars."""
        expected = self.mean_stars + self.slope * (score - self.mean_score)
        return np.asarray(np.clip(expected, lowest, highest), dtype=np.float64)


@dataclass(frozen=True)
class Standing:
    """How far a taste is, by so many ratings."""

    n: int
    value: float
    """Pairwise accuracy of the taste, and of its rival."""
    rival: float
    error: float
    """Standard error of the difference, from the width of its interval."""
    is_better: bool


@dataclass(frozen=True)
class Worth:
    """How good a taste is, by what was held back."""

    n_stars: int
    n_pairs: int
    srcc: dict[str, Metric]
    """By taste and by general head, where there is one. Chance: 0."""
    pairwise: dict[str, Agreement]
    """Over all pairs of different stars. Chance: 0.5."""
    compared: dict[str, Agreement]
    """Over comparisons that the person made."""
    within: dict[str, Agreement]
    """Over pairs of different stars within groups (bursts, near-duplicates)."""
    rival: str
    """What it has to be better than: the general head, or chance."""
    ahead: Metric
    """Pairwise accuracy less the rival's, with interval."""
    calibration: Calibration | None
    n_more: int | None
    """About how many more ratings until it is better; 0: it is; None: not in sight."""
    standing: "Standing"
    """What that is told from."""

    @property
    def is_better(self) -> bool:
        """True if the interval of the difference lies above 0."""
        return self.n_more == 0

    @property
    def sentence(self) -> str:
        """The verdict, for people."""
        if self.is_better:
            return f"better than {self.rival}"
        if self.n_more is None:
            return f"not better than {self.rival}, and more ratings do not look like changing that"
        return f"not better than {self.rival} yet: about {self.n_more} more"


def evaluate_taste(
    gram: Gram,
    opinions: Opinions,
    general: Float[np.ndarray, " n_images"] | None = None,
    group: Int[np.ndarray, " n_images"] | None = None,
    beside: Float[np.ndarray, " n_images"] | None = None,
    n_folds: int = N_FOLDS,
    n_repeats: int | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    recent: Sequence[Standing] = (),
) -> Worth:
    """A taste on opinions that were held back: in every fold alpha is chosen and all is fitted on the others
    alone, and nothing is learned from a photograph that it is then asked about.

    It starts from `general`, and is compared with it, or with `beside` where it starts from nothing.
    `group` numbers what belongs together (-1: nothing). `recent` are standings by a few ratings less, which
    make it calmer how many are missing. Raises ValueError for fewer than FEWEST opinions.
    """
    if len(opinions) < FEWEST:
        raise ValueError(f"{len(opinions)} ratings: from {FEWEST} on some can be held back and predicted")
    n_repeats = n_repeats or (6 if len(opinions) <= 200 else 2)
    full = hold_back(gram, opinions, general, n_folds, n_repeats, seed)
    beside = general if beside is None else beside
    stars, share = opinions.stars, 1 / (n_folds - 1)
    by_fold = {TASTE: [(stars[held], score) for score, held in full.folds()]}
    margins = {TASTE: full.margin}
    if beside is not None:
        by_fold[GENERAL] = [(stars[held], beside[opinions.row[held]]) for _, held in full.folds()]
        margins[GENERAL] = beside[opinions.first] - beside[opinions.second]
    n_pairs = sum(accuracy(said, score)[1] for said, score in by_fold[TASTE])
    right = {
        name: np.array([accuracy(said, score)[0] for said, score in folds]) for name, folds in by_fold.items()
    }
    ordered = {name: np.array([_srcc(*fold) for fold in folds]) for name, folds in by_fold.items()}
    groups = np.full(opinions.n_stars, -1) if group is None else group[opinions.row]
    mean = {TASTE: full.stars.mean(axis=0)}
    if beside is not None:
        mean[GENERAL] = beside[opinions.row]
    within = {name: within_groups(stars, score, groups, n_boot, seed) for name, score in mean.items()}
    compared = {name: of_pairs(opinions.outcome, margin, n_boot, seed) for name, margin in margins.items()}
    rival = GENERAL if beside is not None else "chance"
    taste_srcc = over_folds(ordered[TASTE], share)
    taste_right = over_folds(right[TASTE], share)
    if opinions.n_stars >= FEWEST and n_pairs:
        start, facing = (None if some is None else some[opinions.row] for some in (general, beside))
        rng = np.random.default_rng([seed, n_repeats])
        chance = under_chance(gram.of(opinions.row), stars, [*full.fold], start, facing, rng)
        if start is None:
            taste_srcc = widen(taste_srcc, chance.srcc)
        if start is None and facing is None:
            taste_right = widen(taste_right, chance.ahead)
        other = right[GENERAL] if beside is not None else np.full(len(right[TASTE]), 0.5)
        ahead = widen(over_folds(right[TASTE] - other, share), chance.ahead)
        value, at_rival = float(np.nanmean(right[TASTE])), float(np.nanmean(other))
    else:
        value, at_rival, ahead = _of_comparisons(opinions, margins, n_boot, seed)
    error = (ahead.high - ahead.low) / (2 * 1.96)
    standing = Standing(len(opinions), value, at_rival, error, ahead.low > 0)
    return Worth(
        n_stars=opinions.n_stars,
        n_pairs=opinions.n_pairs,
        srcc={
            name: taste_srcc if name == TASTE else over_folds(values, share)
            for name, values in ordered.items()
        },
        pairwise={
            name: Agreement(taste_right if name == TASTE else over_folds(values, share), n_pairs // n_repeats)
            for name, values in right.items()
        },
        compared=compared,
        within=within,
        rival=rival,
        ahead=ahead,
        calibration=_calibration(stars, mean[TASTE]),
        n_more=count_missing([*recent[-(RECENT - 1) :], standing]),
        standing=standing,
    )


def hold_back(
    gram: Gram,
    opinions: Opinions,
    general: Float[np.ndarray, " n_images"] | None,
    n_folds: int,
    n_repeats: int,
    seed: int,
) -> HeldBack:
    """Predictions of every opinion from others."""
    n, n_stars = len(opinions), opinions.n_stars
    stars, margin = np.zeros((n_repeats, n_stars)), np.zeros(opinions.n_pairs)
    folds = np.zeros((n_repeats, n_stars), dtype=int)
    start: int | None = None
    for repeat in range(n_repeats):
        rng = np.random.default_rng([seed, repeat])
        fold = np.concatenate([_dealt(size, n_folds, rng) for size in (n_stars, n - n_stars)])
        folds[repeat] = fold[:n_stars]
        for number in range(n_folds):
            asked = fold == number
            used = _untouched(opinions, asked[:n_stars], asked[n_stars:])
            learned = opinions.take(used[:n_stars], used[n_stars:])
            if not len(learned):
                continue
            taste = fit_taste(gram, learned, general, start)
            start = taste.place
            row, first, second = (
                some[these]
                for some, these in (
                    (opinions.row, asked[:n_stars]),
                    (opinions.first, asked[n_stars:]),
                    (opinions.second, asked[n_stars:]),
                )
            )
            stars[repeat, asked[:n_stars]] = _predict(gram, taste, row, general)
            difference = _predict(gram, taste, first, general) - _predict(gram, taste, second, general)
            margin[asked[n_stars:]] += difference / n_repeats
    return HeldBack(stars, folds, margin)


def _dealt(n: int, n_folds: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """The fold of each opinion. They are dealt out round by round, so that one opinion more changes nothing
    for those before."""
    rounds = -(-n // n_folds)
    drawn = np.random.default_rng(rng.integers(2**63)).random((rounds, 2, n_folds))
    return np.asarray(np.argsort(drawn[:, 0], axis=1).ravel()[:n])


def _untouched(opinions: Opinions, stars: np.ndarray, pairs: np.ndarray) -> Bool[np.ndarray, " n_said"]:
    """True for opinions about other photographs than those that are asked about."""
    asked = np.concatenate([opinions.row[stars], opinions.first[pairs], opinions.second[pairs]])
    of_star = ~np.isin(opinions.row, asked)
    of_pair = ~(np.isin(opinions.first, asked) | np.isin(opinions.second, asked))
    return np.concatenate([of_star, of_pair])


def _predict(
    gram: Gram, taste: Taste, rows: np.ndarray, general: np.ndarray | None
) -> Float[np.ndarray, " n_rows"]:
    return taste.predict(gram.rows(rows), None if general is None else general[rows])


def _srcc(stars: Float[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float:
    """SRCC; 0 for a score that is the same everywhere but for rounding, which orders nothing; NaN where all
    stars are the same."""
    if len(stars) < 2 or np.ptp(stars) == 0:
        return math.nan
    if np.ptp(score) <= 1e-9 * max(1.0, float(np.abs(score).max())):
        return 0.0
    return srcc(stars, score)


def _of_comparisons(
    opinions: Opinions, margins: dict[str, np.ndarray], n_boot: int, seed: int
) -> tuple[float, float, Metric]:
    """Accuracy on comparisons, the rival's, and the difference."""
    said = np.sign(opinions.outcome - 0.5)
    use = said != 0

    def right(margin: np.ndarray) -> np.ndarray:
        return np.asarray(((np.sign(margin) * said + 1) / 2)[use])

    mine = right(margins[TASTE])
    other = right(margins[GENERAL]) if GENERAL in margins else np.full(len(mine), 0.5)
    if not len(mine):
        return 0.5, 0.5, Metric(0.0, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(mine), (n_boot, len(mine)))
    difference = (mine - other)[drawn].mean(axis=1)
    ahead = Metric(float((mine - other).mean()), *interval(difference))
    return float(mine.mean()), float(other.mean()), ahead


def _calibration(stars: np.ndarray, score: np.ndarray) -> Calibration | None:
    """The line through held-back stars; it never turns the order round."""
    if len(stars) < FEWEST:
        return None
    mean_stars, mean_score = float(stars.mean()), float(score.mean())
    away = score - mean_score
    squares = float(away @ away)
    slope = max(0.0, float(away @ (stars - mean_stars)) / squares) if squares > 1e-12 else 0.0
    left = stars - mean_stars - slope * away
    return Calibration(mean_stars, mean_score, slope, float(np.sqrt(np.mean(left**2))))


def count_missing(standings: Sequence[Standing]) -> int | None:
    """About how many ratings are missing, by the last of these standings and those just before it, until the
    interval of the difference lies above 0; 0: none; None: not in sight.

    Accuracy is taken to grow as 1/2 + a n / (n + HALFWAY), with one a for all standings; the width of the
    interval shrinks with the root of the number of ratings.
    """
    n = standings[-1].n
    if standings[-1].is_better:
        return 0
    asymptote = float(np.mean([(each.value - 0.5) * (1 + HALFWAY / each.n) for each in standings]))
    ahead_at = float(np.mean([each.rival for each in standings])) - 0.5
    error = math.sqrt(float(np.mean([each.error**2 * each.n for each in standings])))  # of one rating
    if not math.isfinite(error) or error <= 0 or asymptote <= 0:
        return None
    then = n + np.arange(1, _MOST_MORE)
    is_ahead = asymptote * then / (then + HALFWAY) - ahead_at > 1.96 * error / np.sqrt(then)
    more = int(np.argmax(is_ahead)) + 1
    return next(step for step in STEPS if step >= more) if is_ahead.any() else None
