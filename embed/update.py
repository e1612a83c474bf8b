"""A finished file brought up to date: rows of unchanged images are kept, the others embedded.

The images that are new or have changed, and those that failed, go through an ordinary run of their own in the
folder `update` beside the files, which can be stopped and gone on with as any other; then each file is
written anew from its old rows and those. A row is kept only if its image has the same bytes as then: size
and time of change are as noted just before it was read, or the SHA-256 is as stored. So an image that was
renamed keeps its row.

A batch of the small run holds other neighbours than it would have in a run over all images, which moves
vectors by about 2e-6; so what was kept is recorded in the provenance (`updates`).
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from embed.backbones.loading import Backbone
from embed.images.changes import Changes
from embed.images.datasets import ImageTable
from embed.options import Options, Timings
from embed.pipeline import (
    LIST_FIELDS,
    Outcome,
    differs_in_images_alone,
    embed_images,
    feature_path,
    feature_plan,
)
from store import Features, IdentityError, open_features
from store.begun import open_begun, write_parts_joined
from store.digests import canonical_json, digest_of_strings
from store.identity import complete, differences
from store.joined import write_joined
from store.locks import lock_path, write_lock
from store.parts import Plan, begun_plan, discard
from store.shapes import Int

logger = logging.getLogger(__name__)

_OF_ONE_RUN = {"updates", "smaller_batches", "other_decoders"}
_N_COMBINATIONS = 16


def update_images(
    table: ImageTable,
    backbones: Sequence[Backbone],
    folder: Path,
    options: Options,
    on_rows: Callable[[int, int, bool], None] | None = None,
    timings: Timings | None = None,
) -> list[Outcome]:
    """As embed_images, but a finished file of another list of images gives its rows of unchanged images.

    A backbone without a finished file is embedded whole. Rows that failed are tried again; an image that
    cannot be read now keeps the row of its file, where the id says which file that was. `on_rows` is called
    first for the rows that are kept.

    Raises:
        IdentityError: a file was made with other weights, preprocessing or precision, or without hashes of
            its images.
        BusyError: another run writes one of the files.
    """
    for backbone in backbones:
        _keep_begun(feature_plan(table, backbone, feature_path(folder, backbone.id), options))
    absent = [b for b in backbones if not feature_path(folder, b.id).exists()]
    found = embed_images(table, absent, folder, options, on_rows, timings) if absent else []
    there = [b for b in backbones if b not in absent]
    if there:
        found += _update(table, there, folder, options, on_rows, timings)
    outcome_of = {outcome.backbone: outcome for outcome in found}
    return [outcome_of[b.id] for b in backbones]


def _update(
    table: ImageTable,
    backbones: Sequence[Backbone],
    folder: Path,
    options: Options,
    on_rows: Callable[[int, int, bool], None] | None,
    timings: Timings | None,
) -> list[Outcome]:
    plans = [feature_plan(table, b, feature_path(folder, b.id), options) for b in backbones]
    with ExitStack() as stack:
        for plan in plans:
            stack.enter_context(write_lock(lock_path(plan.path)))
        files = [stack.enter_context(_open_old(plan)) for plan in plans]
        changes = Changes(table, options.check_content)
        kept = [kept_rows(file, changes, plan.seen_path) for file, plan in zip(files, plans, strict=True)]
        to_make = np.flatnonzero(np.logical_or.reduce([rows < 0 for rows in kept]))
        if on_rows is not None:
            on_rows(len(table) - len(to_make), 0, False)
        made = update_folder(folder)
        new: list[Features] | list[None] = [None] * len(plans)
        if len(to_make):
            _embed_some(table, to_make, backbones, made, options, on_rows, timings)
            new = [stack.enter_context(open_features(feature_path(made, b.id))) for b in backbones]
        outcomes = []
        for plan, old, some, old_row in zip(plans, files, new, kept, strict=True):
            new_row = np.full(len(table), -1)
            new_row[to_make] = np.arange(len(to_make))
            new_row[old_row >= 0] = -1
            is_known = changes.now[:, 0] >= 0
            if some is not None:
                is_known[_keep_unreadable(table, old, some, old_row, new_row)] = False
                _keep_equal(old, some, old_row, new_row)
            plan.seen_path.unlink(missing_ok=True)  # it is of the old list
            outcomes.append(_join(plan, old, some, old_row, new_row))
            changes.note(plan.seen_path, np.flatnonzero(is_known).tolist())
            _discard_run_of_another_list(plan)
        _tidy(made, backbones)
    return outcomes


def _keep_begun(plan: Plan) -> None:
    """Make a finished file of what an unfinished run over another list of images has finished, so that its
    rows can be kept; its other parts are dropped. Nothing where a file is finished, or the run is of this
    list."""
    begun = None if plan.path.exists() else open_begun(plan.path)
    if begun is None or not differs_in_images_alone(begun.identity, plan.identity):
        return
    with write_lock(lock_path(plan.path)):
        parts = begun.new_parts()
        if parts:
            rows = np.concatenate([np.arange(part.start, part.start + len(part)) for part in parts])
            ids, paths = begun.image_id[rows], begun.path[rows]
            identity = {
                **begun.identity, "images": digest_of_strings(ids, paths), "n_images": len(rows),
            }  # fmt: skip
            logger.info("%s: %d rows of a run over another list are kept", plan.path.name, len(rows))
            write_parts_joined(plan.path, identity, begun.plan.provenance, ids, parts)
        discard(begun.plan)


def update_folder(folder: Path) -> Path:
    """Where the rows of an update are made, beside the files."""
    return folder / "update"


def _embed_some(
    table: ImageTable,
    rows: Int[np.ndarray, " n_rows"],
    backbones: Sequence[Backbone],
    folder: Path,
    options: Options,
    on_rows: Callable[[int, int, bool], None] | None,
    timings: Timings | None,
) -> None:
    """An ordinary run over some rows; one that was begun over other rows is discarded."""
    ids, paths = table.image_id[rows], table.path[rows]
    some = ImageTable(table.dataset, table.root, ids, paths, source=table.source)
    share = min(1.0, options.max_failed_share * len(table) / len(some))
    own = replace(options, overwrite=True, max_failed_share=share)
    embed_images(some, backbones, folder, own, on_rows, timings)


def _tidy(folder: Path, backbones: Sequence[Backbone]) -> None:
    """Remove the small files that have been joined, and the folder unless somebody else works in it."""
    for backbone in backbones:
        path = feature_path(folder, backbone.id)
        for leftover in path.parent.glob(f"{escape(path.name)}*"):
            leftover.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def kept_rows(file: Features, changes: Changes, seen_path: Path) -> Int[np.ndarray, " n_images"]:
    """Row of the old file for each image of the table that has the same bytes as then, looked up by its id,
    then by its content; else -1."""
    rows = _rows_by_id(file, changes.table.image_id)
    there = np.flatnonzero(rows >= 0)
    rows[there[~changes.same_bytes(there, file.file, rows[there], seen_path)]] = -1
    others = np.flatnonzero(rows < 0)
    rows[others] = changes.rows_by_content(others, file.file, file.ok)
    return rows


def _rows_by_id(file: Features, image_id: np.ndarray) -> Int[np.ndarray, " n_images"]:
    row_of = {name: row for row, name in enumerate(file.image_id.tolist()) if file.ok[row]}
    return np.array([row_of.get(name, -1) for name in image_id.tolist()], np.int64)


def _keep_unreadable(
    table: ImageTable,
    old: Features,
    new: Features,
    old_row: Int[np.ndarray, " n_images"],
    new_row: Int[np.ndarray, " n_images"],
) -> Int[np.ndarray, " n_unreadable"]:
    """Let an image whose bytes cannot be had (a disk that is away) keep the row of its id: it has not changed
    as far as anybody can tell, and a good row is not given for a failed one. Returns those rows.

    Only where the id is known to mean the same file as then: it is the file's name, or the list is the same.
    """
    made = np.flatnonzero(new_row >= 0)
    unreadable = made[new.file.take("source_size", new_row[made]) < 0]
    if old.identity["images"] != table.digest:
        unreadable = unreadable[table.image_id[unreadable] == table.path[unreadable]]
    rows = _rows_by_id(old, table.image_id[unreadable])
    unreadable, rows = unreadable[rows >= 0], rows[rows >= 0]
    if len(unreadable):
        logger.warning(
            "%s: %d images cannot be read now and keep their rows, the first %s: %s",
            old.path.name, len(unreadable), table.path[unreadable[0]],
            new.failures[int(new_row[unreadable[0]])],
        )  # fmt: skip
    old_row[unreadable], new_row[unreadable] = rows, -1
    return unreadable


def _keep_equal(
    old: Features,
    new: Features,
    old_row: Int[np.ndarray, " n_images"],
    new_row: Int[np.ndarray, " n_images"],
) -> None:
    """Give a new row the old one of a file with the same bytes: equal files share one vector, and the one
    that is there does not move. Most were found before they were embedded; not files that changed meanwhile.
    """
    made = np.flatnonzero(new_row >= 0)
    made = made[new.ok[new_row[made]]]
    contents = [row.tobytes() for row in old.file.view("source_sha256")]
    first = {contents[row]: row for row in np.flatnonzero(old.ok)[::-1].tolist()}
    found = new.file.take("source_sha256", new_row[made])
    same = np.array([first.get(row.tobytes(), -1) for row in found], np.int64)
    old_row[made[same >= 0]], new_row[made[same >= 0]] = same[same >= 0], -1


def _discard_run_of_another_list(plan: Plan) -> None:
    """Remove an unfinished run of this combination over other images, which nobody can finish any more."""
    begun = begun_plan(plan.path, plan.ids)
    if begun is not None and differs_in_images_alone(begun.identity, plan.identity):
        discard(plan)


def _open_old(plan: Plan) -> Features:
    """The finished file, of the plan's combination but for the list of images."""
    expected = {k: v for k, v in complete(plan.identity).items() if k not in LIST_FIELDS}
    file = open_features(plan.path, expected)
    if "source_sha256" not in file.file.arrays:
        raise IdentityError(
            f"{plan.path} has no hashes of its images, so nobody can tell which are the same. "
            "Embed all anew: iaa embed --overwrite"
        )
    return file


def _join(
    plan: Plan,
    old: Features,
    new: Features | None,
    old_row: Int[np.ndarray, " n_images"],
    new_row: Int[np.ndarray, " n_images"],
) -> Outcome:
    """Write the file anew, unless all of it would be as it is."""
    made = np.flatnonzero(new_row >= 0)
    reason_of = {} if new is None else new.failures
    failures = {int(row): reason_of[n] for row in made if (n := int(new_row[row])) in reason_of}
    outcome = Outcome(old.backbone, plan.path, old.digest, plan.n_rows, len(failures), len(made))
    is_same_list = not any(differences(old.identity, plan.identity))
    is_in_place = ((old_row == np.arange(plan.n_rows)) | (old_row < 0)).all()
    fails_again = failures == old.failures and len(failures) == len(made)
    if fails_again and new is not None:
        fails_again = _same_sources(old, made, new, new_row[made])
    if is_same_list and is_in_place and fails_again:
        return replace(outcome, n_new=0)
    provenance = {**plan.provenance, "updates": _history(plan, old, new, len(made))}
    file = None if new is None else new.file
    return replace(outcome, digest=write_joined(plan, old.file, file, old_row, new_row, provenance))


def _same_sources(old: Features, rows: np.ndarray, new: Features, new_rows: np.ndarray) -> bool:
    """True if failed images are the same bytes as then."""
    names = ("source_size", "source_sha256")
    return all(np.array_equal(old.file.take(n, rows), new.file.take(n, new_rows)) for n in names)


def _history(plan: Plan, old: Features, new: Features | None, n_new: int) -> dict[str, Any]:
    """What is written down about an update. It does not grow with their number: of what earlier rows were
    made with, only what differs from this file's own provenance is kept, each combination once."""
    before = old.provenance.get("updates", {})
    own = {key: value for key, value in old.provenance.items() if key not in _OF_ONE_RUN}
    earlier = [own, *({**own, **changed} for changed in before.get("earlier_rows_made_with", []))]
    made_with = [
        {key: value for key, value in each.items() if plan.provenance.get(key) != value} for each in earlier
    ]
    distinct = list({canonical_json(each): each for each in made_with if each}.values())
    smaller = [file.provenance for file in (old, new) if file is not None]
    decoders = {name for each in smaller for name, _ in each.get("other_decoders", [])}
    decoders.update(before.get("other_decoders", []))
    return {
        "n_updates": before.get("n_updates", 0) + 1,
        "from": old.digest,
        "n_kept": plan.n_rows - n_new,
        "n_new": n_new,
        "earlier_rows_made_with": distinct[:_N_COMBINATIONS],
        "some_in_smaller_batches": before.get("some_in_smaller_batches", False)
        or any("smaller_batches" in each for each in smaller),
        **({"other_decoders": sorted(decoders)} if decoders else {}),
    }
