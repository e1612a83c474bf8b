"""The chunks of a PNG: those that hold its pixels, apart from metadata nobody needs here."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = (b"tRNS", b"eXIf")
_HEAD = struct.Struct(">I4s")


def damaged_chunk(data: bytes) -> str:
    """Name of the first chunk with pixels whose check sum is wrong, '' if there is none: Pillow looks at the
    sums of other chunks only."""
    return next((kind.decode("ascii", "replace") for kind, _, is_whole in _chunks(data) if not is_whole), "")


def pixel_chunks(data: bytes) -> bytes:
    """A PNG's bytes without its texts, colour profile and other metadata, none of which changes a pixel.

    Transparency and EXIF stay, unless they are damaged.
    """
    kept = [chunk for kind, chunk, is_whole in _chunks(data, _KEPT) if is_whole or _is_critical(kind)]
    return b"".join([SIGNATURE, *kept])


def _chunks(data: bytes, others: tuple[bytes, ...] = ()) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Kind, bytes and whether its sum is right, of every whole chunk with pixels and of `others`."""
    view = memoryview(data)
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length, kind = _HEAD.unpack_from(data, position)
        end = position + 12 + length
        if end > len(data):
            return
        if _is_critical(kind) or kind in others:
            yield (
                kind,
                view[position:end],
                zlib.crc32(view[position + 4 : end - 4]) == int.from_bytes(view[end - 4 : end]),
            )
        if kind == b"IEND":
            return
        position = end


def _is_critical(kind: bytes) -> bool:
    return not kind[0] & 0x20
