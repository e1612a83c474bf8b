"""Probes for few ratings: fitted on all of them, judged on each photograph by a fit that did not see it.

Of 400 ratings a test split takes a quarter away from the fit and says little by what is left. Here every
rated photograph is both: the probe that is kept has seen all of them, and each prediction that is judged is
by the same procedure (standardisation and choice of alpha included) on the other folds alone. Photographs
that belong together (a burst, copies) are left out together: one of them would give away the others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from analysis.evidence.folds import hash_strings
from analysis.evidence.labels import RatingsError
from analysis.probing.probes import Features, JoinedRows, ProbeFit, fit_probes, join_rows
from analysis.probing.vote_probes import Named, Target, VoteProbes, common_rows, files_of, fit_votes
from store.shapes import Bool, Int
from store.targets import Targets

FEW = 500
"""Ratings below which cross-validation is the default."""
N_FOLDS = 10


def join_all(features: Features, targets: Targets) -> JoinedRows:
    """Every rated photograph with features, to be fitted on and to be judged on; the split is ignored.

    Raises RatingsError for fewer than four, IdentityError where the two are of different lists of images.
    """
    every = np.where(np.arange(targets.n_images) % 2, "train", "test")
    rows = join_rows(features, replace(targets, split=every))
    n_failed = {"train": sum(rows.n_failed.values()), "test": 0}
    return replace(rows, split=np.where(rows.split == "", "", "train"), n_failed=n_failed, is_crossed=True)


def deal_folds(
    image_id: np.ndarray, together: Mapping[str, str], n_folds: int, seed: int = 0
) -> Int[np.ndarray, " n_images"]:
    """Fold of each image, 0 to n_folds - 1, of sizes as equal as groups allow; not by order of the rows.

    `together` gives, for an image that belongs to others, the name of its group, which stays in one fold.
    Raises RatingsError where there are fewer groups and single images than folds.
    """
    units = np.array([together.get(name, name) for name in image_id.tolist()])
    names, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    if not 2 <= n_folds <= len(names):
        raise RatingsError(
            f"{len(image_id)} rated photographs, {len(names)} after counting those that belong together as "
            f"one, do not fill {n_folds} folds: expected at least 2 folds and something in each. Rate more, "
            "or fit on the split: --fit-on train"
        )
    fold = np.empty(len(names), np.int64)
    n_in = np.zeros(n_folds, np.int64)
    for each in np.lexsort((hash_strings(names, seed), -sizes)):
        fold[each] = np.argmin(n_in)
        n_in[fold[each]] += sizes[each]
    return np.asarray(fold[unit.reshape(-1)])


def fit_on_all(
    features: Features,
    targets: Targets,
    output: str,
    unit_norm: bool = False,
    together: Mapping[str, str] | None = None,
    n_folds: int = N_FOLDS,
    seed: int = 0,
    rows: JoinedRows | None = None,
    on_fold: Callable[[int], object] | None = None,
) -> ProbeFit:
    """Least squares and ridge on all rated photographs; `predictions` are of each by the other folds.

    There are `n_folds` folds, or as many as there are photographs (those of one group of `together`, see
    `deal_folds`, counted once). `on_fold(1)` is called as each is done. Raises RatingsError.
    """
    rows = join_all(features, targets) if rows is None else rows
    ids = features.image_id[rows.train]
    fold, is_grouped = _deal(ids, together or {}, n_folds, seed)
    seen = replace(rows, is_crossed=False)
    whole = fit_probes(features, targets, output, unit_norm, seed=seed, rows=seen)
    return replace(
        whole,
        rows=rows,
        split_name=_split_name(fold),
        test_id=ids,
        predictions=cross_predict(features, targets, output, seen, fold, unit_norm, seed, on_fold),
        n_folds=len(np.unique(fold)),
        is_grouped=is_grouped,
    )


def fit_votes_on_all(
    outputs: Sequence[Sequence[Named]],
    targets: Targets,
    wanted: Sequence[Target],
    together: Mapping[str, str] | None = None,
    n_folds: int = N_FOLDS,
    seed: int = 0,
    on_fit: Callable[[int], object] = lambda n: None,
) -> VoteProbes:
    """Probes of whole votes (`vote_probes.fit_votes`) on all rated photographs; predictions are of each by
    the same procedure, choice of strength and shares included, on the other folds. `on_fit(1)` is called
    n_folds + 1 times for each. Raises RatingsError."""
    files = files_of(outputs)
    rows = replace(common_rows(files, [join_all(file, targets) for file in files]), is_crossed=False)
    ids = files[0].image_id[rows.train]
    fold, is_grouped = _deal(ids, together or {}, n_folds, seed)
    whole = fit_votes(outputs, targets, wanted, seed, on_fit, rows)
    mean = [np.full(len(ids), np.nan) for _ in whole.fits]
    shares = [np.full((len(ids), len(whole.levels)), np.nan) for _ in whole.fits]
    constant, observed = np.full_like(shares[0], np.nan), np.full_like(shares[0], np.nan)
    for left_out, split in _each_fold(rows, fold):
        found = fit_votes(outputs, targets, wanted, seed, on_fit, split)
        constant[left_out], observed[left_out] = found.constant, found.observed
        for at, fit in enumerate(found.fits):
            mean[at][left_out] = fit.mean
            if fit.predicted is not None:
                shares[at][left_out] = fit.predicted
    fits = [
        replace(fit, mean=mean[at], predicted=None if fit.predicted is None else shares[at])
        for at, fit in enumerate(whole.fits)
    ]
    return replace(
        whole,
        fits=fits,
        rows=replace(rows, is_crossed=True),
        test_id=ids,
        split_name=_split_name(fold),
        observed=observed,
        constant=constant,
        n_folds=len(np.unique(fold)),
        is_grouped=is_grouped,
    )


def cross_predict(
    features: Features,
    targets: Targets,
    output: str,
    rows: JoinedRows,
    fold: Int[np.ndarray, " n_train"],
    unit_norm: bool = False,
    seed: int = 0,
    on_fold: Callable[[int], object] | None = None,
) -> dict[str, np.ndarray]:
    """Predictions of `rows.train` by 'ols' and 'ridge', of each row by the fit on the other folds."""
    predicted = {name: np.full(len(rows.train), np.nan) for name in ("ols", "ridge")}
    for left_out, split in _each_fold(rows, fold):
        fit = fit_probes(features, targets, output, unit_norm, seed=seed, rows=split)
        for name, values in fit.predictions.items():
            predicted[name][left_out] = values
        if on_fold is not None:
            on_fold(1)
    return predicted


def _deal(
    ids: np.ndarray, together: Mapping[str, str], n_folds: int, seed: int
) -> tuple[Int[np.ndarray, " n_images"], bool]:
    """`deal_folds` into `n_folds`, or as many as there are photographs (those that belong together counted
    once), and whether some belong together."""
    n_units = len({together.get(name, name) for name in ids.tolist()})
    return deal_folds(ids, together, max(2, min(n_folds, n_units)), seed), n_units < len(ids)


def _each_fold(
    rows: JoinedRows, fold: Int[np.ndarray, " n_train"]
) -> Iterator[tuple[Bool[np.ndarray, " n_train"], JoinedRows]]:
    """Which of `rows.train` are in each fold, and the rows with these as test images."""
    for each in np.unique(fold):
        left_out = fold == each
        split = rows.split.copy()
        split[rows.train[left_out]] = "test"
        yield left_out, replace(rows, split=split)


def _split_name(fold: Int[np.ndarray, " n_images"]) -> str:
    return f"all, {len(np.unique(fold))} folds"
