"""Outputs of several backbones side by side, read as if they were one: what do they know together?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from store.digests import digest_of_json
from store.features import Features
from store.rows import Selection, align
from store.shapes import Bool, Float32


class Joint:
    """Columns of several (features, output) next to each other, joined on image_id; rows in the order of the
    first file. Read it where a feature file is read: `probes.fit_probes(joint, targets, joint.output)`.

    Its Gram matrix has those of the parts as blocks (`gram.select`). Raises StoreError if a later file lacks
    an image of the first, SchemaError for an output that is not there.
    """

    def __init__(self, parts: Sequence[tuple[Features, str]]) -> None:
        self.parts = list(parts)
        self.image_id = self.parts[0][0].image_id
        self._rows = [align(features.image_id, self.image_id) for features, _ in self.parts]
        self.backbone = " + ".join(dict.fromkeys(features.backbone for features, _ in self.parts))
        self.output = " + ".join(output for _, output in self.parts)
        widths = [features.read(output, slice(0, 0)).shape[1] for features, output in self.parts]
        self.outputs = {self.output: sum(widths)}
        self.digest = digest_of_json([[features.digest, output] for features, output in self.parts])
        self.path = Path("joint")

    def check_images(self, images: str) -> None:
        """Raise IdentityError if one of the files is of another list of images."""
        for features, _ in self.parts:
            features.check_images(images)

    @property
    def n_images(self) -> int:
        """Number of rows: the images of the first file."""
        return len(self.image_id)

    @property
    def ok(self) -> Bool[np.ndarray, " n_images"]:
        """True where every part holds features."""
        each = [features.ok[rows] for (features, _), rows in zip(self.parts, self._rows, strict=True)]
        return np.asarray(np.logical_and.reduce(each))

    def read(
        self, output: str, rows: Selection = None, unit_norm: bool = False
    ) -> Float32[np.ndarray, "n_rows dim"]:
        """Rows of all parts side by side; with `unit_norm`, each part scaled to unit length by itself."""
        if output != self.output:
            raise KeyError(f"these are {self.output!r} side by side, asked for {output!r}")
        wanted = slice(None) if rows is None else rows
        read = [
            features.read(name, at[wanted], unit_norm)
            for (features, name), at in zip(self.parts, self._rows, strict=True)
        ]
        side_by_side = np.concatenate(read, axis=1)
        side_by_side.flags.writeable = False
        return side_by_side
