"""A backbone's own transform, cut in two: pixels (shared between backbones) and scaling (on the device).

The library's transform is a sequence: steps on a PIL image (resize, crop), conversion to a tensor, mean and
std. Backbones whose first steps are equal share one uint8 image. The cut is checked on every load: both
halves together must equal the library's transform bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

OWN_SIZE = "own size"
"""Mode of a recipe that neither crops nor squashes: pixels of images differ in shape."""
LEAST, MOST = 75, 1024
"""Pixels of the shorter edge that a network needs at images' own size (Inception's reductions leave nothing
of less), and of the longer edge beyond which an image is made smaller: a photograph of 24 megapixels would
take gigabytes."""
Steps = Sequence[Callable[[Image.Image], Image.Image]]
TO_TENSOR = ("ToTensor", "MaybeToTensor")


class OwnSize:
    """An image as it is; where its longer edge has more than MOST pixels, shrunk to that (bicubic)."""

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) that an image gets."""
        scale = min(1.0, MOST / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image in RGB at its size."""
        size = self.size_of(*image.size)
        rgb = image.convert("RGB")
        return rgb if size == rgb.size else rgb.resize(size, Image.Resampling.BICUBIC)


def pixel_steps(transform: Any) -> Steps:
    """The steps of a library's transform before the conversion to a tensor."""
    steps = list(transform.transforms)
    names = [type(step).__name__ for step in steps]
    for position, name in enumerate(names):
        if name in TO_TENSOR:
            return steps[:position]
    raise ValueError(f"the transform never makes a tensor: {names}")


def resized_size(steps: Steps, width: int, height: int) -> tuple[int, int]:
    """The largest (width, height) that an image takes on its way through the steps."""
    largest = (width, height)
    for step in steps:
        size = getattr(step, "size", None)
        if type(step).__name__ == "Resize" and isinstance(size, int):
            scale = size / max(1, min(width, height))
            width, height = round(width * scale), round(height * scale)
            largest = max(largest, (width, height), key=lambda size: size[0] * size[1])
    return largest


def apply_steps(steps: Steps, image: Image.Image) -> np.ndarray:
    """The resized and cropped pixels: uint8 (height, width, 3)."""
    for step in steps:
        image = step(image)
    return np.asarray(image, dtype=np.uint8)


def scale_pixels(
    pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float], device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Normalised float32 (batch, 3, height, width) from uint8 (batch, height, width, 3).

    The same float32 operations in the same order as torchvision's ToTensor and Normalize.
    """
    scaled = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).contiguous().float().div_(255)
    shape = (1, 3, 1, 1)
    mean_tensor = torch.tensor(mean, dtype=torch.float32, device=scaled.device).view(shape)
    std_tensor = torch.tensor(std, dtype=torch.float32, device=scaled.device).view(shape)
    return scaled.sub_(mean_tensor).div_(std_tensor)


def check_cut(transform: Any, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError unless the two halves give exactly what the library's transform gives."""
    rng = np.random.default_rng(0)
    for size in ((301, 457), (90, 61)):
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        pixels = torch.from_numpy(apply_steps(pixel_steps(transform), image).copy())
        ours = scale_pixels(pixels[None], mean, std)[0]
        theirs = transform(image)
        if not torch.equal(ours, theirs):
            worst = (ours - theirs).abs().max() if ours.shape == theirs.shape else "another shape"
            raise ValueError(f"the transform is not pixels, then scaling (difference {worst}): {transform}")
