"""Batches that fit the device: a size found by trial, and smaller ones where memory runs out."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from embed.backbones.device import free_memory, is_out_of_memory
from embed.backbones.loading import Backbone
from embed.images.geometry import scale_pixels
from store.shapes import Float, UInt8

logger = logging.getLogger(__name__)

#: More images per pass make no GPU faster; a CPU is at its best with few.
MAX_BATCH = 256
CPU_BATCH = 32


def largest_batch(backbones: Sequence[Backbone]) -> int:
    """The batch size to begin a run with: CPU_BATCH on a CPU, else the largest power of two up to MAX_BATCH
    that every backbone gets through. It depends on the device's free memory alone, never on a clock."""
    size = MAX_BATCH
    for backbone in backbones:
        is_cpu = torch.device(backbone.device).type == "cpu"
        size = min(size, CPU_BATCH) if is_cpu else _fitting(backbone, size)
    return size


def _fitting(backbone: Backbone, size: int) -> int:
    while True:
        try:
            backbone.encode_images(torch.zeros(size, 3, *backbone.recipe.crop))
            return size
        except RuntimeError as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        free_memory(backbone.device)  # outside the handler, where the error no longer holds the tensors
        size //= 2


class Encoder:
    """A backbone with the batch size that it gets through; `size` is halved when memory runs out.

    Batches of the run's grid stay as they are: one that does not fit is encoded in pieces. That moves vectors
    by about 2e-6, so the caller notes which rows were encoded so.
    """

    def __init__(self, backbone: Backbone, size: int) -> None:
        self.backbone = backbone
        self.size = size

    def encode(self, pixels: UInt8[Tensor, "b h w 3"]) -> dict[str, Float[Tensor, "b _"]]:
        """Every output of a batch of resized pixels on the backbone's device, raw float32.

        Raises the device's out-of-memory error only if a single image does not fit.
        """
        while True:
            try:
                return self._encode(pixels)
            except RuntimeError as error:
                size = min(self.size, len(pixels))
                if size == 1 or not is_out_of_memory(error):
                    raise
            free_memory(self.backbone.device)
            self.size = (size + 1) // 2
            logger.warning(
                "%s: out of memory with %d images, going on with %d at a time",
                self.backbone.id, size, self.size,
            )  # fmt: skip

    def _encode(self, pixels: Tensor) -> dict[str, Tensor]:
        recipe = self.backbone.recipe
        pieces = [
            self.backbone.encode_images(scale_pixels(piece, recipe.mean, recipe.std, self.backbone.device))
            for piece in torch.split(pixels, self.size)
        ]
        if len(pieces) == 1:
            return pieces[0]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
