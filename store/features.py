"""Feature files: one row per image of the table, one matrix per output of a backbone."""

import enum
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from store.arrays import Arrays, Reader
from store.digests import piece_bounds
from store.errors import IdentityError, SchemaError, did_you_mean, hinting
from store.identity import check_identity
from store.rows import Selection, read_rows
from store.shapes import Bool, Float32, UInt8
from store.shards import FEATURES_SCHEMA, open_arrays

__all__ = ["FEATURES_SCHEMA", "Features", "Status", "open_features"]


class Status(enum.IntEnum):
    """State of a row."""

    PENDING = 0
    OK = 1
    FAILED = 2


class Features(Reader):
    """An open feature file. Arrays are read-only; a failed row is NaN and has a reason in `failures`."""

    def __init__(self, file: Arrays) -> None:
        file.require_identity(backbone=str)
        file.require("image_id", "S", (None,))
        n_images = file.arrays["image_id"][0][0]
        file.require("status", "u", (n_images,))
        file.require("failures/row", "i", (None,))
        file.require("failures/reason", "S", file.arrays["failures/row"][0])
        for name in file.arrays:
            if name.startswith("outputs/"):
                file.require(name, "f", (n_images, None))
            elif name == "source_sha256":
                file.require(name, "u", (n_images, 32))
            elif name == "source_size":
                file.require(name, "i", (n_images,))
        self.file = file
        self.path = file.path
        self.status: UInt8[np.ndarray, " n_images"] = file.view("status").copy()  # so that close() lets go
        self.status.flags.writeable = False
        reasons = file.strings("failures/reason").tolist()
        self.failures: dict[int, str] = dict(zip(file.view("failures/row").tolist(), reasons, strict=True))
        self.outputs: dict[str, int] = {
            name.removeprefix("outputs/"): shape[1]
            for name, (shape, _) in file.arrays.items()
            if name.startswith("outputs/")
        }
        if set(self.failures) != set(np.flatnonzero(self.status == Status.FAILED).tolist()):
            raise SchemaError(f"{file.path}: rows marked failed and recorded failures differ")

    @cached_property
    def image_id(self) -> np.ndarray:
        """Name of each row's image; decoded when it is first asked for."""
        return self.file.strings("image_id")

    @property
    def n_images(self) -> int:
        """Number of rows: the number of images in the table, failed ones included."""
        return len(self.status)

    @property
    def ok(self) -> Bool[np.ndarray, " n_images"]:
        """True where a row holds features."""
        return np.asarray(self.status == Status.OK)

    @property
    def identity(self) -> dict[str, Any]:
        """The combination the file was made from."""
        return self.file.identity

    @property
    def provenance(self) -> dict[str, Any]:
        """What was really loaded and used."""
        return self.file.provenance

    @property
    def digest(self) -> str:
        """Content digest, 64 hex characters."""
        return self.file.digest

    @property
    def backbone(self) -> str:
        """Backbone id, such as `vit_b32.openai`."""
        return str(self.identity["backbone"])

    def check_images(self, images: str) -> None:
        """Raise IdentityError if the rows are of another list of images than that of this digest.

        Ids may be equal and mean other files, so no join may go by ids alone. '' on either side is not known.
        """
        own = str(self.identity.get("images", ""))
        if own and images and own != images:
            is_imported = self.identity.get("weights_sha256") == "imported"
            error = IdentityError(
                f"{self.path} was made from another list of images ({self.n_images:,} rows) than the data "
                "set has now: photographs were added, removed, renamed or given other ids since. "
                + ("Import the vectors again" if is_imported else "Update it: all others keep their rows")
            )
            if is_imported:
                raise hinting(error, "iaa import --overwrite")
            call = f"iaa.open_dataset(NAME).embed({self.backbone!r}, update=True)"
            raise hinting(error, f"iaa embed --update --backbone {self.backbone} --dataset NAME", call)

    def read(
        self, output: str, rows: Selection = None, unit_norm: bool = False
    ) -> Float32[np.ndarray, "n_rows dim"]:
        """Rows of one output, as the backbone gave them or, if asked, scaled to unit length."""
        return read_rows(self.file, self._array(output), rows, unit_norm)

    def blocks(
        self, output: str, unit_norm: bool = False
    ) -> Iterator[tuple[int, Float32[np.ndarray, "n_rows dim"]]]:
        """(first row, rows) of consecutive blocks, or of less where rows are long, for passes in bounded
        memory."""
        for start, stop in piece_bounds(self.n_images, 4 * self.outputs.get(output, 1)):
            yield start, self.read(output, slice(start, stop), unit_norm)

    def _array(self, output: str) -> str:
        if output not in self.outputs:
            known = ", ".join(f"{name} ({dim})" for name, dim in self.outputs.items())
            near = did_you_mean(output, self.outputs)
            raise SchemaError(f"{self.path} has no output {output!r}; it has {known}" + (near and f".{near}"))
        return f"outputs/{output}"


def open_features(path: Path | str, expect: Mapping[str, Any] | None = None) -> Features:
    """Open a feature file; with `expect`, only if its identity has those values.

    Raises MissingFileError, SchemaError, IntegrityError, or IdentityError naming the fields that differ.
    """
    file = open_arrays(path, FEATURES_SCHEMA)
    if expect:
        check_identity(
            file.identity,
            expect,
            path,
            "Embed again under another backbone id or data set, or replace it: iaa embed --overwrite",
        )
    return Features(file)
