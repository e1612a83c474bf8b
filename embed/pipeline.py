"""A run: images in, one finished feature file per backbone out, resumed where an earlier run stopped."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from embed import turbo
from embed.backbones import file_stem
from embed.datasets import ImageTable
from embed.decode import DECODER
from embed.encoding import TooManyFailuresError, embed_parts
from embed.loading import Backbone
from embed.options import Options, Timings
from store import IdentityError, MissingFileError, open_features
from store.features import FEATURES_SCHEMA
from store.locks import write_lock
from store.parts import Plan, begin, clean_up, discard, merge_parts, missing_parts

__all__ = [
    "Options",
    "Outcome",
    "Timings",
    "TooManyFailuresError",
    "embed_images",
    "feature_path",
    "feature_plan",
]

logger = logging.getLogger(__name__)


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
        "precision": backbone.precision,
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
            embed_parts(table, unfinished, plans, todo, options, on_rows, timings)
        n_new = {b.id: sum(stop - start for start, stop in _bounds(plans[b.id], todo)) for b in unfinished}
        for backbone in unfinished:
            started = time.perf_counter()
            merge_parts(plans[backbone.id])
            timings.write += time.perf_counter() - started
    timings.wall = time.perf_counter() - began
    return [_outcome(b.id, plans[b.id].path, n_new.get(b.id, 0)) for b in backbones]


def feature_path(folder: Path, backbone_id: str) -> Path:
    """The feature file of a backbone below a folder."""
    return folder / f"{file_stem(backbone_id)}.h5"


def _bounds(plan: Plan, todo: dict[str, list[int]]) -> list[tuple[int, int]]:
    return [plan.parts[index] for index in todo[str(plan.identity["backbone"])]]


def _is_finished(plan: Plan, overwrite: bool) -> bool:
    try:
        open_features(plan.path, plan.identity).close()
    except MissingFileError:
        return False
    except IdentityError:
        if overwrite:
            return False
        raise
    clean_up(plan)
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
