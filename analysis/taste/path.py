"""Stars by ridge for every penalty at once: one decomposition of the inner products serves all of them.

The formulas are those of analysis.taste.fitting. With G = V S V' the matrix C = (G + alpha)^-1 is V D V',
D = 1 / (S + alpha), so that every penalty, and every column of stars of the same photographs, costs products
alone. That pays for a few hundred photographs; a decomposition of a thousand costs more than ten factors.
"""

import numpy as np

from store.shapes import Float, Int


class StarsPath:
    """Ridge with columns that are not shrunk, for some penalties, from the inner products of rated rows.

    The weights are rows' (standardised) @ dual; `free` are the coefficients of the columns of `unshrunk`.
    """

    def __init__(
        self,
        gram: Float[np.ndarray, "n n"],
        unshrunk: Float[np.ndarray, "n n_free"],
        alphas: Float[np.ndarray, " n_alphas"],
    ) -> None:
        values, self._vectors = np.linalg.eigh(gram)
        self._alphas = np.asarray(alphas, np.float64)
        self._shrink = 1.0 / (np.maximum(values, 0.0)[:, None] + self._alphas)
        self._free = self._vectors.T @ unshrunk
        inner = np.einsum("if,ia,ig->afg", self._free, self._shrink, self._free)
        self._inner = np.linalg.pinv(inner, hermitian=True)
        on_free = self._vectors @ (self._shrink.T[:, :, None] * self._free)  # C B: penalties, n, free
        taken = np.einsum("anf,afg,ang->na", on_free, self._inner, on_free)
        self._diagonal = (self._vectors**2) @ self._shrink - taken

    def left_out(self, y: Float[np.ndarray, "n n_columns"]) -> Float[np.ndarray, "n_columns n_alphas n"]:
        """Each observation less what all others predict, column by column and penalty by penalty; NaN where
        nothing is left of an observation, so that it alone determines what is not shrunk."""
        turned = self._vectors.T @ y
        free = self._solve_free(turned)
        rest = turned.T[:, None, :] - np.einsum("if,baf->bai", self._free, free)
        dual = (rest * self._shrink.T) @ self._vectors.T
        with np.errstate(divide="ignore", invalid="ignore"):
            is_left = self._diagonal * self._alphas > 1e-9
            return np.asarray(np.where(is_left.T, dual / self._diagonal.T, np.nan))

    def choose(self, y: Float[np.ndarray, "n n_columns"]) -> Int[np.ndarray, " n_columns"]:
        """Place of the penalty that predicts left-out observations best, for each column."""
        return np.asarray(np.argmin(self.errors(y), axis=1))

    def errors(self, y: Float[np.ndarray, "n n_columns"]) -> Float[np.ndarray, "n_columns n_alphas"]:
        """Mean squared error on left-out observations; infinite where none can be left out."""
        squares = self.left_out(y) ** 2
        is_known = np.isfinite(squares)
        n = is_known.sum(axis=2)
        total = np.where(is_known, squares, 0.0).sum(axis=2)
        return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.inf))

    def fit(
        self, y: Float[np.ndarray, "n n_columns"], place: Int[np.ndarray, " n_columns"]
    ) -> tuple[Float[np.ndarray, "n n_columns"], Float[np.ndarray, "n_free n_columns"]]:
        """Dual and unshrunk coefficients of each column with its own penalty."""
        turned = self._vectors.T @ y
        shrink = self._shrink[:, place]
        wanted = np.einsum("if,ib->bf", self._free, shrink * turned)
        free = np.einsum("bfg,bg->fb", self._inner[place], wanted)
        return self._vectors @ (shrink * (turned - self._free @ free)), free

    def _solve_free(self, turned: Float[np.ndarray, "n n_columns"]) -> Float[np.ndarray, "b a f"]:
        wanted = np.einsum("if,ia,ib->baf", self._free, self._shrink, turned, optimize=True)
        return np.asarray(np.einsum("afg,bag->baf", self._inner, wanted))
