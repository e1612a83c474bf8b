"""Which fold an image belongs to: a matter of its id and the seed alone."""

import numpy as np

from analysis.evidence.labels import RatingsError
from store.shapes import Int, UInt64

_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


def assign_folds(image_id: np.ndarray, n_folds: int, seed: int = 0) -> Int[np.ndarray, " n_images"]:
    """Fold of each image, 0 to n_folds - 1, by a hash of seed and image_id.

    Neither the order of the rows nor other images have a say, so folds survive shuffling, and adding
    photographs moves none of the old ones. Raises RatingsError if a fold stays empty.
    """
    fold = (hash_strings(image_id, seed) % np.uint64(max(n_folds, 1))).astype(np.int64)
    if n_folds < 2 or not np.bincount(fold, minlength=n_folds).all():
        raise RatingsError(
            f"{len(image_id)} training images do not fill {n_folds} folds: expected at least 2 folds and an "
            "image in each. Take fewer folds or more images."
        )
    return fold


def hash_strings(strings: np.ndarray, seed: int) -> UInt64[np.ndarray, " n"]:
    """A 64-bit hash of each string and the seed: FNV-1a over code points, then SplitMix64's finaliser, for
    all strings at once. Not for secrets."""
    text = np.ascontiguousarray(np.asarray(strings, dtype=np.str_))
    points = text.view(np.uint32).reshape(len(text), -1) if text.dtype.itemsize else np.zeros((len(text), 0))
    state = np.full(len(text), _mix(np.array([_FNV_OFFSET ^ seed], dtype=np.uint64))[0])
    for column in points.T:
        # Shorter strings are padded with zeros, which must not count: the width is the longest one's.
        following = (state ^ column) * np.uint64(_FNV_PRIME)
        state = following if column.all() else np.where(column > 0, following, state)
    return _mix(state)


def _mix(state: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))
