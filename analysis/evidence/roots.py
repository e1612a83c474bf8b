"""The same statistics as square roots: QR factors over blocks of rows, for ill-conditioned features.

A Gram matrix has the square of the condition number of its rows: from about 1e6 on, the small directions
drown in rounding. The triangular factor R of [1, x, y] = Q R carries the same sums, R'R, without squaring
anything. Factors join like Grams do: the factor of two groups is the factor of one stacked on the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.probing.gram import Block
from store.shapes import Float


@dataclass(frozen=True)
class Root:
    """Triangular factor of [1, x - shift, y] over one group of rows."""

    n: int
    dim: int
    shift: Float[np.ndarray, " dim"]
    factor: Float[np.ndarray, "n_rows n_columns"]
    precision: float
    """Rounding unit of the features as stored: 1.2e-7 for float32."""

    @property
    def mean_x(self) -> Float[np.ndarray, " dim"]:
        """Mean of each feature."""
        return np.asarray(self.shift + self.factor[0, 1 : 1 + self.dim] / self.factor[0, 0])

    @property
    def mean_y(self) -> Float[np.ndarray, " n_targets"]:
        """Mean of each target."""
        return np.asarray(self.factor[0, 1 + self.dim :] / self.factor[0, 0])


def accumulate_roots(blocks: Iterable[Block], n_groups: int) -> list[Root]:
    """The factors of each group, from one pass in bounded memory."""
    parts: list[np.ndarray | None] = [None] * n_groups
    n = [0] * n_groups
    shift: np.ndarray | None = None
    precision, dim, n_columns = 0.0, 0, 0
    for x, y, group in blocks:
        if shift is None:
            used = group >= 0
            dim, n_columns = x.shape[1], 1 + x.shape[1] + y.shape[1]
            shift = x[used].mean(axis=0, dtype=np.float64) if used.any() else np.zeros(dim)
            precision = float(np.finfo(x.dtype).eps)
        for g in range(n_groups):
            rows = np.flatnonzero(group == g)
            if not len(rows):
                continue
            centred = np.subtract(x[rows], shift, dtype=np.float64)
            design = np.concatenate([np.ones((len(rows), 1)), centred, y[rows]], axis=1)
            parts[g] = _factor([design] if parts[g] is None else [parts[g], design])
            n[g] += len(rows)
    if shift is None:
        raise ValueError("no rows were given to accumulate")
    return [
        Root(count, dim, shift, np.zeros((0, n_columns)) if part is None else part, precision)
        for count, part in zip(n, parts, strict=True)
    ]


def merge_roots(parts: Sequence[Root]) -> Root:
    """The factor of several groups together; they must come from one pass (share their shift)."""
    first = parts[0]
    factor = _factor([part.factor for part in parts])
    return Root(sum(part.n for part in parts), first.dim, first.shift, factor, first.precision)


def root_squared_error(
    root: Root, weights: Float[np.ndarray, "dim n_fits"], bias: Float[np.ndarray, " n_fits"], target: int
) -> Float[np.ndarray, " n_fits"]:
    """Sum of squared errors of linear fits of one target over the rows behind the factor: the squared
    length of R times the coefficients of y - b - x'w."""
    n_targets = root.factor.shape[1] - 1 - root.dim
    coefficients = np.zeros((root.factor.shape[1], weights.shape[1]))
    coefficients[0] = -(bias + root.shift @ weights)
    coefficients[1 : 1 + root.dim] = -weights
    coefficients[1 + root.dim + target % n_targets] = 1.0
    return np.asarray(((root.factor @ coefficients) ** 2).sum(axis=0))


def _factor(parts: Sequence[np.ndarray | None]) -> Float[np.ndarray, "n_rows n_columns"]:
    return np.asarray(np.linalg.qr(np.concatenate([part for part in parts if part is not None]), mode="r"))
