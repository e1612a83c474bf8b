"""Photographs for people to see, in processes apart: thumbnails, pictures that fit a screen, and headers."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from store.looks import Look

MAX_PIXELS = 200_000_000
_QUALITY = 90
_SHOWN = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif"}
"""How formats begin that every browser shows, and what they are called."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture and its media type; without data, why there is none."""

    data: bytes
    media_type: str = ""
    problem: str = ""


def look_at_file(file: Any, is_quick: bool = True) -> "Look":
    """The look of a file; never raises for a bad one. sha256 is b"" where it cannot be read."""
    from embed.images.decode import ImageError, read_bytes
    from embed.images.thumbnails import look_at_bytes
    from store.looks import Look

    try:
        return look_at_bytes(read_bytes(file), MAX_PIXELS, is_quick)
    except ImageError as error:
        return Look(b"", problem=str(error))


def headers_of(files: list[Any]) -> list[tuple[int, int, float | None]]:
    """(width, height, capture time) of files by their headers; zeros and None where they say nothing."""
    from embed.images.decode import ImageError
    from embed.images.facts import read_file_facts

    found: list[tuple[int, int, float | None]] = []
    for file in files:
        try:
            facts = read_file_facts(file)
        except ImageError:
            found.append((0, 0, None))
        else:
            found.append((facts.width, facts.height, facts.taken))
    return found


def small_grey(jpeg: bytes, edge: int) -> "np.ndarray":
    """A thumbnail in grey with a long edge of so many pixels, float32."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        scale = edge / max(image.size)
        size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
        return np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.float32)


def look_at_data(data: bytes, max_pixels: int) -> "Look":
    """The look of bytes that somebody sent."""
    from embed.images.thumbnails import look_at_bytes

    return look_at_bytes(data, max_pixels)


def media_type(data: bytes) -> str:
    """The media type of bytes that every browser shows as they are; '' for others."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((name for start, name in _SHOWN.items() if data.startswith(start)), "")


def picture(file: Any, edge: int, max_pixels: int = MAX_PIXELS) -> Picture:
    """A file's picture, upright, as a JPEG with a long edge of at most `edge` pixels; with 0 at its full
    size, as it lies there if every browser can show it."""
    from PIL.Image import Resampling

    from embed.images.decode import ImageError, decode_image, read_bytes

    try:
        data = read_bytes(file)
        kind = media_type(data)
        if not edge and kind:
            return Picture(data, kind)
        image = decode_image(data, True, max_pixels)
        profile = image.info.get("icc_profile") or b""
        if edge and max(image.size) > edge:
            image.thumbnail((edge, edge), Resampling.LANCZOS, reducing_gap=3.0)
        buffer = io.BytesIO()
        keep = profile if profile[16:20] == b"RGB " else None
        image.save(buffer, "JPEG", quality=_QUALITY, icc_profile=keep)
        return Picture(buffer.getvalue(), "image/jpeg")
    except ImageError as error:
        return Picture(b"", problem=str(error))
    except Exception as error:  # whatever it is, it costs this picture alone
        return Picture(b"", problem=f"cannot be shown: {type(error).__name__} {error}".rstrip())
