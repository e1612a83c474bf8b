"""From file bytes to an RGB image: the reference path, Pillow, as the libraries' own transforms expect.

Every way an image can be unreadable ends as an ImageError whose text becomes the row's reason.
"""

import contextlib
import functools
import io
import os
import re
import stat
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from embed.images.png import damaged_chunk, pixel_chunks
from embed.images.raw import decode_raw, is_raw
from embed.images.sources import ImageFile

DECODER = "pillow"
FAST_DECODER = "libjpeg-turbo"
"""What `embed.images.turbo` decodes JPEGs with."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "MPO", "AVIF", "HEIF", "JPEG2000", "PPM")
DECODED_BY = "decoded_by"
"""Key in an image's `info`: decoder and version, where it is not Pillow's own."""
MAX_PIXELS = 200_000_000
MAX_BYTES = 2**31
"""A file's; 200 million pixels of 16 bits in four channels are 1.6 GB."""

# How the bytes of each format begin, by what people call it.
_STARTS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WebP": rb"RIFF....WEBP",
    "BMP": rb"BM....\0\0\0\0",
    "TIFF": rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]",
    "JPEG 2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "PNM": rb"P[1-6][\s#]",
    "AVIF": rb"....ftypavi[fs]",
    "HEIC": rb"....ftyp(?:hei[cxms]|hev[cmsx]|mif1|msf1)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
}
_FORMAT = re.compile(b"|".join(b"(%b)" % start for start in _STARTS.values()), re.DOTALL)
_NOT_READ = re.compile(r"unsupported|not supported|unknown|unrecognized|cannot handle|conversion from", re.I)


class ImageError(Exception):
    """An image cannot be used; the text is the reason, without the file's name."""


def read_bytes(path: ImageFile) -> bytes:
    """The bytes of a file. Raises ImageError where it cannot be read, is no file, or has over MAX_BYTES."""
    try:
        if isinstance(path, Path):
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise ImageError("cannot read: a pipe or device, no file")
            size = status.st_size
        else:
            size = int(getattr(path, "size", -1))
        if size > MAX_BYTES:
            raise ImageError(f"cannot read: {size:,} bytes, more than the limit of {MAX_BYTES:,}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read: {getattr(error, 'strerror', None) or error}") from error


def decode_image(data: bytes, exif_rotate: bool = False, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in RGB, 8 bits per channel; the first frame of an animation.

    The number of pixels is taken from the header and limited before anything is allocated. 16-bit
    greyscale is scaled to 8 bits (Pillow's own conversion clips it to white). Transparency is dropped, as
    the libraries' transforms do. With `exif_rotate` the image is turned as its EXIF orientation says; HEIC is
    upright in any case, since its turn is part of the picture. A camera's raw file gives its preview or a
    picture of half its size (embed.images.raw).

    Raises:
        ImageError: not an image of a known format, truncated, too large, or broken.
    """
    if not data:
        raise ImageError("empty file")
    kind = format_name(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if is_raw(data):
                kind = "raw file"
                return _decode_raw(data, exif_rotate, max_pixels)
            with open_image(data) as image:
                check_pixels(*image.size, max_pixels)
                if kind == "PNG" and (chunk := damaged_chunk(data)):
                    raise ImageError(f"cannot decode: damaged PNG: wrong check sum in its chunk {chunk}")
                image.load()
                rgb = _to_rgb(ImageOps.exif_transpose(image) if exif_rotate else image)
                return _named(rgb, f"pillow-heif {version('pillow-heif')}") if image.format == "HEIF" else rgb
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if kind:
            raise ImageError(_reason(kind, error.__context__ or error)) from error
        raise ImageError(f"not an image of a known format (starts with {data[:16]!r})") from error
    except Exception as error:  # the plug-ins of a dozen formats raise what they like on damaged bytes
        raise ImageError(_reason(kind, error)) from error


def format_name(data: bytes) -> str:
    """What people call the format of these bytes, by how they begin; '' for none that is known."""
    found = _FORMAT.match(data)
    return "" if found is None or found.lastindex is None else list(_STARTS)[found.lastindex - 1]


def check_pixels(width: int, height: int, max_pixels: int, what: str = "") -> None:
    """Raise ImageError for more pixels than are allowed."""
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} pixels{what}, more than the limit of {max_pixels}")


def _named(image: Image.Image, decoder: str) -> Image.Image:
    """The image with the note of what made it, where that is not Pillow alone: other versions may give other
    pixels, and so it belongs to the provenance."""
    image.info[DECODED_BY] = decoder
    return image


def open_image(data: bytes) -> Image.Image:
    """The opened image, of which only the header is read yet. Metadata of a PNG that is damaged, or large
    when unpacked, costs no picture.

    Raises what the formats' plug-ins do, ImageError for a format that nobody here reads.
    """
    kind = format_name(data)
    try:
        return Image.open(io.BytesIO(data), formats=_known_formats())
    except Exception as error:
        if kind == "HEIC" and "HEIF" not in _known_formats():
            raise ImageError("HEIC needs a plug-in: pip install pillow-heif") from error
        if kind == "JPEG XL":
            raise ImageError("JPEG XL is not read; export the picture as JPEG or PNG") from error
        if kind == "PNG":
            with contextlib.suppress(Exception):  # the first error tells more
                return Image.open(io.BytesIO(pixel_chunks(data)), formats=("PNG",))
        if isinstance(error, UnidentifiedImageError):
            error.__context__ = _complaint(data, kind)
        raise


def _complaint(data: bytes, kind: str) -> Exception | None:
    """What the plug-in of a format says about bytes that Pillow calls unidentified."""
    plug_in = {"WebP": "WEBP", "JPEG 2000": "JPEG2000", "PNM": "PPM", "HEIC": "HEIF"}.get(kind, kind)
    if plug_in in Image.OPEN:
        try:
            Image.OPEN[plug_in][0](io.BytesIO(data), "")
        except Exception as error:
            return error
    return None


def _reason(kind: str, error: BaseException) -> str:
    """The row's reason, with the format's name: damaged, or of a kind that nobody here reads."""
    if isinstance(error, SyntaxError) and error.__cause__ is not None:  # Pillow's wrapping
        error = error.__cause__
    detail = " ".join(str(error).split())
    if isinstance(error, UnidentifiedImageError):
        detail = ""
    elif isinstance(error, KeyError):  # the plug-ins look codes up in tables
        detail = f"unknown value {detail}"
    elif not detail or isinstance(error, IndexError | TypeError):
        detail = f"{type(error).__name__} {detail}".rstrip()
    what = f"this kind of {kind} is not read" if _NOT_READ.search(detail) else f"damaged {kind}"
    return f"cannot decode: {what if kind else 'damaged'}{': ' if detail else ''}{detail}"


def _decode_raw(data: bytes, exif_rotate: bool, max_pixels: int) -> Image.Image:
    def decode_jpeg(preview: bytes) -> Image.Image:
        with Image.open(io.BytesIO(preview), formats=("JPEG", "MPO")) as image:
            check_pixels(*image.size, max_pixels)
            image.load()
            return image.convert("RGB")

    def check_size(width: int, height: int) -> None:
        check_pixels(width, height, max_pixels)

    try:
        image, what = decode_raw(data, exif_rotate, check_size, decode_jpeg)
        return _named(image, f"rawpy {version('rawpy')}, {what}")
    except ImportError as error:
        advice = "pip install 'image-aesthetics-store[raw]'"
        raise ImageError(f"raw files need rawpy: {advice}") from error


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    with contextlib.suppress(ImportError):  # no wheel for this system: HEIC files become rows that say so
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours, from the header, and can be raised
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ImageError(f"grey values of {values.min():.0f} to {values.max():.0f} are no 16-bit image")
        return Image.fromarray(_EIGHT_BITS[values]).convert("RGB")
    if image.mode == "F":
        raise ImageError("floating-point pixels have no known white; convert the file to 8 bits")
    return image.convert("RGB")


_EIGHT_BITS = np.round(np.arange(65536) / 257).astype(np.uint8)
