"""A library's image transform, read off its objects: what it resizes to, crops and subtracts.

The numbers are never retyped. A step that is not understood is an error, because leaving one out
would give plausible, different vectors.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from embed.backbones.registry import BackboneError
from embed.images.geometry import MOST, OWN_SIZE, OwnSize
from embed.uncompiled import library

tv = library("torchvision.transforms")

_ORDER = ("resize", "crop", "rgb", "tensor", "normalize")
_TRIED = (128, 128)
"""Size at which a network for images at their own size is tried out."""
_RGB_STEPS = ("MaybeConvertMode", "_convert_to_rgb")
_TENSOR_STEPS = ("ToTensor", "MaybeToTensor")


class UnknownTransform(BackboneError):  # noqa: N818
    """A transform with a step, or a setting of a step, that the recipe cannot express."""


class Geometry(NamedTuple):
    """What decides the resized uint8 pixels of an RGB image. Equal geometry: equal pixels."""

    resize: int | tuple[int, int]
    interpolation: str
    antialias: bool
    crop: tuple[int, int]
    crop_mode: str


@dataclass(frozen=True)
class Recipe:
    """A transform as numbers.

    `resize` is the shorter edge in pixels (aspect ratio kept) or exactly (height, width) ('squash').
    `crop_mode` is 'center', or 'none' where the resized image already is `crop` (height, width)
    large, or 'own size' where images keep theirs up to `resize` pixels of the longer edge, and `crop` is only
    what the model is tried with. `mean` and `std` are per channel on the scale 0 to 1. `to_rgb` says whether
    the transform converts to RGB itself, after resizing; where it does not, the caller must do so first.
    """

    resize: int | tuple[int, int]
    interpolation: str
    antialias: bool
    crop: tuple[int, int]
    crop_mode: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    to_rgb: bool

    @property
    def geometry(self) -> Geometry:
        """Everything but mean, std and to_rgb, which do not move the pixels of an RGB image."""
        return Geometry(
            self.resize, self.interpolation, self.antialias, self.crop, self.crop_mode
        )

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def recipe_from_transform(transform: Callable[..., Any]) -> Recipe:
    """The recipe of a library's evaluation transform (torchvision's, open_clip's or timm's)."""
    steps = _named_steps(transform)
    if isinstance(steps["resize"], OwnSize):
        mean, std = (_channels(getattr(steps["normalize"], name)) for name in ("mean", "std"))
        return Recipe(MOST, "bicubic", True, _TRIED, OWN_SIZE, mean, std, True)
    resize, interpolation, antialias = _resize(steps["resize"])
    if "crop" in steps:
        crop, crop_mode = _pair(steps["crop"].size), "center"
    elif isinstance(resize, tuple):
        crop, crop_mode = resize, "none"
    else:
        raise UnknownTransform(
            f"the transform resizes the shorter edge to {resize} but crops nothing, so images would "
            f"keep different sizes: {transform}"
        )
    mean, std = (_channels(getattr(steps["normalize"], name)) for name in ("mean", "std"))
    return Recipe(resize, interpolation, antialias, crop, crop_mode, mean, std, "rgb" in steps)


def recipe_from_json(values: Mapping[str, Any]) -> Recipe:
    """The recipe of plain JSON values (`Recipe.to_json`)."""
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Recipe(**plain)


def transform_of(recipe: Recipe) -> Callable[..., Any]:
    """A transform that does what a recipe says, of torchvision's steps: another one than the library's, whose
    recipe it was, with the same pixels. Not for images at their own size.
    """
    size = list(recipe.resize) if isinstance(recipe.resize, tuple) else recipe.resize
    mode = tv.InterpolationMode(recipe.interpolation)
    steps: list[Any] = [tv.Resize(size, mode, antialias=recipe.antialias)]
    if recipe.crop_mode == "center":
        steps.append(tv.CenterCrop(recipe.crop))
    if recipe.to_rgb:
        steps.append(_convert_to_rgb)
    made: Callable[..., Any] = tv.Compose([*steps, tv.ToTensor(), tv.Normalize(recipe.mean, recipe.std)])
    return made


def _convert_to_rgb(image: Any) -> Any:
    return image.convert("RGB")


def _named_steps(transform: Callable[..., Any]) -> dict[str, Any]:
    if not isinstance(transform, tv.Compose):
        raise UnknownTransform(f"expected a torchvision Compose, got {type(transform).__name__}")
    named: dict[str, Any] = {}
    for step in transform.transforms:
        kind = _kind(step)
        if kind in named or (named and _ORDER.index(kind) < _ORDER.index([*named][-1])):
            raise UnknownTransform(
                f"the transform's step {step} comes twice or out of the order "
                f"{', '.join(_ORDER)}: {transform}"
            )
        named[kind] = step
    missing = [kind for kind in ("resize", "tensor", "normalize") if kind not in named]
    if missing:
        raise UnknownTransform(f"the transform has no step for {', '.join(missing)}: {transform}")
    return named


def _kind(step: Any) -> str:
    name = getattr(step, "__name__", type(step).__name__)
    if type(step) in (tv.Resize, OwnSize):
        return "resize"
    if type(step) is tv.CenterCrop:
        return "crop"
    if type(step) is tv.Normalize:
        return "normalize"
    if name in _RGB_STEPS and getattr(step, "mode", "RGB") == "RGB":
        return "rgb"
    if name in _TENSOR_STEPS and (type(step) is tv.ToTensor or isinstance(step, tv.ToTensor)):
        return "tensor"
    raise UnknownTransform(
        f"the transform has a step this project does not know: {step} ({name}). A recipe without "
        "it would describe other pixels. Teach embed.backbones.transforms the step, or use another backbone"
    )


def _resize(step: Any) -> tuple[int | tuple[int, int], str, bool]:
    if step.max_size is not None:
        raise UnknownTransform(f"the transform's {step} limits the longer edge (max_size)")
    size = step.size
    if isinstance(size, (list, tuple)):
        size = int(size[0]) if len(size) == 1 else _pair(size)
    return size, step.interpolation.value, bool(step.antialias)


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(height), int(width)


def _channels(values: Any) -> tuple[float, float, float]:
    if hasattr(values, "numpy"):  # timm keeps float32 tensors: the shortest decimals that give them
        values = [str(v) for v in values.numpy()]
    red, green, blue = (float(v) for v in values)
    return red, green, blue
