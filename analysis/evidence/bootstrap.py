"""Intervals and paired comparisons by resampling the test images, seeded and without loops over images.

A resample of n images is a vector of counts c (how often each image was drawn). Sums over the resample
are then products with c, and ranks follow from cumulative counts in an order that is computed once: an
image with value v has the average rank  #{drawn below v} + (#{drawn at v} + 1) / 2.
So no resample is ever sorted, and all methods see the same resamples, which is what pairs them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from threading import Lock

import numpy as np

from analysis.evidence import metrics
from analysis.parallel import map_threads, n_workers
from analysis.results.methods import METRICS, Metric
from store.shapes import Bool, Float, Float64, Int, Int32

SMALLEST_P = 0.005
"""Comparisons take so many resamples that a corrected p-value can be as small as this."""
_CORRELATIONS = ("srcc", "plcc", "rmse")
_CLASSES = {"accuracy", "recall_low", "recall_high"}
_COUNTS_AT_ONCE = 2**17


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
    n_boot: int
    """Resamples behind interval and p-values."""
    p_floor: float
    """The smallest value that `p_holm` can take in this family with so many resamples."""


def resample_counts(
    n_images: int, n_boot: int, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, " n_images"]]:
    """n_boot resamples of n_images images with replacement, each as counts per image."""
    for _ in range(n_boot):
        yield np.bincount(rng.integers(0, n_images, size=n_images, dtype=np.int32), minlength=n_images)


def _blocks(
    counts: Iterator[Int[np.ndarray, " n_images"]], n_rows: int
) -> Iterator[tuple[int, Int32[np.ndarray, "n_rows n_images"]]]:
    """Resamples in blocks of n_rows, each with the number of its first."""
    start = 0
    while rows := list(islice(counts, n_rows)):
        yield start, np.stack(rows, dtype=np.int32)
        start += len(rows)


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
    ranks, classes, scores = {}, {}, {}
    for method, values in found.items():
        if "srcc" in values:
            ranks[method] = _Ranks(predictions[method].score)
        if values.keys() & _CLASSES:
            classes[method] = _class_columns(is_high, predictions[method])
        if values.keys() & {"plcc", "rmse"}:
            scores[method] = _score_columns(y, predictions[method])
    y_ranks = _Ranks(y) if ranks else None
    n_images = _n_images(y, is_high)
    n_rows = max(1, _COUNTS_AT_ONCE // n_images)
    blocks, lock = _blocks(resample_counts(n_images, n_boot, rng), n_rows), Lock()

    def keep(method: str, rows: slice, measured: Mapping[str, np.ndarray]) -> None:
        for name in found[method].keys() & measured.keys():
            found[method][name][rows] = measured[name]

    def work(_: int) -> None:
        while True:
            with lock:  # the resamples are those of one stream, whoever takes them
                block = next(blocks, None)
            if block is None:
                return
            start, counts = block
            rows, weights = slice(start, start + len(counts)), counts.astype(np.float64)
            for method, columns in classes.items():
                keep(method, rows, _from_class_sums(np.einsum("ij,kj->ik", columns, weights), n_images))
            for method, columns in scores.items():
                keep(method, rows, _from_score_sums(np.einsum("ij,kj->ik", columns, weights), n_images))
            if y_ranks is not None:
                y_now = y_ranks.centred(counts)
                for method, of_method in ranks.items():
                    srcc = _correlations(y_now, of_method.centred(counts), weights)
                    keep(method, rows, {"srcc": srcc})

    threads = n_workers(-(-n_boot // n_rows))
    map_threads(work, range(threads), threads)
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
    n_boot: int | None,
    rng: np.random.Generator,
    pairs: list[tuple[str, str]] | None = None,
    level: float = 0.95,
) -> list[Difference]:
    """Differences of one metric between methods (all pairs unless given), with intervals and p-values
    corrected over the family. Both methods of a pair see the same resamples of the same images.

    Without n_boot there are as many resamples as the family needs (`resamples_needed`).
    """
    pairs = list(combinations(predictions, 2)) if pairs is None else pairs
    n_boot = resamples_needed(len(pairs)) if n_boot is None else n_boot
    compared = {name: predictions[name] for name in dict.fromkeys(name for pair in pairs for name in pair)}
    replicates = bootstrap_replicates(y, is_high, compared, n_boot, rng, (metric,)) if pairs else {}
    values = {method: measure(y, is_high, prediction, (metric,)) for method, prediction in compared.items()}
    found = []
    for first, second in pairs:
        difference = replicates[first][metric] - replicates[second][metric]
        value = values[first][metric] - values[second][metric]
        found.append((first, second, value, *interval(difference, level), p_value(difference)))
    corrected = holm(np.array([row[-1] for row in found]))
    floor = smallest_corrected_p(len(pairs), n_boot)
    return [
        Difference(first, second, metric, value, low, high, p, float(p_corrected), n_boot, floor)
        for (first, second, value, low, high, p), p_corrected in zip(found, corrected, strict=True)
    ]


def smallest_corrected_p(n_tests: int, n_boot: int) -> float:
    """The smallest p-value that Holm's correction over n_tests can give with n_boot resamples: that of a
    difference whose resamples all lie on one side, times the number of tests."""
    return min(1.0, n_tests * 2.0 / (n_boot + 1))


def resamples_needed(n_tests: int, smallest: float = SMALLEST_P, at_least: int = 1000) -> int:
    """Resamples with which a corrected p-value over n_tests can be as small as `smallest`: 11,199 for 28."""
    return max(at_least, math.ceil(round(2.0 * n_tests / smallest, 6)) - 1)


def resolution(differences: Sequence[Difference]) -> str:
    """A sentence with the resamples behind a family of differences and the smallest p they can show."""
    if not differences:
        return ""
    first = differences[0]
    return (
        f"{first.n_boot:,} resamples for {len(differences)} comparison{'s' if len(differences) > 1 else ''}: "
        f"no corrected p can fall below {first.p_floor:.4f}."
    )


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
        self.has_ties = len(distinct) < len(values)

    def centred(self, counts: Int32[np.ndarray, "n_rows n_images"]) -> Float64[np.ndarray, "n_rows n_images"]:
        """Twice the rank less its mean over the resample, (n + 1) / 2, which is known beforehand."""
        n_rows, n_images = counts.shape
        drawn = np.zeros((n_rows, n_images + 1), dtype=np.int32)
        np.cumsum(counts.take(self.order, axis=1), axis=1, out=drawn[:, 1:])
        if not self.has_ties:  # below and up to an image differ by its own draws
            up_to = drawn[:, 1:].take(self.group, axis=1)
            return np.asarray((2 * up_to - counts - n_images).astype(np.float64))
        of_group = drawn.take(self.first, axis=1) + drawn.take(self.last, axis=1) - n_images
        return np.asarray(of_group.astype(np.float64).take(self.group, axis=1))


def _correlations(
    a: Float64[np.ndarray, "n_rows n"],
    b: Float64[np.ndarray, "n_rows n"],
    weights: Float64[np.ndarray, "n_rows n"],
) -> Float64[np.ndarray, " n_rows"]:
    """Correlation of two centred columns in each resample; NaN where either is constant in it."""
    weighted = weights * a
    together = np.einsum("ij,ij->i", weighted, b)
    squares = np.einsum("ij,ij->i", weighted, a) * np.einsum("ij,ij->i", weights * b, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(squares > 0, together / np.sqrt(squares), np.nan)


def _class_columns(
    is_high: Bool[np.ndarray, " n"] | None, prediction: Prediction
) -> Float64[np.ndarray, "3 n"]:
    """What has to be summed over a resample for accuracy and recalls."""
    assert is_high is not None and prediction.high is not None
    right = is_high == prediction.high
    return np.stack([is_high, is_high & right, ~is_high & right]).astype(np.float64)


def _score_columns(y: Float[np.ndarray, " n"] | None, prediction: Prediction) -> Float64[np.ndarray, "6 n"]:
    """What has to be summed over a resample for PLCC and RMSE. Both sides of PLCC are centred on all images
    first, so that nothing cancels."""
    assert y is not None and prediction.score is not None
    a, b = y - y.mean(), prediction.score - prediction.score.mean()
    return np.stack([a, b, a * a, b * b, a * b, (y - prediction.score) ** 2]).astype(np.float64)


def _from_class_sums(
    sums: Float64[np.ndarray, "3 n_rows"], n: int
) -> dict[str, Float64[np.ndarray, " n_rows"]]:
    high, hits, rejections = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "accuracy": (hits + rejections) / n,
            "recall_high": np.where(high > 0, hits / high, np.nan),
            "recall_low": np.where(n > high, rejections / (n - high), np.nan),
        }


def _from_score_sums(
    sums: Float64[np.ndarray, "6 n_rows"], n: int
) -> dict[str, Float64[np.ndarray, " n_rows"]]:
    a, b, aa, bb, ab, squared_error = sums / n
    spread = (aa - a * a) * (bb - b * b)
    with np.errstate(invalid="ignore", divide="ignore"):
        plcc = np.where(spread > 0, (ab - a * b) / np.sqrt(spread), np.nan)
    return {"plcc": plcc, "rmse": np.sqrt(squared_error)}


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
