"""The photographs of a gallery in an order, best first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.prompting.scores import rank_images
from store.shapes import Float


@dataclass(frozen=True)
class Order:
    """Rows best first with score and percentile (100 best, 0 worst); rows without a score are left out."""

    title: str
    score_name: str
    """score, cosine (of one question), likeness (of several) or sharpness."""
    rows: np.ndarray
    score: np.ndarray
    percentile: np.ndarray
    n_without: int


def order_by(title: str, score_name: str, score: Float[np.ndarray, " n_rows"], n_left_out: int = 0) -> Order:
    """The rows from the highest score to the lowest, equal ones in the order of the list; NaN is no score.

    `n_left_out` rows are left out on purpose and not counted as being without one.
    """
    found = rank_images(score)
    n_without = len(score) - len(found.row) - n_left_out
    return Order(title, score_name, found.row, found.score, found.percentile, n_without)


def mean_z(scores: Sequence[Float[np.ndarray, " n_rows"]]) -> Float[np.ndarray, " n_rows"]:
    """The mean of several scores, each first brought to mean 0 and standard deviation 1 over its own rows.

    Cosines with words lie in a narrow band far below those with pictures; added as they are, the pictures
    alone would decide. A score that is the same everywhere says nothing and counts as 0.
    """
    scaled = []
    for score in scores:
        spread = float(np.nanstd(score)) if np.isfinite(score).any() else 0.0
        scaled.append((score - np.nanmean(score)) / spread if spread > 0 else score * 0)
    return np.asarray(np.mean(scaled, axis=0))
