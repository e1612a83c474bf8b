"""Shards out of a run's parts, and out of the rows of an earlier file: how a large feature file comes about.

No row is written twice: a part gets a second name among the shards, and the manifest names it. Only a part
with copies of photographs of other parts, whose vectors differ in their last bits, is written anew.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from store.arrays import Arrays
from store.errors import SchemaError
from store.parts import (
    PART_SCHEMA,
    JoinNotes,
    Plan,
    clean_up,
    first_of_equal_parts,
    join_failures,
    joined_parts,
    joined_provenance,
    open_part,
    part_bounds,
)
from store.sealed import SealedFile
from store.shapes import Int
from store.shards import (
    FEATURES_SCHEMA,
    Joined,
    ShardedFile,
    add_shard,
    flush_shards,
    write_manifest,
    write_shard,
)


def keep_parts(plan: Plan, equal_by: str = "", join_notes: JoinNotes | None = None) -> str:
    """Make the plan's file of its parts as they are, and return the content digest: as merge_parts, which
    makes one file of the same digest. Memory holds a part."""
    if plan.schema != FEATURES_SCHEMA:
        raise SchemaError(f"{plan.path}: only features are kept in shards, not {plan.schema}")
    parts = [open_part(plan, index) for index in range(len(plan.parts))]
    names = list(parts[0].arrays)
    own = dict(plan.ids)
    own |= {name: join_failures(name, parts, plan) for name in names if name.startswith("failures/")}
    provenance = joined_provenance(plan, parts, join_notes)
    first = first_of_equal_parts(equal_by, parts, plan) if equal_by else np.arange(plan.n_rows)
    rows = joined_parts(plan)
    shards = []
    for index, (start, stop) in enumerate(plan.parts):
        digest = parts[index].digest
        if changed := _shared(rows, parts[index], start, first[start:stop]):
            arrays = {name: rows.file(index).view(name) for name in names} | changed
            identity = plan.part_identity(index)
            digest = write_shard(
                plan.path, PART_SCHEMA, identity, parts[index].provenance, arrays, plan.tag
            )
        else:
            add_shard(plan.path, plan.part_path(index), digest)
        shards.append((digest, stop - start))
    flush_shards(plan.path)
    joined = [name for name in names if not name.startswith("failures/")]
    digest = write_manifest(plan.path, plan.identity, provenance, own, shards, joined, plan.tag)
    clean_up(plan)
    return digest


def _shared(rows: Joined, part: SealedFile, start: int, first: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of a part in which rows of equal images have the vectors of the first of them; none where
    they have them already."""
    followers = np.flatnonzero(first != np.arange(start, start + len(first)))
    changed = {}
    for name in part.arrays if len(followers) else ():
        if name.startswith("outputs/"):
            vectors = rows.take(name, first[followers])
            own = rows.view(name, start, start + len(first))
            if not np.array_equal(vectors, own[followers]):
                changed[name] = own.copy()
                changed[name][followers] = vectors
    return changed


def write_joined_shards(
    plan: Plan,
    old: Arrays,
    old_row: Int[np.ndarray, " n_rows"],
    rows_of: Callable[[str, int, int], np.ndarray],
    failures: Mapping[str, np.ndarray],
    provenance: Mapping[str, Any],
    release: Callable[[], None],
) -> str:
    """The shards of a file whose row r is row `old_row[r]` of `old`, or a new one where that is -1:
    `rows_of(name, start, stop)` gives some of an array. A shard of `old` whose rows all stay in their place
    stays as it is. Memory holds a shard."""
    names = [name for name in old.arrays if name not in plan.ids and not name.startswith("failures/")]
    kept: dict[tuple[int, int], str] = {}
    bounds = plan.parts
    if isinstance(old, ShardedFile):
        starts = old.rows.starts
        kept = dict(zip(pairwise(starts), old.shards, strict=True))
        bounds = part_bounds(plan.n_rows, starts[1])
    shards = []
    for index, (start, stop) in enumerate(bounds):
        stays = np.array_equal(old_row[start:stop], np.arange(start, stop)) and kept.get((start, stop))
        if not stays:
            arrays = {name: rows_of(name, start, stop) for name in names}
            stays = write_shard(plan.path, PART_SCHEMA, plan.part_identity(index), {}, arrays, plan.tag)
        shards.append((stays, stop - start))
    flush_shards(plan.path)
    own = {**plan.ids, **failures}
    return write_manifest(plan.path, plan.identity, provenance, own, shards, names, plan.tag, release)
