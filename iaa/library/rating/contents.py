"""Which bytes the photographs of a data set are now, so that ratings find them under whatever name."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iaa.library.layout import Layout
from iaa.library.opening import check_known, embedded_paths, has_photographs
from store import StoreError, open_features
from store.ratings import UNKNOWN

if TYPE_CHECKING:
    from store import Features

_N_READERS = 8


@dataclass(frozen=True)
class Contents:
    """The photographs that a data set lists now, row by row."""

    image_id: list[str]
    sha256: list[bytes]
    """Of the file's bytes; UNKNOWN where they cannot be read."""
    file: list[str]
    """Below the folder of the photographs."""


def contents_of(layout: Layout) -> Contents:
    """The photographs of a data set with their contents: by the feature files where the size of a file is
    still the one that was embedded, else its bytes are read.

    Raises DatasetError for a data set that is unknown or not to be found.
    """
    from embed.images.datasets import build_table, load_config

    check_known(layout)
    embedded = _embedded(layout)
    if not has_photographs(layout):
        ids = list(embedded)
        return Contents(ids, [embedded[name][1] for name in ids], [""] * len(ids))
    from embed.images.changes import Changes
    from embed.images.sources import RemoteSource

    table = build_table(load_config(layout.root, layout.dataset))
    is_remote = isinstance(table.source, RemoteSource)
    ids = table.image_id.tolist()
    sizes = [-1] * len(ids) if is_remote else Changes(table).now[:, 0].tolist()
    sha256 = [UNKNOWN] * len(ids)
    unread = []
    for row, name in enumerate(ids):
        size, content = embedded.get(name, (-1, UNKNOWN))
        if content != UNKNOWN and (is_remote or size == sizes[row]):
            sha256[row] = content
        elif not is_remote:
            unread.append(row)
    with ThreadPoolExecutor(_N_READERS) as pool:
        for row, content in zip(unread, pool.map(_read, map(table.absolute, unread)), strict=True):
            sha256[row] = content
    return Contents(ids, sha256, table.path.tolist())


def _read(file: object) -> bytes:
    from embed.images.decode import ImageError, read_bytes

    try:
        return hashlib.sha256(read_bytes(file)).digest()  # type: ignore[arg-type]
    except ImageError:
        return UNKNOWN


def _embedded(layout: Layout) -> dict[str, tuple[int, bytes]]:
    """Size and content of every photograph that is embedded, by its id."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in embedded_paths(layout):
        try:
            with open_features(path) as features:
                found |= dict(
                    zip(features.image_id.tolist(), zip(*stored_contents(features), strict=True), strict=True)
                )
        except StoreError:
            continue
    return found


def stored_contents(features: "Features") -> tuple[list[int], list[bytes]]:
    """Size and SHA-256 of the files behind the rows of a feature file; -1 and UNKNOWN where it has none."""
    arrays, n = features.file.arrays, features.n_images
    sizes = features.file.view("source_size").tolist() if "source_size" in arrays else [-1] * n
    if "source_sha256" not in arrays:
        return sizes, [UNKNOWN] * n
    return sizes, [bytes(row) for row in np.asarray(features.file.view("source_sha256"))]
