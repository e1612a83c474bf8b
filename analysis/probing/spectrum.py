"""Ridge regression for every alpha at once, from Gram matrices or QR factors.

Features are standardised with the mean and standard deviation (divisor n) of the training rows; Z is the
standardised training matrix. With its singular value decomposition Z = U S V' the ridge weights are

    w(alpha) = V  S / (S^2 + alpha)  U'y,

for alpha = 0 the least-squares solution of minimum norm. From a Gram matrix S^2 and V are the
eigendecomposition of D^-1 S_xx D^-1 (D = standard deviations) and U'y = S^-1 V' D^-1 S_xy; from a QR factor
they are the decomposition of R D^-1. Everything that does not involve y is a `Basis`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from analysis.evidence.roots import Root, merge_roots
from analysis.probing.gram import Block, Moments, merge
from store.shapes import Float

LARGEST_GRAM_CONDITION = 1e6
"""Condition number of the standardised features beyond which Gram matrices are not trusted."""

Solver = Literal["gram", "qr"]
Fold = TypeVar("Fold", Moments, Root)


@dataclass(frozen=True)
class Basis:
    """Singular values and right singular vectors of the standardised training rows."""

    n: int
    mean: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"]
    """Standard deviation of each feature over the training rows; 0 where it does not vary."""
    values: Float[np.ndarray, " rank"]
    vectors: Float[np.ndarray, "dim rank"]
    solver: Solver

    @property
    def rank(self) -> int:
        """Number of directions that are more than rounding."""
        return len(self.values)

    @property
    def condition(self) -> float:
        """Largest over smallest singular value among the directions kept; at least 1."""
        return float(self.values[0] / self.values[-1]) if len(self.values) else float("nan")


@dataclass(frozen=True)
class RidgePath:
    """A basis and the targets seen in it: all that ridge fits with any alpha need."""

    basis: Basis
    mean_y: Float[np.ndarray, " n_targets"]
    projected: Float[np.ndarray, "rank n_targets"]
    """U'y."""
    squares: Float[np.ndarray, " n_targets"]
    """Sum of squares of each target about its mean."""

    def solve(
        self, alphas: Float[np.ndarray, " n_alphas"], target: int = 0
    ) -> tuple[Float[np.ndarray, "dim n_alphas"], Float[np.ndarray, " n_alphas"]]:
        """Weights and biases of one target for each alpha, to be applied to features as they are stored:
        the standardisation is folded in. alpha = 0 is least squares (minimum norm)."""
        values = self.basis.values[:, None]
        shrunk = values / (values**2 + np.asarray(alphas, dtype=np.float64)[None, :])
        standard = self.basis.vectors @ (shrunk * self.projected[:, [target]])
        weights = standard * _inverse(self.basis.scale)[:, None]
        return weights, self.mean_y[target] - self.basis.mean @ weights


def residual_variance(
    path: RidgePath, alphas: Float[np.ndarray, " n_alphas"], target: int = 0
) -> tuple[Float[np.ndarray, " n_alphas"], Float[np.ndarray, " n_alphas"]]:
    """Sum of squared residuals on the training rows, and the degrees of freedom left, for each alpha.

    With the share k = s^2 / (s^2 + alpha) that each direction keeps: RSS = s_yy - sum (2k - k^2) (u'y)^2
    and n - 1 - sum k.
    """
    values = path.basis.values[:, None]
    kept = values**2 / (values**2 + np.asarray(alphas, dtype=np.float64)[None, :])
    explained = (2 * kept - kept**2).T @ path.projected[:, target] ** 2
    free = path.basis.n - 1 - kept.sum(axis=0)
    return np.asarray(np.maximum(path.squares[target] - explained, 0.0)), np.asarray(free)


def gcv_error(
    path: RidgePath, alphas: Float[np.ndarray, " n_alphas"], target: int = 0
) -> Float[np.ndarray, " n_alphas"]:
    """Generalised cross-validation: leave-one-out error with every leverage at its mean (Golub, Heath &
    Wahba 1979), from the path alone. Infinite where no degrees of freedom are left."""
    squares, free = residual_variance(path, alphas, target)
    safe = np.where(free > 1e-6 * path.basis.n, free, np.nan)
    return np.asarray(np.nan_to_num(squares * path.basis.n / safe**2, nan=np.inf))


class IllConditionedError(ArithmeticError):
    """The Gram matrix does not determine the fit; the rows are needed again."""


def gram_basis(moments: Moments, largest_condition: float = LARGEST_GRAM_CONDITION) -> Basis:
    """The basis from a Gram matrix.

    Directions below the rounding of the stored features are dropped as what they are, rounding: the output of
    a layer norm, for one, has a direction without any variance. Raises IllConditionedError if a direction
    lies between that and 1 / largest_condition, where a Gram matrix cannot tell.
    """
    scale = _scale(np.sqrt(np.maximum(np.diag(moments.xx), 0) / moments.n), moments.mean_x, moments.precision)
    inverse = _inverse(scale)
    values, vectors = np.linalg.eigh(moments.xx * np.outer(inverse, inverse))
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = max(float(values[0]), 0.0) if len(values) else 0.0
    relative = values / largest if largest > 0 else np.zeros_like(values)
    # Constant features give exact zeros, of no concern; the resolution of eigh itself is about 1e-15.
    n_constant = int(np.count_nonzero(scale == 0))
    varying = relative[: len(relative) - n_constant]
    is_rounding = varying < max(moments.precision**2, 4e-15)
    # Where rows were float64, rounding cannot be told from a small direction in a Gram matrix.
    resolved = is_rounding if moments.precision > 1e-10 else np.zeros_like(is_rounding)
    unclear = ~resolved & (varying < largest_condition**-2)
    if unclear.any():
        raise IllConditionedError(
            f"condition number of the {len(scale)} standardised features is above {largest_condition:.0e}"
        )
    rank = int(np.count_nonzero(~is_rounding))
    kept = np.asfortranarray(vectors[:, :rank])  # as a cache gives them back: products have the same bits
    return Basis(moments.n, moments.mean_x, scale, np.sqrt(values[:rank]), kept, "gram")


def gram_path(basis: Basis, moments: Moments) -> RidgePath:
    """The path of a basis for the targets of the same rows' moments."""
    standard = moments.xy * _inverse(basis.scale)[:, None]
    return RidgePath(basis, moments.mean_y, basis.vectors.T @ standard / basis.values[:, None], moments.yy)


def root_path(root: Root) -> RidgePath:
    """The path from a QR factor, without squaring the condition number."""
    x, y = root.factor[1:, 1 : 1 + root.dim], root.factor[1:, 1 + root.dim :]
    scale = _scale(np.linalg.norm(x, axis=0) / np.sqrt(root.n), root.mean_x, root.precision)
    u, values, vt = np.linalg.svd(x * _inverse(scale), full_matrices=False)
    # What the stored rows themselves do not resolve, or else what the decomposition does not.
    rounding = max(root.precision, max(root.n, root.dim) * float(np.finfo(np.float64).eps))
    rank = int(np.count_nonzero(values > rounding * values[0])) if len(values) and values[0] > 0 else 0
    basis = Basis(root.n, root.mean_x, scale, values[:rank], vt[:rank].T.copy(), "qr")
    return RidgePath(basis, root.mean_y, u[:, :rank].T @ y, (y**2).sum(axis=0))


def cv_error(
    folds: Sequence[Fold],
    paths: Sequence[RidgePath],
    alphas: Float[np.ndarray, " n_alphas"],
    target: int,
    error: Callable[[Fold, np.ndarray, np.ndarray, int], Float[np.ndarray, " n_alphas"]],
) -> Float[np.ndarray, "n_folds n_alphas"]:
    """Mean squared error on each fold of the fits on the other folds, for each alpha. `error` sums the
    squared errors of fits over the rows of a fold: `squared_error` of moments, `root_squared_error` of
    factors."""
    found = [
        error(fold, *path.solve(alphas, target), target) / fold.n
        for fold, path in zip(folds, paths, strict=True)
    ]
    return np.stack(found)


def leave_one_out_error(
    blocks: Iterable[Block], path: RidgePath, alphas: Float[np.ndarray, " n_alphas"], target: int
) -> Float[np.ndarray, " n_alphas"]:
    """Mean squared error on each training row of the fit on all others, for each alpha, exactly.

    Needs one more pass over the rows but no further fit: with the leverages h_i = 1/n + sum_r u_ir^2
    s_r^2 / (s_r^2 + alpha) the left-out residual is (y_i - f_i) / (1 - h_i). The standardisation is that of
    all training rows. NaN where a row alone determines its prediction (alpha = 0 in wide problems).
    """
    basis = path.basis
    kept = basis.values[:, None] ** 2 / (basis.values[:, None] ** 2 + alphas[None, :])
    to_u = basis.vectors * _inverse(basis.scale)[:, None] / basis.values
    total = np.zeros(len(alphas))
    for x, y, group in blocks:
        used = group >= 0
        u = np.subtract(x[used], basis.mean, dtype=np.float64) @ to_u
        residual = y[used, target, None] - path.mean_y[target] - u @ (kept * path.projected[:, [target]])
        free = 1.0 - 1.0 / basis.n - (u * u) @ kept
        with np.errstate(divide="ignore", invalid="ignore"):
            left_out = np.where(free > 1e-10, residual / free, np.nan)
        total += (left_out**2).sum(axis=0)
    return np.asarray(total / basis.n)


def leave_out_gram(folds: Sequence[Moments], with_gram: bool = True) -> list[Moments]:
    """For each fold the moments of all other folds together, with or without their Gram matrix."""
    return [merge([*folds[:f], *folds[f + 1 :]], with_gram) for f in range(len(folds))]


def leave_out_roots(folds: Sequence[Root]) -> list[Root]:
    """For each fold the factor of all other folds together."""
    return [merge_roots([*folds[:f], *folds[f + 1 :]]) for f in range(len(folds))]


def _scale(
    std: Float[np.ndarray, " dim"], mean: Float[np.ndarray, " dim"], precision: float
) -> Float[np.ndarray, " dim"]:
    """Standard deviations with those that are only rounding of the mean set to 0 (a constant feature)."""
    return np.asarray(np.where(std > precision * np.abs(mean), std, 0.0))


def _inverse(scale: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
    """1 / scale, and 0 for features that do not vary: they get weight 0."""
    return np.asarray(np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0))
