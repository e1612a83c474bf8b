"""The pixel cache: every image decoded and resized once, uint8, in sealed parts that training maps.

A cache is a folder of parts `part-00000.h5` (2,048 images each, written like the parts of an embedding run)
that stay where they are, since joining them would need the space twice, and beside it an index file that
names every part's digest and every image that could not be read.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embed.backbones.loading import Backbone
from embed.crashes import crash_notes
from embed.images.datasets import ImageTable
from embed.images.geometry import pixel_steps
from embed.options import Options
from embed.reading import Batch, load_batches
from store import IntegrityError, MissingFileError, SpaceError, Status
from store.digests import BLOCK_ROWS, digest_of_json
from store.identity import check_identity
from store.parts import Plan, open_part
from store.run import Run, claimed
from store.sealed import SealedFile, write_sealed
from store.shapes import Bool, Int, UInt8

logger = logging.getLogger(__name__)

PIXELS_SCHEMA = "iaa/pixels"
READ_BATCH = 64


class PixelCache:
    """An open pixel cache; pixels are checked against their part's digests when first read."""

    def __init__(self, plan: Plan, index: SealedFile) -> None:
        self.plan = plan
        self.n_bytes = pixel_bytes(plan)
        self.status: UInt8[np.ndarray, " n_images"] = index.view("status")
        rows, reasons = index.view("failures/row").tolist(), index.strings("failures/reason").tolist()
        self.failures: dict[int, str] = dict(zip(rows, reasons, strict=True))
        self._digests = index.strings("part_digest").tolist()
        self._parts: dict[int, SealedFile] = {}

    @property
    def ok(self) -> Bool[np.ndarray, " n_images"]:
        """True where an image could be read."""
        return np.asarray(self.status == Status.OK)

    def read(self, rows: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 3 h w"]:
        """The pixels of some images, copied, in the order of `rows`; a failed image is black."""
        pixels = np.empty((len(rows), *self.plan.identity["shape"]), np.uint8)
        part, offset = np.divmod(rows, BLOCK_ROWS)
        for index in np.unique(part).tolist():
            mapped = self._part(index).view("pixels")
            for place in np.flatnonzero(part == index).tolist():
                pixels[place] = mapped[offset[place]]
        return pixels

    def _part(self, index: int) -> SealedFile:
        if index not in self._parts:
            file = open_part(self.plan, index)
            if file.digest != self._digests[index]:
                raise IntegrityError(
                    f"{file.path} is another part than {self.plan.path} was sealed with. "
                    f"Delete {self.plan.folder} and {self.plan.path}; they are made again from the images"
                )
            self._parts[index] = file
        return self._parts[index]


def pixel_plan(table: ImageTable, backbone: Backbone, folder: Path, options: Options) -> Plan:
    """The cache of a data set for one geometry: backbones that resize alike share it."""
    identity = {
        "images": table.digest,
        "n_images": len(table),
        "geometry": _plain(backbone.recipe.geometry._asdict()),
        "shape": [3, *backbone.recipe.crop],
        **options.decoding_identity(),
        "max_pixels": options.max_pixels,
    }
    geometry = {key: value for key, value in identity.items() if key not in ("images", "n_images")}
    path = folder / f"{digest_of_json(geometry)[:10]}.h5"
    ids = {"image_id": table.image_id}
    return Plan(path, PIXELS_SCHEMA, identity, {}, len(table), ids, part_rows=BLOCK_ROWS, keeps_parts=True)


def pixel_bytes(plan: Plan) -> int:
    """Bytes of all pixels: 38.5 GB for AVA at 224 x 224."""
    return int(plan.n_rows * np.prod(plan.identity["shape"], dtype=np.int64))


def open_pixels(plan: Plan) -> PixelCache:
    """The finished cache. Raises MissingFileError, or another StoreError where it is damaged or of other
    images."""
    return PixelCache(plan, _open_index(plan.path, plan.identity))


def _open_index(path: Path, expect: Mapping[str, Any] | None = None) -> SealedFile:
    index = SealedFile(path, PIXELS_SCHEMA)
    advice = f"Images were added or changed: delete {path} and {path}.parts to make it again"
    check_identity(index.identity, expect or {}, path, advice)
    return index


def build_pixels(
    table: ImageTable,
    backbone: Backbone,
    plan: Plan,
    options: Options,
    on_size: Callable[[int, int], None] | None = None,
    on_rows: Callable[[int, int], None] | None = None,
) -> PixelCache:
    """The cache, made where it is missing; an interrupted run goes on with the parts it has.

    `on_size(n_bytes, n_free)` is called before anything is written, `on_rows(n_rows, n_failed)` as images get
    done. Raises SpaceError if the disk has no room for what is missing.
    """
    try:
        return open_pixels(plan)
    except MissingFileError:
        pass
    with claimed(plan, _open_index) as run:
        missing = run.begin()
        _require_space(plan, missing, on_size)
        if on_rows is not None:
            on_rows(len(table) - sum(stop - start for start, stop in (plan.parts[i] for i in missing)), 0)
        _decode_parts(table, backbone, run, options, on_rows)
        run.finish(join=_seal)
    return open_pixels(plan)


def _require_space(plan: Plan, missing: list[int], on_size: Callable[[int, int], None] | None) -> None:
    n_rows = sum(plan.parts[i][1] - plan.parts[i][0] for i in missing)
    needed = n_rows * (pixel_bytes(plan) // max(plan.n_rows, 1) + 100) + 2**20
    free = shutil.disk_usage(plan.folder).free
    if on_size is not None:
        on_size(needed, free)
    if free < needed:
        raise SpaceError(
            f"the pixel cache {plan.folder} needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB "
            "free. Free some space, choose another place (--data), or decode in every epoch: --pixels stream"
        )


def _decode_parts(
    table: ImageTable,
    backbone: Backbone,
    run: Run[SealedFile],
    options: Options,
    on_rows: Callable[[int, int], None] | None,
) -> None:
    plan = run.plan
    batches = [
        Batch(index, start, min(start + READ_BATCH, plan.parts[index][1]))
        for index in run.todo
        for start in range(*plan.parts[index], READ_BATCH)
    ]
    pixels = np.empty(0, np.uint8)
    reasons: dict[int, str] = {}
    decoding = options.decoding([pixel_steps(backbone.transform)])
    crashes = crash_notes(table, decoding, options.crash_folder)
    for batch, rows in load_batches(table, batches, decoding, options.n_threads, crashes):
        first, last = plan.parts[batch.part]
        if batch.start == first:
            pixels, reasons = np.zeros((last - first, *plan.identity["shape"]), np.uint8), {}
        for row, number in zip(rows, range(batch.start - first, batch.stop - first), strict=True):
            if row.pixels is None:
                reasons[number] = row.reason
            else:
                pixels[number] = row.pixels[0].transpose(2, 0, 1)
        if on_rows is not None:
            on_rows(len(rows), sum(row.pixels is None for row in rows))
        if batch.stop == last:
            status = np.full(last - first, Status.OK, np.uint8)
            status[list(reasons)] = Status.FAILED
            arrays: dict[str, np.ndarray] = {
                "pixels": pixels,
                "status": status,
                "failures/row": np.array(list(reasons), np.int64),
                "failures/reason": np.array(list(reasons.values()), dtype=str),
            }
            run.write(batch.part, arrays)


def _seal(plan: Plan) -> None:
    """Write the index: what the parts hold and their digests."""
    parts = [open_part(plan, index) for index in range(len(plan.parts))]
    starts = [start for start, _ in plan.parts]
    rows = [part.view("failures/row") + start for part, start in zip(parts, starts, strict=True)]
    arrays = {
        "image_id": plan.ids["image_id"],
        "status": np.concatenate([part.view("status") for part in parts]),
        "failures/row": np.concatenate(rows),
        "failures/reason": np.concatenate([part.strings("failures/reason") for part in parts]),
        "part_digest": np.array([part.digest for part in parts], dtype=str),
    }
    write_sealed(plan.path, plan.schema, plan.identity, plan.provenance, arrays)
    failed = Counter(arrays["failures/reason"].tolist())
    logger.info("%s: %d images, failed: %s", plan.path, plan.n_rows, dict(failed) or "none")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
