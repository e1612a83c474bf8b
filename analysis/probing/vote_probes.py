"""Ridge on the mean vote beside probes of the whole vote, under one protocol, on one output or several.

All see the same features, standardised on the same training images, and have their strength chosen in the
same way:
least squared error of the predicted mean vote, averaged over the same folds of the training images, each
fold's
features standardised by the others. Several outputs side by side are scaled apart: each is brought to the
variance of one feature in all, times a share that is chosen with the strength, by the ridge.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product as combinations
from typing import Any, Literal

import numpy as np

from analysis.evidence.bootstrap import (
    Difference,
    Prediction,
    bootstrap_metrics,
    holm,
    interval,
    p_value,
    resample_counts,
    resamples_needed,
    smallest_corrected_p,
)
from analysis.evidence.folds import assign_folds
from analysis.evidence.labels import RatingsError
from analysis.evidence.metrics import emd_r2
from analysis.parallel import one_blas_thread
from analysis.probing.distribution import mean_with_interval
from analysis.probing.probes import N_FOLDS, Features, JoinedRows, join_rows
from analysis.probing.votes import (
    fit_ordinal,
    fit_ridge,
    fit_soft_labels,
    ridge_shares,
    soft_shares,
)
from analysis.results.methods import METRICS, MethodResult
from analysis.results.predictions import Predicted, compare_methods
from analysis.twins import product
from store.shapes import Float, Float64, Int
from store.targets import Targets

Target = Literal["mean", "levels", "distribution", "ordinal"]
TARGETS: dict[Target, str] = {
    "mean": "ridge on the mean vote",
    "levels": "ridge per level, projected",
    "distribution": "soft labels (softmax, cross entropy)",
    "ordinal": "ordinal (cumulative logits)",
}
#: From strong to weak, so that each fit starts from a simpler one. Squared errors of votes and
#: log-likelihoods are not on one scale, so the grids are not either.
STRENGTHS: dict[Target, tuple[float, ...]] = {
    "mean": tuple(float(s) for s in np.logspace(6, 0, 25)),
    "levels": tuple(float(s) for s in np.logspace(6, 0, 25)),
    "distribution": tuple(float(s) for s in np.logspace(4, -2, 13)),
    "ordinal": tuple(float(s) for s in np.logspace(5, -1, 13)),
}
SHARES = (0.1, 1.0, 10.0)
"""Variance of each output relative to the first, tried for outputs side by side."""
Named = tuple[Features, str]
"""A feature file and one of its outputs."""
Predict = Callable[[Float64[np.ndarray, "n dim"]], Float64[np.ndarray, "n k"]]


@dataclass(frozen=True)
class VoteFit:
    """A probe of one target on one output or several, fitted on train, with its test predictions."""

    target: Target
    backbone: str
    output: str
    strength: float
    is_at_edge: bool
    cv_mse: Float64[np.ndarray, " n_strengths"]
    shares: tuple[float, ...]
    """Variance of each output relative to the first; () for a single one."""
    mean: Float[np.ndarray, " n_test"]
    """Predicted mean votes of the test images."""
    predicted: Float[np.ndarray, "n_test n_levels"] | None
    """Predicted shares of votes; None for the target `mean`."""


@dataclass(frozen=True)
class VoteProbes:
    """Fits of several targets and outputs on the same images."""

    fits: list[VoteFit]
    rows: JoinedRows
    test_id: np.ndarray
    dataset: str
    split_name: str
    threshold: float
    levels: Int[np.ndarray, " n_levels"]
    observed: Float[np.ndarray, "n_test n_levels"]
    """Shares of the test images' votes."""
    constant: Float[np.ndarray, "n_test n_levels"]
    """For each test image the mean shares of the images that the fits which predict it have seen."""
    seed: int
    digests: dict[str, str]
    n_folds: int = 0
    """Folds that were left out in turn for the predictions; 0 where the test images are a split's."""
    is_grouped: bool = False
    """Some photographs belong together and were left out together."""


def fit_votes(
    outputs: Sequence[Sequence[Named]],
    targets: Targets,
    wanted: Sequence[Target],
    seed: int = 0,
    on_fit: Callable[[int], object] = lambda n: None,
    rows: JoinedRows | None = None,
) -> VoteProbes:
    """Every target on every entry of `outputs`: one (features, output), or several to be put side by side.

    All entries are of feature files of the same images; images that failed in any take part in none, so that
    every fit sees the same; `rows` gives what takes part where it is known (`common_rows`). Memory: the
    training and test rows of one entry in float64.

    Raises RatingsError for a data set without votes, where more than `mean` is wanted.
    """
    files = files_of(outputs)
    rows = common_rows(files, [join_rows(file, targets) for file in files]) if rows is None else rows
    if set(wanted) != {"mean"} and targets.votes is None:
        raise RatingsError(
            f"data set {targets.dataset!r} has scores and no votes: a probe of {', '.join(wanted)} needs the "
            "number of votes on each level. Only the target mean is left"
        )
    columns = [i for i, name in enumerate(rows.target_names) if name.startswith("share_")]
    levels = np.array([int(rows.target_names[i].removeprefix("share_")) for i in columns], dtype=np.int64)
    y = rows.y[:, [0, *columns]]
    fold = assign_folds(files[0].image_id[rows.train], N_FOLDS, seed)
    fits = []
    with one_blas_thread():
        for entry in outputs:
            train, test = (_read(entry, files[0].image_id[part]) for part in (rows.train, rows.test))
            scales, ridge_errors = _choose_shares(train, y[rows.train, :1], fold)
            for target in wanted:
                fits.append(
                    _fit(entry, target, train, test, y[rows.train], levels, fold, scales, ridge_errors)
                )
                on_fit(1)
    return VoteProbes(
        fits, rows, files[0].image_id[rows.test], targets.dataset, targets.split_name,
        targets.threshold, levels, y[rows.test, 1:],
        np.tile(y[rows.train, 1:].mean(axis=0), (len(rows.test), 1)), seed,
        {"targets": targets.digest} | {f"features {file.backbone}": file.digest for file in files},
    )  # fmt: skip


def evaluate_votes(probes: VoteProbes, n_boot: int = 1000) -> list[MethodResult]:
    """Accuracy, SRCC and PLCC of the predicted mean votes, and in the detail `emd_r2` of the predicted
    shares,
    with intervals; beside it that of predicting the mean shares of train for every image."""
    results = []
    y, is_high = probes.rows.y[probes.rows.test, 0], probes.rows.is_high[probes.rows.test]
    for fit in probes.fits:
        measured = bootstrap_metrics(y, is_high, _prediction(fit, probes), n_boot, _rng(probes), METRICS)
        detail: dict[str, Any] = {
            "strength": fit.strength,
            "alpha_is_at_edge": fit.is_at_edge,
            "alpha": fit.strength,
            "chosen_by": f"mean vote, {N_FOLDS} folds of train",
            "cv_rmse": float(np.sqrt(fit.cv_mse.min())),
            "n_boot": n_boot,
            "n_failed_train": probes.rows.n_failed["train"],
            "n_failed_test": probes.rows.n_failed["test"],
        }
        if probes.n_folds:
            detail |= {"n_folds": probes.n_folds, "is_grouped": probes.is_grouped}
        if fit.shares:
            detail["shares"] = list(fit.shares)
        if fit.predicted is not None:
            for name, shares in (("emd_r2", fit.predicted), ("emd_r2_train_mean", probes.constant)):
                found = mean_with_interval(emd_r2(probes.observed, shares), n_boot, _rng(probes))
                detail[name] = [found.value, found.low, found.high]
        results.append(
            MethodResult(
                key=f"probe.votes.{fit.target}",
                method=TARGETS[fit.target],
                backbone=fit.backbone,
                output=fit.output,
                dataset=probes.dataset,
                split_name=probes.split_name,
                n_train=len(probes.rows.train),
                n_test=len(probes.rows.test),
                seed=probes.seed,
                **measured,
                detail=detail,
                digests=probes.digests,
            )
        )
    return results


def compare_votes(probes: VoteProbes, metric: str) -> list[Difference]:
    """Paired differences of every probe and the ridge on the mean of the same output, and of outputs side
    by side
    and each of them under the same target, Holm-corrected together. `emd_r2`: of the probes of whole votes.

    A positive difference of EMD means that the first is further off.
    """
    named = {f"{TARGETS[fit.target]}, {fit.backbone}/{fit.output}": fit for fit in probes.fits}
    pairs = [
        (a, b)
        for a, one in named.items()
        for b, other in named.items()
        if (
            one.output == other.output
            and one.backbone == other.backbone
            and other.target == "mean" != one.target
        )
        or (one.target == other.target and one.shares and not other.shares)
    ]
    if metric == "emd_r2":
        whole = {name: fit for name, fit in named.items() if fit.predicted is not None}
        names = list(whole)
        pairs = [
            (a, b)
            for i, a in enumerate(names)
            for b in names[:i]
            if (whole[a].output, whole[a].backbone) == (whole[b].output, whole[b].backbone)
        ]
        return _compare_emd({name: _emd(fit, probes) for name, fit in whole.items()}, pairs, probes.seed)
    y, is_high = probes.rows.y[probes.rows.test, 0], probes.rows.is_high[probes.rows.test]
    predicted = {
        name: Predicted(probes.test_id, y, is_high, _prediction(fit, probes)) for name, fit in named.items()
    }
    return compare_methods(predicted, metric, seed=probes.seed, pairs=pairs) if pairs else []


def _emd(fit: VoteFit, probes: VoteProbes) -> Float64[np.ndarray, " n_test"]:
    assert fit.predicted is not None
    return emd_r2(probes.observed, fit.predicted)


def _compare_emd(
    emd: dict[str, Float64[np.ndarray, " n_test"]], pairs: Sequence[tuple[str, str]], seed: int
) -> list[Difference]:
    n_boot = resamples_needed(len(pairs))
    found: list[tuple[str, str, float, tuple[float, float], float]] = []
    for first, second in pairs:
        apart = emd[first] - emd[second]
        counts = resample_counts(len(apart), n_boot, np.random.default_rng(seed))
        means = np.array([float(np.einsum("i,i->", each, apart)) for each in counts]) / len(apart)
        found.append((first, second, float(apart.mean()), interval(means), p_value(means)))
    corrected = holm(np.array([row[-1] for row in found]))
    floor = smallest_corrected_p(len(found), n_boot)
    return [
        Difference(first, second, "emd_r2", value, *bounds, p, float(p_corrected), n_boot, floor)
        for (first, second, value, bounds, p), p_corrected in zip(found, corrected, strict=True)
    ]


def _prediction(fit: VoteFit, probes: VoteProbes) -> Prediction:
    return Prediction(fit.mean, fit.mean > probes.threshold)


def _rng(probes: VoteProbes) -> np.random.Generator:
    return np.random.default_rng(probes.seed)


def files_of(outputs: Sequence[Sequence[Named]]) -> list[Features]:
    """The feature files of some entries, each once."""
    return list({id(file): file for entry in outputs for file, _ in entry}.values())


def common_rows(files: Sequence[Features], joined: Sequence[JoinedRows]) -> JoinedRows:
    """The rows of the first file with what takes part in all of them."""
    first = joined[0]
    split = first.split.copy()
    for file, rows in zip(files[1:], joined[1:], strict=True):
        taking = dict(zip(file.image_id.tolist(), rows.split.tolist(), strict=True))
        split[[taking.get(i, "") == "" for i in files[0].image_id.tolist()]] = ""
    lost = {name: int(np.count_nonzero((first.split == name) & (split == ""))) for name in first.n_failed}
    return replace(first, split=split, n_failed={name: n + lost[name] for name, n in first.n_failed.items()})


def _read(entry: Sequence[Named], image_id: np.ndarray) -> list[Float64[np.ndarray, "n dim"]]:
    """The rows of each output for some images, float64."""
    from store.rows import align

    return [file.read(output, align(file.image_id, image_id)).astype(np.float64) for file, output in entry]


@dataclass(frozen=True)
class _Scaling:
    """Mean and factor of each feature of one output; 0 for one that does not vary."""

    mean: Float64[np.ndarray, " dim"]
    factor: Float64[np.ndarray, " dim"]


def _scaling(x: Float64[np.ndarray, "n dim"], is_alone: bool, share: float) -> _Scaling:
    """Standardisation; of one output among several, to a variance of `share` over all its features."""
    mean, std = x.mean(axis=0), x.std(axis=0)
    varies = std > np.finfo(np.float32).eps * np.abs(mean)
    factor = np.divide(1.0, std, out=np.zeros_like(std), where=varies)
    n_varying = max(1, int(np.count_nonzero(varies)))
    return _Scaling(mean, factor if is_alone else factor * np.sqrt(share / n_varying))


def _standardise(
    train: Sequence[np.ndarray], shares: Sequence[float]
) -> tuple[list[_Scaling], Float64[np.ndarray, "n dim"]]:
    scalings = [_scaling(x, len(train) == 1, share) for x, share in zip(train, shares, strict=True)]
    if len(train) > 1:  # the sum of variances as of so many standardised features, for the strengths' sake
        dim = sum(x.shape[1] for x in train)
        factor = np.sqrt(dim / sum(shares))
        scalings = [_Scaling(s.mean, s.factor * factor) for s in scalings]
    return scalings, _apply(scalings, train)


def _apply(scalings: Sequence[_Scaling], x: Sequence[np.ndarray]) -> Float64[np.ndarray, "n dim"]:
    return np.concatenate([(part - s.mean) * s.factor for part, s in zip(x, scalings, strict=True)], axis=1)


def _choose_shares(
    train: Sequence[np.ndarray], y: Float64[np.ndarray, "n 1"], fold: Int[np.ndarray, " n"]
) -> tuple[tuple[float, ...], Float64[np.ndarray, " n_strengths"]]:
    """The shares of the outputs, and the ridge's left-out errors with them."""
    tried = (
        [(1.0,)]
        if len(train) == 1
        else [(1.0, *rest) for rest in combinations(SHARES, repeat=len(train) - 1)]
    )
    best: tuple[float, tuple[float, ...], np.ndarray] | None = None
    for shares in tried:
        errors = _left_out_errors("mean", train, y, np.zeros(0, np.int64), fold, shares)
        if best is None or errors.min() < best[0]:
            best = (float(errors.min()), shares, errors)
    assert best is not None
    return best[1], best[2]


def _left_out_errors(
    target: Target,
    train: Sequence[np.ndarray],
    y: Float64[np.ndarray, "n _"],
    levels: Int[np.ndarray, " n_levels"],
    fold: Int[np.ndarray, " n"],
    shares: Sequence[float],
) -> Float64[np.ndarray, " n_strengths"]:
    """Mean over the folds of the squared error of the mean vote, for each strength."""
    errors = []
    for left_out in range(int(fold.max()) + 1):
        out = fold == left_out
        scalings, z = _standardise([x[~out] for x in train], shares)
        z_out = _apply(scalings, [x[out] for x in train])
        predictions = (_mean_of(target, p(z_out), levels) for p in _path(target, z, y[~out]))
        errors.append([float(np.mean((mean - y[out, 0]) ** 2)) for mean in predictions])
    return np.asarray(np.mean(errors, axis=0))


def _path(
    target: Target,
    z: Float64[np.ndarray, "n dim"],
    y: Float64[np.ndarray, "n _"],
    strengths: Sequence[float] | None = None,
) -> Iterator[Predict]:
    """What predicts the mean vote (one column) or the shares, for each strength; y holds mean vote and
    shares.

    Levels that nobody voted for have no share in any prediction.
    """
    strengths = STRENGTHS[target] if strengths is None else strengths
    if target == "mean":
        for linear in fit_ridge(z, y[:, :1], strengths):
            yield linear.scores
        return
    used = y[:, 1:].sum(axis=0) > 0
    shares = y[:, 1:][:, used]

    def widened(predict: Predict) -> Predict:
        def all_levels(rows: np.ndarray) -> np.ndarray:
            wide = np.zeros((len(rows), len(used)))
            wide[:, used] = predict(rows)
            return wide

        return all_levels

    if target == "ordinal":
        for ordinal in fit_ordinal(z, shares, strengths):
            yield widened(ordinal.shares)
        return
    fit, turn = (fit_ridge, ridge_shares) if target == "levels" else (fit_soft_labels, soft_shares)
    for found in fit(z, shares, strengths):
        yield widened(partial(turn, found))


def _mean_of(
    target: Target, predicted: Float64[np.ndarray, "n k"], levels: Int[np.ndarray, " n_levels"]
) -> Float64[np.ndarray, " n"]:
    return predicted[:, 0] if target == "mean" else np.asarray(product(predicted, levels.astype(np.float64)))


def _fit(
    entry: Sequence[Named],
    target: Target,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    y: Float64[np.ndarray, "n _"],
    levels: Int[np.ndarray, " n_levels"],
    fold: Int[np.ndarray, " n"],
    shares: tuple[float, ...],
    ridge_errors: Float64[np.ndarray, " n_strengths"],
) -> VoteFit:
    errors = ridge_errors if target == "mean" else _left_out_errors(target, train, y, levels, fold, shares)
    best = int(np.argmin(errors))
    scalings, z = _standardise(train, shares)
    *_, predict = _path(target, z, y, STRENGTHS[target][: best + 1])
    predicted = predict(_apply(scalings, test))
    return VoteFit(
        target,
        " + ".join(dict.fromkeys(file.backbone for file, _ in entry)),
        " + ".join(output for _, output in entry),
        STRENGTHS[target][best],
        best in (0, len(errors) - 1),
        errors,
        shares if len(entry) > 1 else (),
        _mean_of(target, predicted, levels),
        None if target == "mean" else predicted,
    )
