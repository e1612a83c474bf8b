"""What a file says about its photograph: size, time, camera and how it was exposed; no pixel is decoded."""

import datetime
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embed.images.decode import format_name, open_image, read_bytes
from embed.images.exif import Value, directories, read_tags
from embed.images.raw import is_raw
from embed.images.sources import ImageFile

HEAD_BYTES = 2**18
"""Nearly every JPEG says all it has to say in so many bytes."""

_WIDTH, _HEIGHT, _MAKE, _MODEL, _ORIENTATION, _CHANGED = 0x0100, 0x0101, 0x010F, 0x0110, 0x0112, 0x0132
_EXPOSURE, _F_NUMBER, _ISO, _ORIGINAL, _DIGITIZED = 0x829A, 0x829D, 0x8827, 0x9003, 0x9004
_SHUTTER, _APERTURE, _BIAS, _FOCAL = 0x9201, 0x9202, 0x9204, 0x920A
_SUB_CHANGED, _SUB_ORIGINAL, _SUB_DIGITIZED = 0x9290, 0x9291, 0x9292
_PIXELS_X, _PIXELS_Y, _LENS = 0xA002, 0xA003, 0xA434
_ISO_LARGE = 0x8832
_TAGS = (
    _MAKE, _MODEL, _ORIENTATION, _CHANGED, _EXPOSURE, _F_NUMBER, _ISO, _ISO_LARGE, _ORIGINAL, _DIGITIZED,
    _SHUTTER, _APERTURE, _BIAS, _FOCAL, _SUB_CHANGED, _SUB_ORIGINAL, _SUB_DIGITIZED, _PIXELS_X, _PIXELS_Y,
    _LENS,
)  # fmt: skip
_CLOCKS = ((_ORIGINAL, _SUB_ORIGINAL), (_DIGITIZED, _SUB_DIGITIZED), (_CHANGED, _SUB_CHANGED))
_CLOCK = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_EPOCH = datetime.datetime(1970, 1, 1)
_TURNED = (5, 6, 7, 8)
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]", re.DOTALL)  # those with a length; 0xFF also fills
_MAX_SEGMENTS, _MAX_PADDING = 10_000, 65_536
_MAX_TEXT = 100
_FUJI_RAW, _CANON_RAW = b"FUJIFILMCCD-RAW", b"ftypcrx "
_TIFF_LIKE = (b"II", b"MM")


@dataclass(frozen=True)
class Facts:
    """What is not known is None, "" or, for a size, 0."""

    width: int = 0
    height: int = 0
    """Pixels of the picture upright, as it is looked at."""
    taken: float | None = None
    """Seconds from 1970 to the moment of capture by the camera's own clock, whatever its time zone."""
    camera: str = ""
    lens: str = ""
    exposure: float | None = None
    """Seconds."""
    aperture: float | None = None
    """The f-number."""
    iso: float | None = None
    focal: float | None = None
    """Millimetres, as engraved."""
    bias: float | None = None
    """Exposure compensation in EV."""
    orientation: int = 1
    """How EXIF says the stored pixels are turned, 1 to 8; 1 for HEIC, whose pixels come upright."""


def read_file_facts(file: ImageFile) -> Facts:
    """The facts of a file, of a JPEG on a disk from its first quarter of a megabyte.

    Raises ImageError where it cannot be read.
    """
    if isinstance(file, Path) and file.is_file():
        try:
            with file.open("rb") as handle:
                head = handle.read(HEAD_BYTES)
        except OSError:
            head = b""  # read_bytes says what is wrong
        if format_name(head) == "JPEG" and (facts := read_facts(head)).width:
            return facts
    return read_facts(read_bytes(file))


def read_facts(data: bytes) -> Facts:
    """The facts of an image file's bytes; of a JPEG its beginning will do.

    Never raises: bytes that are no image have no facts, and damaged or nonsensical EXIF is left out.
    """
    try:
        width, height, exif = _size_and_exif(data)
    except Exception:  # the plug-ins of a dozen formats raise what they like on damaged bytes
        return Facts()
    return _facts(width, height, exif)


def _size_and_exif(data: bytes) -> tuple[int, int, dict[int, Value]]:
    """Pixels as stored, and the tags."""
    kind = format_name(data)
    if kind == "JPEG":
        return _of_jpeg(data)
    if data.startswith(_FUJI_RAW):  # a JPEG of the whole picture lies in it, at a place that the head says
        place, size = struct.unpack_from(">II", data, 84)
        return _of_jpeg(data[place : place + size])
    if data[4:12] == _CANON_RAW:
        found = {**read_tags(_box(data, b"CMT2"), _TAGS), **read_tags(_box(data, b"CMT1"), _TAGS)}
        return *_largest(found, _box(data, b"CMT1")), found
    if data.startswith(_TIFF_LIKE) and (is_raw(data) or kind == "TIFF"):
        found = read_tags(data, _TAGS)
        if is_raw(data):
            return *_largest(found, data), found
        size = read_tags(data, (_WIDTH, _HEIGHT))
        return _whole(size.get(_WIDTH)), _whole(size.get(_HEIGHT)), found
    with open_image(data) as image:
        exif = image.info.get("exif") or _png_profile(image.info.get("Raw profile type exif"))
        found = read_tags(exif.removeprefix(b"Exif\0\0"), _TAGS) if isinstance(exif, bytes) else {}
        if image.format == "HEIF":
            found.pop(_ORIENTATION, None)
        return image.width, image.height, found


def _of_jpeg(data: bytes) -> tuple[int, int, dict[int, Value]]:
    """Width, height and tags from the segments before the pixels."""
    tags: dict[int, Value] | None = None
    at = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at, at + _MAX_PADDING)
        if found is None or found.end() + 2 > len(data):
            break
        at = found.start()
        marker = data[at + 1]
        length = int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xE1 and tags is None and data[at + 4 : at + 10] == b"Exif\0\0":
            tags = read_tags(data[at + 10 : at + 2 + length], _TAGS)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height, tags or {}
        elif marker in (0xD9, 0xDA):
            break
        at += 2 + length
    return 0, 0, tags or {}


def _box(data: bytes, name: bytes) -> bytes:
    """Content of Canon's box of this name, which is a TIFF of its own; empty if there is none."""
    at = data.find(name, 0, 2**20)
    size = int.from_bytes(data[at - 4 : at]) if at >= 4 else 0
    return data[at + 4 : at - 4 + size]


def _largest(tags: Mapping[int, Value], tiff: bytes) -> tuple[int, int]:
    """Size of a raw file's picture: what the camera calls its size, else its largest picture."""
    named = _whole(tags.get(_PIXELS_X)), _whole(tags.get(_PIXELS_Y))
    if all(named):
        return named
    sizes = [
        (_whole(each.get(_WIDTH)), _whole(each.get(_HEIGHT))) for each in directories(tiff, (_WIDTH, _HEIGHT))
    ]
    return max(sizes, key=math.prod, default=(0, 0))


def _png_profile(text: object) -> bytes:
    """EXIF as ImageMagick puts it into a PNG's text: a name, a length, and hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.split()[2:])) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _facts(width: int, height: int, tags: Mapping[int, Value]) -> Facts:
    orientation = _whole(tags.get(_ORIENTATION))
    orientation = orientation if 1 <= orientation <= 8 else 1
    if orientation in _TURNED:
        width, height = height, width
    make, model = _text(tags.get(_MAKE)), _text(tags.get(_MODEL))
    knows_make = not make or model.casefold().startswith(make.split()[0].casefold())
    aperture = _number(tags.get(_F_NUMBER), 0.1, 1000)
    if aperture is None and (apex := _number(tags.get(_APERTURE), 0.01, 20)) is not None:
        aperture = round(2 ** (apex / 2), 2)
    exposure = _number(tags.get(_EXPOSURE), 1e-7, 1e6)
    if exposure is None and (apex := _number(tags.get(_SHUTTER), -20, 23)) is not None:
        exposure = 2**-apex
    iso = _number(tags.get(_ISO), 1, 65534)  # 65535 stands for more than fits, said elsewhere
    return Facts(
        width,
        height,
        _taken(tags),
        model if knows_make else f"{make} {model}".strip(),
        _text(tags.get(_LENS)),
        exposure,
        aperture,
        iso if iso is not None else _number(tags.get(_ISO_LARGE), 1, 1e8),
        _number(tags.get(_FOCAL), 0.1, 1e5),
        _number(tags.get(_BIAS), -20, 20),
        orientation,
    )


def _taken(tags: Mapping[int, Value]) -> float | None:
    """The first of the three clocks that says something possible, with the fraction that belongs to it."""
    for clock, fraction in _CLOCKS:
        found = _CLOCK.fullmatch(_text(tags.get(clock))[:19])
        if found is None:
            continue
        try:
            year, month, day, hour, minute, second = map(int, found.groups())
            moment = datetime.datetime(year, month, day, hour, minute, second)
        except ValueError:  # 0000:00:00, the 31st of February
            continue
        digits = re.match(r"[0-9]{0,9}", _text(tags.get(fraction)))
        return (moment - _EPOCH).total_seconds() + float(f"0.{digits[0] if digits else ''}0")
    return None


def _text(value: Value | None) -> str:
    """Text up to its end, without control characters; '' for anything else."""
    if not isinstance(value, bytes):
        return ""
    value = value.partition(b"\0")[0]
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_MAX_TEXT]


def _number(value: Value | None, low: float, high: float) -> float | None:
    """The number if it is one between the two; cameras write 0 or nonsense for what they do not know."""
    return value if isinstance(value, float) and low <= value <= high else None


def _whole(value: Value | None) -> int:
    return int(value) if isinstance(value, float) and 0 < value < 2**31 else 0
