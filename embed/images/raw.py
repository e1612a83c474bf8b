"""Cameras' raw files: the preview that the camera put in, where it is large enough, else half-size pixels.

LibRaw (the extra `raw`) reads them. Which of the two it is depends on the file alone, never on the backbone:
backbones that run together share a picture, and a row must not depend on its company. A preview is large
enough if its shorter edge has PREVIEW_EDGE pixels, or half of the sensor's, which is all that the other way
gives.
"""

import io
import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

PREVIEW_EDGE = 1024
PREVIEW, HALF_SIZE = "preview", "half size"

_FIRST_BYTES = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"II*\0\x10\0\0\0CR")
_CR3 = b"ftypcrx "
_SUB_IFDS, _PHOTOMETRIC, _DNG_VERSION = 0x014A, 0x0106, 0xC612
_OF_A_SENSOR = (32803, 34892)  # colour filter array, linear raw
_MAX_IFDS, _MAX_ENTRIES = 32, 1000
# LibRaw's flip to the turn that makes a picture upright.
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}


def is_raw(data: bytes) -> bool:
    """True for a camera's raw file, by its content: many are TIFF files whose own picture is a stamp."""
    if data.startswith(_FIRST_BYTES) or data[4:12] == _CR3:
        return True
    return any(
        tag == _DNG_VERSION or (tag == _PHOTOMETRIC and value in _OF_A_SENSOR) for tag, value in _tags(data)
    )


def decode_raw(
    data: bytes,
    turn: bool,
    check_size: Callable[[int, int], None],
    decode_jpeg: Callable[[bytes], Image.Image],
) -> tuple[Image.Image, str]:
    """The preview or the half-size picture, RGB of 8 bits, upright if `turn`; and which of them it is.

    `check_size(width, height)` raises for more pixels than are allowed, before they are made; `decode_jpeg`
    does for previews. Raises ImportError without the extra, ValueError for a file that LibRaw cannot read.
    """
    import rawpy

    try:
        with rawpy.RawPy() as raw:
            raw.open_buffer(io.BytesIO(data))
            sizes = raw.sizes
            check_size(sizes.raw_width, sizes.raw_height)
            image = _preview(rawpy, raw, min(sizes.width, sizes.height), decode_jpeg)
            what = HALF_SIZE if image is None else PREVIEW
            if image is None:
                pixels = raw.postprocess(half_size=True, use_camera_wb=True, user_flip=0, output_bps=8)
                image = Image.fromarray(pixels)
    except rawpy.LibRawError as error:
        text = error.args[0] if error.args else ""
        raise ValueError(text.decode("ascii", "replace") if isinstance(text, bytes) else text) from error
    # Some cameras turn the preview themselves; its shape says so.
    was_turned = sizes.flip in (5, 6) and (image.width < image.height) != (sizes.width < sizes.height)
    if turn and sizes.flip in _TURNS and not was_turned:
        image = image.transpose(_TURNS[sizes.flip])
    return image, what


def _preview(
    rawpy: Any, raw: Any, sensor_edge: int, decode_jpeg: Callable[[bytes], Image.Image]
) -> Image.Image | None:
    """The largest picture that the camera put in; None if it is too small, damaged or missing."""
    try:
        found = raw.extract_thumb()
        is_jpeg = found.format == rawpy.ThumbFormat.JPEG
        image = decode_jpeg(found.data) if is_jpeg else Image.fromarray(found.data).convert("RGB")
    except (rawpy.LibRawError, OSError, ValueError, TypeError):
        return None
    return image if min(image.size) >= min(PREVIEW_EDGE, sensor_edge // 2) else None


def _tags(data: bytes) -> Iterator[tuple[int, int]]:
    """Tag and first value of the entries of a TIFF's directories and of their subdirectories."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4], "")
    if not order or len(data) < 8:
        return
    waiting = deque(struct.unpack_from(order + "I", data, 4))
    seen = {0}
    while waiting and len(seen) <= _MAX_IFDS:
        start = waiting.popleft()
        if start in seen or start + 2 > len(data):
            continue
        seen.add(start)
        (n_entries,) = struct.unpack_from(order + "H", data, start)
        end = start + 2 + 12 * n_entries
        if n_entries > _MAX_ENTRIES or end > len(data):
            continue
        for at in range(start + 2, end, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", data, at)
            if tag == _SUB_IFDS:
                at_values = at + 8 if count == 1 else struct.unpack_from(order + "I", data, at + 8)[0]
                count = min(count, _MAX_IFDS)
                if at_values + 4 * count <= len(data):
                    waiting.extend(struct.unpack_from(f"{order}{count}I", data, at_values))
            yield tag, struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 8)[0]
        if end + 4 <= len(data):
            waiting.extend(struct.unpack_from(order + "I", data, end))
