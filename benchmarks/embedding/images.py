"""Photographs of AVA's size and byte count, made from others or rendered: what the benchmarks read."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from embed.images.datasets import ImageTable

#: (width, height) as they are common in AVA; a photograph there has about 125 KB.
SIZES = ((640, 480), (640, 427), (800, 533), (800, 600), (480, 640), (427, 640), (640, 640), (600, 800))
QUALITY = 90
GRAIN = 7
N_RENDERED = 200


def make_photographs(folder: Path, n: int, source: Path | None) -> None:
    """`n` different JPEGs `0000.jpg`, ... in `folder`, in AVA's sizes with grain; those there are kept."""
    sources = sorted(source.rglob("*.jpg")) if source else []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        file = folder / f"{i:04d}.jpg"
        if file.exists():
            continue
        rng = np.random.default_rng(i)
        width, height = SIZES[i % len(SIZES)]
        if sources:
            with Image.open(sources[i % len(sources)]) as photograph:
                image = ImageOps.fit(photograph.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
            if (i // len(sources)) % 2:
                image = ImageOps.mirror(image)
            pixels = np.asarray(image, np.int16)
        else:
            pixels = _rendered(width, height, i % N_RENDERED)
        grainy = pixels + rng.integers(-GRAIN, GRAIN + 1, (height, width, 1), dtype=np.int16)
        partial = file.with_suffix(".partial")
        Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8)).save(
            partial, "JPEG", quality=QUALITY, subsampling="4:2:0"
        )
        partial.rename(file)


def photograph_table(folder: Path, n: int) -> ImageTable:
    """The first `n` photographs of a folder as a data set; their bytes are read once, into the page cache."""
    names = [f"{i:04d}.jpg" for i in range(n)]
    for name in names:
        (folder / name).read_bytes()
    ids = np.array([name[:-4] for name in names])
    return ImageTable("benchmark", folder, ids, np.array(names))


def linked_table(table: ImageTable, folder: Path, n: int) -> ImageTable:
    """`n` rows that are hard links to a table's files in turn: many images, few bytes on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:06d}.jpg" for i in range(n)]
    for i, name in enumerate(names):
        if not (folder / name).exists():
            (folder / name).hardlink_to(table.absolute(i % len(table)))
    ids = np.array([name[:-4] for name in names])
    return ImageTable("benchmark", folder, ids, np.array(names))


def _rendered(width: int, height: int, seed: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (7 + 5 * c + seed % 13) + c) * np.cos(y / (9 + seed % 11 + 3 * c)) for c in range(3)]
    return (128 + 90 * np.stack(waves, axis=2)).astype(np.int16)
