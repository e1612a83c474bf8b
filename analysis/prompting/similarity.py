"""Searching a library: how alike each image is to one vector, a text's or another image's."""

from collections.abc import Iterable

import numpy as np

from analysis.prompting.scores import cosines, unit_directions
from store.shapes import Float, Float32, Int


def cosines_with(
    blocks: Iterable[tuple[int, Float32[np.ndarray, "n_rows dim"]]],
    first: Int[np.ndarray, " n_images"],
    query: Float[np.ndarray, " dim"],
    leave_out: int | None = None,
) -> Float32[np.ndarray, " n_images"]:
    """Cosine of every image with the query, -1 to 1; NaN for NaN rows and for the row to leave out.

    The images are given as (first row, rows) block by block; `first` is their `first_equal_rows`, and equal
    images are equally alike. A query of zeros has no direction and is an error.
    """
    found: np.ndarray = cosines(blocks, first, unit_directions(query[None]))[:, 0]
    if leave_out is not None:
        found[leave_out] = np.nan
    return found
