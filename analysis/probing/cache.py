"""What one pass over the rows gives, kept between runs: Gram matrices, their decompositions, products with y.

Two derived files per output, both bound to digests: `gram_*.h5` (features, folds) and `cross_*.h5` (the same
and the targets). A new target column needs the second alone, which is a pass without Gram matrices.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.parallel import map_threads, n_workers
from analysis.probing.gram import Moments, Source, accumulate_parts, merge
from analysis.probing.spectrum import Basis, gram_basis, leave_out_gram
from store.derived import load_derived, save_derived

logger = logging.getLogger(__name__)
_CACHE_VERSION = 2


@dataclass(frozen=True)
class CacheKey:
    """Where the caches of one output lie and what they are bound to."""

    folder: Path
    stem: str
    rows: dict[str, Any]
    """Digest of the features, output, unit norm and fold of each row."""
    targets: str
    """Digest of the target columns."""


@dataclass(frozen=True)
class Gathered:
    """Moments of each fold, and the bases of all folds together and of all but each."""

    folds: list[Moments]
    total: Basis
    rest: list[Basis]


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of an array's shape, dtype and bytes."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def gather(source: Source, n_folds: int, key: CacheKey | None = None) -> Gathered:
    """Moments and bases from the caches where they are there, else from a pass over the rows.

    Raises IllConditionedError where Gram matrices do not determine the fit; nothing is kept then.
    """
    gram, cross = (None, None) if key is None else (_load(key, "gram"), _load(key, "cross"))
    if gram is not None:
        total, *rest = _unpack_bases(gram)
        if cross is None:
            parts = accumulate_parts(source, n_folds, with_gram=False)
            folds = [replace(part, xx=gram["xx"][f]) for f, part in enumerate(parts)]
            _save_cross(key, folds)
            return Gathered(folds, total, rest)
        precision = float(gram["precision"][0])
        folds = [
            Moments(
                int(gram["n"][f]), gram["mean_x"][f], gram["xx"][f], cross["mean_y"][f], cross["xy"][f],
                cross["yy"][f], precision,
            )
            for f in range(n_folds)
        ]  # fmt: skip
        return Gathered(folds, total, rest)
    folds = accumulate_parts(source, n_folds)
    groups = [merge(folds), *(leave_out_gram(folds) if n_folds > 1 else [])]
    bases = map_threads(gram_basis, groups, n_workers(len(groups)))
    if key is not None:
        _save_gram(key, folds, bases)
        _save_cross(key, folds)
    return Gathered(folds, bases[0], bases[1:])


def _path(key: CacheKey, kind: str) -> Path:
    suffix = f"_{key.targets[:8]}" if kind == "cross" else ""
    return key.folder / f"{kind}_{key.stem}{suffix}.h5"


def _identity(key: CacheKey, kind: str) -> dict[str, Any]:
    bound = {"kind": kind, "version": _CACHE_VERSION, **key.rows}
    return bound | ({"targets": key.targets} if kind == "cross" else {})


def _load(key: CacheKey, kind: str) -> dict[str, np.ndarray] | None:
    found = load_derived(_path(key, kind), _identity(key, kind))
    logger.info("%s: %s", _path(key, kind), "not there or of other inputs" if found is None else "used")
    return found


def _save_gram(key: CacheKey, folds: list[Moments], bases: list[Basis]) -> None:
    arrays = {
        "n": np.array([fold.n for fold in folds]),
        "mean_x": np.stack([fold.mean_x for fold in folds]),
        "xx": np.stack([fold.xx for fold in folds]),
        "precision": np.array([folds[0].precision]),
    }
    # All bases as one array of each kind: a file of many arrays takes longer to open than to read.
    arrays["bases/n"] = np.array([basis.n for basis in bases])
    arrays["bases/rank"] = np.array([basis.rank for basis in bases])
    for part in ("mean", "scale"):
        arrays[f"bases/{part}"] = np.stack([getattr(basis, part) for basis in bases])
    arrays["bases/values"] = np.concatenate([basis.values for basis in bases])
    arrays["bases/vectors"] = np.concatenate([basis.vectors.T for basis in bases])  # a row each
    save_derived(_path(key, "gram"), arrays, _identity(key, "gram"))


def _save_cross(key: CacheKey | None, folds: list[Moments]) -> None:
    if key is None:
        return
    arrays = {name: np.stack([getattr(fold, name) for fold in folds]) for name in ("mean_y", "xy", "yy")}
    save_derived(_path(key, "cross"), arrays, _identity(key, "cross"))


def _unpack_bases(arrays: dict[str, np.ndarray]) -> list[Basis]:
    values, vectors = arrays["bases/values"], arrays["bases/vectors"]
    stops = np.cumsum(arrays["bases/rank"])
    each = zip(*(arrays[f"bases/{part}"] for part in ("n", "mean", "scale", "rank")), stops, strict=True)
    return [
        Basis(int(n), mean, scale, values[stop - rank : stop], vectors[stop - rank : stop].T, "gram")
        for n, mean, scale, rank, stop in each
    ]
