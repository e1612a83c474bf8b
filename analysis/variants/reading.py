"""How well a linear probe reads the strength of an alteration from features, on photographs it never saw.

Ridge on all versions of some photographs, tested on all versions of others: R2 = 1 - sum (s - s')^2 / sum (s
- mean s)^2, pooled over the photographs left out. Every version of a photograph is in one fold. alpha is
chosen without the photographs left out, by leaving out one photograph of the others at a time, which has a
closed form: with the hat matrix H of the fit on all, the residuals of a block b of rows when the fit does
without them are

    e_b = (I - H_bb)^-1 r_b,    H = 1/n + U diag(s^2 / (s^2 + alpha)) U',

for centred features Z = U S V'. They are divided by their spread over the data set's own photographs: over
the few that are altered, a feature that is silent on nearly all would be blown up for the one left out on
which it speaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.evidence.bootstrap import interval, resample_counts
from analysis.evidence.folds import hash_strings
from analysis.parallel import one_blas_thread
from analysis.probing.probes import ALPHAS
from analysis.results.methods import Metric
from analysis.variants.stored import Variants
from store.shapes import Float, Int

N_FOLDS = 5


@dataclass(frozen=True)
class Reading:
    """How well one alteration can be read from one output."""

    change: str
    r2: Metric
    strengths: Float[np.ndarray, " n_steps"]
    predicted: Float[np.ndarray, "n_photographs n_steps"]
    """Strength as read from each version of each photograph while it was left out."""
    n_left_out: int
    """Photographs of which a row failed; they take no part."""


def read_change(
    variants: Variants,
    output: str,
    change: str,
    spread: Float[np.ndarray, " dim"],
    n_boot: int = 1000,
    seed: int = 0,
) -> Reading | None:
    """How well ridge reads one alteration's strength from one output, with a 95 % interval over photographs;
    None with fewer than two photographs per fold. `spread` is that of each feature over the data set's own
    photographs; a feature without any takes no part."""
    family = variants.family(change)
    n, n_steps = family.rows.shape
    if n < 2 * N_FOLDS:
        return None
    x = variants.features.read(output, family.rows.ravel()).astype(np.float64).reshape(n, n_steps, -1)
    x *= np.divide(1.0, spread, out=np.zeros(len(spread)), where=spread > 0)
    fold = balanced_folds(variants.photograph_id[family.photographs], N_FOLDS, seed)
    predicted = predict_left_out(x, family.strengths, fold)
    r2 = r2_over_photographs(predicted, family.strengths, n_boot, np.random.default_rng(seed))
    return Reading(change, r2, family.strengths, predicted, family.n_left_out)


def balanced_folds(ids: np.ndarray, n_folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """Fold of each photograph by the order of a hash of its id: sizes differ by at most one."""
    fold = np.empty(len(ids), np.int64)
    fold[np.argsort(hash_strings(ids, seed), kind="stable")] = np.arange(len(ids)) % n_folds
    return fold


def predict_left_out(
    x: Float[np.ndarray, "n_photographs n_steps dim"],
    strengths: Float[np.ndarray, " n_steps"],
    fold: Int[np.ndarray, " n_photographs"],
    alphas: Sequence[float] = ALPHAS,
) -> Float[np.ndarray, "n_photographs n_steps"]:
    """The strength read from each version of each photograph by a probe fitted on the other folds."""
    predicted = np.full(x.shape[:2], np.nan)
    with one_blas_thread():
        for left_out in np.unique(fold):
            train, test = x[fold != left_out], x[fold == left_out]
            y = np.tile(strengths, len(train))
            weights, bias = fit_by_groups(train.reshape(len(y), -1), y, x.shape[1], np.asarray(alphas))
            predicted[fold == left_out] = test @ weights + bias
    return predicted


def fit_by_groups(
    x: Float[np.ndarray, "n_rows dim"],
    y: Float[np.ndarray, " n_rows"],
    group_size: int,
    alphas: Float[np.ndarray, " n_alphas"],
) -> tuple[Float[np.ndarray, " dim"], float]:
    """Weights and bias of the ridge fit whose alpha has the least error when groups of so many successive
    rows are left out one at a time."""
    mean, centre = x.mean(axis=0), y.mean()
    u, s, vt = np.linalg.svd(x - mean, full_matrices=False)
    kept = s > 1e-7 * s[0]
    u, s, vt = u[:, kept], s[kept], vt[kept]
    projected = u.T @ (y - centre)
    errors = [left_out_error(u, s, projected, y - centre, group_size, alpha) for alpha in alphas]
    alpha = alphas[int(np.argmin(errors))]
    weights = vt.T @ (s / (s**2 + alpha) * projected)
    return weights, float(centre - mean @ weights)


def left_out_error(
    u: Float[np.ndarray, "n_rows rank"],
    s: Float[np.ndarray, " rank"],
    projected: Float[np.ndarray, " rank"],
    centred: Float[np.ndarray, " n_rows"],
    group_size: int,
    alpha: float,
) -> float:
    """Mean squared error of rows whose group of `group_size` successive rows is left out of the fit."""
    n_rows = len(centred)
    kept = s**2 / (s**2 + alpha)
    blocks = u.reshape(-1, group_size, len(s))
    hat = np.einsum("gir,r,gjr->gij", blocks, kept, blocks, optimize=True) + 1.0 / n_rows
    residual = (centred - u @ (kept * projected)).reshape(-1, group_size, 1)
    errors = np.linalg.solve(np.eye(group_size) - hat, residual)
    return float(np.mean(errors**2))


def r2_over_photographs(
    predicted: Float[np.ndarray, "n_photographs n_steps"],
    strengths: Float[np.ndarray, " n_steps"],
    n_boot: int,
    rng: np.random.Generator,
) -> Metric:
    """R2 of the predicted strengths, at most 1, with its percentile interval over resampled photographs."""
    wrong = ((predicted - strengths) ** 2).sum(axis=1)
    spread = float(((strengths - strengths.mean()) ** 2).sum())
    means = [counts @ wrong / len(wrong) for counts in resample_counts(len(wrong), n_boot, rng)]
    return Metric(1 - float(wrong.mean()) / spread, *interval(1 - np.array(means) / spread))
