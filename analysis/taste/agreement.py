"""How often a score puts two photographs in the order a person does: pairwise accuracy, with intervals."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.evidence.bootstrap import interval, resample_counts
from analysis.results.methods import Metric
from store.shapes import Float, Int


@dataclass(frozen=True)
class Agreement:
    """Pairwise accuracy, 0 to 1 (chance: 0.5), over `n_pairs` pairs that the person does not call equal."""

    accuracy: Metric
    n_pairs: int
    n_groups: int = 0
    """Groups that the pairs are of, where only pairs within groups count."""


def over_folds(values: Float[np.ndarray, " n_folds"], share: float) -> Metric:
    """The mean over folds of several repeats, with an interval. Folds of one person's ratings depend on each
    other; the variance of their mean is taken as (1 / n_folds + held back / learned from) times theirs
    (Nadeau & Bengio 2003). `share` is held back / learned from. Folds without a value (NaN) do not count."""
    values = values[np.isfinite(values)]
    if not len(values):
        return Metric(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if len(values) < 2:
        return Metric(mean, math.nan, math.nan)
    error = math.sqrt((1 / len(values) + share) * float(values.var(ddof=1)))
    reach = float(stdtrit(len(values) - 1, 0.975)) * error
    return Metric(mean, mean - reach, mean + reach)


def accuracy(stars: Float[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> tuple[float, int]:
    """Share of the pairs of different stars that a score puts in their order, half where it is equal, and
    their number; NaN without any."""
    said = np.sign(stars[:, None] - stars[None, :])
    n_pairs = int(np.count_nonzero(said)) // 2
    if not n_pairs:
        return math.nan, 0
    agrees = float((np.sign(score[:, None] - score[None, :]) * said).sum())
    return (agrees / (2 * n_pairs) + 1) / 2, n_pairs


def within_groups(
    stars: Float[np.ndarray, " n"],
    score: Float[np.ndarray, " n"],
    group: Int[np.ndarray, " n"],
    n_boot: int,
    seed: int,
) -> Agreement:
    """Agreement over pairs of one group (-1: of none), with an interval over groups: photographs of one
    moment are not independent."""
    part, whole = [], []
    for number in np.unique(group[group >= 0]):
        rows = np.flatnonzero(group == number)
        value, n_pairs = accuracy(stars[rows], score[rows])
        if n_pairs:
            part.append(value * n_pairs)
            whole.append(n_pairs)
    if not whole:
        return Agreement(Metric(math.nan, math.nan, math.nan), 0)
    return Agreement(_ratio(np.array(part), np.array(whole), n_boot, seed), sum(whole), len(whole))


def of_pairs(
    outcome: Float[np.ndarray, " n"], margin: Float[np.ndarray, " n"], n_boot: int, seed: int
) -> Agreement:
    """Agreement with comparisons: `margin` is the first's score less the second's. Equal ones
    do not count."""
    said = np.sign(outcome - 0.5)
    right = ((np.sign(margin) * said + 1) / 2)[said != 0]
    if not len(right):
        return Agreement(Metric(math.nan, math.nan, math.nan), 0)
    return Agreement(_ratio(right, np.ones(len(right)), n_boot, seed), len(right))


def _ratio(part: np.ndarray, whole: np.ndarray, n_boot: int, seed: int) -> Metric:
    value = float(part.sum() / whole.sum())
    if len(whole) < 2:
        return Metric(value, math.nan, math.nan)
    counts = np.stack(list(resample_counts(len(whole), n_boot, np.random.default_rng(seed))))
    return Metric(value, *interval((counts @ part) / (counts @ whole)))
