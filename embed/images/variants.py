"""Photographs and their altered versions as one list of images, which goes through backbones like any other.

A variant is no file: its bytes are an uncompressed picture (PPM) made in memory from the decoded
photograph, so that its SHA-256 is that of its pixels. A photograph that cannot be read costs one failed
row per variant.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from embed.images import turbo
from embed.images.alterations import ALTERATIONS, VERSION, alter
from embed.images.decode import MAX_PIXELS, ImageError, decode_image, read_bytes
from embed.images.sources import ImageFile
from embed.images.table import ImageTable
from store.digests import digest_of_strings
from store.shapes import Int, UInt8

MAX_SIDE = 1024
"""Larger photographs are reduced to this before they are altered: no backbone sees more, and it takes
seconds."""
UNCHANGED = "unchanged"
_PHOTOGRAPHS_KEPT = 8


@dataclass(frozen=True)
class Variant:
    """One photograph at one strength of one family; '' for the photograph as it is. It can be read like a
    file."""

    photograph: Any
    """Its file, an ImageFile that can be hashed, as those of all sources can."""
    change: str
    strength: float
    seed: int
    exif_rotate: bool
    max_pixels: int = MAX_PIXELS

    def pixels(self) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels. Raises ImageError where the photograph cannot be read."""
        pixels = _photograph(self.photograph, self.exif_rotate, self.max_pixels)
        return alter(pixels, self.change, self.strength, self.seed) if self.change else pixels

    def read_bytes(self) -> bytes:
        """The pixels as a PPM file. Raises ImageError where the photograph cannot be read."""
        pixels = self.pixels()
        return b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()

    def size_and_time(self) -> tuple[int, int]:
        """Nothing that a look at the disk could tell: the list itself names what the photographs hold."""
        return -1, 0


@functools.lru_cache(_PHOTOGRAPHS_KEPT)
def _photograph(file: Any, exif_rotate: bool, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    """A photograph decoded as the pipeline does, reduced to MAX_SIDE; kept while its variants are made."""
    data = read_bytes(file)
    pixels = turbo.decode_jpeg(data, exif_rotate, max_pixels)
    image = decode_image(data, exif_rotate, max_pixels) if pixels is None else Image.fromarray(pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    found: np.ndarray = np.asarray(image, np.uint8)
    found.flags.writeable = False
    return found


@dataclass(frozen=True)
class VariantSource:
    """Where variants are read from: the photographs of another list."""

    location: str
    variants: Mapping[str, Variant]
    notes: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        return list(self.variants)

    def at(self, path: str) -> Variant:
        return self.variants[path]


def choose_photographs(table: ImageTable, n_photographs: int) -> Int[np.ndarray, " n_chosen"]:
    """Rows of the photographs to alter, ascending: of the test images, which no probe has learned from, where
    there are any, and drawn by a hash of their ids, so that added photographs move few."""
    of_test = np.flatnonzero(table.split == "test")
    rows = of_test if len(of_test) else np.arange(len(table))
    drawn = [
        hashlib.sha256(str(name).encode("utf-8", "surrogateescape")).digest() for name in table.image_id[rows]
    ]
    order = sorted(range(len(rows)), key=drawn.__getitem__)
    return np.sort(rows[order[:n_photographs]])


def list_variants(
    table: ImageTable,
    rows: Sequence[int] | Int[np.ndarray, " n_chosen"],
    changes: Sequence[str],
    exif_rotate: bool,
    on_read: Callable[[int], Any] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> ImageTable:
    """The list of the chosen photographs and their variants, photograph by photograph: first as it is, then
    family by family from the least strength to the greatest.

    Columns: `photograph` (its id), `change` ('' for unchanged), `strength` (NaN for unchanged). `made`
    says how they come about and what the photographs' files hold, which are read and hashed once
    (`on_read(1)` each); it is part of the identity of what is embedded.
    """
    steps = [("", float("nan")), *((name, s) for name in changes for s in ALTERATIONS[name].strengths)]
    ids: list[str] = []
    variants: dict[str, Variant] = {}
    hashes = []
    for row in map(int, rows):
        name, path, file = str(table.image_id[row]), str(table.path[row]), table.absolute(row)
        hashes.append(_sha256(file))
        if on_read is not None:
            on_read(1)
        seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big")
        for change, strength in steps:
            step = f"{change}{strength:+g}" if change else UNCHANGED
            ids.append(f"{step}/{name}")
            variants[f"{step}/{path}"] = Variant(file, change, strength, seed, exif_rotate, max_pixels)
    rows = np.asarray(rows, np.int64)
    n_photographs, n_steps = len(rows), len(steps)
    photographs = table.image_id[rows]
    made: dict[str, Any] = {
        "version": VERSION,
        "max_side": MAX_SIDE,
        "changes": {name: list(ALTERATIONS[name].strengths) for name in changes},
        "unchanged_at": {name: ALTERATIONS[name].identity for name in changes},
        "n_photographs": n_photographs,
        "photographs": digest_of_strings(photographs, np.array(hashes)),
    }
    return ImageTable(
        dataset=table.dataset,
        root=Path(),
        image_id=np.array(ids),
        path=np.array(list(variants)),
        split=np.repeat(table.split[rows], n_steps),
        split_name=table.split_name,
        threshold=table.threshold,
        columns={
            "photograph": np.repeat(photographs, n_steps),
            "change": np.tile(np.array([change for change, _ in steps]), n_photographs),
            "strength": np.tile(np.array([strength for _, strength in steps]), n_photographs),
        },
        source=VariantSource(table.location, variants),
        made=made,
    )


def _sha256(file: ImageFile) -> str:
    try:
        return hashlib.sha256(read_bytes(file)).hexdigest()
    except ImageError as error:
        return f"not read: {error}"
