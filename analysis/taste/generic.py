"""A generic model of taste: ridge from features to the mean of many people's scores.

What it says of a photograph is always from a fit without that photograph. With Z the standardised rows less
their mean, Z'Z = V S V' and U = Z V, the fit for alpha predicts row i as the mean + U_i (S + alpha)^-1 U'y,
and has leverage h_i = 1/n + U_i^2 . 1 / (S + alpha); without row i it predicts y_i - (y_i - fit_i) /
(1 - h_i). alpha is the one that predicts left-out rows best.
"""

import numpy as np

from analysis.parallel import map_threads, n_workers, one_blas_thread
from analysis.taste.fitting import ALPHAS
from store.shapes import Float, Int

_ROWS_AT_ONCE = 4096


def fit_generic(
    standard: Float[np.ndarray, "n_images dim"],
    rows: Int[np.ndarray, " n_rows"],
    means: Float[np.ndarray, "n_rows n_columns"],
) -> Float[np.ndarray, "n_images n_columns"]:
    """Scores of every photograph by models of the columns of `means`, the mean scores of `rows` (each once);
    those of `rows` are of fits that leave the photograph out.

    Raises ValueError for fewer than three rows.
    """
    n = len(rows)
    if n < 3:
        raise ValueError(f"{n} photographs with scores of others: a generic model needs 3 or more")
    threads = n_workers(len(_parts(n)))
    with one_blas_thread():
        centre = np.zeros(standard.shape[1])
        for part in _parts(n):
            centre += standard[rows[part]].sum(axis=0, dtype=np.float64)
        centre /= n
        y = means - means.mean(axis=0)

        def products(part: slice) -> tuple[np.ndarray, np.ndarray]:
            block = standard[rows[part]] - centre
            return block.T @ block, block.T @ y[part]

        gram, cross = np.zeros((len(centre), len(centre))), np.zeros((len(centre), means.shape[1]))
        parts = _parts(n)
        for start in range(0, len(parts), threads):  # summed in one order, whoever is done first
            for of_block, of_cross in map_threads(products, parts[start : start + threads], threads):
                gram += of_block
                cross += of_cross
        values, vectors = np.linalg.eigh(gram)
        alphas = np.array(ALPHAS)
        shrink = 1.0 / (np.maximum(values, 0.0)[:, None] + alphas)
        turned = vectors.T @ cross
        weights = shrink[:, :, None] * turned[:, None, :]  # in the turned space: dim, penalties, columns
        flat = weights.reshape(len(values), -1)
        left = np.zeros((n, len(alphas), means.shape[1]))

        def leave_out(part: slice) -> None:
            turned_rows = (standard[rows[part]] - centre) @ vectors
            fitted = (turned_rows @ flat).reshape(-1, len(alphas), means.shape[1])
            leverage = 1.0 / n + turned_rows**2 @ shrink
            left[part] = (y[part][:, None, :] - fitted) / np.maximum(1.0 - leverage, 1e-12)[:, :, None]

        map_threads(leave_out, _parts(n), threads)
        place = np.argmin((left**2).mean(axis=0), axis=0)
        columns = np.arange(means.shape[1])
        chosen = vectors @ weights[:, place, columns]
        found = np.empty((len(standard), means.shape[1]))
        for part in _parts(len(standard)):
            found[part] = (standard[part] - centre) @ chosen
        found[rows] = y - left[:, place, columns]
        return np.asarray(found + means.mean(axis=0))


def _parts(n: int) -> list[slice]:
    return [slice(start, min(start + _ROWS_AT_ONCE, n)) for start in range(0, n, _ROWS_AT_ONCE)]
