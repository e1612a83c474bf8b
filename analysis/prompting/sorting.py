"""Sorting many integers, quickly on processors whose vector instructions numpy's sort does not suit.

numpy sorts 64-bit integers several times faster with vector instructions than without, but not with every
kind of them: on some processors its AVX-512 sort takes four times as long as its AVX2 one, and elsewhere
there is neither. What needs none of them: a counting sort by a coarse score, after which nearly everything
is in its place, and a merge sort, which is short where that is so. Both give the same array, so the faster
one is taken.
"""

import time
from collections.abc import Callable

import numpy as np

from store.shapes import Float, Int64

Sort = Callable[[Int64[np.ndarray, " n"], Float[np.ndarray, " n"]], Int64[np.ndarray, " n"]]
"""(keys, score) to the keys in ascending order, perhaps in the same memory; keys should mostly order as the
scores do, which decides how long it takes and nothing else."""

_WORTH_A_TRIAL = 50_000
"""Keys from which on a trial of both costs little of what a search takes."""


def sort_whole(keys: Int64[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The keys in ascending order, in place."""
    keys.sort()
    return keys


def sort_by_buckets(keys: Int64[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The keys in ascending order, in new memory: into a bucket each by its score, then merged.

    Where the scores cannot be cut into buckets (constant, infinite, NaN), as `sort_whole`.
    """
    n_buckets = 1 << min(16, max(4, len(keys).bit_length() - 2))
    with np.errstate(all="ignore"):
        low = score.min(initial=np.inf)
        scale = (n_buckets - 1) / np.float64(score.max(initial=-np.inf) - low)
        coarse = np.multiply(score - low, score.dtype.type(scale))
    if not 0 < scale < np.inf or not np.isfinite(coarse).all():
        return sort_whole(keys, score)
    from scipy.sparse import csr_array  # not where the other sort is taken without a trial

    # One sparse row by columns: scipy's conversion is a counting sort, and lets other threads run meanwhile.
    # It does not look where it writes, so that no column may be outside.
    column = np.clip(coarse, 0, n_buckets - 1).astype(np.int32)
    row_starts = np.array([0, len(keys)], np.int32)
    spread: np.ndarray = csr_array((keys, column, row_starts), shape=(1, n_buckets)).tocsc().data
    spread.sort(kind="stable")  # of 64-bit integers a merge sort of what is already in order
    return spread


def faster_sort(keys: Int64[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Sort:
    """The sort that was faster on these keys here and now; both give the same."""
    if len(keys) < _WORTH_A_TRIAL:
        return sort_whole
    seconds = []
    for sort in (sort_whole, sort_by_buckets):
        given = keys.copy()
        started = time.thread_time()
        sort(given, score)
        seconds.append(time.thread_time() - started)
    return sort_whole if seconds[0] <= seconds[1] else sort_by_buckets
