"""Images in, rows out: decode once, encode with every backbone asked for, keep parts, merge.

One thread pool reads and decodes ahead; the calling thread encodes and writes. Batches lie on a fixed grid
inside parts, so that an interrupted and resumed run gives the same bytes as an uninterrupted one.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embed import turbo
from embed.datasets import ImageTable
from embed.decode import DECODER, MAX_PIXELS
from embed.geometry import check_cut, pixel_steps, scale_pixels
from embed.loading import Backbone
from embed.reading import DIGEST_BYTES, Batch, Row, load_batches
from store import IdentityError, MissingFileError, Status, open_features
from store.features import FEATURES_SCHEMA
from store.locks import write_lock
from store.parts import Plan, begin, discard, merge_parts, missing_parts, write_part

logger = logging.getLogger(__name__)


class TooManyFailuresError(Exception):
    """The run was stopped because too many images failed."""


@dataclass(frozen=True)
class Options:
    """How to run; `batch_size`, `exif_rotate`, `max_pixels` and `is_exact` (decode and resize with Pillow, as
    the library does) shape the result and are recorded."""

    batch_size: int = 32
    exif_rotate: bool = False
    max_pixels: int = MAX_PIXELS
    n_threads: int = field(default_factory=lambda: min(32, os.cpu_count() or 1))
    max_failed_share: float = 0.05
    is_exact: bool = False
    overwrite: bool = False


@dataclass
class Timings:
    """Seconds per stage; read, decode and resize are summed over threads."""

    read: float = 0.0
    decode: float = 0.0
    resize: float = 0.0
    encode: float = 0.0
    write: float = 0.0
    wall: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What one backbone's run ended with."""

    backbone: str
    path: Path
    digest: str
    n_images: int
    n_failed: int
    n_new: int


def feature_plan(table: ImageTable, backbone: Backbone, path: Path, options: Options) -> Plan:
    """The identity and provenance of one feature file, from what was really loaded."""
    identity = {
        "images": table.digest,
        "n_images": len(table),
        "backbone": backbone.id,
        "weights_sha256": backbone.weights_sha256,
        "preprocessing": {
            **backbone.recipe.to_json(),
            "decoder": DECODER if options.is_exact else turbo.DECODER,
            "exif_rotate": options.exif_rotate,
        },
        "precision": "float32",
        "outputs": dict(backbone.outputs),
    }
    provenance = {
        **backbone.provenance(),
        "dataset": table.dataset,
        "batch_size": options.batch_size,
        "max_pixels": options.max_pixels,
        "device": torch.device(backbone.device).type,
        "torch": torch.__version__,
    }
    ids = {"image_id": table.image_id}
    return Plan(path, FEATURES_SCHEMA, identity, provenance, len(table), ids)


def embed_images(
    table: ImageTable,
    backbones: Sequence[Backbone],
    folder: Path,
    options: Options,
    on_rows: Callable[[int, int, bool], None] | None = None,
    timings: Timings | None = None,
) -> list[Outcome]:
    """Embed every image of the table with every backbone; one finished feature file each.

    Files that are finished for exactly this combination are left alone. `on_rows(n_rows, n_failed, is_new)`
    is called as rows get done: first once for rows that an earlier run finished, then per batch.

    Raises:
        IdentityError: a finished file or a begun run is of another combination (unless `overwrite`).
        BusyError: another run writes one of the files.
        TooManyFailuresError: more than `max_failed_share` of at least 1,000 images failed.
    """
    timings = timings if timings is not None else Timings()
    began = time.perf_counter()
    plans = {b.id: feature_plan(table, b, feature_path(folder, b.id), options) for b in backbones}
    with ExitStack() as locks:
        for plan in plans.values():
            locks.enter_context(write_lock(plan.path.with_name(plan.path.name + ".lock")))
        unfinished = [b for b in backbones if not _is_finished(plans[b.id], options.overwrite)]
        todo: dict[str, list[int]] = {}
        for backbone in unfinished:
            if options.overwrite:
                _discard_other_run(plans[backbone.id])
            begin(plans[backbone.id])
            todo[backbone.id] = missing_parts(plans[backbone.id])
        if unfinished:
            _embed_parts(table, unfinished, plans, todo, options, on_rows, timings)
        n_new = {b.id: sum(stop - start for start, stop in _bounds(plans[b.id], todo)) for b in unfinished}
        for backbone in unfinished:
            started = time.perf_counter()
            merge_parts(plans[backbone.id])
            timings.write += time.perf_counter() - started
    timings.wall = time.perf_counter() - began
    return [_outcome(b.id, plans[b.id].path, n_new.get(b.id, 0)) for b in backbones]


def feature_path(folder: Path, backbone_id: str) -> Path:
    """The feature file of a backbone: `<folder>/<id>.h5`, with `/` and `:` replaced by `_`."""
    return folder / f"{backbone_id.replace('/', '_').replace(':', '_')}.h5"


def _bounds(plan: Plan, todo: dict[str, list[int]]) -> list[tuple[int, int]]:
    return [plan.parts[index] for index in todo[str(plan.identity["backbone"])]]


def _is_finished(plan: Plan, overwrite: bool) -> bool:
    try:
        open_features(plan.path, plan.identity)
    except MissingFileError:
        return False
    except IdentityError:
        if overwrite:
            return False
        raise
    return True


def _discard_other_run(plan: Plan) -> None:
    try:
        begin(plan)
    except Exception as error:  # whatever is wrong with the old run, the user asked to replace it
        logger.info("discarding an unfinished run: %s", error)
        discard(plan)


def _outcome(backbone_id: str, path: Path, n_new: int) -> Outcome:
    with open_features(path) as features:
        return Outcome(backbone_id, path, features.digest, features.n_images, len(features.failures), n_new)


def _embed_parts(
    table: ImageTable,
    backbones: Sequence[Backbone],
    plans: dict[str, Plan],
    todo: dict[str, list[int]],
    options: Options,
    on_rows: Callable[[int, int, bool], None] | None,
    timings: Timings,
) -> None:
    parts = plans[backbones[0].id].parts
    wanted = sorted(set().union(*todo.values()))
    if on_rows is not None:
        on_rows(len(table) - sum(parts[i][1] - parts[i][0] for i in wanted), 0, False)
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
    part: _Part | None = None
    for batch, rows in load_batches(
        table, batches, steps, options.exif_rotate, options.max_pixels, options.is_exact, options.n_threads
    ):
        active = [b for b in backbones if batch.part in todo[b.id]]
        if part is None or part.index != batch.part:
            part = _Part(batch.part, *parts[batch.part], active)
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


class _Part:
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
