"""A finished file brought up to date: rows of unchanged images are kept, the others embedded.

The images that are new or have changed, and those that failed, go through an ordinary run of their own in the
folder `update` beside the files, which can be stopped and gone on with as any other; then each file is
written anew from its old rows and those. A row is kept only if its image has the same bytes as then: size
and time of change are as noted just before it was read, or the SHA-256 is as stored. So an image that was
renamed keeps its row.

A batch of the small run holds other neighbours than it would have in a run over all images, which moves
vectors by about 2e-6; so what was kept is recorded in the provenance (`updates`).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from embed.changes import Changes, rows_by_content, same_bytes
from embed.datasets import ImageTable
from embed.loading import Backbone
from embed.options import Options, Timings
from embed.pipeline import Outcome, embed_images, feature_path, feature_plan
from store import Features, MissingFileError, open_features
from store.identity import differences
from store.joined import write_joined
from store.locks import lock_path, write_lock
from store.parts import Plan


def update_images(
    table: ImageTable,
    backbones: Sequence[Backbone],
    folder: Path,
    options: Options,
    on_rows: Callable[[int, int, bool], None] | None = None,
    timings: Timings | None = None,
) -> list[Outcome]:
    """As embed_images, but a finished file of another list of images gives its rows of unchanged images.

    All files must be there and of this combination but for the images. Rows that failed are tried again.
    `on_rows` is called first for the rows that are kept.

    Raises:
        MissingFileError: a backbone has no finished file to start from.
        IdentityError: a file was made with other weights, preprocessing or precision.
        BusyError: another run writes one of the files.
    """
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
        made = folder / "update"
        new: list[Features] | list[None] = [None] * len(plans)
        if len(to_make):
            _embed_some(table, to_make, backbones, made, options, on_rows, timings)
            new = [stack.enter_context(open_features(feature_path(made, b.id))) for b in backbones]
        outcomes = []
        for plan, old, some, old_row in zip(plans, files, new, kept, strict=True):
            new_row = np.full(len(table), -1)
            new_row[to_make] = np.arange(len(to_make))
            new_row[old_row >= 0] = -1
            outcomes.append(_join(plan, old, some, old_row, new_row))
            changes.note(plan.seen_path, range(len(table)))
        _tidy(made, backbones)
    return outcomes


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
    row_of = {name: row for row, name in enumerate(file.image_id.tolist()) if file.ok[row]}
    rows = np.array([row_of.get(name, -1) for name in changes.table.image_id.tolist()], np.int64)
    there = np.flatnonzero(rows >= 0)
    rows[there[~same_bytes(changes, there, file.file, rows[there], seen_path)]] = -1
    others = np.flatnonzero(rows < 0)
    rows[others] = rows_by_content(changes, others, file.file, file.ok)
    return rows


def _open_old(plan: Plan) -> Features:
    """The finished file, of the plan's combination but for the list of images."""
    expected = {k: v for k, v in plan.identity.items() if k not in ("images", "n_images")}
    try:
        return open_features(plan.path, expected)
    except MissingFileError as error:
        raise MissingFileError(
            f"{plan.path} does not exist, so there are no rows to keep. Embed first without --update"
        ) from error


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
    if is_same_list and is_in_place and failures == old.failures and len(failures) == len(made):
        return replace(outcome, n_new=0)
    update: dict[str, Any] = {
        "from": old.digest,
        "n_kept": plan.n_rows - len(made),
        "n_new": len(made),
        "kept_rows_made_with": {key: value for key, value in old.provenance.items() if key != "updates"},
    }
    if new is not None and (smaller := new.provenance.get("smaller_batches")):
        update["smaller_batches_of_new"] = smaller
    provenance = {**plan.provenance, "updates": [*old.provenance.get("updates", []), update]}
    file = None if new is None else new.file
    return replace(outcome, digest=write_joined(plan, old.file, file, old_row, new_row, provenance))
