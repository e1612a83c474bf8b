"""Where a training step's images come from: the pixel cache, the files themselves, or stored features.

Each gives, for a list of row batches, the rows of each that could be read and their inputs as a tensor, in
order and one batch ahead of its use. All leave failed images out, so that cache and files train the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from embed.backbones.loading import Backbone
from embed.images.datasets import ImageTable
from embed.images.geometry import pixel_steps, scale_pixels
from embed.options import Options
from embed.reading import Batch, load_batches
from finetune.pixels import PixelCache

RowNumbers = np.ndarray
Fed = tuple[RowNumbers, Tensor]


class Source(Protocol):
    """Batches of rows in, (rows that could be read, inputs on the CPU) out; failures by row."""

    failures: dict[int, str]

    def batches(self, batches: Sequence[RowNumbers]) -> Iterator[Fed]:
        """The inputs of each batch in order."""

    def prepare(self, inputs: Tensor, device: torch.device) -> Tensor:
        """Inputs as the model takes them, on the device."""


class CachedPixels:
    """Images from the pixel cache."""

    def __init__(self, cache: PixelCache, backbone: Backbone) -> None:
        self.cache, self.backbone = cache, backbone
        self.failures = cache.failures
        self.pins = backbone.device.type == "cuda"

    def batches(self, batches: Sequence[RowNumbers]) -> Iterator[Fed]:
        """The pixels of each batch, uint8 (b, 3, h, w)."""

        def load(rows: RowNumbers) -> Fed:
            rows = rows[self.cache.ok[rows]]
            pixels = torch.from_numpy(self.cache.read(rows))
            return rows, pixels.pin_memory() if self.pins else pixels

        return _one_ahead(load, batches)

    def prepare(self, inputs: Tensor, device: torch.device) -> Tensor:
        """Normalised float32 (b, 3, h, w), exactly as embedding scales them."""
        return _scale(inputs.permute(0, 2, 3, 1), self.backbone, device)


class StreamedPixels:
    """Images read, decoded and resized anew each time, by the threads that embedding uses."""

    def __init__(self, table: ImageTable, backbone: Backbone, options: Options) -> None:
        self.table, self.options, self.backbone = table, options, backbone
        self.steps = pixel_steps(backbone.transform)
        self.failures: dict[int, str] = {}

    def batches(self, batches: Sequence[RowNumbers]) -> Iterator[Fed]:
        """The pixels of each batch, uint8 (b, h, w, 3)."""
        if not batches:
            return
        order = np.concatenate(batches)
        ids, paths = self.table.image_id[order], self.table.path[order]
        # A table of the same images in the order of this epoch: batches are then runs of neighbours.
        shuffled = replace(
            self.table, image_id=ids, path=paths, votes=None, scores=None, columns={},
            split=np.full(len(order), "", dtype="U5"),
        )  # fmt: skip
        bounds = np.cumsum([0, *(len(b) for b in batches)]).tolist()
        wanted = [Batch(0, start, stop) for start, stop in pairwise(bounds)]
        options = self.options
        for batch, loaded in load_batches(
            shuffled, wanted, options.decoding([self.steps]), options.n_threads
        ):
            rows = order[batch.start : batch.stop]
            good = [image.pixels[0] for image in loaded if image.pixels is not None]
            kept = np.array([image.pixels is not None for image in loaded], bool)
            for row, image in zip(rows.tolist(), loaded, strict=True):
                if image.pixels is None:
                    self.failures[row] = image.reason
            size = (0, *self.backbone.recipe.crop, 3)
            yield rows[kept], torch.from_numpy(np.stack(good) if good else np.zeros(size, np.uint8))

    def prepare(self, inputs: Tensor, device: torch.device) -> Tensor:
        """Normalised float32 (b, 3, h, w), exactly as embedding scales them."""
        return _scale(inputs, self.backbone, device)


class StoredFeatures:
    """Features of a frozen backbone, float32 (n_images, dim), for training the head alone."""

    def __init__(self, features: np.ndarray, failures: dict[int, str]) -> None:
        self.features = torch.from_numpy(np.array(features))
        self.failures = failures
        self.ok = np.ones(len(features), bool)
        self.ok[list(failures)] = False

    def batches(self, batches: Sequence[RowNumbers]) -> Iterator[Fed]:
        """The features of each batch."""
        for rows in batches:
            rows = rows[self.ok[rows]]
            yield rows, self.features[torch.from_numpy(rows)]

    def prepare(self, inputs: Tensor, device: torch.device) -> Tensor:
        """The features, on the device."""
        return inputs.to(device)


def _scale(pixels: Tensor, backbone: Backbone, device: torch.device) -> Tensor:
    recipe = backbone.recipe
    images = scale_pixels(pixels, recipe.mean, recipe.std, device)
    return images.contiguous(memory_format=backbone.memory_format)


def _one_ahead(load: Callable[[RowNumbers], Fed], batches: Iterable[RowNumbers]) -> Iterator[Fed]:
    """What `load` gives for each batch, while the next one is being loaded."""
    with ThreadPoolExecutor(1, thread_name_prefix="pixels") as pool:
        waiting: Future[Fed] | None = None
        for rows in batches:
            following = pool.submit(load, rows)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
