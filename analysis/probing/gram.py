"""Sufficient statistics of a linear fit: one pass over the rows, after which the rows are not needed.

For rows x (features) and y (targets) of a group of images the moments are

    n,  mean x,  mean y,  S_xx = sum (x - mean x)(x - mean x)',  S_xy likewise,  s_yy per target.

They are kept centred, because sums of raw products cancel badly when features are far from zero. Two
groups join exactly (Chan, Golub & LeVeque 1983): with d = mean_1 - mean_2,

    S = S_1 + S_2 + n_1 n_2 / (n_1 + n_2) d d'.

So folds, splits and learning-curve steps are sums of small matrices, and a subset of backbones is a selection
of columns.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from analysis.parallel import map_threads, n_workers
from store.shapes import Float, Int

Block = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Features (m, dim), targets (m, n_targets) and group (m,) of some rows; a negative group is left out."""


@dataclass(frozen=True)
class Source:
    """Rows to be read, as often as needed."""

    part: Callable[[int, int], Iterable[Block]]
    """part(i, n) reads every n-th block from the i-th on; part(0, 1) all of them."""
    dim: int
    n_blocks: int


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


_ROWS_AT_ONCE = 2048


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


def accumulate_parts(source: Source, n_groups: int, with_gram: bool = True) -> list[Moments]:
    """The moments of each group of a source, from one pass shared by several threads."""
    each = 8 * source.dim**2 * n_groups if with_gram else 0
    n = n_workers(source.n_blocks, each)
    found = map_threads(lambda i: accumulate(source.part(i, n), n_groups, with_gram), list(range(n)), n)
    return [merge(list(groups)) for groups in zip(*found, strict=True)]


def array_source(
    x: Float[np.ndarray, "n dim"],
    y: Float[np.ndarray, "n n_targets"],
    group: Int[np.ndarray, " n"],
    block_rows: int = _ROWS_AT_ONCE,
) -> Source:
    """Rows that are in memory as a source."""
    starts = range(0, len(x), block_rows)

    def part(i: int, n: int) -> Iterator[Block]:
        for start in starts[i::n]:
            rows = slice(start, start + block_rows)
            yield x[rows], y[rows], group[rows]

    return Source(part, x.shape[1], len(starts))


def merge(parts: Sequence[Moments], with_gram: bool = True) -> Moments:
    """The moments of several groups together, as if their rows had been in one.

    Without `with_gram` the Gram matrix is left out (empty), for where its decomposition is known.
    """
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
    xx = dx.T @ dx if with_gram else np.zeros((0, 0))
    for part in filled if with_gram else ():
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
    centring at the end loses nothing.

    They are two products: x with itself, of which the library computes half, and [y, 1] with [x, y, 1]. The
    second is the same whether the first is asked for or not, so what is kept between runs gives the same bits
    as a pass over all rows. Their memory is used again: fresh memory of this size takes a good part of the
    time of the product.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray, group: np.ndarray, n_groups: int, with_gram: bool
    ) -> None:
        used = group >= 0
        self.dim, n_targets = x.shape[1], y.shape[1]
        self.shift_x = x[used].mean(axis=0, dtype=np.float64) if used.any() else np.zeros(self.dim)
        self.shift_y = y[used].mean(axis=0, dtype=np.float64) if used.any() else np.zeros(n_targets)
        self.precision = float(np.finfo(x.dtype).eps)
        self.waiting: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(n_groups)]
        self.n = [0] * n_groups
        width = self.dim + n_targets + 1
        self.grams = np.zeros((n_groups, self.dim, self.dim)) if with_gram else None
        self.product = np.empty((self.dim, self.dim)) if with_gram else None
        self.sums = np.zeros((n_groups, n_targets + 1, width))
        self.rows = np.ones((_ROWS_AT_ONCE, width))

    def add(self, x: np.ndarray, y: np.ndarray, group: np.ndarray) -> None:
        order = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[order], np.arange(len(self.n) + 1))
        for g, (start, stop) in enumerate(pairwise(bounds)):
            if stop > start:
                rows = order[start:stop]
                self.waiting[g].append((x[rows], y[rows]))
                # A product over few rows costs more in adding the result than in computing it.
                if sum(len(part) for part, _ in self.waiting[g]) >= _ROWS_AT_ONCE:
                    self._flush(g)

    def _flush(self, g: int) -> None:
        n = sum(len(part) for part, _ in self.waiting[g])
        if not n:
            return
        if n > len(self.rows):
            self.rows = np.ones((n, self.rows.shape[1]))
        start = 0
        for x_part, y_part in self.waiting[g]:
            stop = start + len(x_part)
            np.subtract(x_part, self.shift_x, out=self.rows[start:stop, : self.dim])
            np.subtract(y_part, self.shift_y, out=self.rows[start:stop, self.dim : -1])
            start = stop
        self.waiting[g] = []
        self.n[g] += n
        rows = self.rows[:n]
        if self.grams is not None:
            x = rows[:, : self.dim]
            self.grams[g] += np.matmul(x.T, x, out=self.product)
        self.sums[g] += rows[:, self.dim :].T @ rows

    def moments(self) -> list[Moments]:
        found = []
        for g, sums in enumerate(self.sums):
            self._flush(g)
            n, dim = self.n[g], self.dim
            mean_x, mean_y = sums[-1, :dim] / max(n, 1), sums[-1, dim:-1] / max(n, 1)
            between = n * np.outer(mean_x, mean_x)
            xx = np.zeros((dim, dim)) if self.grams is None else self.grams[g] - between
            found.append(
                Moments(
                    n=n,
                    mean_x=mean_x + self.shift_x,
                    xx=xx,
                    mean_y=mean_y + self.shift_y,
                    xy=sums[:-1, :dim].T - n * np.outer(mean_x, mean_y),
                    yy=np.diag(sums[:-1, dim:-1]) - n * mean_y**2,
                    precision=self.precision,
                )
            )
        return found
