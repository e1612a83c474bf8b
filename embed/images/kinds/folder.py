"""Photographs without ratings: a folder, its tar files, or a URL."""

from collections import Counter

import numpy as np

from embed.images.config import DatasetConfig, Kind
from embed.images.errors import DatasetError
from embed.images.files import IMAGE_SUFFIXES, counted, natural_key
from embed.images.kinds.shared import IMAGES, exif
from embed.images.sources import Source
from embed.images.table import ImageTable


def build(config: DatasetConfig, source: Source) -> ImageTable:
    """Every image, called by its path, in natural order."""
    files = sorted(source.files, key=natural_key)
    if not files:
        others = f". Passed over: {counted(Counter(source.passed_over))}" if source.passed_over else ""
        raise DatasetError(
            f"{source.location} holds no images (looked for {', '.join(IMAGE_SUFFIXES)}, also in subfolders, "
            f"hidden files left out){others}"
        )
    paths = np.array(files, dtype=str)
    return ImageTable(config.name, config.folder, paths, paths)


KIND = Kind(
    {**IMAGES, "exif_rotate": exif("true")}, build, "photographs without ratings", exif_rotate=True
)
