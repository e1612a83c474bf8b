"""Target files: what people said about each image (vote counts or scores), and the split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from store.sealed import SealedFile, write_sealed
from store.shapes import Float64, Int64

TARGETS_SCHEMA = "iaa/targets"


@dataclass(frozen=True)
class Targets:
    """Votes or scores per image, in the order of the image table; arrays are read-only."""

    image_id: np.ndarray
    path: np.ndarray
    """File of each image, relative to the data set's image folder."""
    votes: Int64[np.ndarray, "n_images n_levels"] | None
    scores: Float64[np.ndarray, " n_images"] | None
    levels: Int64[np.ndarray, " n_levels"] | None
    threshold: float
    """An image is high if its mean vote lies strictly above this."""
    split: np.ndarray
    """'train', 'test' or '' per image."""
    split_name: str
    dataset: str
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    images: str = ""
    """Digest of the list of images, as in the identity of features; '' where it is not known."""
    digest: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.image_id)

    @property
    def is_rated(self) -> bool:
        """True if there are votes or scores."""
        return self.votes is not None or self.scores is not None


def write_targets(
    path: Path, targets: Targets, identity: Mapping[str, Any], provenance: Mapping[str, Any], tag: str = ""
) -> str:
    """Write the target file and return its content digest."""
    arrays: dict[str, np.ndarray] = {
        "image_id": targets.image_id,
        "path": targets.path,
        "split": targets.split,
    }
    for name in ("votes", "scores", "levels"):
        if (values := getattr(targets, name)) is not None:
            arrays[name] = values
    arrays |= {f"columns/{name}": values for name, values in targets.columns.items()}
    described = {
        "dataset": targets.dataset,
        "split_name": targets.split_name,
        "threshold": targets.threshold,
    }
    return write_sealed(path, TARGETS_SCHEMA, {**identity, **described}, provenance, arrays, tag)


def images_of_targets(path: Path | str) -> str:
    """Digest of the list of images that a target file is of, by its header alone; '' where it says none."""
    with SealedFile(path, TARGETS_SCHEMA) as file:
        return str(file.identity.get("images", ""))


def open_targets(path: Path | str) -> Targets:
    """Read a target file. Raises MissingFileError, SchemaError or IntegrityError."""
    with SealedFile(path, TARGETS_SCHEMA) as file:
        _require_columns(file)
        arrays = {
            name: file.strings(name) if dtype.kind == "S" else file.view(name)
            for name, (_, dtype) in file.arrays.items()
        }
        for values in arrays.values():
            values.flags.writeable = False
        return Targets(
            image_id=arrays["image_id"],
            path=arrays["path"],
            votes=arrays.get("votes"),
            scores=arrays.get("scores"),
            levels=arrays.get("levels"),
            threshold=float(file.identity["threshold"]),
            split=arrays["split"],
            split_name=str(file.identity["split_name"]),
            dataset=str(file.identity["dataset"]),
            columns={
                name.removeprefix("columns/"): values
                for name, values in arrays.items()
                if name.startswith("columns/")
            },
            images=str(file.identity.get("images", "")),
            digest=file.digest,
            provenance=file.provenance,
        )


def _require_columns(file: SealedFile) -> None:
    """Raise SchemaError unless every column has one value, or one row, for each image."""
    file.require_identity(dataset=str, split_name=str, threshold=(int, float))
    file.require("image_id", "S", (None,))
    n_images = file.arrays["image_id"][0][0]
    for name in ("path", "split"):
        file.require(name, "S", (n_images,))
    if "votes" in file.arrays:
        file.require("levels", "iu", (None,))
        file.require("votes", "iu", (n_images, file.arrays["levels"][0][0]))
    if "scores" in file.arrays:
        file.require("scores", "f", (n_images,))
    for name in file.arrays:
        if name.startswith("columns/"):
            file.require(name, shape=(n_images,))
