"""Rows of vectors as points in a plane: the two directions in which they differ most (PCA)."""

import numpy as np

from store.shapes import Bool, Float, Float32

_ROWS_AT_ONCE = 4096


def plane(rows: Float32[np.ndarray, "n dim"], has: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n_with 2"]:
    """Places of the rows that have a vector, 0 to 1 each way, in their order; the same for the same vectors.

    The covariance is summed block by block, so memory holds dim x dim numbers more. What lies far outside
    (beyond the 1st and 99th percentile by half their distance) is drawn in to the edge, so that one odd
    picture does not press all others together.
    """
    there = np.flatnonzero(has)
    if not len(there):
        return np.zeros((0, 2))
    dim = rows.shape[1]
    total, products = np.zeros(dim), np.zeros((dim, dim))
    for start in range(0, len(there), _ROWS_AT_ONCE):
        block = rows[there[start : start + _ROWS_AT_ONCE]]
        total += block.sum(axis=0, dtype=np.float64)
        products += block.T @ block
    mean = total / len(there)
    _, vectors = np.linalg.eigh(products / len(there) - np.outer(mean, mean))
    axes = vectors[:, ::-1][:, :2]
    if axes.shape[1] < 2:
        axes = np.hstack([axes, np.zeros((dim, 2 - axes.shape[1]))])
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), range(2)] < 0, -1.0, 1.0)
    places = np.concatenate(
        [
            (rows[there[start : start + _ROWS_AT_ONCE]] - mean) @ axes
            for start in range(0, len(there), _ROWS_AT_ONCE)
        ]
    )
    low, high = np.percentile(places, (1, 99), axis=0)
    room = (high - low) / 2
    low, high = np.maximum(low - room, places.min(axis=0)), np.minimum(high + room, places.max(axis=0))
    spread = np.where(high > low, high - low, 1.0)
    return np.asarray(np.where(high > low, np.clip((places - low) / spread, 0, 1), 0.5))
