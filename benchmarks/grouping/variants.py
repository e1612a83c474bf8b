"""Photographs as they come back: re-encoded, smaller, cropped, lighter, darker, straightened, shifted; and as
frames of a panorama. Made from real photographs, so that what belongs together is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Change = Callable[[Image.Image], Image.Image]
QUALITY = 92


def crop(left: float, top: float, right: float, bottom: float) -> Change:
    """The part of a picture between shares of its width and height."""

    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        box = (left * width, top * height, right * width, bottom * height)
        return image.crop(tuple(round(edge) for edge in box))

    return change


def expose(ev: float) -> Change:
    """More or less light, in EV: linear values times 2^ev, clipped as a sensor does."""
    srgb = np.arange(256) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    light = np.clip(linear * 2**ev, 0, 1)
    back = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table = np.round(255 * back).astype(np.uint8).tolist()
    return lambda image: image.point(table * 3)


def straighten(degrees: float) -> Change:
    """Turned, and cropped to the largest upright part of the same shape, as an editor does."""

    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        turned = image.rotate(degrees, Image.Resampling.BICUBIC)
        angle = np.radians(abs(degrees))
        long, short = max(image.size), min(image.size)
        share = 1 / (np.cos(angle) + np.sin(angle) * long / short)
        dx, dy = (1 - share) / 2, (1 - share) / 2
        return turned.crop(
            (round(dx * width), round(dy * height), round((1 - dx) * width), round((1 - dy) * height))
        )

    return change


def half(image: Image.Image) -> Image.Image:
    """Half the edge."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def same(image: Image.Image) -> Image.Image:
    """As it is."""
    return image


#: What is made of each photograph: the name of its like, how it is changed, the quality it is saved with.
CHANGES: dict[str, tuple[Change, Change, int]] = {
    "re-encoded, quality 60": (same, same, 60),
    "half the edge": (same, half, QUALITY),
    "cropped to 85 %": (same, crop(0.075, 0.075, 0.925, 0.925), QUALITY),
    "+0.7 EV": (same, expose(0.7), QUALITY),
    "-0.7 EV": (same, expose(-0.7), QUALITY),
    "turned by 3 degrees": (same, straighten(3), QUALITY),
    "shifted by 5 %": (crop(0, 0, 0.95, 1), crop(0.05, 0, 1, 1), QUALITY),
    "+2 EV": (same, expose(2), QUALITY),
    "-2 EV": (same, expose(-2), QUALITY),
}


def make_variants(photographs: list[Path], folder: Path) -> None:
    """A folder of likes and a folder of variants per change; files that are there are kept."""
    for name, (base, change, quality) in CHANGES.items():
        for made, how, at in (("base", base, QUALITY), ("variant", change, quality)):
            place = folder / made / folder_of(name)
            if how is same and made == "base":
                continue
            place.mkdir(parents=True, exist_ok=True)
            for photograph in photographs:
                file = place / photograph.name
                if not file.exists():
                    with Image.open(photograph) as image:
                        how(image.convert("RGB")).save(file, "JPEG", quality=at)


def folder_of(name: str) -> str:
    """The folder that a change's files lie in."""
    return name.replace(" ", "_").replace("%", "percent").replace(",", "")
