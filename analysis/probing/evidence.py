"""How far a probe can be trusted: learning curve, calibration, residuals, comparisons between probes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.evidence.bootstrap import Difference, Prediction
from analysis.evidence.labels import majority_prediction
from analysis.evidence.metrics import srcc
from analysis.evidence.roots import accumulate_roots, merge_roots
from analysis.probing.gram import Source, accumulate_parts, array_source, merge
from analysis.probing.probes import (
    ALPHAS,
    Features,
    ProbeFit,
    join_rows,
    predict_rows,
    probe_of,
    row_source,
    solve,
)
from analysis.probing.spectrum import RidgePath, gcv_error, gram_basis, gram_path, root_path
from analysis.results.predictions import Predicted, compare_methods
from store.shapes import Float, Int
from store.targets import Targets


@dataclass(frozen=True)
class LearningCurve:
    """SRCC on the test images by number of training images."""

    name: str
    n_train: Int[np.ndarray, " n_sizes"]
    srcc: Float[np.ndarray, "n_repeats n_sizes"]


def learning_curve(fit: ProbeFit, features: Features, n_sizes: int = 6, n_repeats: int = 5) -> LearningCurve:
    """SRCC of ridge probes on nested random subsets of train, each twice the one before, up to all of it.

    One pass per repeat: each step's images are a group of rows, and moments of groups add up. alpha is chosen
    anew for each size by generalised cross-validation.
    """
    train = fit.rows.train
    sizes = np.unique([max(2, len(train) >> step) for step in range(n_sizes)])
    curves = np.empty((n_repeats, len(sizes)))
    for repeat in range(n_repeats):
        order = np.random.default_rng([fit.seed, repeat]).permutation(train)
        group = np.full(features.n_images, -1)
        group[order] = np.searchsorted(sizes, np.arange(len(order)), side="right")
        source = row_source(features, fit.output, fit.rows, group, fit.ridge.unit_norm)
        probes = {}
        for step, path in enumerate(_growing_paths(source, sizes)):
            alpha = float(fit.alphas[np.argmin(gcv_error(path, fit.alphas))])
            probes[str(step)] = probe_of(path, alpha, fit.ridge.unit_norm)
        predicted = predict_rows(features, fit.output, fit.rows.test, probes)
        curves[repeat] = [srcc(fit.y_test, predicted[str(step)]) for step in range(len(sizes))]
    return LearningCurve(fit.name, sizes, curves)


def _growing_paths(source: Source, sizes: Int[np.ndarray, " n_sizes"]) -> list[RidgePath]:
    """The path of the first group, of the first two, and so on."""
    if source.dim >= 0.8 * sizes[-1]:
        roots = accumulate_roots(source.part(0, 1), len(sizes))
        return [root_path(merge_roots(roots[: step + 1])) for step in range(len(sizes))]
    parts = accumulate_parts(source, len(sizes))
    grown = [merge(parts[: step + 1]) for step in range(len(sizes))]
    # A penalty of at least 1 is what makes the condition number harmless here.
    return [gram_path(gram_basis(part, largest_condition=np.inf), part) for part in grown]


def cross_validated_srcc(
    features: Features,
    targets: Targets,
    output: str,
    n_folds: int = 10,
    n_repeats: int = 10,
    seed: int = 0,
    unit_norm: bool = False,
    alphas: Sequence[float] = ALPHAS,
) -> Float[np.ndarray, "n_repeats n_folds"]:
    """SRCC of ridge on each left-out fold of all rated images, n_repeats times over other random folds.

    For data sets so small that one test split says little. The split is ignored; in every fit the features
    are standardised and alpha is chosen (exact leave-one-out) on the other folds alone.
    """
    every = np.where(np.arange(targets.n_images) % 2, "train", "test")  # all take part, whatever their split
    rows = join_rows(features, replace(targets, split=every))
    used = np.flatnonzero(rows.split != "")
    x, y = features.read(output, used, unit_norm), rows.y[used, :1]
    tried = np.asarray(alphas, dtype=np.float64)
    found = np.empty((n_repeats, n_folds))
    for repeat in range(n_repeats):
        fold = np.random.default_rng([seed, repeat]).permutation(len(used)) % n_folds
        for left_out in range(n_folds):
            test = fold == left_out
            source = array_source(x, y, np.where(test, -1, 0))
            path, error = solve(source, None, tried, x.shape[1] >= 0.8 * (~test).sum(), features.backbone)
            probe = probe_of(path, float(tried[np.argmin(error[0])]), unit_norm)
            found[repeat, left_out] = srcc(y[test, 0], probe.predict(x[test]))
    return found


@dataclass(frozen=True)
class Binned:
    """Means over bins of equally many images."""

    x: Float[np.ndarray, " n_bins"]
    y: Float[np.ndarray, " n_bins"]
    standard_error: Float[np.ndarray, " n_bins"]
    n: Int[np.ndarray, " n_bins"]


def calibration(fit: ProbeFit, method: str, n_bins: int = 10) -> Binned:
    """Mean vote by predicted mean vote: on the diagonal if predictions can be taken at their word."""
    return bin_means(fit.predictions[method], fit.y_test, n_bins)


def residuals_by_spread(fit: ProbeFit, method: str, n_bins: int = 10) -> Binned | None:
    """Absolute error by standard deviation of an image's votes, in vote units; None without votes."""
    if "vote_std" not in fit.rows.target_names:
        return None
    spread = fit.rows.y[fit.rows.test, fit.rows.target_names.index("vote_std")]
    return bin_means(spread, np.abs(fit.y_test - fit.predictions[method]), n_bins)


def bin_means(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], n_bins: int) -> Binned:
    """Means of y over bins of x with equally many images in each."""
    parts = np.array_split(np.argsort(x, kind="stable"), min(n_bins, max(1, len(x) // 2)))
    return Binned(
        np.array([x[part].mean() for part in parts]),
        np.array([y[part].mean() for part in parts]),
        np.array([y[part].std(ddof=1) / np.sqrt(len(part)) if len(part) > 1 else np.nan for part in parts]),
        np.array([len(part) for part in parts]),
    )


def predicted_by(fit: ProbeFit, method: str) -> Predicted:
    """The test predictions of 'ols' or 'ridge', ready to be kept or compared."""
    return Predicted(fit.test_id, fit.y_test, fit.is_high_test, fit.prediction(method))


def predicted_majority(fit: ProbeFit) -> Predicted:
    """The commoner class of train for every test image of a probe (probes.evaluate_majority)."""
    commoner = majority_prediction(fit.rows.is_high[fit.rows.train], len(fit.rows.test))
    return Predicted(fit.test_id, fit.y_test, fit.is_high_test, Prediction(None, commoner))


def compare_fits(
    fits: Sequence[ProbeFit],
    metric: str = "srcc",
    method: str = "ridge",
    n_boot: int | None = None,
    seed: int = 0,
) -> list[Difference]:
    """Paired differences between all pairs of probes, Holm-corrected over the family, on the test images
    that all of them have. Without n_boot there are as many resamples as the family needs."""
    return compare_methods({fit.name: predicted_by(fit, method) for fit in fits}, metric, n_boot, seed)
