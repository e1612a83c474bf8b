"""Linear probes (section 4.2): fit on the training rows, judge on the test rows.

In three lines:

    from analysis.probing import probes
    fit = probes.fit_probes(open_features("features/demo_clip.h5"), open_targets("targets.h5"), "embedding")
    probes.evaluate_probe(fit)

The paper's probe is least squares (section 4.2), in its authors' notebook on standardised raw features; ours
beside it is ridge, its alpha chosen by cross-validation on the training images alone. Both come from one pass
over the rows.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from analysis.evidence import labels, metrics
from analysis.evidence.bootstrap import Prediction, bootstrap_metrics
from analysis.evidence.folds import assign_folds
from analysis.evidence.roots import accumulate_roots, merge_roots, root_squared_error
from analysis.parallel import map_threads, n_workers, one_blas_thread
from analysis.probing.cache import CacheKey, array_digest, gather
from analysis.probing.gram import Block, Source, merge, squared_error
from analysis.probing.spectrum import (
    IllConditionedError,
    RidgePath,
    cv_error,
    gram_path,
    leave_one_out_error,
    leave_out_gram,
    leave_out_roots,
    root_path,
)
from analysis.results.methods import METRICS, MethodResult
from analysis.twins import first_equal_rows, product, tie
from store.digests import BLOCK_ROWS
from store.file_names import cache_stem
from store.rows import Selection, align
from store.shapes import Bool, Float, Int
from store.targets import Targets

logger = logging.getLogger(__name__)

ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 25))
"""The ridge penalties tried: 25 from 1 to 1e6, evenly on a log scale."""
N_FOLDS = 5
LEAVE_ONE_OUT_UP_TO = 5_000
"""Training images up to which alpha is chosen by exact leave-one-out, beyond by 5 folds: on few images the
choice by folds depends on the folds, on many it is as good and saves a pass over the rows."""
MAX_WIDTH = 50_000
"""Numbers per image up to which an output is fitted that nobody named: a Gram matrix of more has 20 GB."""
MAX_NUMBERS = 2**28
"""Numbers of all training images up to which a wider output is fitted."""
_ROWS_PREDICTED_AT_ONCE = 2048
_METHODS = {"ols": "OLS", "ridge": "ridge"}


class Features(Protocol):
    """What a probe reads: an open feature file (store.Features), or several side by side (joint.Joint)."""

    outputs: dict[str, int]
    path: Path

    @property
    def image_id(self) -> np.ndarray: ...
    @property
    def n_images(self) -> int: ...
    @property
    def ok(self) -> Bool[np.ndarray, " n_images"]: ...
    @property
    def backbone(self) -> str: ...
    @property
    def digest(self) -> str: ...
    def check_images(self, images: str) -> None: ...
    def read(self, output: str, rows: Selection = None, unit_norm: bool = False) -> np.ndarray: ...


@dataclass(frozen=True)
class Probe:
    """A fitted linear function of the features as they are stored (or of unit length, see `unit_norm`)."""

    weights: Float[np.ndarray, " dim"]
    bias: float
    scale: Float[np.ndarray, " dim"]
    """Standard deviation of each feature over the training rows."""
    alpha: float
    """Ridge penalty on the weights of standardised features; 0 for least squares."""
    unit_norm: bool

    def predict(self, features: Float[np.ndarray, "n_images dim"]) -> Float[np.ndarray, " n_images"]:
        """Predicted mean vote, in vote units; not clipped to the scale."""
        return np.asarray(product(features, self.weights) + self.bias, dtype=np.float64)


@dataclass(frozen=True)
class JoinedRows:
    """Which rows of a feature file take part, joined to their ratings on image_id."""

    split: np.ndarray
    """'train', 'test' or '' per row of the feature file; '' for failed rows."""
    y: Float[np.ndarray, "n_images n_targets"]
    target_names: tuple[str, ...]
    is_high: Bool[np.ndarray, " n_images"]
    n_failed: dict[str, int]
    """Failed rows left out, per split."""
    is_crossed: bool = False
    """Each training image is a test image, too: predicted by fits that did not see it (probing.crossing)."""

    @cached_property
    def train(self) -> Int[np.ndarray, " n_train"]:
        """Rows of the training images."""
        return np.flatnonzero(self.split == "train")

    @cached_property
    def y_digest(self) -> str:
        """SHA-256 of the targets, which caches are bound to."""
        return array_digest(self.y)

    @cached_property
    def test(self) -> Int[np.ndarray, " n_test"]:
        """Rows of the test images."""
        return self.train if self.is_crossed else np.flatnonzero(self.split == "test")


@dataclass(frozen=True)
class ProbeFit:
    """Both probes of one output, and how they came about."""

    backbone: str
    output: str
    dataset: str
    split_name: str
    threshold: float
    ols: Probe
    ridge: Probe
    path: RidgePath
    alphas: Float[np.ndarray, " n_alphas"]
    cv_mse: Float[np.ndarray, "n_folds n_alphas"]
    """Squared error of the mean vote on each left-out fold of train, for each alpha; one row for
    leave-one-out."""
    rows: JoinedRows
    test_id: np.ndarray
    """image_id of the test images, in the order of the predictions."""
    predictions: dict[str, Float[np.ndarray, " n_test"]]
    """Predicted mean votes of the test images, by method: 'ols' and 'ridge'."""
    seed: int
    digests: dict[str, str]
    n_folds: int = 0
    """Folds that were left out in turn for the predictions; 0 where the test images are a split's."""
    is_grouped: bool = False
    """Some photographs belong together and were left out together."""

    @property
    def y_test(self) -> Float[np.ndarray, " n_test"]:
        """Mean votes of the test images."""
        return np.asarray(self.rows.y[self.rows.test, 0])

    @property
    def is_high_test(self) -> Bool[np.ndarray, " n_test"]:
        """Labels of the test images."""
        return np.asarray(self.rows.is_high[self.rows.test])

    @property
    def name(self) -> str:
        """Backbone and output, and that features have unit length where they do."""
        return f"{self.backbone}/{self.output}" + (", unit norm" if self.ridge.unit_norm else "")

    def prediction(self, method: str) -> Prediction:
        """Score and class of the test images by 'ols' or 'ridge': high means above the threshold."""
        score = self.predictions[method]
        return Prediction(score, score > self.threshold)


def join_rows(features: Features, targets: Targets) -> JoinedRows:
    """The rows of a feature file with their ratings: mean vote, spread of votes, share of each level.

    Raises RatingsError where there is nothing to learn from or to test on, IdentityError where the two are of
    different lists of images.
    """
    features.check_images(targets.images)
    at = align(targets.image_id, features.image_id)
    mean = labels.targets_mos(targets)
    columns, names = [mean], ["mos"]
    if targets.votes is not None:
        shares = labels.vote_shares(targets.votes)
        levels = labels.vote_levels(targets.votes) if targets.levels is None else targets.levels
        columns += [labels.vote_std(targets.votes, levels), *shares.T]
        names += ["vote_std", *(f"share_{level}" for level in levels)]
    split = targets.split[at].copy()
    failed = {name: int(np.count_nonzero((split == name) & ~features.ok)) for name in ("train", "test")}
    split[~features.ok] = ""
    rows = JoinedRows(
        split, np.stack(columns, axis=1)[at], tuple(names), labels.high_from_targets(targets)[at], failed
    )
    if len(rows.train) < 2 or len(rows.test) < 2:
        raise labels.RatingsError(
            f"data set {targets.dataset!r}, split {targets.split_name!r}: {len(rows.train)} training and "
            f"{len(rows.test)} test images with features from {features.backbone}. A probe needs 2 of each: "
            "add the data set with a split, or embed the missing images."
        )
    return rows


def fit_probes(
    features: Features,
    targets: Targets,
    output: str,
    unit_norm: bool = False,
    alphas: Sequence[float] = ALPHAS,
    n_folds: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
    rows: JoinedRows | None = None,
) -> ProbeFit:
    """Least squares and ridge on one output of a backbone, from the training images alone.

    alpha has the least squared error on left-out training images: exact leave-one-out up to 5,000 of
    them, else (or if `n_folds` is given) averaged over folds by hash of image_id, each fold's features
    standardised by the other folds. Least squares on features that do not determine it is the solution of
    minimum norm. With a folder for `cache`, what the pass over many rows gave is kept there. `rows` may give
    the join of these features and targets where it is known, as for a second output.

    Raises RatingsError where there is nothing to learn from.
    """
    rows = join_rows(features, targets) if rows is None else rows
    tried = np.asarray(alphas, dtype=np.float64)
    group = np.full(features.n_images, -1)
    name = f"{features.backbone}/{output}"
    if n_folds is None and len(rows.train) > LEAVE_ONE_OUT_UP_TO:
        n_folds = N_FOLDS
    group[rows.train] = 0 if n_folds is None else assign_folds(features.image_id[rows.train], n_folds, seed)
    is_wide = features.outputs.get(output, 0) >= 0.8 * len(rows.train)
    key = None
    if cache is not None and n_folds is not None:
        bound = {"features": features.digest, "output": output, "unit_norm": unit_norm}
        scale = "unit" if unit_norm else "raw"
        stem = cache_stem(features.path.stem, output.replace(" + ", "+"), scale)
        key = CacheKey(cache, stem, bound | {"folds": array_digest(group)}, rows.y_digest)
    source = row_source(features, output, rows, group, unit_norm)
    path, cv_mse = solve(source, n_folds, tried, is_wide, name, cache=key)
    alpha = float(tried[np.argmin(cv_mse.mean(axis=0))])
    weights, bias = path.solve(np.array([0.0, alpha]))
    probes = {
        kind: Probe(weights[:, i], float(bias[i]), path.basis.scale, a, unit_norm)
        for i, (kind, a) in enumerate((("ols", 0.0), ("ridge", alpha)))
    }
    return ProbeFit(
        backbone=features.backbone,
        output=output,
        dataset=targets.dataset,
        split_name=targets.split_name,
        threshold=targets.threshold,
        ols=probes["ols"],
        ridge=probes["ridge"],
        path=path,
        alphas=tried,
        cv_mse=cv_mse,
        rows=rows,
        test_id=features.image_id[rows.test],
        predictions=predict_rows(features, output, rows.test, probes),
        seed=seed,
        digests={"features": features.digest, "targets": targets.digest},
    )


def probed_outputs(features: Features) -> list[str]:
    """The outputs that are fitted where none is named: not those of 5 x 5 cells and the like."""
    return [name for name, dim in features.outputs.items() if dim <= MAX_WIDTH]


def too_wide(features: Features, output: str, n_train: int) -> str:
    """Why an output cannot be fitted on so many images; '' where it can."""
    dim = features.outputs.get(output, 0)
    if dim <= MAX_WIDTH or n_train * dim <= MAX_NUMBERS:
        return ""
    return (
        f"{features.backbone}.{output} has {dim:,} numbers per image: a probe on {n_train:,} training "
        f"images needs {3 * 8e-9 * n_train * dim:,.0f} GB of memory. Up to "
        f"{MAX_NUMBERS // dim:,} can be fitted"
    )


def fit_all(
    features: Sequence[Features],
    targets: Targets,
    unit_norm: Sequence[bool] = (False, True),
    seed: int = 0,
    cache: Path | None = None,
) -> list[ProbeFit]:
    """The probes of every output of every backbone, on raw and on unit-norm features."""
    joined = [(file, join_rows(file, targets)) for file in features]
    return [
        fit_probes(file, targets, output, unit, seed=seed, cache=cache, rows=rows)
        for file, rows in joined
        for output in probed_outputs(file)
        for unit in unit_norm
    ]


def solve(
    source: Source,
    n_folds: int | None,
    alphas: Float[np.ndarray, " n_alphas"],
    is_wide: bool,
    name: str,
    target: int = 0,
    cache: CacheKey | None = None,
) -> tuple[RidgePath, Float[np.ndarray, "n_folds n_alphas"]]:
    """The path of fits on all training rows, and the left-out error of each alpha (per fold, or one row
    for leave-one-out).

    Gram matrices where they are good enough, else (or when there are more features than rows, where they
    are larger than the rows) QR factors in a second pass.
    """
    path: RidgePath | None = None
    if not is_wide:
        try:
            found = gather(source, n_folds or 1, cache)
            with one_blas_thread():
                path = gram_path(found.total, merge(found.folds, with_gram=False))
                if n_folds is not None:
                    left = leave_out_gram(found.folds, with_gram=False)
                    rest = [gram_path(basis, part) for basis, part in zip(found.rest, left, strict=True)]
                    return path, cv_error(found.folds, rest, alphas, target, squared_error)
        except IllConditionedError as error:
            path = None
            logger.warning("%s: %s; going on with QR over blocks of rows", name, error)
    if path is None:
        roots = accumulate_roots(source.part(0, 1), n_folds or 1)
        path = root_path(merge_roots(roots))
        if n_folds is not None:
            rest = [root_path(part) for part in leave_out_roots(roots)]
            return path, cv_error(roots, rest, alphas, target, root_squared_error)
    return path, leave_one_out_error(source.part(0, 1), path, alphas, target)[None]


def row_source(
    features: Features, output: str, rows: JoinedRows, group: Int[np.ndarray, " n_images"], unit_norm: bool
) -> Source:
    """The rows of a feature file with their targets and group."""
    every = range(0, features.n_images, BLOCK_ROWS)
    # Blocks without a row that takes part (all test images, say) would leave a thread without work.
    starts = [start for start in every if (group[start : start + BLOCK_ROWS] >= 0).any()]

    def part(i: int, n: int) -> Iterator[Block]:
        for start in starts[i::n]:
            block = slice(start, start + BLOCK_ROWS)
            yield features.read(output, block, unit_norm), rows.y[block], group[block]

    return Source(part, features.outputs.get(output, 0), len(starts))


def probe_of(path: RidgePath, alpha: float, unit_norm: bool, target: int = 0) -> Probe:
    """The probe with one alpha."""
    weights, bias = path.solve(np.array([alpha]), target)
    return Probe(weights[:, 0], float(bias[0]), path.basis.scale, alpha, unit_norm)


def predict_rows(
    features: Features, output: str, rows: Int[np.ndarray, " n_rows"], probes: Mapping[str, Probe]
) -> dict[str, Float[np.ndarray, " n_rows"]]:
    """Predictions of several probes of one output for some rows, in the order of `rows` (ascending); equal
    vectors have equal ones."""
    weights = np.stack([probe.weights for probe in probes.values()], axis=1)
    bias = np.array([probe.bias for probe in probes.values()])
    (unit_norm,) = {probe.unit_norm for probe in probes.values()}
    if not len(rows):
        return {name: np.zeros(0) for name in probes}
    starts = np.arange(0, len(rows), _ROWS_PREDICTED_AT_ONCE)

    def predict(start: int) -> Float[np.ndarray, "n_block n_probes"]:
        block = features.read(output, rows[start : start + _ROWS_PREDICTED_AT_ONCE], unit_norm)
        return np.asarray(block.astype(np.float64) @ weights + bias)

    predicted = np.concatenate(map_threads(predict, starts.tolist(), n_workers(len(starts))))
    predicted = tie(predicted, first_equal_rows(lambda some: features.read(output, rows[some]), len(rows)))
    return {name: predicted[:, column] for column, name in enumerate(probes)}


def evaluate_probe(fit: ProbeFit, n_boot: int = 1000) -> list[MethodResult]:
    """Accuracy, recalls, SRCC and PLCC of both probes on the test images, with bootstrap intervals.

    The detail names alpha, rank and condition number, and counts the failed rows that were left out.
    `prints` are the numbers that the paper's authors printed, too.
    """
    found = []
    for key, probe in (("ols", fit.ols), ("ridge", fit.ridge)):
        prediction = fit.prediction(key)
        assert prediction.score is not None
        rng = np.random.default_rng(fit.seed)
        measured = bootstrap_metrics(
            fit.y_test, fit.is_high_test, prediction, n_boot, rng, (*METRICS, "rmse")
        )
        rmse = measured.pop("rmse")
        found.append(
            MethodResult(
                key=f"probe.{key}",
                method=f"linear probe, {_METHODS[key]}" + (", unit norm" if probe.unit_norm else ""),
                backbone=fit.backbone,
                output=fit.output,
                dataset=fit.dataset,
                split_name=fit.split_name,
                n_train=fit.path.basis.n,
                n_test=len(fit.y_test),
                seed=fit.seed,
                **measured,
                detail=_detail(fit, probe)
                | {"rmse": [rmse.value, rmse.low, rmse.high], "n_boot": n_boot}
                | {"prints": _prints(fit, prediction.score)},
                digests=fit.digests,
            )
        )
    return found


def evaluate_majority(fit: ProbeFit, n_boot: int = 1000) -> MethodResult:
    """The majority baseline on the same images: the commoner class of train for every test image."""
    predicted = labels.majority_prediction(fit.rows.is_high[fit.rows.train], len(fit.rows.test))
    rng = np.random.default_rng(fit.seed)
    measured = bootstrap_metrics(None, fit.is_high_test, Prediction(None, predicted), n_boot, rng)
    return MethodResult(
        key="majority",
        method="majority",
        backbone="",
        output="",
        dataset=fit.dataset,
        split_name=fit.split_name,
        n_train=len(fit.rows.train),
        n_test=len(fit.rows.test),
        seed=fit.seed,
        **measured,
        detail={"n_high_test": int(fit.is_high_test.sum()), "n_boot": n_boot}
        | ({"n_folds": fit.n_folds} if fit.n_folds else {}),
        digests={"targets": fit.digests["targets"]},
    )


def _prints(fit: ProbeFit, score: Float[np.ndarray, " n_test"]) -> dict[str, float]:
    """Intercept for standardised features (the mean of train), and how far the predictions reach."""
    return {
        "intercept": float(fit.path.mean_y[0]),
        "lowest prediction": float(score.min()),
        "highest prediction": float(score.max()),
        "mean prediction": float(score.mean()),
    }


def _detail(fit: ProbeFit, probe: Probe) -> dict[str, Any]:
    basis = fit.path.basis
    detail: dict[str, Any] = {
        "unit_norm": probe.unit_norm,
        "threshold": fit.threshold,
        "dim": len(basis.scale),
        "rank": basis.rank,
        "n_constant_features": int(np.count_nonzero(basis.scale == 0)),
        "condition": basis.condition,
        "solver": basis.solver,
        "n_failed_train": fit.rows.n_failed["train"],
        "n_failed_test": fit.rows.n_failed["test"],
        "alpha": probe.alpha,
        "rmse_train_mean": metrics.rmse(fit.y_test, np.full(len(fit.y_test), float(fit.path.mean_y[0]))),
    }
    if fit.n_folds:
        detail |= {"n_folds": fit.n_folds, "is_grouped": fit.is_grouped}
    if probe.alpha:
        mean = fit.cv_mse.mean(axis=0)
        detail |= {
            "alpha_chosen_by": "leave-one-out" if len(fit.cv_mse) == 1 else f"{len(fit.cv_mse)} folds",
            "cv_rmse": float(np.sqrt(mean.min())),
            "alpha_is_at_edge": bool(np.argmin(mean) in (0, len(mean) - 1)),
        }
    return detail
