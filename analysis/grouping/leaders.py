"""Each row with the first one that it is like: leader clustering, by blocks of a matrix product.

Rows come in an order of their own (`analysis.grouping.groups`). Each is compared with the leaders before it,
joins the one it is most like, and becomes a leader where it is like none. So no chain forms: whatever is in a
group is like its first row.

Nearly all pairs are unlike, and a short product tells that: with an orthonormal basis of the k directions
that hold most of the rows' length, x = x' + x'' (inside and outside of it), and by Cauchy and Schwarz

    x.y = x'.y' + x''.y'' <= x'.y' + |x''| |y''| = [x', |x''|] . [y', |y''|].

So products of k + 1 numbers bound the cosines from above, and only pairs whose bound reaches the threshold
are looked at again: what comes out is exact. k is chosen by what a sample of pairs would cost.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from store.shapes import Float, Int
from store.system import n_cores

HOUR = 3600.0
_ROWS, _LEADERS = 1024, 2048
_PAIRS_AT_ONCE = 16_384
_MIN_ROWS = 4096
"""Below, choosing k costs more than it saves."""
_N_BASIS, _N_SAMPLE = 8192, 1024
_PAIR_COST = 15_000
"""A pair that is looked at again costs about as much as so many multiplications in a product."""
_DENSE = 0.02
"""The share of a block's pairs from which on all of them are looked at again at once."""
_ROUNDING = 1e-6
"""Of the cosine of equal rows."""
_SLACK = 1e-4
"""More than the rounding of a bound."""


@dataclass(frozen=True)
class Like:
    """The cosine from which on two rows are like each other, by how far apart they were taken."""

    burst: float
    """Within `seconds`."""
    near: float
    """Within an hour."""
    later: float
    """More than an hour apart."""
    unknown: float
    """Where nobody knows."""
    seconds: float

    def limit(self, gap: np.ndarray | float) -> np.ndarray:
        """The cosine that is enough for pairs taken so many seconds apart (NaN: not known)."""
        gap = np.abs(gap)
        limit = np.where(gap > HOUR, self.later, self.near)
        limit = np.where(gap <= self.seconds, self.burst, limit)
        return np.minimum(np.where(np.isnan(gap), self.unknown, limit), 1 - _ROUNDING)


def find_leaders(
    vectors: Float[np.ndarray, "n_rows dim"], taken: Float[np.ndarray, " n_rows"], like: Like
) -> tuple[Int[np.ndarray, " n_rows"], Float[np.ndarray, " n_rows"]]:
    """The leader of each row (itself, or a row before it) and the cosine with it.

    `vectors` have unit length, `taken` is in seconds and ascending, NaN (not known) last. Of leaders that a
    row is equally like, it joins the first. Needs memory for two more matrices of the vectors' size at most.
    """
    n = len(vectors)
    leader, cosine = np.arange(n), np.ones(n, np.float32)
    sieve = _sieve(vectors, taken, like)
    leaders, sieve_of_leaders, n_leaders = np.zeros(n, np.int64), np.empty_like(sieve), 0
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_cores()) as pool:
        for start in range(0, n, _ROWS):
            rows = np.arange(start, min(start + _ROWS, n))
            columns = [np.arange(a, min(a + _LEADERS, n_leaders)) for a in range(0, n_leaders, _LEADERS)]

            def compare(
                these: np.ndarray, rows: np.ndarray = rows
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
                bounds = sieve[rows] @ sieve_of_leaders[these[0] : these[-1] + 1].T
                return _alike(vectors, taken, like, bounds, rows, leaders[these])

            within = _within(vectors, taken, like, sieve, rows)
            for i, j, found in pool.map(compare, columns):
                order = np.lexsort((j, -found, i))
                i, j, found = i[order], j[order], found[order]
                first = np.flatnonzero(np.diff(i, prepend=-1))
                i, j, found = i[first], j[first], found[first]
                better = (leader[i] == i) | (found > cosine[i])
                leader[i[better]], cosine[i[better]] = j[better], found[better]
            _join_within(leader, cosine, rows, within)
            new = rows[leader[rows] == rows]
            leaders[n_leaders : n_leaders + len(new)] = new
            sieve_of_leaders[n_leaders : n_leaders + len(new)] = sieve[new]
            n_leaders += len(new)
    return leader, cosine


def _within(
    vectors: np.ndarray, taken: np.ndarray, like: Like, sieve: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Cosines of a block's rows with those before them in the block, 0 where they are not alike."""
    i, j, found = _alike(vectors, taken, like, np.tril(sieve[rows] @ sieve[rows].T, -1), rows, rows)
    within = np.zeros((len(rows), len(rows)), np.float32)
    within[i - rows[0], j - rows[0]] = found
    return within


def _join_within(leader: np.ndarray, cosine: np.ndarray, rows: np.ndarray, within: np.ndarray) -> None:
    """Let the rows of a block join leaders of the same block, one row after the other."""
    is_leader = leader[rows] == rows
    for i in np.flatnonzero(within.any(axis=1)).tolist():
        found = np.where(is_leader[:i], within[i, :i], 0)
        j = int(found.argmax())
        if found[j] > (0 if is_leader[i] else cosine[rows[i]]):
            leader[rows[i]], cosine[rows[i]] = rows[j], found[j]
            is_leader[i] = False


def _alike(
    vectors: np.ndarray,
    taken: np.ndarray,
    like: Like,
    bounds: np.ndarray,
    rows: np.ndarray,
    others: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, other row (before it) and cosine of the pairs that are alike, of those whose bounds allow it."""
    at = np.flatnonzero(bounds >= like.limit(_gap(taken, rows, others)) - _SLACK)
    i, j = rows[at // len(others)], others[at % len(others)]
    if len(at) > _DENSE * bounds.size:
        found = (vectors[rows] @ vectors[others].T).ravel()[at]
    else:
        found = np.concatenate([np.zeros(0, np.float32), *_cosines(vectors, i, j)])
    is_alike = found >= like.limit(taken[i] - taken[j])
    return i[is_alike], j[is_alike], found[is_alike]


def _gap(taken: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray | float:
    """Seconds between rows and those before them: one number where it comes to the same for all of them."""
    first, last = taken[rows[0]], taken[rows[-1]]
    if np.isnan(first):
        return np.nan
    if not np.isnan(last) and first - taken[others[-1]] > HOUR:
        return np.inf
    return np.asarray(taken[rows, None] - taken[None, others])


def _cosines(vectors: np.ndarray, i: np.ndarray, j: np.ndarray) -> Iterator[np.ndarray]:
    """Cosines of pairs, each the same whatever pairs it is among."""
    for a in range(0, len(i), _PAIRS_AT_ONCE):
        some = slice(a, a + _PAIRS_AT_ONCE)
        yield np.einsum("ij,ij->i", vectors[i[some]], vectors[j[some]])


def _sieve(vectors: np.ndarray, taken: np.ndarray, like: Like) -> np.ndarray:
    """The rows in k directions and their length outside of them, (n_rows, k + 1); or the rows themselves
    where that is not worth it."""
    n, dim = vectors.shape
    if n < _MIN_ROWS:
        return vectors
    rng = np.random.default_rng(0)
    some = vectors[rng.choice(n, _N_BASIS, replace=False)] if n > _N_BASIS else vectors
    basis = np.linalg.eigh((some.T @ some).astype(np.float64))[1][:, ::-1].astype(np.float32)
    sample = np.sort(rng.choice(n, _N_SAMPLE, replace=False))
    turned = vectors[sample] @ basis
    limit = like.limit(taken[sample, None] - taken[None, sample]) - _SLACK
    upper = np.triu_indices(_N_SAMPLE, 1)
    costs = {dim: float(dim)}
    for k in range(32, dim, 32):
        inside = _with_length_outside(turned[:, :k], 1)
        costs[k] = k + _PAIR_COST * float(((inside @ inside.T) >= limit)[upper].mean())
    k = min(costs, key=lambda each: costs[each])
    return vectors if k == dim else _with_length_outside(vectors @ basis[:, :k], 1)


def _with_length_outside(inside: np.ndarray, squares: np.ndarray | float) -> np.ndarray:
    """The coordinates inside a basis, and after them the length of what is outside."""
    outside = squares - np.einsum("ij,ij->i", inside, inside)
    return np.concatenate([inside, np.sqrt(np.maximum(outside, 0))[:, None]], axis=1)
