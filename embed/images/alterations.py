"""Graded alterations of photographs: what a photographer turns up and down, in families of known strength.

Each family is monotone in one number and leaves the photograph as it is at its `identity`, to the bit. All
take and give uint8 (height, width, 3) pixels in sRGB; light is linear where cameras and lamps are
(exposure, cast).
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from store.shapes import Float, UInt8

Pixels = UInt8[np.ndarray, "height width 3"]

VERSION = 1
"""Part of what identifies altered photographs: other pixels for one strength are another version."""

_LUMA = np.array([0.2126, 0.7152, 0.0722])
_BLUR = 0.005
"""Standard deviation of the blur at strength 1, as a share of the shorter side, and at least a pixel."""


@dataclass(frozen=True)
class Alteration:
    """A family of changes, monotone in its strength."""

    about: str
    """What a strength means, with its unit."""
    strengths: tuple[float, ...]
    """Those that are made, ascending, without the identity."""
    identity: float
    """The strength at which nothing changes."""
    apply: Callable[[Pixels, float, int], Pixels]
    """The pixels at a strength; the seed decides about what is drawn at random."""

    @property
    def all_strengths(self) -> tuple[float, ...]:
        """Every strength, the identity among them, ascending."""
        return tuple(sorted((*self.strengths, self.identity)))


def alter(pixels: Pixels, name: str, strength: float, seed: int = 0) -> Pixels:
    """A photograph altered; at a family's identity the very same pixels.

    Raises KeyError for an unknown family.
    """
    family = ALTERATIONS[name]
    return pixels if strength == family.identity else family.apply(pixels, strength, seed)


def _to_linear(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Linear light, 0 to 1, from sRGB values 0 to 1 (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _to_srgb(light: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


_LINEAR = _to_linear(np.arange(256) / 255)


def _levels(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Values of 0 to 255, rounded and clipped."""
    return np.asarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))


def _brighter(factor: float) -> UInt8[np.ndarray, "256"]:
    """sRGB levels with `factor` times the light, clipped at white."""
    return _levels(255 * _to_srgb(np.minimum(_LINEAR * factor, 1.0)))


def _exposure(pixels: Pixels, stops: float, seed: int) -> Pixels:
    return np.asarray(_brighter(2.0**stops)[pixels])


def _contrast(pixels: Pixels, octaves: float, seed: int) -> Pixels:
    middle = float(pixels.mean(axis=(0, 1)) @ _LUMA)
    return np.asarray(_levels(middle + (np.arange(256) - middle) * 2.0**octaves)[pixels])


def _saturation(pixels: Pixels, share: float, seed: int) -> Pixels:
    grey = (pixels @ _LUMA)[..., None]
    return _levels(grey + (pixels - grey) * share)


def _sharpness(pixels: Pixels, strength: float, seed: int) -> Pixels:
    image, radius = Image.fromarray(pixels), max(1.0, _BLUR * min(pixels.shape[:2]))
    if strength < 0:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(radius * -strength)))
    return np.asarray(image.filter(ImageFilter.UnsharpMask(radius, round(100 * strength), 0)))


def _noise(pixels: Pixels, levels: float, seed: int) -> Pixels:
    drawn = np.random.default_rng(seed).standard_normal(pixels.shape, np.float32)
    return _levels(pixels + levels * drawn)


def _jpeg(pixels: Pixels, quality: float, seed: int) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=round(quality))
    with Image.open(stream, formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))


def _crop(pixels: Pixels, share: float, seed: int) -> Pixels:
    height, width = pixels.shape[:2]
    return _middle(pixels, max(1, round(height * share)), max(1, round(width * share)))


def _tilt(pixels: Pixels, degrees: float, seed: int) -> Pixels:
    """Turned clockwise; the largest rectangle of the picture's own shape that has no empty corner."""
    height, width = pixels.shape[:2]
    angle = math.radians(abs(degrees))
    share = 1 / (math.cos(angle) + max(height / width, width / height) * math.sin(angle))
    turned = np.asarray(Image.fromarray(pixels).rotate(-degrees, Image.Resampling.BICUBIC))
    return _middle(turned, max(1, math.floor(height * share)), max(1, math.floor(width * share)))


def _cast(pixels: Pixels, stops: float, seed: int) -> Pixels:
    tables = [_brighter(2.0**power) for power in (stops / 2, 0.0, -stops / 2)]
    return np.stack([table[pixels[..., i]] for i, table in enumerate(tables)], axis=-1)


def _middle(pixels: Pixels, height: int, width: int) -> Pixels:
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


ALTERATIONS: dict[str, Alteration] = {
    "exposure": Alteration("stops of light", (-2, -1, 1, 2), 0, _exposure),
    "contrast": Alteration("doublings around the mean", (-1, -0.5, 0.5, 1), 0, _contrast),
    "saturation": Alteration("times the colour; 0 is grey", (0, 0.5, 1.5, 2), 1, _saturation),
    "sharpness": Alteration(
        "below 0 blur by so many half percents of the shorter side, above 0 unsharp mask, so many times",
        (-2, -1, 1, 2),
        0,
        _sharpness,
    ),
    "noise": Alteration("standard deviation in levels of 255", (8, 16, 24, 32), 0, _noise),
    "jpeg": Alteration("quality of a second JPEG encoding; 100 is none", (10, 25, 50, 75), 100, _jpeg),
    "crop": Alteration("share of each side that is left", (0.5, 0.625, 0.75, 0.875), 1, _crop),
    "tilt": Alteration("degrees clockwise, its corners cut off", (-10, -5, 5, 10), 0, _tilt),
    "cast": Alteration("stops of red over blue: warm above 0", (-1, -0.5, 0.5, 1), 0, _cast),
}
"""Every family by its name, in the order in which they are told."""
