"""Painted pictures as PNG files that say how they were made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from embed.painting.errors import PaintingError
from store.durable import whole_file
from store.shapes import UInt8

KEY = "iaa paint"
"""Keyword of the text chunk with the settings, one JSON object."""

def write_painting(path: Path, pixels: UInt8[np.ndarray, "h w 3"], about: dict[str, Any]) -> None:
    """Write a PNG with what is said about it, complete or not at all. Raises SpaceError."""
    notes = PngInfo()
    notes.add_itxt(KEY, json.dumps(about, sort_keys=True))
    with whole_file(path) as partial:
        Image.fromarray(pixels).save(partial, "PNG", pnginfo=notes)


def read_painting(path: Path) -> tuple[UInt8[np.ndarray, "h w 3"], dict[str, Any]]:
    """The pixels of a painted picture and what is said about it.

    Raises PaintingError for a file that is no PNG or has no settings of a painting inside.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            pixels = np.asarray(image.convert("RGB"))
            text = getattr(image, "text", {}).get(KEY)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PaintingError(f"{path}: no PNG that can be read: {error}") from error
    try:
        about = json.loads(text) if text is not None else None
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise PaintingError(
            f"{path}: a PNG without the settings of a painting (no {KEY!r} inside): not painted here, or "
            "saved again by another program"
        )
    return pixels, about
