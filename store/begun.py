"""A run that is not finished, read while it goes on: the rows of the parts that are sealed.

The parts know their rows by number alone, so a run notes beside them which images it is over. What is read
here is checked as everything in the store; it is for looking at early, not for results: rows of equal images
share one vector only when the parts are joined.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from store.arrays import Reader
from store.errors import MissingFileError, StoreError
from store.features import FEATURES_SCHEMA
from store.identity import check_identity
from store.parts import Plan, begun_plan, open_part
from store.rows import Selection, read_rows
from store.sealed import SealedFile, write_sealed
from store.shapes import Float32

LIST_SCHEMA = "iaa/list"
LIST_NOTE = "list.h5"


def note_list(plan: Plan, image_id: np.ndarray, path: np.ndarray) -> None:
    """Note which images a begun run is over: its rows' ids and files. Raises SpaceError."""
    note = plan.folder / LIST_NOTE
    if not note.exists():
        write_sealed(note, LIST_SCHEMA, _of(plan), {}, {"image_id": image_id, "path": path}, plan.tag)


@dataclass(frozen=True)
class BegunPart(Reader):
    """The rows of one sealed part; `start` is its first row in the run's list."""

    file: SealedFile
    start: int
    status: np.ndarray
    failures: Mapping[int, str]
    """Reason by row of the part."""
    reopen: Callable[[], "BegunPart"]
    """Opens it anew; raises StoreError where it has been joined or made again since."""

    def __len__(self) -> int:
        return len(self.status)

    def read(
        self, output: str, rows: Selection = None, unit_norm: bool = False
    ) -> Float32[np.ndarray, "n_rows dim"]:
        """Rows of one output, counted from the part's start."""
        return read_rows(self.file, f"outputs/{output}", rows, unit_norm)


class Begun:
    """An unfinished run of a feature file: what it makes, over which images, and its parts as they come."""

    def __init__(self, plan: Plan, image_id: np.ndarray, path: np.ndarray) -> None:
        self.plan = plan
        self.image_id = image_id
        self.path = path
        self._seen: dict[int, tuple[int, int, int]] = {}

    @property
    def identity(self) -> Mapping[str, Any]:
        """The combination that is being made."""
        return self.plan.identity

    @property
    def outputs(self) -> dict[str, int]:
        """Width of each output."""
        found: dict[str, int] = self.plan.identity["outputs"]
        return found

    def new_parts(self) -> list[BegunPart]:
        """The sealed parts that were not there, or were other files, when this was asked last. A damaged one
        is left out: the run will make it again."""
        found = []
        for index, (start, _) in enumerate(self.plan.parts):
            try:
                status = os.stat(self.plan.part_path(index))
            except OSError:
                continue
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._seen.get(index) == stamp:
                continue
            self._seen[index] = stamp
            try:
                found.append(_part(self.plan, index, start))
            except StoreError:
                continue
        return found


def open_begun(path: Path) -> Begun | None:
    """The unfinished run that is to make a feature file; None where none was begun, or where it did not note
    its images. Raises IntegrityError for a plan that is none."""
    plan = begun_plan(path, {})
    if plan is None or plan.schema != FEATURES_SCHEMA:
        return None
    try:
        note = SealedFile(plan.folder / LIST_NOTE, LIST_SCHEMA)
        check_identity(note.identity, _of(plan), note.path, "It is made again by the next run")
        return Begun(plan, note.strings("image_id"), note.strings("path"))
    except MissingFileError:
        return None


def write_parts_joined(
    path: Path,
    identity: Mapping[str, Any],
    provenance: Mapping[str, Any],
    image_id: np.ndarray,
    parts: Sequence[BegunPart],
) -> str:
    """Write a feature file of the rows of some parts and return its content digest. The rows are in memory
    while it is written."""
    arrays: dict[str, np.ndarray] = {"image_id": image_id}
    starts = np.cumsum([0, *(len(part) for part in parts)])
    for name in parts[0].file.arrays:
        if name == "failures/row":
            rows = [part.file.view(name) + start for part, start in zip(parts, starts, strict=False)]
            arrays[name] = np.concatenate(rows)
        elif name == "failures/reason":
            arrays[name] = np.concatenate([part.file.strings(name) for part in parts])
        else:
            arrays[name] = np.concatenate([part.file.view(name) for part in parts])
    return write_sealed(path, FEATURES_SCHEMA, identity, provenance, arrays)


def _of(plan: Plan) -> dict[str, Any]:
    return {"images": plan.identity.get("images", ""), "n_images": plan.n_rows}


def _part(plan: Plan, index: int, start: int) -> BegunPart:
    file = open_part(plan, index)
    reasons = file.strings("failures/reason").tolist()
    failures = dict(zip(file.view("failures/row").tolist(), reasons, strict=True))
    return BegunPart(file, start, file.view("status").copy(), failures, partial(_part, plan, index, start))
