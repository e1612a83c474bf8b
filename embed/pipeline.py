"""A run: images in, one finished feature file per backbone out, resumed where an earlier run stopped.

Several workers may share a run: each makes every n-th part, the last one to finish merges. Which worker makes
which part is arithmetic, so no row depends on locks; beginning and merging take turns.

Small jobs have small parts, so that a run which is stopped loses little and several workers have something to
share. Batches lie on a grid of their own (it begins anew at every 2,048th row), and a part is a whole number
of batches: the bytes of the file do not depend on the size of its parts.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from embed import turbo
from embed.changes import Changes
from embed.datasets import ImageTable
from embed.decode import DECODER
from embed.encoding import TooManyFailuresError, embed_parts, join_notes
from embed.finished import feature_path
from embed.loading import Backbone
from embed.options import Options, Outcome, Timings
from store import BusyError, IdentityError, MissingFileError, StoreError, open_features
from store.digests import BLOCK_ROWS, digest_of_json
from store.features import FEATURES_SCHEMA
from store.identity import differences
from store.locks import lock_path, turn, worker_lock, write_lock
from store.parts import (
    Plan,
    begin,
    begun_part_rows,
    begun_plan,
    clean_up,
    discard,
    merge_parts,
    missing_parts,
    open_part,
)

__all__ = [
    "Options",
    "Outcome",
    "Timings",
    "TooManyFailuresError",
    "embed_images",
    "feature_path",
    "feature_plan",
    "merge_run",
    "part_rows",
    "rows_per_part",
    "unfinished_runs",
]

LIST_FIELDS = {"images", "n_images"}
"""What an identity says about the list of images."""

N_PARTS = 64
"""Parts that a run has at least, unless they would be smaller than a batch."""

logger = logging.getLogger(__name__)


def feature_plan(table: ImageTable, backbone: Backbone, path: Path, options: Options) -> Plan:
    """The identity and provenance of one feature file, from what was really loaded."""
    identity = {
        "images": table.digest,
        "n_images": len(table),
        "backbone": backbone.id,
        **backbone.weights_identity,
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
    tag = "" if options.worker is None else ".{}-of-{}".format(*options.worker)
    n_part = part_rows(len(table), options.batch_size)
    return Plan(path, FEATURES_SCHEMA, identity, provenance, len(table), ids, tag, n_part)


def part_rows(n_images: int, batch_size: int) -> int:
    """Images per part of a run over so many: about an N_PARTS-th in whole batches, at most BLOCK_ROWS."""
    n_batches = max(1, -(-n_images // (N_PARTS * batch_size)))
    return min(n_batches * batch_size, BLOCK_ROWS)


def rows_per_part(
    folder: Path, backbone_ids: Iterable[str], n_images: int, batch_size: int
) -> dict[str, int]:
    """Images per part for each backbone: as a run was begun, so that it goes on; the others follow it, so
    that each image is decoded once for all."""
    begun = {name: begun_part_rows(feature_path(folder, name)) for name in backbone_ids}
    own = part_rows(n_images, batch_size)
    # Any other size would cut batches, and so move vectors in their last bits.
    usable = {name: n for name, n in begun.items() if n and (n == BLOCK_ROWS or n % batch_size == 0)}
    common = next(iter(usable.values()), own)
    return {name: usable.get(name, common) for name in begun}


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
    is called as rows get done: first once for rows that an earlier run finished, then per batch. With
    `options.worker` only this worker's share is made; whoever finds all parts done merges them.

    Raises:
        IdentityError: a finished file or a begun run is of another combination (unless `overwrite`).
        BusyError: another run writes one of the files, or this worker is at work already.
        ChangedImagesError: a finished file was made from images that have changed (unless `overwrite`).
        TooManyFailuresError: more than `max_failed_share` of at least 1,000 images failed.
    """
    timings = timings if timings is not None else Timings()
    began = time.perf_counter()
    n_part = rows_per_part(folder, [b.id for b in backbones], len(table), options.batch_size)
    plans = {
        b.id: replace(feature_plan(table, b, feature_path(folder, b.id), options), part_rows=n_part[b.id])
        for b in backbones
    }
    changes = Changes(table, options.check_content)
    with ExitStack() as locks:
        for plan in plans.values():
            locks.enter_context(_claim(plan, options))
        todo: dict[str, list[int]] = {}
        for backbone_id, plan in plans.items():
            with turn(lock_path(plan.path)):
                if _is_finished(plan, options.overwrite, changes):
                    continue
                if options.overwrite:
                    _discard_other_run(plan)
                begin(plan)
                share = options.share(len(plan.parts))
                todo[backbone_id] = parts_to_make(plan, share, changes)
                rows = chain.from_iterable(range(*plan.parts[index]) for index in todo[backbone_id])
                changes.note(plan.begun_seen_path, rows)
        outcomes = {}
        for size in dict.fromkeys(n_part[name] for name in todo):
            unfinished = [b for b in backbones if b.id in todo and n_part[b.id] == size]
            if on_rows is not None:
                plan = plans[unfinished[0].id]
                done = set(options.share(len(plan.parts))).difference(*(todo[b.id] for b in unfinished))
                on_rows(_n_rows(plan, done), 0, False)
            embed_parts(table, unfinished, plans, todo, options, on_rows, timings)
            started = time.perf_counter()
            for backbone in unfinished:
                plan = plans[backbone.id]
                outcomes[backbone.id] = _finish(plan, _n_rows(plan, todo[backbone.id]))
            timings.write += time.perf_counter() - started
    timings.wall = time.perf_counter() - began
    return [outcomes.get(b) or _outcome(plan, 0) for b, plan in plans.items()]


def unfinished_runs(folder: Path) -> list[Path]:
    """The feature files of a folder that workers or a stopped run have begun and not finished."""
    return sorted(f.with_suffix("") for f in folder.glob("*.h5.parts") if (f / "plan.json").is_file())


def merge_run(table: ImageTable, path: Path) -> Outcome:
    """Join the parts of a run that workers have completed; a finished file is left alone.

    Raises:
        MissingFileError: there is neither a file nor a run.
        IdentityError: the run is of another list of images.
        StoreError: parts are missing; the message says how many rows, and who is at work.
    """
    with turn(lock_path(path)):
        plan = begun_plan(path, {"image_id": table.image_id}, ".merge-of-parts")
        if plan is None:
            with open_features(path, {"images": table.digest}) as features:
                n_failed = len(features.failures)
                return Outcome(features.backbone, path, features.digest, features.n_images, n_failed, 0)
        if _is_finished(plan, overwrite=True):
            return _outcome(plan, 0)
        if plan.identity["images"] != table.digest:
            raise IdentityError(
                f"{plan.folder} holds a run of another list of images ({plan.n_rows:,} rows, here are "
                f"{len(table):,}). Restore the images, or start anew: iaa embed --overwrite"
            )
        missing = missing_parts(plan)
        if missing:
            raise StoreError(
                f"{path}: {_n_rows(plan, missing):,} of {plan.n_rows:,} rows are still to be made "
                f"({len(missing)} of {len(plan.parts)} parts). {_who_is_at_work(path)}"
            )
        merge_parts(plan, "source_sha256", join_notes)
    return _outcome(plan, 0)


def _claim(plan: Plan, options: Options) -> AbstractContextManager[None]:
    lock = lock_path(plan.path)
    if options.worker is None:
        return write_lock(lock)
    return worker_lock(lock, options.worker, digest_of_json(plan.described()))


def _n_rows(plan: Plan, parts: Iterable[int]) -> int:
    bounds = plan.parts
    return sum(bounds[index][1] - bounds[index][0] for index in parts)


def _finish(plan: Plan, n_new: int) -> Outcome:
    """Merge unless rows are left to other workers. Who comes after the merge finds the file finished."""
    with turn(lock_path(plan.path)):
        if not plan.folder.exists() and _is_finished(plan, overwrite=False):
            return _outcome(plan, n_new)
        missing = missing_parts(plan)
        if missing:
            made = set(range(len(plan.parts))).difference(missing)
            n_failed = sum(_n_failed_in_part(plan, index) for index in made)
            backbone_id = str(plan.identity["backbone"])
            return Outcome(backbone_id, plan.path, "", plan.n_rows, n_failed, n_new, _n_rows(plan, missing))
        try:
            merge_parts(plan, "source_sha256", join_notes)
        except (StoreError, OSError):
            # Where locks do not work, another worker may have merged the same parts meanwhile.
            if plan.folder.exists() or not _is_finished(plan, overwrite=False):
                raise
        return _outcome(plan, n_new)


def _n_failed_in_part(plan: Plan, index: int) -> int:
    with open_part(plan, index) as part:
        return int(part.arrays["failures/row"][0][0])


def _who_is_at_work(path: Path) -> str:
    try:
        with write_lock(lock_path(path)):
            return "Nobody is at work here: run iaa embed again, or the workers that are not done."
    except BusyError as busy:
        return str(busy)


def _is_finished(plan: Plan, overwrite: bool, changes: Changes | None = None) -> bool:
    """True if the file is there, for this combination and, where `changes` can tell, for these images."""
    try:
        with open_features(plan.path, plan.identity) as features:
            if overwrite and "updates" in features.provenance:
                return False  # other batches than in a run over all images, and so other bytes
            changed = changes.changed_rows(features.file, plan.seen_path) if changes else []
    except MissingFileError:
        return False
    except IdentityError as error:
        if overwrite:
            return False
        with open_features(plan.path) as features:
            is_other_list = differs_in_images_alone(features.identity, plan.identity)
        if is_other_list:
            error.add_note("Only the images differ. To keep the rows of unchanged ones: iaa embed --update")
        raise
    if changes and changed:
        if not overwrite and begun_plan(plan.path, plan.ids) is None:
            changes.refuse(plan.path, changed)
        return False
    clean_up(plan)
    return True


def differs_in_images_alone(found: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """True for identities of one combination over two lists of images."""
    differing = {field for field, _, _ in differences(found, asked)}
    return bool(differing) and differing <= LIST_FIELDS


def parts_to_make(plan: Plan, share: Iterable[int], changes: Changes) -> list[int]:
    """The parts of a share that are not there, are damaged, or hold rows of images that have changed."""
    todo = []
    for index in share:
        try:
            with open_part(plan, index) as part:
                changed = changes.changed_rows(part, plan.begun_seen_path, plan.parts[index][0])
        except StoreError:
            todo.append(index)
            continue
        if changed:
            logger.warning(
                "%d images changed since they were embedded, the first row %d: their part is made again",
                len(changed),
                changed[0],
            )
            todo.append(index)
    return todo


def _discard_other_run(plan: Plan) -> None:
    try:
        begin(plan)
    except Exception as error:  # whatever is wrong with the old run, the user asked to replace it
        logger.warning("an unfinished run is discarded: %s", str(error).splitlines()[0])
        discard(plan)


def _outcome(plan: Plan, n_new: int) -> Outcome:
    with open_features(plan.path) as features:
        n_failed = len(features.failures)
        return Outcome(features.backbone, plan.path, features.digest, features.n_images, n_failed, n_new)
