"""Scores of many people, a row per (photograph, rater, score), as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.evidence.metrics import srcc
from store.raters import StoredRaters
from store.shapes import Float, Int


@dataclass(frozen=True)
class Raters:
    """What many people said, in the order in which they said it; a photograph that a person scored several
    times has several rows. Raises ValueError for arrays that do not fit together."""

    names: tuple[str, ...]
    person: Int[np.ndarray, " n_said"]
    """Place of the person among the names."""
    row: Int[np.ndarray, " n_said"]
    """Row of the photograph in the matrix of features."""
    score: Float[np.ndarray, " n_said"]
    """On any scale that all share; the higher the better."""

    def __post_init__(self) -> None:
        if len({len(self.person), len(self.row), len(self.score)}) > 1:
            raise ValueError("person, row and score have different lengths")
        if len(self.person) and not (self.person.min() >= 0 and self.person.max() < len(self.names)):
            raise ValueError(f"people are numbered 0 to {len(self.names) - 1}")
        if not np.isfinite(self.score).all():
            raise ValueError("scores are finite numbers")

    def take(self, is_kept: np.ndarray) -> "Raters":
        """Some of the rows."""
        return Raters(self.names, self.person[is_kept], self.row[is_kept], self.score[is_kept])


@dataclass(frozen=True)
class Person:
    """One person's scores: each photograph once, the mean where she scored it several times."""

    name: str
    row: Int[np.ndarray, " n_rated"]
    """Ascending."""
    score: Float[np.ndarray, " n_rated"]
    n_repeated: int
    """Photographs that she scored more than once."""
    repeat: float
    """SRCC of her first scores with her last ones, on those; NaN for fewer than FEWEST_REPEATED."""


FEWEST_REPEATED = 10


def raters_on(stored: StoredRaters, image_id: np.ndarray) -> Raters:
    """A file's scores on the rows of a matrix of features, joined by id; photographs that it has not are
    left out."""
    place = {name: row for row, name in enumerate(image_id.tolist())}
    rows = np.array([place.get(name, -1) for name in stored.image_id.tolist()], dtype=int)
    row = rows[stored.image]
    names = tuple(stored.name.tolist())
    return Raters(names, np.asarray(stored.person), row, np.asarray(stored.score)).take(row >= 0)


def people_of(raters: Raters, n_images: int) -> list[Person]:
    """Everybody, in the order of the names."""
    order = np.lexsort((raters.row, raters.person))  # stable: of one photograph the first stays first
    row, score = raters.row[order], raters.score[order]
    bounds = np.searchsorted(raters.person[order], np.arange(len(raters.names) + 1))
    found = []
    for name, start, stop in zip(raters.names, bounds[:-1], bounds[1:], strict=True):
        of_person, said = row[start:stop], score[start:stop]
        if len(of_person) and not (of_person[0] >= 0 and of_person[-1] < n_images):
            rows_of = f"{of_person[0]} to {of_person[-1]}"
            raise ValueError(f"{name} scored rows {rows_of} of {n_images} photographs")
        rows, first, count = np.unique(of_person, return_index=True, return_counts=True)
        mean = np.add.reduceat(said, first) / count if len(rows) else said
        again = count > 1
        repeat = float("nan")
        if again.sum() >= FEWEST_REPEATED:
            repeat = srcc(said[first[again]], said[(first + count - 1)[again]])
        found.append(Person(name, rows, mean, int(again.sum()), repeat))
    return found


def total_of(people: Sequence[Person], n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the people's scores of each photograph, and how many people scored it."""
    total, n = np.zeros(n_images), np.zeros(n_images)
    for person in people:
        total[person.row] += person.score
        n[person.row] += 1
    return total, n
