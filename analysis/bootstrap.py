"""Intervals and paired comparisons by resampling the test images, seeded and without loops over images.

A resample of n images is a vector of counts c (how often each image was drawn). Sums over the resample
are then products with c, and ranks follow from cumulative counts in an order that is computed once: an
image with value v has the average rank  #{drawn below v} + (#{drawn at v} + 1) / 2.
So no resample is ever sorted, and all methods see the same resamples, which is what pairs them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from analysis import metrics
from analysis.results import METRICS, Metric

_CHUNK_CELLS = 4_000_000
_CORRELATIONS = ("srcc", "plcc", "rmse")


@dataclass(frozen=True)
class Prediction:
    """What a method says about the test images: a number, a class, or both."""

    score: Float[np.ndarray, " n_images"] | None
    high: Bool[np.ndarray, " n_images"] | None


@dataclass(frozen=True)
class Difference:
    """Metric of `first` minus metric of `second` on the same images."""

    first: str
    second: str
    metric: str
    value: float
    low: float
    high: float
    p_value: float
    """Two-sided, by the share of resamples on the far side of zero; never below 2 / (n_boot + 1)."""
    p_holm: float
    """The same, corrected over the family of comparisons made together (Holm)."""


def resample_counts(
    n_images: int, n_boot: int, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, "chunk n_images"]]:
    """Chunks of resamples of n_images images with replacement, as counts per image (n_boot rows in all)."""
    chunk = max(1, min(n_boot, _CHUNK_CELLS // max(n_images, 1)))
    for start in range(0, n_boot, chunk):
        n_rows = min(chunk, n_boot - start)
        drawn = rng.integers(0, n_images, size=(n_rows, n_images))
        drawn += np.arange(n_rows)[:, None] * n_images
        counts = np.bincount(drawn.ravel(), minlength=n_rows * n_images)
        yield counts.reshape(n_rows, n_images)


def bootstrap_replicates(
    y: Float[np.ndarray, " n_images"] | None,
    is_high: Bool[np.ndarray, " n_images"] | None,
    predictions: Mapping[str, Prediction],
    n_boot: int,
    rng: np.random.Generator,
    names: tuple[str, ...] = METRICS,
) -> dict[str, dict[str, Float[np.ndarray, " n_boot"]]]:
    """Each metric of each method on n_boot resamples that all methods share: {method: {metric: values}}.

    A resample on which a metric is undefined (no low image drawn) gives NaN.
    """
    n_images = _n_images(y, is_high)
    parts: dict[str, dict[str, list[np.ndarray]]] = {
        method: {name: [] for name in names if _is_defined(name, y, is_high, prediction)}
        for method, prediction in predictions.items()
    }
    ranks = _RankSums(y) if y is not None else None
    rank_sums = {
        method: _RankSums(prediction.score)
        for method, prediction in predictions.items()
        if "srcc" in parts[method] and prediction.score is not None
    }
    for counts in resample_counts(n_images, n_boot, rng):
        y_ranks = ranks.ranks(counts) if ranks is not None and rank_sums else None
        weights = counts.astype(np.float64)
        for method, prediction in predictions.items():
            found = parts[method]
            if prediction.high is not None and is_high is not None:
                for name, values in _class_metrics(weights, is_high, prediction.high).items():
                    if name in found:
                        found[name].append(values)
            if prediction.score is not None and y is not None:
                if "srcc" in found and y_ranks is not None:
                    own = rank_sums[method].ranks(counts)
                    found["srcc"].append(_weighted_correlation(weights, y_ranks, own))
                for name, values in _linear_metrics(weights, y, prediction.score).items():
                    if name in found:
                        found[name].append(values)
    return {
        method: {name: np.concatenate(values) for name, values in found.items()}
        for method, found in parts.items()
    }


def measure(
    y: Float[np.ndarray, " n_images"] | None,
    is_high: Bool[np.ndarray, " n_images"] | None,
    prediction: Prediction,
    names: tuple[str, ...] = METRICS,
) -> dict[str, float]:
    """The metrics of one method that its prediction and the ratings allow, on the images as they are."""
    found: dict[str, float] = {}
    for name in names:
        if not _is_defined(name, y, is_high, prediction):
            continue
        function = getattr(metrics, name)
        if name in _CORRELATIONS:
            found[name] = function(y, prediction.score)
        else:
            found[name] = function(is_high, prediction.high)
    return found


def bootstrap_metrics(
    y: Float[np.ndarray, " n_images"] | None,
    is_high: Bool[np.ndarray, " n_images"] | None,
    prediction: Prediction,
    n_boot: int,
    rng: np.random.Generator,
    names: tuple[str, ...] = METRICS,
    level: float = 0.95,
) -> dict[str, Metric]:
    """The metrics of one method with percentile intervals over n_boot resamples of the images."""
    replicates = bootstrap_replicates(y, is_high, {"": prediction}, n_boot, rng, names)[""]
    values = measure(y, is_high, prediction, names)
    return {name: Metric(values[name], *interval(replicates[name], level)) for name in values}


def interval(replicates: Float[np.ndarray, " n_boot"], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of the resampled values that are defined; NaN bounds if none is."""
    defined = replicates[np.isfinite(replicates)]
    if len(defined) == 0:
        return float("nan"), float("nan")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return float(low), float(high)


def paired_differences(
    y: Float[np.ndarray, " n_images"] | None,
    is_high: Bool[np.ndarray, " n_images"] | None,
    predictions: Mapping[str, Prediction],
    metric: str,
    n_boot: int,
    rng: np.random.Generator,
    pairs: list[tuple[str, str]] | None = None,
    level: float = 0.95,
) -> list[Difference]:
    """Differences of one metric between methods (all pairs unless given), with intervals and p-values
    corrected over the family. Both methods of a pair see the same resamples of the same images."""
    pairs = list(combinations(predictions, 2)) if pairs is None else pairs
    replicates = bootstrap_replicates(y, is_high, predictions, n_boot, rng, (metric,))
    values = {
        method: measure(y, is_high, prediction, (metric,)) for method, prediction in predictions.items()
    }
    found = []
    for first, second in pairs:
        difference = replicates[first][metric] - replicates[second][metric]
        value = values[first][metric] - values[second][metric]
        found.append((first, second, value, *interval(difference, level), p_value(difference)))
    corrected = holm(np.array([row[-1] for row in found]))
    return [
        Difference(first, second, metric, value, low, high, p, float(p_corrected))
        for (first, second, value, low, high, p), p_corrected in zip(found, corrected, strict=True)
    ]


def p_value(differences: Float[np.ndarray, " n_boot"]) -> float:
    """Two-sided bootstrap p-value that a difference is zero, 2 / (n_boot + 1) to 1."""
    defined = differences[np.isfinite(differences)]
    below, above = np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0)
    return float(min(1.0, 2.0 * (1 + min(below, above)) / (1 + len(defined))))


def holm(p_values: Float[np.ndarray, " n_tests"]) -> Float[np.ndarray, " n_tests"]:
    """Holm's step-down correction: p-values that keep the family-wise error rate, in the given order."""
    n_tests = len(p_values)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * (n_tests - np.arange(n_tests)))
    corrected = np.empty(n_tests)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


class _RankSums:
    """Average ranks of one column under resampling: its order and its groups of equal values."""

    def __init__(self, values: Float[np.ndarray, " n_images"]) -> None:
        distinct, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.searchsorted(self.group[self.order], np.arange(len(distinct)))

    def ranks(self, counts: Int[np.ndarray, "chunk n"]) -> Float[np.ndarray, "chunk n"]:
        at = np.add.reduceat(counts[:, self.order], self.starts, axis=1).astype(np.float64)
        rank = np.cumsum(at, axis=1)
        rank += (1.0 - at) / 2.0  # cumulative - at + (at + 1) / 2
        return rank[:, self.group]


def _weighted_correlation(
    weights: Float[np.ndarray, "chunk n"],
    a: Float[np.ndarray, "chunk n"],
    b: Float[np.ndarray, "chunk n"],
) -> Float[np.ndarray, " chunk"]:
    total = weights.sum(axis=1, keepdims=True)
    a = a - (weights * a).sum(axis=1, keepdims=True) / total
    b = b - (weights * b).sum(axis=1, keepdims=True) / total
    weighted = weights * a
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            np.einsum("ij,ij->i", weighted, b)
            / np.sqrt(np.einsum("ij,ij->i", weighted, a) * np.einsum("ij,ij,ij->i", weights, b, b))
        )


def _linear_metrics(
    weights: Float[np.ndarray, "chunk n"],
    y: Float[np.ndarray, " n"],
    prediction: Float[np.ndarray, " n"],
) -> dict[str, Float[np.ndarray, " chunk"]]:
    """PLCC and RMSE from weighted moments; both columns are centred first, so nothing cancels."""
    a, b = y - y.mean(), prediction - prediction.mean()
    sums = weights @ np.stack([a, b, a * a, b * b, a * b, (y - prediction) ** 2], axis=1)
    n = weights.sum(axis=1)
    mean_a, mean_b, aa, bb, ab, squared_error = (sums / n[:, None]).T
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (ab - mean_a * mean_b) / np.sqrt((aa - mean_a**2) * (bb - mean_b**2))
    return {"plcc": correlation, "rmse": np.sqrt(squared_error)}


def _class_metrics(
    weights: Float[np.ndarray, "chunk n"],
    is_high: Bool[np.ndarray, " n"],
    predicted_high: Bool[np.ndarray, " n"],
) -> dict[str, Float[np.ndarray, " chunk"]]:
    flags = np.stack([is_high, is_high & predicted_high, ~is_high & ~predicted_high], axis=1)
    high, hits, rejections = (weights @ flags.astype(np.float64)).T
    n = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "accuracy": (hits + rejections) / n,
            "recall_high": hits / high,
            "recall_low": rejections / (n - high),
        }


def _is_defined(name: str, y: np.ndarray | None, is_high: np.ndarray | None, prediction: Prediction) -> bool:
    if name in _CORRELATIONS:
        return y is not None and prediction.score is not None
    return is_high is not None and prediction.high is not None


def _n_images(y: np.ndarray | None, is_high: np.ndarray | None) -> int:
    for given in (y, is_high):
        if given is not None:
            if len(given) < 2:
                raise ValueError(f"{len(given)} test images: an interval needs 2 or more")
            return len(given)
    raise ValueError("neither mean votes nor labels were given: there is nothing to measure against")
