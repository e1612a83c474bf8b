"""Photographs that belong together."""

from typing import TYPE_CHECKING

import numpy as np

from iaa.library.table import Table
from store import StoreError

if TYPE_CHECKING:
    from store import Features


def exact_copies(dataset: str, features: "Features") -> Table:
    """Images whose files have the same bytes: group (from 1), image_id, SHA-256 of the file.

    Raises StoreError where the file has no hashes of its images (imported vectors).
    """
    if "source_sha256" not in features.file.arrays:
        raise StoreError(f"{features.path} has no hashes of its images, so copies cannot be told")
    hashes = [bytes(row).hex() for row in features.file.view("source_sha256")]
    known = np.array([any(character != "0" for character in text) for text in hashes], dtype=bool)
    members: dict[str, list[int]] = {}
    for row in np.flatnonzero(known).tolist():
        members.setdefault(hashes[row], []).append(row)
    found = [(text, rows) for text, rows in members.items() if len(rows) > 1]
    flat = [(number, text, row) for number, (text, rows) in enumerate(found, start=1) for row in rows]
    return Table(
        f"{dataset}: exact copies",
        {
            "group": [number for number, _, _ in flat],
            "image_id": [str(features.image_id[row]) for _, _, row in flat],
            "sha256": [text for _, text, _ in flat],
        },
    )
