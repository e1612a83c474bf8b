"""The images of a data set as one value, whatever kind it is of, and the split and threshold of a rated one
that names none."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embed.images.errors import DatasetError
from embed.images.sources import ImageFile, RemoteSource, TarSource
from store.digests import digest_of_strings
from store.shapes import Shaped

if TYPE_CHECKING:
    from embed.images.variants import VariantSource

TEST_SHARE = 0.10


@dataclass(frozen=True)
class ImageTable:
    """The images of a data set in their order, with what people said about them."""

    dataset: str
    root: Path
    image_id: np.ndarray
    path: np.ndarray
    """POSIX path of each file below `root`."""
    votes: np.ndarray | None = None
    scores: np.ndarray | None = None
    split: np.ndarray = field(default_factory=lambda: np.array([], dtype=str))
    split_name: str = "none"
    threshold: float = 0.0
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    missing_files: list[str] = field(default_factory=list)
    """What has a label and no file: its file's name where the labels say one, else its id."""
    unlabelled_files: list[str] = field(default_factory=list)
    """Files that have no label."""
    notes: tuple[str, ...] = ()
    """What else was noticed while building, one sentence each."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """How many files at that place are no images, by their ending."""
    source: "TarSource | RemoteSource | VariantSource | None" = None
    """Where the files are read from, if that is no folder."""
    made: Mapping[str, Any] = field(default_factory=dict)
    """How images come about that are no files (embed.images.variants); part of what identifies their rows."""

    def __post_init__(self) -> None:
        n = len(self.image_id)
        if n and len(self.split) == 0:
            object.__setattr__(self, "split", np.full(n, "", dtype="U5"))
        arrays = {"path": self.path, "split": self.split, **self.columns}
        arrays |= {k: v for k in ("votes", "scores") if (v := getattr(self, k)) is not None}
        if wrong := {name: len(values) for name, values in arrays.items() if len(values) != n}:
            raise DatasetError(f"{self.dataset}: {n} image ids, but other lengths: {wrong}")
        ids = self.image_id.tolist()
        if len(set(ids)) != n:
            twice = next(i for i, count in Counter(ids).items() if count > 1)
            raise DatasetError(f"{self.dataset}: two images have the id {twice!r}; ids must be unique")

    def __len__(self) -> int:
        return len(self.image_id)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over (image_id, path) rows; votes may change without a new embedding."""
        return digest_of_strings(self.image_id, self.path)

    @property
    def location(self) -> str:
        """Folder, tar files or URL of the images, for people."""
        return str(self.root) if self.source is None else self.source.location

    def absolute(self, row: int) -> ImageFile:
        """File of one image: a path, or whatever else can be read."""
        path = str(self.path[row])
        return self.root / path if self.source is None else self.source.at(path)


def hash_split(
    image_id: np.ndarray, test_share: float = TEST_SHARE, seed: int = 0
) -> Shaped[np.ndarray, " n_images"]:
    """'test' for about `test_share` of the images, by a hash of each id alone: adding images moves none.

    Seed 0 hashes the bare id, another seed "seed:id".
    """
    limit = int(test_share * 2**64)
    prefix = f"{seed}:" if seed else ""
    names = ((prefix + str(i)).encode("utf-8", "surrogateescape") for i in image_id.tolist())
    drawn = (int.from_bytes(hashlib.sha256(name).digest()[:8], "big") < limit for name in names)
    return np.array(["test" if is_test else "train" for is_test in drawn], dtype="U5")


def default_threshold(n_levels: int) -> float:
    """The middle vote below which an image is not high: 5 for 1..10 (the paper), 4 for 1..7."""
    return float((n_levels + 1) // 2)
