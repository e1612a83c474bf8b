"""The figures of merit: one function, one quantity."""

import numpy as np

from store.shapes import Bool, Float


def accuracy(is_high: Bool[np.ndarray, " n"], predicted_high: Bool[np.ndarray, " n"]) -> float:
    """Share of images on the right side of the threshold, 0 to 1; NaN without images."""
    return _mean(is_high == predicted_high)


def recall_high(is_high: Bool[np.ndarray, " n"], predicted_high: Bool[np.ndarray, " n"]) -> float:
    """Share of the high images that are predicted high, 0 to 1; NaN if none is high."""
    return _mean(predicted_high[is_high])


def recall_low(is_high: Bool[np.ndarray, " n"], predicted_high: Bool[np.ndarray, " n"]) -> float:
    """Share of the images that are not high and predicted so, 0 to 1; NaN if all are high."""
    return _mean(~predicted_high[~is_high])


def plcc(y: Float[np.ndarray, " n"], prediction: Float[np.ndarray, " n"]) -> float:
    """Pearson's linear correlation, -1 to 1; NaN if either side is constant."""
    a, b = y - np.mean(y), prediction - np.mean(prediction)
    # Scaled first: squares of tiny deviations would vanish.
    largest_a, largest_b = np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)
    if len(y) < 2 or largest_a <= _noise(y) or largest_b <= _noise(prediction):
        return float("nan")
    a, b = a / largest_a, b / largest_b
    return float(np.clip(inner(a, b) / np.sqrt(inner(a, a) * inner(b, b)), -1.0, 1.0))


def srcc(y: Float[np.ndarray, " n"], prediction: Float[np.ndarray, " n"]) -> float:
    """Spearman's rank correlation, -1 to 1, ties at their average rank; NaN if either side is constant."""
    return plcc(average_ranks(y), average_ranks(prediction))


def average_ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Rank of each value from 1, equal ones at the mean of theirs; all NaN where one is. scipy.stats has the
    same and takes longer to load than a probe to answer."""
    n = len(values)
    if np.isnan(values).any():
        return np.full(n, np.nan)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(n, 1), bool), ordered[1:] != ordered[:-1]]))
    stops = np.append(starts[1:], n)[: len(starts)]
    ranks = np.empty(n)
    ranks[order] = np.repeat((starts + stops + 1) / 2, stops - starts)
    return ranks


def rmse(y: Float[np.ndarray, " n"], prediction: Float[np.ndarray, " n"]) -> float:
    """Root of the mean squared error, in the units of y."""
    return float(np.sqrt(np.mean((y - prediction) ** 2)))


def emd_r2(
    shares: Float[np.ndarray, "n n_levels"], predicted: Float[np.ndarray, "n n_levels"]
) -> Float[np.ndarray, " n"]:
    """Earth mover's distance of NIMA per image, 0 to 1: the root of the mean, over the levels, of the
    squared difference of the two cumulative distributions (r = 2). The loss of the paper's section 4.3."""
    difference = np.cumsum(shares - predicted, axis=1)
    return np.asarray(np.sqrt(np.mean(difference**2, axis=1)))


def inner(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Inner product without BLAS, whose threads, on a busy machine, wait longer for each other than such a
    short sum takes."""
    return float(np.einsum("i,i->", a, b))


def _mean(flags: Bool[np.ndarray, " n"]) -> float:
    return float(np.mean(flags)) if len(flags) else float("nan")


def _noise(values: Float[np.ndarray, " n"]) -> float:
    """Deviations up to here are rounding of the mean: the values are all the same."""
    return float(4 * np.finfo(np.float64).eps * np.abs(values).max(initial=0.0))
