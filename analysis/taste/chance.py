"""What answers that have nothing to do with the photographs would reach, by the same measurement.

Intervals from the spread over folds are too narrow now and then: folds share photographs, and where a pattern
of chance runs through all of them, they agree with each other. What chance itself reaches is found by putting
the same stars on the same photographs in another order, many times. A start from a general head is kept: then
what is put in another order is what the stars differ from it in (Freedman & Lane 1983).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from analysis.parallel import one_blas_thread
from analysis.results.methods import Metric
from analysis.taste.fitting import ALPHAS
from analysis.taste.path import StarsPath
from store.shapes import Float, Int

N_DRAWN = 200
_FEW = 100
"""Stars up to which every repeat is measured as the real one was; beyond, one repeat, which spreads more."""


@dataclass(frozen=True)
class Chance:
    """Means over folds, as often as the stars were put in another order."""

    srcc: Float[np.ndarray, " n_drawn"]
    ahead: Float[np.ndarray, " n_drawn"]
    """Pairwise accuracy less the rival's (0.5 without one)."""


def widen(metric: Metric, chance: Float[np.ndarray, " n_drawn"], centre: float = 0.0) -> Metric:
    """An interval that holds `centre` wherever chance reaches the value in more than 2.5 of 100 cases."""
    if not np.isfinite(metric.low) or not len(chance):
        return metric
    least, most = np.quantile(chance, [0.025, 0.975], method="closest_observation") - centre
    low, high = min(metric.low, metric.value - most), max(metric.high, metric.value - least)
    return Metric(metric.value, float(low), float(high))


def under_chance(
    gram: Float[np.ndarray, "n n"],
    stars: Float[np.ndarray, " n"],
    folds: Sequence[Int[np.ndarray, " n"]],
    start: Float[np.ndarray, " n"] | None,
    rival: Float[np.ndarray, " n"] | None,
    rng: np.random.Generator,
    n_drawn: int = N_DRAWN,
) -> Chance:
    """`gram` holds the inner products of the photographs with stars, `folds` the fold of each of them, repeat
    by repeat; `rival` is what accuracy is compared with."""
    n = len(stars)
    unshrunk = np.ones((n, 1)) if start is None else np.stack([np.ones(n), start], axis=1)
    kept = unshrunk @ np.linalg.lstsq(unshrunk, stars, rcond=None)[0]
    order = np.argsort(rng.random((n_drawn, n)), axis=1)
    drawn = kept[:, None] + (stars - kept)[order].T
    ordered, ahead, n_folds = np.zeros(n_drawn), np.zeros(n_drawn), 0
    with one_blas_thread():
        for fold in folds if n <= _FEW else folds[:1]:
            for number in np.unique(fold):
                held, used = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
                if len(held) < 2:
                    continue
                path = StarsPath(gram[np.ix_(used, used)], unshrunk[used], np.array(ALPHAS))
                dual, free = path.fit(drawn[used], path.choose(drawn[used]))
                score = gram[np.ix_(held, used)] @ dual + unshrunk[held] @ free
                ordered += _srcc(drawn[held], score)
                right = _accuracy(drawn[held], score)
                ahead += right - (0.5 if rival is None else _accuracy(drawn[held], rival[held][:, None]))
                n_folds += 1
    return Chance(ordered / max(n_folds, 1), ahead / max(n_folds, 1))


def _srcc(stars: Float[np.ndarray, "n b"], score: Float[np.ndarray, "n b"]) -> Float[np.ndarray, " b"]:
    one, other = (rankdata(some, axis=0) for some in (stars, score))
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    size = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    return np.asarray((one * other).sum(axis=0) / np.where(size > 0, size, np.inf))


def _accuracy(stars: Float[np.ndarray, "n b"], score: Float[np.ndarray, "n b"]) -> Float[np.ndarray, " b"]:
    """Share of pairs of different stars in their order; one half where there are none."""
    agrees, n_pairs = np.zeros(stars.shape[1]), np.zeros(stars.shape[1])
    for at in range(1, len(stars)):
        said = np.sign(stars[at] - stars[:at])
        agrees += (said * np.sign(score[at] - score[:at])).sum(axis=0)
        n_pairs += np.abs(said).sum(axis=0)
    return np.asarray((agrees / np.maximum(n_pairs, 1) + 1) / 2)
