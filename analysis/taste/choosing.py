"""Which photographs to rate next: those that stand for most others.

With few ratings what counts is that every common kind of picture has been seen: the next photograph is the
one that most others are like which nothing rated is like yet (facility location, by cosines of standardised
features). Measured on people who rated everything (benchmarks/taste.py --choose), that is better than
choosing at random for the first 25 ratings or so, and as good later.

Choosing by uncertainty, which is kept for comparison, is worse than random on some photographs. After some
ratings the score of one is known up to the variance of a Gaussian process with the inner product of features
as covariance and alpha as noise: with K the inner products and r the rated rows,

    V = K - K_r (K_rr + alpha)^-1 K_r'.

Rating photograph j takes V_j V_j' / (V_jj + alpha) away from it, so sum_i V_ij^2 / (V_jj + alpha) is what all
photographs become more certain by: "total". "single" takes the one with the largest V_jj: the oddest.
"""

from typing import Literal

import numpy as np

from analysis.parallel import one_blas_thread
from store.shapes import Bool, Float, Int

MAX_POOL = 1500
"""Photographs that are looked at; of larger libraries so many are drawn."""
Rule = Literal["typical", "total", "single"]
"""What stands for most; what makes all most certain; what is itself least certain."""


def choose_next(
    features: Float[np.ndarray, "n_images dim"],
    rated: Int[np.ndarray, " n_rated"],
    n: int,
    may_be_asked: Bool[np.ndarray, " n_images"],
    group: Int[np.ndarray, " n_images"] | None = None,
    rng: np.random.Generator | None = None,
    rule: Rule = "typical",
    alpha: float = 1000.0,
) -> Int[np.ndarray, " n_chosen"]:
    """Rows to rate next, the most telling first, at most `n`.

    `features` are standardised. No two are of one group (-1: of none), and none is of a group of which
    something is rated.
    """
    group = np.full(len(features), -1) if group is None else group
    is_open = may_be_asked.copy()
    is_open[rated] = False
    seen = group[rated]
    is_open &= ~np.isin(group, seen[seen >= 0])
    pool = np.flatnonzero(is_open)
    if len(pool) > MAX_POOL:
        rng = np.random.default_rng(0) if rng is None else rng
        pool = np.sort(rng.choice(pool, MAX_POOL, replace=False))
    with one_blas_thread():
        if rule == "typical":
            return np.asarray(pool[_typical(features[pool], features[rated], n, group[pool])])
        rows, known = features[pool], features[rated]
        variance = rows @ rows.T
        if len(known):
            across = rows @ known.T
            inner = known @ known.T + alpha * np.eye(len(known))
            variance -= across @ np.linalg.solve(inner, across.T)
        return np.asarray(pool[_greedy(variance, alpha, n, group[pool], rule)])


def _typical(
    rows: Float[np.ndarray, "n_pool dim"], rated: Float[np.ndarray, "n_rated dim"], n: int, group: np.ndarray
) -> Int[np.ndarray, " n_chosen"]:
    """Greedy facility location: each photograph of the pool is stood for by the most similar one that was
    chosen or rated, and the next is the one that makes the sum of these cosines largest."""

    def unit(some: np.ndarray) -> np.ndarray:
        return np.asarray(some / np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12))

    own = unit(rows)
    cosine = own @ own.T
    stood_for = (own @ unit(rated).T).max(axis=1) if len(rated) else np.full(len(rows), -1.0)
    is_open = np.ones(len(rows), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < n and is_open.any():
        gain = np.maximum(cosine - stood_for[:, None], 0.0).sum(axis=0)
        best = int(np.argmax(np.where(is_open, gain, -np.inf)))
        chosen.append(best)
        is_open[best] = False
        if group[best] >= 0:
            is_open &= group != group[best]
        stood_for = np.maximum(stood_for, cosine[:, best])
    return np.array(chosen, dtype=int)


def _greedy(
    variance: Float[np.ndarray, "n_pool n_pool"], alpha: float, n: int, group: np.ndarray, rule: Rule
) -> Int[np.ndarray, " n_chosen"]:
    is_open = np.ones(len(variance), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < n and is_open.any():
        own = np.maximum(np.diag(variance), 0.0)
        gain = own if rule == "single" else np.einsum("ij,ij->j", variance, variance) / (own + alpha)
        best = int(np.argmax(np.where(is_open, gain, -np.inf)))
        chosen.append(best)
        is_open[best] = False
        if group[best] >= 0:
            is_open &= group != group[best]
        column = variance[best].copy()
        variance -= np.outer(column, column / (own[best] + alpha))
    return np.array(chosen, dtype=int)


def choose_pairs(
    candidates: Int[np.ndarray, " n_candidates"], score: Float[np.ndarray, " n_images"]
) -> list[tuple[int, int]]:
    """The candidates two by two, none twice: the first, and the one whose score is closest to its own, so
    that the answer is open; then the next that is left, and so on; [] for fewer than two."""
    left = candidates.tolist()
    found: list[tuple[int, int]] = []
    while len(left) > 1:
        first = left.pop(0)
        gap = np.abs(score[left] - score[first])
        found.append((first, left.pop(int(np.argmin(np.where(np.isfinite(gap), gap, np.inf))))))
    return found
