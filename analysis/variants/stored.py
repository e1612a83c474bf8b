"""Stored variants: which row of a feature file is which photograph at which strength of which alteration."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from store import IdentityError, open_features, open_targets
from store.derived import load_derived
from store.errors import hinting
from store.features import Features
from store.rows import align
from store.shapes import Bool, Float, Int, UInt8
from store.targets import Targets

FOLDER = "style"
"""Folder of the variants below a data set's folder."""
SAME = ("backbone", "weights_sha256", "outputs")


@dataclass(frozen=True)
class Family:
    """The photographs that have a row at every strength of one alteration, the unchanged one among them."""

    change: str
    strengths: Float[np.ndarray, " n_steps"]
    """Ascending."""
    rows: Int[np.ndarray, "n_photographs n_steps"]
    photographs: Int[np.ndarray, " n_photographs"]
    """Their numbers in `Variants.photograph_id`."""
    n_left_out: int
    """Photographs of which a row failed."""
    at_rest: int
    """Step at which nothing is changed."""


@dataclass(frozen=True)
class Variants:
    """The rows of one backbone's variants, joined to what each of them is."""

    features: Features
    photograph_id: np.ndarray
    """Ids of the photographs in their order, (n_photographs,)."""
    split: np.ndarray
    """Split of each photograph in the data set it is of: 'train', 'test' or ''."""
    photograph: Int[np.ndarray, " n_rows"]
    change: np.ndarray
    """Alteration of each row; '' for the photograph as it is."""
    strength: Float[np.ndarray, " n_rows"]
    unchanged_at: dict[str, float]
    """Per alteration the strength at which nothing changes."""

    @property
    def changes(self) -> list[str]:
        """The alterations, in the order in which they were made."""
        return list(self.unchanged_at)

    @property
    def unchanged(self) -> Int[np.ndarray, " n_photographs"]:
        """Row of each photograph as it is."""
        return np.flatnonzero(self.change == "")

    @cached_property
    def ok(self) -> Bool[np.ndarray, " n_rows"]:
        """True where a row holds features."""
        return self.features.ok

    def family(self, change: str, only: Bool[np.ndarray, " n_photographs"] | None = None) -> Family:
        """One alteration as a rectangle of photographs and strengths; `only` some photographs.

        Raises ValueError for an alteration that was not made, with those that were.
        """
        if change not in self.unchanged_at:
            raise ValueError(f"no alteration {change!r}; there are: {', '.join(self.changes)}")
        strengths = np.unique(self.strength[self.change == change])
        steps = np.sort(np.append(strengths, self.unchanged_at[change]))
        rows = np.empty((len(self.photograph_id), len(steps)), np.int64)
        for column, strength in enumerate(steps):
            at = np.flatnonzero((self.change == change) & (self.strength == strength))
            at = at if len(at) else self.unchanged
            rows[self.photograph[at], column] = at
        whole = self.ok[rows].all(axis=1)
        asked = np.ones(len(rows), bool) if only is None else only
        kept = np.flatnonzero(whole & asked)
        at_rest = int(np.flatnonzero(steps == self.unchanged_at[change])[0])
        return Family(change, steps, rows[kept], kept, int((asked & ~whole).sum()), at_rest)


def variants_folder(dataset_dir: Path | str) -> Path:
    """Where the variants of a data set are kept."""
    return Path(dataset_dir) / FOLDER


def join_variants(features: Features, targets: Targets) -> Variants:
    """The rows of a feature file of variants with what each is. Raises IdentityError for those of another
    list."""
    features.check_images(targets.images)
    name = targets.columns["photograph"]
    first = np.sort(np.unique(name, return_index=True)[1])
    number = {str(name[row]): i for i, row in enumerate(first)}
    rows = align(targets.image_id, features.image_id)
    return Variants(
        features,
        name[first],
        targets.split[first],
        np.array([number[str(each)] for each in name[rows]]),
        targets.columns["change"][rows],
        np.asarray(targets.columns["strength"][rows], np.float64),
        _unchanged_at(targets),
    )


def open_variants(dataset_dir: Path | str, features: Features) -> Variants | None:
    """The variants of a data set by the backbone of its features, or None where none were made.

    Raises IdentityError where they went through other weights than the features: no probe of the one means
    anything on the other.
    """
    folder = variants_folder(dataset_dir)
    path = folder / "features" / features.path.name
    if not path.exists():
        return None
    opened = open_features(path)
    if wrong := [name for name in SAME if opened.identity.get(name) != features.identity.get(name)]:
        error = IdentityError(
            f"{path} was made by another {features.backbone} than {features.path}: {', '.join(wrong)} differ"
        )
        raise hinting(error, "iaa style --overwrite")
    return join_variants(opened, open_targets(folder / "targets.h5"))


@dataclass(frozen=True)
class Pictures:
    """Small pictures of every version of one photograph."""

    photograph_id: str
    pixels: UInt8[np.ndarray, "n_versions height width 3"]
    change: np.ndarray
    """Alteration of each version; '' for the photograph as it is."""
    strength: Float[np.ndarray, " n_versions"]
    unchanged_at: dict[str, float]


def open_pictures(dataset_dir: Path | str) -> Pictures | None:
    """The pictures that were kept with the variants of a data set, or None where there are none."""
    folder = variants_folder(dataset_dir)
    if not (folder / "targets.h5").exists():
        return None
    targets = open_targets(folder / "targets.h5")
    key = {"photographs": targets.provenance["photographs"], "images": targets.images}
    kept = load_derived(folder / "derived" / "pictures.h5", key)
    if kept is None:
        return None
    rows = slice(0, len(kept["pixels"]))
    change, strength = (targets.columns[name][rows] for name in ("change", "strength"))
    return Pictures(str(kept["photograph"][0]), kept["pixels"], change, strength, _unchanged_at(targets))


def _unchanged_at(targets: Targets) -> dict[str, float]:
    """The strength at which nothing changes, per alteration in the order in which they were made."""
    at = targets.provenance["unchanged_at"]
    return {
        str(name): float(at[str(name)]) for name in dict.fromkeys(targets.columns["change"].tolist()) if name
    }
