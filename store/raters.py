"""Scores of many people in one file, a row per (photograph, rater, score), for who reads files alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from store.errors import SchemaError
from store.sealed import SealedFile, write_sealed
from store.shapes import Float64, Int64

RATERS_SCHEMA = "iaa/raters"


@dataclass(frozen=True)
class StoredRaters:
    """What the file says; arrays are read-only."""

    image_id: np.ndarray
    name: np.ndarray
    person: Int64[np.ndarray, " n_said"]
    """Place among the names."""
    image: Int64[np.ndarray, " n_said"]
    """Place among the image ids."""
    score: Float64[np.ndarray, " n_said"]
    source: str
    """Where the scores come from."""


def write_raters(path: Path, raters: StoredRaters) -> str:
    """Write the file, whole or not at all; its digest."""
    arrays = {"image_id": raters.image_id, "name": raters.name, "person": raters.person}
    arrays |= {"image": raters.image, "score": raters.score}
    return write_sealed(path, RATERS_SCHEMA, {"source": raters.source}, {}, arrays)


def open_raters(path: Path) -> StoredRaters:
    """Read and check the file. Raises MissingFileError, SchemaError or IntegrityError."""
    with SealedFile(path, RATERS_SCHEMA) as file:
        expected = {"image_id", "name", "person", "image", "score"}
        if set(file.arrays) != expected:
            raise SchemaError(f"{path} has {sorted(file.arrays)}, expected {sorted(expected)}. Make it again")
        return StoredRaters(
            file.strings("image_id"), file.strings("name"), file.view("person"), file.view("image"),
            file.view("score"), str(file.identity["source"]),
        )  # fmt: skip
