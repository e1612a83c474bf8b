"""The inner loop: decode once, encode with every backbone asked for, keep parts.

One thread pool reads and decodes ahead; the calling thread encodes and writes. Batches lie on a fixed grid
inside parts, so that an interrupted and resumed run gives the same bytes as an uninterrupted one.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from embed.crashes import CrashNotes, find_culprits
from embed.datasets import ImageTable
from embed.geometry import check_cut, pixel_steps, scale_pixels
from embed.loading import Backbone
from embed.options import Options, Timings
from embed.reading import DIGEST_BYTES, Batch, Row, load_batches
from store import Status
from store.parts import Plan, write_part


class TooManyFailuresError(Exception):
    """The run was stopped because too many images failed."""


def embed_parts(
    table: ImageTable,
    backbones: Sequence[Backbone],
    plans: dict[str, Plan],
    todo: dict[str, list[int]],
    options: Options,
    on_rows: Callable[[int, int, bool], None] | None,
    timings: Timings,
) -> None:
    """Make the parts in `todo` (numbers per backbone id), each image decoded once for all that want it.

    Raises TooManyFailuresError if more than `max_failed_share` of at least 1,000 images failed.
    """
    parts = plans[backbones[0].id].parts
    wanted = sorted(set().union(*todo.values()))
    geometries: list[Any] = []
    steps = []
    for backbone in backbones:
        check_cut(backbone.transform, backbone.recipe.mean, backbone.recipe.std)
        if backbone.recipe.geometry not in geometries:
            geometries.append(backbone.recipe.geometry)
            steps.append(pixel_steps(backbone.transform))
    batches = [
        Batch(index, start, min(start + options.batch_size, parts[index][1]))
        for index in wanted
        for start in range(*parts[index], options.batch_size)
    ]
    n_seen = n_failed = 0
    part: Part | None = None
    decoding = (steps, options.exif_rotate, options.max_pixels, options.is_exact)
    crashes = CrashNotes(options.crash_folder) if options.crash_folder else None
    if crashes is not None and crashes.suspects:
        crashes.convict(find_culprits({row: table.absolute(row) for row in crashes.suspects}, decoding))
    for batch, rows in load_batches(table, batches, *decoding, options.n_threads, crashes):
        active = [b for b in backbones if batch.part in todo[b.id]]
        if part is None or part.index != batch.part:
            part = Part(batch.part, *parts[batch.part], active)
        for row in rows:
            timings.read += row.seconds[0]
            timings.decode += row.seconds[1]
            timings.resize += row.seconds[2]
        started = time.perf_counter()
        part.encode(batch, rows, geometries)
        timings.encode += time.perf_counter() - started
        if batch.stop == part.stop:
            started = time.perf_counter()
            for backbone in active:
                write_part(plans[backbone.id], part.index, part.arrays(backbone.id))
            timings.write += time.perf_counter() - started
        n_seen += len(rows)
        n_bad = sum(row.pixels is None for row in rows)
        n_failed += n_bad
        if on_rows is not None:
            on_rows(len(rows), n_bad, True)
        if n_seen >= 1000 and n_failed > options.max_failed_share * n_seen:
            reasons = sorted(part.failed.values())
            raise TooManyFailuresError(
                f"{n_failed} of the first {n_seen} images failed, more than {options.max_failed_share:.0%}; "
                f"the last: {reasons[-1] if reasons else 'in an earlier part'}. Right folder? "
                "Finished parts are kept; go on with a higher --max-failures."
            )


class Part:
    """The rows of one part while they are being made."""

    def __init__(self, index: int, start: int, stop: int, backbones: Sequence[Backbone]) -> None:
        n_rows = stop - start
        self.index, self.start, self.stop = index, start, stop
        self.backbones = backbones
        self.sha256 = np.zeros((n_rows, DIGEST_BYTES), np.uint8)
        self.size = np.zeros(n_rows, np.int64)
        self.failed: dict[int, str] = {}
        self.broken: dict[str, dict[int, str]] = {b.id: {} for b in backbones}
        self.outputs = {
            b.id: {name: np.full((n_rows, dim), np.nan, np.float32) for name, dim in b.outputs.items()}
            for b in backbones
        }

    def encode(self, batch: Batch, rows: Sequence[Row], geometries: Sequence[Any]) -> None:
        """Encode a batch with every backbone. A failed image holds its place as zeros, so that its
        neighbours' vectors do not depend on it."""
        first = batch.start - self.start
        for offset, row in enumerate(rows):
            self.sha256[first + offset] = np.frombuffer(row.sha256, np.uint8)
            self.size[first + offset] = row.size
            if row.pixels is None:
                self.failed[first + offset] = row.reason
        good = np.array([row.pixels is not None for row in rows])
        if not good.any():
            return
        tensors = {}
        for backbone in self.backbones:
            position = geometries.index(backbone.recipe.geometry)
            if position not in tensors:
                tensors[position] = _stack(rows, position)
            recipe = backbone.recipe
            images = scale_pixels(tensors[position], recipe.mean, recipe.std, backbone.device)
            for name, tensor in backbone.encode_images(images).items():
                values = tensor.float().cpu().numpy()
                finite = np.isfinite(values).all(axis=1)
                kept = np.flatnonzero(good & finite)
                self.outputs[backbone.id][name][first + kept] = values[kept]
                for broken in np.flatnonzero(good & ~finite).tolist():
                    self.broken[backbone.id][first + broken] = (
                        f"the backbone gave non-finite values in {name}"
                    )

    def arrays(self, backbone_id: str) -> dict[str, np.ndarray]:
        """The part's rows for one backbone, ready to be written."""
        failed = dict(sorted((self.failed | self.broken[backbone_id]).items()))
        status = np.full(self.stop - self.start, Status.OK, np.uint8)
        status[list(failed)] = Status.FAILED
        for values in self.outputs[backbone_id].values():
            values[list(failed)] = np.nan
        return {
            "status": status,
            "source_sha256": self.sha256,
            "source_size": self.size,
            "failures/row": np.array(list(failed), np.int64),
            "failures/reason": np.array(list(failed.values()), dtype=str),
            **{f"outputs/{name}": values for name, values in self.outputs[backbone_id].items()},
        }


def _stack(rows: Sequence[Row], position: int) -> torch.Tensor:
    pixels = [row.pixels[position] if row.pixels is not None else None for row in rows]
    shape = next(p.shape for p in pixels if p is not None)
    blank = np.zeros(shape, np.uint8)
    return torch.from_numpy(np.stack([blank if p is None else p for p in pixels]))
