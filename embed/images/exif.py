"""The tags of EXIF: a TIFF's directory and the one of the camera, read tag by tag.

Only tags that were asked for are looked at and only so many bytes of each, so that a hostile block costs
neither time nor memory: libraries that read whole directories can be made to copy gigabytes.
"""

import struct
from collections.abc import Iterable, Iterator

Value = bytes | float
"""Text as it stands there; anything else as its first number."""

EXIF_DIRECTORY = 0x8769
_SUB_DIRECTORIES = 0x014A
_MAX_ENTRIES = 1000
_MAX_DIRECTORIES = 16
_MAX_TEXT = 256
_TEXT, _UTF8 = 2, 129
# How the kinds of values are packed, one letter per number; two are a fraction.
_FORMATS = {
    1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I",
}  # fmt: skip


def read_tags(tiff: bytes, wanted: Iterable[int]) -> dict[int, Value]:
    """The wanted tags of the first directory and of the camera's (EXIF) below it.

    Of a tag that stands in both, the first one that can be read counts. Never raises: what is damaged is left
    out.
    """
    tags = {*wanted, EXIF_DIRECTORY}
    order, start = _head(tiff)
    found = dict(_entries(tiff, order, start, tags))
    below = found.pop(EXIF_DIRECTORY, None)
    if isinstance(below, float) and below != start:
        found = {**dict(_entries(tiff, order, int(below), tags)), **found}
    found.pop(EXIF_DIRECTORY, None)
    return found


def directories(tiff: bytes, wanted: Iterable[int]) -> Iterator[dict[int, Value]]:
    """The wanted tags of each directory that holds a picture: the first, those after it and those below them.

    At most sixteen, each once.
    """
    tags = {*wanted, _SUB_DIRECTORIES}
    order, start = _head(tiff)
    waiting, seen = [start], {0}
    while waiting and len(seen) <= _MAX_DIRECTORIES:
        start = waiting.pop(0)
        if start in seen:
            continue
        seen.add(start)
        yield dict(_entries(tiff, order, start, tags))
        waiting += _below(tiff, order, start)
        waiting += _next(tiff, order, start)


def _head(tiff: bytes) -> tuple[str, int]:
    """Byte order and place of the first directory; place 0, which is none, for what is no TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    return (order, struct.unpack_from(order + "I", tiff, 4)[0]) if order and len(tiff) >= 8 else ("<", 0)


def _entries(tiff: bytes, order: str, start: int, tags: set[int]) -> Iterator[tuple[int, Value]]:
    done = set()
    for tag, kind, count, at in _raw_entries(tiff, order, start):
        if tag in tags and tag not in done and (value := _value(tiff, order, kind, count, at)) is not None:
            done.add(tag)
            yield tag, value


def _raw_entries(tiff: bytes, order: str, start: int) -> Iterator[tuple[int, int, int, int]]:
    """Tag, kind, count and place of the value field of a directory's entries, as far as it goes."""
    if start < 8 or start + 2 > len(tiff):
        return
    (n_entries,) = struct.unpack_from(order + "H", tiff, start)
    for at in range(start + 2, start + 2 + 12 * min(n_entries, _MAX_ENTRIES), 12):
        if at + 12 > len(tiff):
            return
        yield *struct.unpack_from(order + "HHI", tiff, at), at + 8


def _value(tiff: bytes, order: str, kind: int, count: int, at: int) -> Value | None:
    is_text = kind in (_TEXT, _UTF8)
    form = "B" if is_text else _FORMATS.get(kind, "")
    size = struct.calcsize(order + form)
    if not size or not count:
        return None
    if size * count > 4:
        (at,) = struct.unpack_from(order + "I", tiff, at)
    if is_text:
        return tiff[at : at + min(count, _MAX_TEXT)] if at < len(tiff) else None
    if at + size > len(tiff):
        return None
    numbers = struct.unpack_from(order + form, tiff, at)
    if len(numbers) == 1:
        return float(numbers[0])
    return numbers[0] / numbers[1] if numbers[1] else None


def _below(tiff: bytes, order: str, start: int) -> list[int]:
    for tag, kind, count, at in _raw_entries(tiff, order, start):
        if tag == _SUB_DIRECTORIES and kind in (4, 13) and count:
            count = min(count, _MAX_DIRECTORIES)
            if count > 1:
                (at,) = struct.unpack_from(order + "I", tiff, at)
            if at + 4 * count <= len(tiff):
                return list(struct.unpack_from(f"{order}{count}I", tiff, at))
    return []


def _next(tiff: bytes, order: str, start: int) -> list[int]:
    if start < 8 or start + 2 > len(tiff):
        return []
    end = start + 2 + 12 * int(struct.unpack_from(order + "H", tiff, start)[0])
    return [struct.unpack_from(order + "I", tiff, end)[0]] if end + 4 <= len(tiff) else []
