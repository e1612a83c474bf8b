"""A run: images in, one finished feature file per backbone out, resumed where an earlier run stopped.

Several workers may share a run (store.run): each makes every n-th part, the last one to finish joins them.

Small jobs have small parts, so that a run which is stopped loses little and several workers have something to
share. Batches lie on a grid of their own (it begins anew at every 2,048th row), and a part is a whole number
of batches: the bytes of the file do not depend on the size of its parts.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from embed.backbones.loading import Backbone, row_bytes
from embed.encoding import TooManyFailuresError, embed_parts, join_notes
from embed.finished import feature_path
from embed.images.changes import Changes
from embed.images.datasets import ImageTable
from embed.options import Options, Outcome, Timings
from store import BusyError, IdentityError, StoreError, open_features
from store.begun import note_list
from store.digests import BLOCK_ROWS, PIECE_BYTES
from store.features import FEATURES_SCHEMA, Features
from store.identity import complete, differences
from store.locks import lock_path, write_lock
from store.parts import (
    MAX_PART_ROWS,
    Plan,
    begun_part_rows,
    begun_plan,
    begun_provenance,
    open_part,
    unfinished_runs,
)
from store.remote_run import RemoteRun
from store.run import Run, claimed, join_begun
from store.shards import SHARD_ABOVE, SHARD_BYTES, merge_shards

__all__ = [
    "Options",
    "Outcome",
    "Timings",
    "TooManyFailuresError",
    "embed_images",
    "feature_path",
    "feature_plan",
    "feature_plans",
    "make_files",
    "merge_run",
    "part_rows",
    "rows_per_part",
    "unfinished_runs",
]

LIST_FIELDS = {"images", "n_images"}
"""What an identity says about the list of images."""

EQUAL_BY = "source_sha256"
"""Rows of files with the same bytes share one vector."""

N_PARTS = 64
"""Parts that a run has at least, unless they would be smaller than a batch."""

OnRows = Callable[[int, int, bool], None]
Runs = Mapping[str, Run[Features]]
Make = Callable[[Runs, OnRows | None], None]

logger = logging.getLogger(__name__)


def feature_plan(table: ImageTable, backbone: Backbone, path: Path, options: Options) -> Plan:
    """The identity and provenance of one feature file, from what was really loaded."""
    identity = {
        "images": table.digest,
        "n_images": len(table),
        **({"variants": dict(table.made)} if table.made else {}),
        "backbone": backbone.id,
        **backbone.weights_identity,
        **backbone.engine_identity,
        "preprocessing": {**backbone.recipe.to_json(), **options.decoding_identity()},
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
    n, above = len(table), options.shard_above
    n_part = part_rows(n, options.batch_size, above, backbone.row_bytes)
    plan = Plan(path, FEATURES_SCHEMA, identity, provenance, n, ids, tag, n_part)
    return replace(plan, is_sharded=stays_in_shards(n, backbone.row_bytes, above))


def stays_in_shards(n_images: int, n_bytes: int, shard_above: int = SHARD_ABOVE) -> bool:
    """Whether a file is kept in shards: it has many rows, or rows of so many bytes that joining them would
    take as much of the disk again."""
    return n_images > shard_above or n_images * n_bytes > SHARD_BYTES


def part_rows(n_images: int, batch_size: int, shard_above: int = SHARD_ABOVE, n_bytes: int = 0) -> int:
    """Images per part of a run over so many: about an N_PARTS-th in whole batches, at most BLOCK_ROWS. Parts
    that stay as shards have whole blocks above that, at most MAX_PART_ROWS. Of rows of many bytes a part has
    as many whole batches as PIECE_BYTES hold: memory holds a part, and a GPU's run two."""
    n_batches = max(1, -(-n_images // (N_PARTS * batch_size)))
    wanted = n_batches * batch_size
    held = PIECE_BYTES // max(1, n_bytes)
    if held < BLOCK_ROWS:
        return min(wanted, max(1, held // batch_size) * batch_size, BLOCK_ROWS)
    if wanted <= BLOCK_ROWS or n_images <= shard_above:
        return min(wanted, BLOCK_ROWS)
    return min(-(-wanted // BLOCK_ROWS) * BLOCK_ROWS, MAX_PART_ROWS)


def rows_per_part(
    folder: Path,
    backbone_ids: Iterable[str],
    n_images: int,
    batch_size: int,
    shard_above: int = SHARD_ABOVE,
    n_bytes: int = 0,
) -> dict[str, int]:
    """Images per part for each backbone: as a run was begun, so that it goes on; the others follow it, so
    that each image is decoded once for all."""
    begun = {name: begun_part_rows(feature_path(folder, name)) for name in backbone_ids}
    own = part_rows(n_images, batch_size, shard_above, n_bytes)
    # Any other size would cut batches, and so move vectors in their last bits.
    usable = {name: n for name, n in begun.items() if n and (n % BLOCK_ROWS == 0 or n % batch_size == 0)}
    common = next(iter(usable.values()), own)
    return {name: usable.get(name, common) for name in begun}


def embed_images(
    table: ImageTable,
    backbones: Sequence[Backbone],
    folder: Path,
    options: Options,
    on_rows: OnRows | None = None,
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

    def make(runs: Runs, on_rows: OnRows | None) -> None:
        embed_parts(table, [b for b in backbones if b.id in runs], runs, options, on_rows, timings)

    plans = feature_plans(table, backbones, folder, options)
    return make_files(table, plans, options, make, on_rows, timings)


def feature_plans(
    table: ImageTable, backbones: Sequence[Backbone], folder: Path, options: Options
) -> dict[str, Plan]:
    """The plan of each backbone's file, its parts as a begun run has them."""
    ids = [b.id for b in backbones]
    longest = max(b.row_bytes for b in backbones)
    n_part = rows_per_part(folder, ids, len(table), options.batch_size, options.shard_above, longest)
    return {
        b.id: replace(feature_plan(table, b, feature_path(folder, b.id), options), part_rows=n_part[b.id])
        for b in backbones
    }


def make_files(
    table: ImageTable,
    plans: Mapping[str, Plan],
    options: Options,
    make: Make,
    on_rows: OnRows | None,
    timings: Timings,
) -> list[Outcome]:
    """The frame of a run, as embed_images: locks, what is left to make, and the files in the end.

    `make(runs, on_rows)` makes the parts that are in the `todo` of some runs (by backbone id), whose parts
    have one size: here and now, or by handing them to others.
    """
    began = time.perf_counter()
    changes = Changes(table, options.check_content)
    with ExitStack() as stack:
        runs = [
            stack.enter_context(claimed(p, _open_finished, options.worker, _elsewhere(p, options)))
            for p in plans.values()
        ]
        for run in runs:
            run.begin(
                options.overwrite,
                partial(_is_usable, run.plan, options.overwrite, changes),
                missing=partial(_note_parts_to_make, run.plan, changes),
            )
        unfinished = {id: run for id, run in zip(plans, runs, strict=True) if not run.is_finished}
        for run in unfinished.values():
            note_list(run.plan, table.image_id, table.path)
        outcomes = {}
        for size in dict.fromkeys(run.plan.part_rows for run in unfinished.values()):
            alike = {id: run for id, run in unfinished.items() if run.plan.part_rows == size}
            if on_rows is not None:
                plan = next(iter(alike.values())).plan
                share = options.share(len(plan.parts))
                done = set(share).difference(*(run.todo for run in alike.values()))
                on_rows(_n_rows(plan, done), 0, False)
            make(alike, on_rows)
            started = time.perf_counter()
            for id, run in alike.items():
                outcomes[id] = _finish(run)
            timings.write += time.perf_counter() - started
    timings.wall = time.perf_counter() - began
    return [outcomes.get(b) or _outcome(plan, 0) for b, plan in plans.items()]


def merge_run(table: ImageTable, path: Path, shard_above: int | None = None) -> Outcome:
    """Join the parts of a run that workers have completed into one file, or into shards where there are more
    than `shard_above` rows; a finished file is left alone.

    Raises:
        MissingFileError: there is neither a file nor a run.
        IdentityError: the run is of another list of images.
        StoreError: parts are missing; the message says how many rows, and who is at work.
    """

    def check(plan: Plan) -> None:
        if plan.identity["images"] != table.digest:
            raise IdentityError(
                f"{plan.folder} holds a run of another list of images ({plan.n_rows:,} rows, here are "
                f"{len(table):,}). Restore the images, or start anew: iaa embed --overwrite"
            )

    ids = {"image_id": table.image_id}
    made = begun_provenance(path)
    n_bytes = row_bytes(made.get("outputs", {}), made.get("cells", {}))
    is_sharded = shard_above is not None and stays_in_shards(len(table), n_bytes, shard_above)
    joined = join_begun(path, ids, open_features, EQUAL_BY, _is_of_one_run, check, join_notes, is_sharded)
    if joined is None:
        with open_features(path, {"images": table.digest}) as features:
            n_failed = len(features.failures)
            return Outcome(features.backbone, path, features.digest, features.n_images, n_failed, 0)
    plan, missing = joined
    if missing:
        raise StoreError(
            f"{path}: {_n_rows(plan, missing):,} of {plan.n_rows:,} rows are still to be made "
            f"({len(missing)} of {len(plan.parts)} parts). {_who_is_at_work(path)}"
        )
    return _outcome(plan, 0)


def sharded_files(folder: Path) -> list[Path]:
    """The finished feature files of a folder that stand in shards."""
    return sorted(Path(f"{shards}".removesuffix(".shards")) for shards in folder.glob("*.h5.shards"))


def one_file(path: Path) -> bool:
    """Make one file of a feature file that stands in shards; False where there is none. The digest stays.

    Raises BusyError if a run writes it, IntegrityError for shards that are missing or damaged.
    """
    if not path.exists() or path not in sharded_files(path.parent):
        return False
    with write_lock(lock_path(path)):
        merge_shards(path)
    return True


def _n_rows(plan: Plan, parts: Iterable[int]) -> int:
    bounds = plan.parts
    return sum(bounds[index][1] - bounds[index][0] for index in parts)


def _finish(run: Run[Features]) -> Outcome:
    """Join the parts unless some are left to other workers."""
    plan, left, n_new = run.plan, run.finish(EQUAL_BY, join_notes), _n_rows(run.plan, run.todo)
    if not left:
        return _outcome(plan, n_new)
    made = set(range(len(plan.parts))).difference(left)
    n_failed = sum(run.n_failed(index) for index in made)
    backbone_id = str(plan.identity["backbone"])
    return Outcome(backbone_id, plan.path, "", plan.n_rows, n_failed, n_new, _n_rows(plan, left))


def _elsewhere(plan: Plan, options: Options) -> RemoteRun | None:
    return None if options.remote is None else RemoteRun(options.remote, plan)


def _who_is_at_work(path: Path) -> str:
    try:
        with write_lock(lock_path(path)):
            return "Nobody is at work here: run iaa embed again, or the workers that are not done."
    except BusyError as busy:
        return str(busy)


def _open_finished(path: Path, expect: Mapping[str, Any] | None = None) -> Features:
    """As open_features; where only the list of images differs, the error says how to keep the rows."""
    try:
        return open_features(path, expect)
    except IdentityError as error:
        with open_features(path) as features:
            is_other_list = differs_in_images_alone(features.identity, expect or {})
        if is_other_list:
            error.add_note("Only the images differ. To keep the rows of unchanged ones: iaa embed --update")
        raise


def _is_of_one_run(features: Features) -> bool:
    """False for an updated file: other batches than in a run over all images, and so other bytes."""
    return "updates" not in features.provenance


def _is_usable(plan: Plan, overwrite: bool, changes: Changes, features: Features) -> bool:
    """True if a finished file is, where `changes` can tell, of these images, and need not be replaced."""
    if overwrite and not _is_of_one_run(features):
        return False
    changed = changes.changed_rows(features.file, plan.seen_path)
    if changed and not overwrite and begun_plan(plan.path, plan.ids) is None:
        changes.refuse(plan.path, changed)
    return not changed


def differs_in_images_alone(found: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """True for identities of one combination over two lists of images."""
    differing = {field for field, _, _ in differences(found, complete(asked))}
    return bool(differing) and differing <= LIST_FIELDS


def _note_parts_to_make(plan: Plan, changes: Changes, share: Iterable[int]) -> list[int]:
    """As parts_to_make; what is known of their images is noted before they are read."""
    todo = parts_to_make(plan, share, changes)
    changes.note(plan.begun_seen_path, chain.from_iterable(range(*plan.parts[index]) for index in todo))
    return todo


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


def _outcome(plan: Plan, n_new: int) -> Outcome:
    with open_features(plan.path) as features:
        n_failed = len(features.failures)
        return Outcome(features.backbone, plan.path, features.digest, features.n_images, n_failed, n_new)
