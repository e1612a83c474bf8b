"""From file bytes to an RGB image: the reference path, Pillow, as the libraries' own transforms expect.

Every way an image can be unreadable ends as an ImageError whose text becomes the row's reason.
"""

import contextlib
import functools
import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from embed.sources import ImageFile

DECODER = "pillow"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF", "HEIF")
MAX_PIXELS = 200_000_000
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


class ImageError(Exception):
    """An image cannot be used; the text is the reason, without the file's name."""


def read_bytes(path: ImageFile) -> bytes:
    """The bytes of a file. Raises ImageError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read: {error.strerror or error}") from error


def decode_image(data: bytes, exif_rotate: bool = False, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in RGB, 8 bits per channel; the first frame of an animation.

    The number of pixels is taken from the header and limited before anything is allocated. 16-bit
    greyscale is scaled to 8 bits (Pillow's own conversion clips it to white). Transparency is dropped, as
    the libraries' transforms do. With `exif_rotate` the image is turned as its EXIF orientation says.

    Raises:
        ImageError: not an image of a known format, truncated, too large, or broken.
    """
    if not data:
        raise ImageError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_known_formats()) as image:
                check_pixels(*image.size, max_pixels)
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image) if exif_rotate else image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
            raise ImageError("HEIC needs a plug-in: pip install pillow-heif") from error
        raise ImageError(f"not an image of a known format (starts with {data[:16]!r})") from error
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError) as error:
        raise ImageError(f"cannot decode: {error}") from error
    except Exception as error:  # the plug-ins of a dozen formats raise what they like on damaged bytes
        raise ImageError(f"cannot decode: {type(error).__name__} {error}".rstrip()) from error


def check_pixels(width: int, height: int, max_pixels: int, what: str = "") -> None:
    """Raise ImageError for more pixels than are allowed."""
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} pixels{what}, more than the limit of {max_pixels}")


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours, from the header, and can be raised
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image, dtype=np.float64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ImageError(f"grey values of {values.min():.0f} to {values.max():.0f} are no 16-bit image")
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("floating-point pixels have no known white; convert the file to 8 bits")
    return image.convert("RGB")
