"""Sufficient statistics of a linear fit: one pass over the rows, after which the rows are not needed.

For rows x (features) and y (targets) of a group of images the moments are

    n,  mean x,  mean y,  S_xx = sum (x - mean x)(x - mean x)',  S_xy likewise,  s_yy per target.

They are kept centred, because sums of raw products cancel badly when features are far from zero. Two
groups join exactly (Chan, Golub & LeVeque 1983): with d = mean_1 - mean_2,

    S = S_1 + S_2 + n_1 n_2 / (n_1 + n_2) d d'.

So folds, splits and learning-curve steps are sums of small matrices, and a subset of backbones is a selection
of columns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg.blas import dsyrk

Block = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Features (m, dim), targets (m, n_targets) and group (m,) of some rows; a negative group is left out."""


@dataclass(frozen=True)
class Moments:
    """Centred sums over one group of rows."""

    n: int
    mean_x: Float[np.ndarray, " dim"]
    xx: Float[np.ndarray, "dim dim"]
    mean_y: Float[np.ndarray, " n_targets"]
    xy: Float[np.ndarray, "dim n_targets"]
    yy: Float[np.ndarray, " n_targets"]
    precision: float
    """Rounding unit of the features as stored: 1.2e-7 for float32."""


def accumulate(blocks: Iterable[Block], n_groups: int, with_gram: bool = True) -> list[Moments]:
    """The moments of each group, from one pass in bounded memory; float64 whatever the rows are.

    Without `with_gram` only the parts that involve the targets are summed (`xx` is zero): what a new target
    column costs when the Gram matrices are known.
    """
    sums: _Sums | None = None
    for x, y, group in blocks:
        if sums is None:
            sums = _Sums(x, y, group, n_groups, with_gram)
        sums.add(x, y, group)
    if sums is None:
        raise ValueError("no rows were given to accumulate")
    return sums.moments()


def merge(parts: Sequence[Moments]) -> Moments:
    """The moments of several groups together, as if their rows had been in one."""
    filled = [part for part in parts if part.n]
    if not filled:
        return parts[0]
    n = sum(part.n for part in filled)
    share = np.array([part.n for part in filled]) / n
    mean_x = np.tensordot(share, np.stack([part.mean_x for part in filled]), 1)
    mean_y = np.tensordot(share, np.stack([part.mean_y for part in filled]), 1)
    # Deviations of the group means, weighted: their products are the between-group scatter.
    dx = np.stack([np.sqrt(part.n) * (part.mean_x - mean_x) for part in filled])
    dy = np.stack([np.sqrt(part.n) * (part.mean_y - mean_y) for part in filled])
    xx = dx.T @ dx
    for part in filled:
        xx += part.xx
    return Moments(
        n=n,
        mean_x=mean_x,
        xx=xx,
        mean_y=mean_y,
        xy=sum((part.xy for part in filled), dx.T @ dy),
        yy=sum((part.yy for part in filled), (dy**2).sum(axis=0)),
        precision=filled[0].precision,
    )


def select(
    moments: Moments,
    columns: Int[np.ndarray, " n_columns"] | slice = slice(None),
    targets: Int[np.ndarray, " n_columns"] | slice = slice(None),
) -> Moments:
    """The moments of some features (one backbone of several, say) and some targets alone."""
    return replace(
        moments,
        mean_x=moments.mean_x[columns],
        xx=moments.xx[columns][:, columns],
        mean_y=moments.mean_y[targets],
        xy=moments.xy[columns][:, targets],
        yy=moments.yy[targets],
    )


def squared_error(
    moments: Moments,
    weights: Float[np.ndarray, "dim n_fits"],
    bias: Float[np.ndarray, " n_fits"],
    target: int,
) -> Float[np.ndarray, " n_fits"]:
    """Sum of squared errors of linear fits of one target over the rows behind the moments.

    With the centred residual r = (y - mean y) - (x - mean x)'w:
    sum r^2 = s_yy - 2 w'S_xy + w'S_xx w, and the mean error adds n (mean y - b - mean x'w)^2.
    """
    offset = moments.mean_y[target] - bias - moments.mean_x @ weights
    explained = np.einsum("df,df->f", weights, moments.xx @ weights - 2.0 * moments.xy[:, [target]])
    return np.asarray(np.maximum(moments.yy[target] + explained, 0.0) + moments.n * offset**2)


class _Sums:
    """Running sums about a fixed shift, the mean of the first rows: near enough to every group's mean that
    centring at the end loses nothing."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray, group: np.ndarray, n_groups: int, with_gram: bool
    ) -> None:
        used = group >= 0
        dim, n_targets = x.shape[1], y.shape[1]
        self.shift_x = x[used].mean(axis=0, dtype=np.float64) if used.any() else np.zeros(dim)
        self.shift_y = y[used].mean(axis=0, dtype=np.float64) if used.any() else np.zeros(n_targets)
        self.precision = float(np.finfo(x.dtype).eps)
        self.n = [0] * n_groups
        self.x = np.zeros((n_groups, dim))
        self.y = np.zeros((n_groups, n_targets))
        self.xy = np.zeros((n_groups, dim, n_targets))
        self.yy = np.zeros((n_groups, n_targets))
        # Column-major, so that BLAS adds to them in place.
        self.xx = [np.zeros((dim, dim), order="F") for _ in range(n_groups)] if with_gram else None

    def add(self, x: np.ndarray, y: np.ndarray, group: np.ndarray) -> None:
        order = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[order], np.arange(len(self.n) + 1))
        for g, (start, stop) in enumerate(pairwise(bounds)):
            if stop == start:
                continue
            rows = order[start:stop]
            centred = np.subtract(x[rows], self.shift_x, dtype=np.float64)
            y_centred = y[rows] - self.shift_y
            self.n[g] += len(rows)
            self.x[g] += centred.sum(axis=0)
            self.y[g] += y_centred.sum(axis=0)
            self.xy[g] += centred.T @ y_centred
            self.yy[g] += (y_centred**2).sum(axis=0)
            if self.xx is not None:
                # Half the work of a general product: only the upper triangle of x'x is summed.
                self.xx[g] = dsyrk(1.0, centred.T, 1.0, self.xx[g], overwrite_c=True)

    def moments(self) -> list[Moments]:
        found = []
        for g, n in enumerate(self.n):
            mean_x, mean_y = self.x[g] / max(n, 1), self.y[g] / max(n, 1)
            dim = len(mean_x)
            if self.xx is None:
                xx = np.zeros((dim, dim))
            else:
                xx = self.xx[g]
                lower = np.tril_indices(dim, -1)
                xx[lower] = xx.T[lower]
                xx -= n * np.outer(mean_x, mean_x)
            found.append(
                Moments(
                    n=n,
                    mean_x=mean_x + self.shift_x,
                    xx=xx,
                    mean_y=mean_y + self.shift_y,
                    xy=self.xy[g] - n * np.outer(mean_x, mean_y),
                    yy=self.yy[g] - n * mean_y**2,
                    precision=self.precision,
                )
            )
        return found
