"""Seconds of processor time for one probe of each target, strength chosen by 5 folds, on made-up features.

    python benchmarks/vote_probes.py [n_train] [dim]

AVA's training images (229,971) need the same passes over so many times the rows: the time grows in
proportion to n
for softmax and ordinal (products of n x dim x levels), for ridge too as long as n is above dim (one
decomposition, n x dim^2). The last column says what that makes; nothing of it was run at that size.
"""

import sys
import time

import numpy as np

from analysis.evidence.folds import assign_folds
from analysis.parallel import one_blas_thread
from analysis.probing.vote_probes import STRENGTHS, TARGETS, _left_out_errors, _path, _standardise

N_AVA = 229_971


def main(n: int = 10_000, dim: int = 512) -> None:
    """Print a line per target."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) / np.sqrt(dim)
    quality = x @ rng.standard_normal(dim) / np.sqrt(dim)
    levels = np.arange(1, 11)
    drawn = np.clip(np.round(5.5 + 0.7 * quality[:, None] + 1.4 * rng.standard_normal((n, 210))), 1, 10)
    shares = np.stack([(drawn == level).mean(axis=1) for level in levels], axis=1)
    y = np.column_stack([shares @ levels, shares])
    fold = assign_folds(np.array([f"{i}" for i in range(n)]), 5)
    print(f"{n:,} x {dim}, 10 levels, one thread of the BLAS")
    for target in TARGETS:
        started = time.process_time()
        with one_blas_thread():
            errors = _left_out_errors(target, [x], y, levels, fold, (1.0,))
            best = int(np.argmin(errors))
            for _ in _path(target, _standardise([x], (1.0,))[1], y, STRENGTHS[target][: best + 1]):
                pass
        seconds = time.process_time() - started
        print(f"{target:13} {seconds:8.1f} s   AVA, in proportion: {seconds * N_AVA / n / 60:6.1f} min")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
