"""What one person said, as arrays: stars of rows, and comparisons of two."""

from dataclasses import dataclass, field

import numpy as np

from store.shapes import Bool, Float, Int


def _none(kind: type) -> np.ndarray:
    return np.zeros(0, kind)


@dataclass(frozen=True)
class Opinions:
    """Stars and comparisons of the rows of a matrix of features. Raises ValueError for arrays that do not fit
    together, and for a row that has stars twice."""

    row: Int[np.ndarray, " n_stars"] = field(default_factory=lambda: _none(int))
    stars: Float[np.ndarray, " n_stars"] = field(default_factory=lambda: _none(float))
    """On any scale; the higher the better."""
    first: Int[np.ndarray, " n_pairs"] = field(default_factory=lambda: _none(int))
    second: Int[np.ndarray, " n_pairs"] = field(default_factory=lambda: _none(int))
    outcome: Float[np.ndarray, " n_pairs"] = field(default_factory=lambda: _none(float))
    """1 where the first is better, 0 where the second is, 0.5 where they are equal."""

    def __post_init__(self) -> None:
        if (
            len(self.row) != len(self.stars)
            or len({len(self.first), len(self.second), len(self.outcome)}) > 1
        ):
            raise ValueError("rows, stars and pairs have different lengths")
        if len(np.unique(self.row)) != len(self.row):
            raise ValueError("a row has stars twice")
        if not np.isfinite(self.stars).all() or not np.isin(self.outcome, (0.0, 0.5, 1.0)).all():
            raise ValueError("stars are finite numbers, outcomes are 0, 0.5 or 1")

    @property
    def n_stars(self) -> int:
        """How many photographs have stars."""
        return len(self.row)

    @property
    def n_pairs(self) -> int:
        """How many comparisons there are."""
        return len(self.first)

    def __len__(self) -> int:
        return self.n_stars + self.n_pairs

    @property
    def rows(self) -> Int[np.ndarray, " n_rows"]:
        """Every row that something is said about, once, ascending."""
        return np.unique(np.concatenate([self.row, self.first, self.second]).astype(int))

    def take(self, stars: Bool[np.ndarray, " n_stars"], pairs: Bool[np.ndarray, " n_pairs"]) -> "Opinions":
        """Some of them."""
        return Opinions(
            self.row[stars], self.stars[stars], self.first[pairs], self.second[pairs], self.outcome[pairs]
        )
