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

_CORRELATIONS = ("srcc", "plcc", "rmse")


class MeasureError(ValueError):
    """There is nothing to measure, or a method gave no number for some of the images."""


@dataclass(frozen=True)
class Prediction:
    """What a method says about the test images: a number, a class, or both.

    Raises MeasureError for scores that are not finite: compared with a threshold, NaN is low, so that a
    method which says nothing would be right about every low image.
    """

    score: Float[np.ndarray, " n_images"] | None
    high: Bool[np.ndarray, " n_images"] | None

    def __post_init__(self) -> None:
        if self.score is not None and (wrong := np.count_nonzero(~np.isfinite(self.score))):
            raise MeasureError(
                f"{wrong:,} of {len(self.score):,} test images have a score that is not finite: nothing is "
                "measured. Are features damaged (iaa verify), or the weights of the probe or head?"
            )


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
) -> Iterator[Int[np.ndarray, " n_images"]]:
    """n_boot resamples of n_images images with replacement, each as counts per image."""
    for _ in range(n_boot):
        yield np.bincount(rng.integers(0, n_images, size=n_images, dtype=np.int32), minlength=n_images)


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
    found = {
        method: {name: np.empty(n_boot) for name in names if _is_defined(name, y, is_high, prediction)}
        for method, prediction in predictions.items()
    }
    needs_ranks = {method for method, values in found.items() if "srcc" in values}
    ranks = {method: _Ranks(predictions[method].score) for method in needs_ranks}
    y_ranks = _Ranks(y) if needs_ranks else None
    columns = {method: _columns(y, is_high, predictions[method]) for method in predictions}
    for row, counts in enumerate(resample_counts(_n_images(y, is_high), n_boot, rng)):
        weights = counts.astype(np.float64)
        y_now = y_ranks.centred(counts) if y_ranks else None
        for method, values in found.items():
            available = _from_sums(np.einsum("ij,j->i", columns[method], weights), len(weights))
            if y_now is not None and method in ranks:
                available["srcc"] = _correlation(y_now, ranks[method].centred(counts), weights)
            for name in values:
                values[name][row] = available[name]
    return found


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


class _Ranks:
    """Average ranks of one column under resampling: its order and its groups of equal values."""

    def __init__(self, values: Float[np.ndarray, " n_images"] | None) -> None:
        assert values is not None
        distinct, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        bounds = np.searchsorted(self.group[self.order], np.arange(len(distinct) + 1))
        self.first, self.last = bounds[:-1], bounds[1:]
        self.drawn = np.zeros(len(values) + 1, dtype=np.int64)

    def centred(self, counts: Int[np.ndarray, " n_images"]) -> Float[np.ndarray, " n_images"]:
        """Twice the rank less its mean over the resample, (n + 1) / 2, which is known beforehand."""
        np.cumsum(counts.take(self.order), out=self.drawn[1:])
        of_group = self.drawn.take(self.first) + self.drawn.take(self.last) - len(counts)
        return np.asarray(of_group.astype(np.float64).take(self.group))


def _correlation(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]
) -> float:
    """Correlation of two centred columns in a resample; NaN if either is constant in it."""
    weighted = weights * a
    squares = metrics.inner(weighted, a) * metrics.inner(weights * b, b)
    return metrics.inner(weighted, b) / float(np.sqrt(squares)) if squares > 0 else float("nan")


def _columns(
    y: Float[np.ndarray, " n"] | None, is_high: Bool[np.ndarray, " n"] | None, prediction: Prediction
) -> Float[np.ndarray, "9 n"]:
    """What has to be summed over a resample for every metric but SRCC. Both sides of PLCC are centred on
    all images first, so that nothing cancels."""
    columns = np.zeros((9, _n_images(y, is_high)))
    if is_high is not None and prediction.high is not None:
        right = is_high == prediction.high
        columns[:3] = is_high, is_high & right, ~is_high & right
    if y is not None and prediction.score is not None:
        a, b = y - y.mean(), prediction.score - prediction.score.mean()
        columns[3:] = a, b, a * a, b * b, a * b, (y - prediction.score) ** 2
    return columns


def _from_sums(sums: Float[np.ndarray, " 9"], n: int) -> dict[str, float]:
    high, hits, rejections, *moments = sums.tolist()
    a, b, aa, bb, ab, squared_error = (moment / n for moment in moments)
    spread = (aa - a * a) * (bb - b * b)
    return {
        "accuracy": (hits + rejections) / n,
        "recall_high": hits / high if high else float("nan"),
        "recall_low": rejections / (n - high) if n > high else float("nan"),
        "plcc": (ab - a * b) / np.sqrt(spread) if spread > 0 else float("nan"),
        "rmse": float(np.sqrt(squared_error)),
    }


def _is_defined(name: str, y: np.ndarray | None, is_high: np.ndarray | None, prediction: Prediction) -> bool:
    if name in _CORRELATIONS:
        return y is not None and prediction.score is not None
    return is_high is not None and prediction.high is not None


def _n_images(y: np.ndarray | None, is_high: np.ndarray | None) -> int:
    for given in (y, is_high):
        if given is not None:
            if len(given) < 2:
                raise MeasureError(f"{len(given)} test images: an interval needs 2 or more")
            return len(given)
    raise MeasureError("neither mean votes nor labels were given: there is nothing to measure against")
