"""The library's features as a person's taste is learned from them, and inner products of the rated rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from store.shapes import Float, Int

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each feature over the whole library, rated or not: ten ratings would
    not tell them."""

    mean: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"]
    """1 where a feature does not vary."""

    def apply(self, rows: Float[np.ndarray, "n_rows dim"]) -> Float[np.ndarray, "n_rows dim"]:
        """Standardised rows, float64."""
        return np.asarray((rows - self.mean) / self.scale, dtype=np.float64)


def scaling_of(features: Float[np.ndarray, "n_images dim"]) -> Scaling:
    """The scaling of a library; rows that are not finite (failed photographs) take no part.

    Raises ValueError where no row is finite.
    """
    n, total, squares = 0, np.zeros(features.shape[1]), np.zeros(features.shape[1])
    shift: np.ndarray | None = None
    for start in range(0, len(features), _ROWS_AT_ONCE):
        rows = np.asarray(features[start : start + _ROWS_AT_ONCE], np.float64)
        rows = rows[np.isfinite(rows).all(axis=1)]
        if not len(rows):
            continue
        shift = rows[0] if shift is None else shift
        away = rows - shift
        n, total, squares = n + len(rows), total + away.sum(axis=0), squares + (away**2).sum(axis=0)
    if shift is None:
        raise ValueError("no photograph has features")
    deviation = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))
    # Below this it is the rounding of float32 of a feature that does not vary.
    is_varying = deviation > 1e-6 * np.maximum(np.abs(shift + total / n), 1e-12)
    return Scaling(shift + total / n, np.where(is_varying, deviation, 1.0))


class Gram:
    """Inner products of standardised rows, each computed once: one rating more costs one row of them."""

    def __init__(self, features: Float[np.ndarray, "n_images dim"], scaling: Scaling) -> None:
        self.features, self.scaling = features, scaling
        self._place: dict[int, int] = {}
        self._rows = np.zeros((0, features.shape[1]))
        self._gram = np.zeros((0, 0))

    def rows(self, wanted: Int[np.ndarray, " n_wanted"]) -> Float[np.ndarray, "n_wanted dim"]:
        """Standardised rows."""
        places = self._places(wanted)  # which may make room for more
        return np.asarray(self._rows[places])

    def of(self, wanted: Int[np.ndarray, " n_wanted"]) -> Float[np.ndarray, "n_wanted n_wanted"]:
        """Their inner products."""
        places = self._places(wanted)
        if np.array_equal(places, np.arange(len(self._gram))):
            return self._gram
        return np.asarray(self._gram[np.ix_(places, places)])

    def _places(self, wanted: Int[np.ndarray, " n_wanted"]) -> Int[np.ndarray, " n_wanted"]:
        asked: Sequence[int] = wanted.tolist()
        new = [row for row in dict.fromkeys(asked) if row not in self._place]
        if new:
            rows = self.scaling.apply(np.asarray(self.features[np.array(new)], np.float64))
            across = self._rows @ rows.T
            self._gram = np.block([[self._gram, across], [across.T, rows @ rows.T]])
            self._rows = np.concatenate([self._rows, rows])
            known = len(self._place)
            self._place.update((row, known + at) for at, row in enumerate(new))
        return np.array([self._place[row] for row in asked], dtype=int)
