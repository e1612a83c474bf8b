"""Small pictures for people to look at, made from pixels that are there, and two numbers of them.

A thumbnail is a JPEG with a long edge of 480 pixels, upright, in sRGB; smaller pictures are not enlarged, and
those up to 528 stay as they are.
Sharpness is the variance of the Laplacian (4 neighbours) of the luma (BT.601, 0 to 255), taken when the
picture has a long edge of 1,024 pixels: a number that depended on the camera's pixels would compare cameras,
and at 480 pixels what is a little blurred looks sharp. A picture that is smaller is measured as it is, so its
number compares with those of its own size only.
"""

import hashlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageCms, ImageOps
from PIL.Image import Resampling, Transpose

from embed.images.decode import MAX_PIXELS, ImageError, decode_image, open_image
from embed.images.facts import read_facts
from store.looks import Look
from store.shapes import UInt8

LONG_EDGE = 480
SHARPNESS_EDGE = 1024
_QUALITIES = (60, 45)
_MAX_BYTES = 48_000
"""Of a thumbnail: what is larger (foliage, noise) is coded with less quality."""
_NEARLY = 1.1
"""What is larger by less than a tenth is not worth a resize."""
_STEP = 4
"""The mean colour is that of every fourth pixel each way."""
_MAX_PROFILE = 4 * 2**20
_JPEG = b"\xff\xd8\xff"
_HEAD_BYTES = 2**17
FACTS = ("camera", "lens", "exposure", "aperture", "iso", "focal", "bias")
"""What of a file's facts (embed.images.facts) a look has besides size and time."""

Resize = Callable[[np.ndarray, tuple[int, int]], np.ndarray]

_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""How pixels of an EXIF orientation come upright."""


def look_at_bytes(data: bytes, max_pixels: int = MAX_PIXELS, is_quick: bool = True) -> Look:
    """The look of a file's bytes. Never raises for a bad image: its look has a problem.

    The quick way decodes a JPEG no larger than a thumbnail needs, and does not tell the sharpness of one that
    was scaled so: the decoder's scaling is another filter.
    """
    sha256 = hashlib.sha256(data).digest()
    try:
        draft = _draft(data, max_pixels) if is_quick else None
        if draft is not None:
            return look_at(draft[0], sha256, data, is_scaled=draft[1])
        return look_at(decode_image(data, True, max_pixels), sha256, data)
    except ImageError as error:
        return unseen(sha256, data, str(error))
    except Exception as error:  # whatever it is, it costs this picture alone
        return unseen(sha256, data, f"cannot be shown: {type(error).__name__} {error}".rstrip())


def look_at(
    picture: np.ndarray | Image.Image,
    sha256: bytes,
    data: bytes,
    is_upright: bool = True,
    is_scaled: bool = False,
    resize: Resize | None = None,
) -> Look:
    """The look of an RGB picture that was decoded from a file's bytes, at its own size or, `is_scaled`, at
    any size that is enough for a thumbnail. `resize` does what Pillow's bilinear resize does."""
    facts, resize = read_facts(data), resize or _resize
    pixels = np.asarray(picture)
    size = pixels.shape[1], pixels.shape[0]
    middle = pixels if (wanted := fitting(size, SHARPNESS_EDGE)) == size else resize(pixels, wanted)
    sharpness = None if is_scaled else laplacian_variance(_luma(middle))
    is_small = max(middle.shape) <= LONG_EDGE * _NEARLY
    small = middle if is_small else resize(middle, fitting(size, LONG_EDGE))
    profile = colour_profile(data)
    is_turned = not is_upright and facts.orientation in _TURNS
    if profile or is_turned:
        image = Image.fromarray(small)
        image = image.transpose(_TURNS[facts.orientation]) if is_turned else image
        small = np.asarray(to_srgb(image, profile))
    red, green, blue = small[::_STEP, ::_STEP].reshape(-1, 3).mean(axis=0).round().astype(int).tolist()
    width, height = (facts.width, facts.height) if facts.width else size
    said = {name: value for name in FACTS if (value := getattr(facts, name)) not in (None, "")}
    colour = f"#{red:02x}{green:02x}{blue:02x}"
    return Look(sha256, width, height, colour, sharpness, facts.taken, said, jpeg=encode_jpeg(small))


def fitting(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """The size of a picture whose long edge is at most `edge`; it is never enlarged."""
    scale = min(1.0, edge / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, Resampling.BILINEAR))


def _luma(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width"]:
    return np.asarray(Image.fromarray(pixels).convert("L"))


def unseen(sha256: bytes, data: bytes, problem: str) -> Look:
    """The look of bytes that are no picture, or of one that cannot be shown."""
    facts = read_facts(data)
    return Look(sha256, facts.width, facts.height, taken=facts.taken, problem=problem)


def encode_jpeg(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """A thumbnail's JPEG, without any of the file's metadata."""
    pixels = np.ascontiguousarray(pixels)
    encoded: bytes = b""
    for quality in _QUALITIES:
        encoded = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420")
        if len(encoded) <= _MAX_BYTES:
            break
    return encoded


def laplacian_variance(luma: UInt8[np.ndarray, "height width"]) -> float | None:
    """Variance of the Laplacian over the inner pixels; None for a picture without any."""
    if min(luma.shape) < 3:
        return None
    v = luma.astype(np.int16)
    laplacian = v[:-2, 1:-1] + v[2:, 1:-1]
    laplacian += v[1:-1, :-2]
    laplacian += v[1:-1, 2:]
    laplacian -= v[1:-1, 1:-1] << 2
    found = laplacian.ravel().astype(np.float32)
    mean = float(found.mean())
    return round(float(found @ found) / len(found) - mean**2, 2)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB; as it is where its profile is sRGB or cannot be used."""
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        turned: Any = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
        return image if turned is None else turned
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def colour_profile(data: bytes) -> bytes:
    """The ICC profile of RGB colours that a file brings; b"" for one that has none."""
    if data.startswith(_JPEG) and b"ICC_PROFILE\0" not in data[:_HEAD_BYTES]:
        return b""
    try:
        with open_image(data) as image:
            profile = image.info.get("icc_profile") or b""
    except Exception:  # the plug-ins of a dozen formats raise what they like on damaged bytes
        return b""
    return profile if profile[16:20] == b"RGB " and len(profile) <= _MAX_PROFILE else b""


def _draft(data: bytes, max_pixels: int) -> tuple[Image.Image, bool] | None:
    """A JPEG decoded at the smallest scale that is enough, upright, and whether it is smaller so; None for
    other formats, and for those that only the long way reads."""
    if not data.startswith(_JPEG):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(data) as image:
                if image.width * image.height > max_pixels or image.mode not in ("RGB", "L"):
                    return None
                size = image.size
                image.draft("RGB", (LONG_EDGE, LONG_EDGE))
                return ImageOps.exif_transpose(image).convert("RGB"), image.size != size
    except Exception:  # the long way finds the words
        return None
