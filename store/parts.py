"""Parts: a long run's finished work, kept in small sealed files until all rows are there.

A run is a folder `<final>.parts/` with `plan.json` (what is being made) and `part-00000.h5`, ... of
`part_rows` rows each, at most BLOCK_ROWS. A part is there complete or not at all, so a killed run loses at
most the parts in flight. `merge_parts` joins them into the final file with the same durability; the file does
not depend on the size of the parts.

A backbone may give equal inputs vectors that differ in their last bits: which kernel a row meets depends on
its place in the batch, and on the processor. So rows of equal inputs are given the vectors of the first of
them when parts are joined.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from store.digests import BLOCK_ROWS, block_bounds, digest_of_json, digest_pieces
from store.durable import remove_folder, space_error, write_json
from store.errors import IntegrityError, MissingFileError, StoreError
from store.features import Status
from store.identity import check_identity, complete, differences
from store.json_files import read_json
from store.rows import first_of_equal, first_of_equal_rows
from store.sealed import SealedFile, Streamed, write_sealed
from store.shapes import Int
from store.shards import Joined, remove_unnamed

logger = logging.getLogger(__name__)

JoinNotes = Callable[[dict[str, list[Any]]], dict[str, list[Any]]]

PART_SCHEMA = "iaa/part"
MAX_PART_ROWS = 8 * BLOCK_ROWS
"""Rows of a part at most; above BLOCK_ROWS it holds whole blocks."""
PLAN_NOTE = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What a run makes: the kind of the final file, its identity and provenance, and its ids."""

    path: Path
    schema: str
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    n_rows: int
    ids: Mapping[str, np.ndarray]
    """Columns known beforehand (image_id; texts and labels), in row order."""
    tag: str = ""
    """Keeps the temporary files of several workers apart."""
    part_rows: int = BLOCK_ROWS
    """Rows of a part: 1 to BLOCK_ROWS, or whole blocks up to MAX_PART_ROWS."""
    keeps_parts: bool = False
    """The parts are not joined but named by the final file, and stay where they are."""
    is_sharded: bool = False
    """The parts are not joined but become shards (store.sharding). How a run ends is no matter of its plan:
    the rows and their digest are the same."""

    def __post_init__(self) -> None:
        if not _is_part_size(self.part_rows):
            sizes = f"1 to {BLOCK_ROWS} rows, or a multiple up to {MAX_PART_ROWS}"
            raise ValueError(f"a part has {sizes}, not {self.part_rows!r}")

    @property
    def folder(self) -> Path:
        """Where the parts lie until the merge."""
        return self.path.with_name(self.path.name + ".parts")

    @property
    def seen_path(self) -> Path:
        """Note of the sources' sizes and times beside the finished file: it helps to find changed ones, and
        no row depends on it."""
        return self.path.with_name(self.path.name + ".seen")

    @property
    def begun_seen_path(self) -> Path:
        """The same note of a run that is not finished."""
        return self.folder / "seen"

    @property
    def parts(self) -> list[tuple[int, int]]:
        """(first row, last row + 1) of each part."""
        return part_bounds(self.n_rows, self.part_rows)

    def described(self) -> dict[str, Any]:
        """The plan as it stands in plan.json."""
        return {
            "schema": self.schema,
            "identity": dict(self.identity),
            "provenance": dict(self.provenance),
            "n_rows": self.n_rows,
            "part_rows": self.part_rows,
        }

    def part_identity(self, index: int) -> dict[str, Any]:
        """Identity of one part: the plan's digest and the part's number."""
        return {"plan": digest_of_json(self.described()), "part": index}

    def part_path(self, index: int) -> Path:
        """File of one part."""
        return self.folder / f"part-{index:05d}.h5"


def _is_part_size(found: Any) -> bool:
    if not isinstance(found, int) or not 0 < found <= MAX_PART_ROWS:
        return False
    return found <= BLOCK_ROWS or found % BLOCK_ROWS == 0


def part_bounds(n_rows: int, part_rows: int) -> list[tuple[int, int]]:
    """(first row, last row + 1) of each part: whole digest blocks, or every block is cut anew, so that none
    crosses its border."""
    if part_rows > BLOCK_ROWS:
        return [(start, min(start + part_rows, n_rows)) for start in range(0, n_rows, part_rows)]
    return [
        (start, min(start + part_rows, stop))
        for first, stop in block_bounds(n_rows)
        for start in range(first, stop, part_rows)
    ]


def within_blocks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """(first row, last row + 1) of the pieces of a part that lie in one digest block each."""
    while start < stop:
        end = min(stop, (start // BLOCK_ROWS + 1) * BLOCK_ROWS)
        yield start, end
        start = end


def begin(plan: Plan) -> None:
    """Make the run's folder and write down its plan, or check that a begun run has the same plan.

    Raises IdentityError naming the fields in which the begun run differs.
    """
    described = _as_json(plan.described())
    begun = _begun(plan.folder)
    if begun is None:
        write_json(plan.folder / PLAN_NOTE, described, plan.tag)
        return
    check_identity(
        begun,
        _wholly(described),
        f"{plan.folder} holds an unfinished run that",
        "Finish it with its own settings, or discard it and start anew: --overwrite",
    )


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _wholly(described: Mapping[str, Any]) -> dict[str, Any]:
    """A described plan, to be asked for in every field of its identity."""
    return {**described, "identity": complete(described["identity"])}


def begun_plan(path: Path, ids: Mapping[str, np.ndarray], tag: str = "") -> Plan | None:
    """The plan of the unfinished run that is to make `path`; None if none was begun.

    Raises IntegrityError if it is no plan of this version.
    """
    folder = path.with_name(path.name + ".parts")
    begun = _begun(folder)
    if begun is None:
        return None
    try:
        fields = (begun["schema"], begun["identity"], begun["provenance"], begun["n_rows"])
        plan = Plan(path, *fields, ids, tag, begun["part_rows"])
        is_same = begun == _as_json(plan.described())
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{folder / PLAN_NOTE} is no plan. Start the run anew: --overwrite") from error
    if not is_same:
        raise IntegrityError(f"{folder / PLAN_NOTE} is of another version. Start the run anew: --overwrite")
    return plan


def _begun(folder: Path) -> Any:
    """The plan of a begun run as it is written down; None if none was begun."""
    try:
        return read_json(folder / PLAN_NOTE, "Start the run anew: --overwrite")
    except MissingFileError:
        return None


def unfinished_runs(folder: Path) -> list[Path]:
    """The feature files of a folder that workers or a stopped run have begun and not finished."""
    return sorted(f.with_suffix("") for f in folder.glob("*.h5.parts") if (f / PLAN_NOTE).is_file())


def begun_provenance(path: Path) -> dict[str, Any]:
    """The provenance that an unfinished run wrote down which is to make `path`; empty if there is none."""
    try:
        return dict(_begun(path.with_name(path.name + ".parts"))["provenance"])
    except (StoreError, ValueError, KeyError, TypeError):
        return {}


def begun_identity(path: Path) -> dict[str, Any]:
    """The identity of the unfinished run that is to make `path`; empty if there is none."""
    try:
        return dict(_begun(path.with_name(path.name + ".parts"))["identity"])
    except (StoreError, ValueError, KeyError, TypeError):
        return {}


def begun_part_rows(path: Path) -> int | None:
    """Rows per part of the unfinished run that is to make `path`; None if none says so."""
    try:
        found = _begun(path.with_name(path.name + ".parts"))["part_rows"]
    except (StoreError, ValueError, KeyError, TypeError):
        return None
    return found if _is_part_size(found) else None


def discard(plan: Plan) -> None:
    """Remove an unfinished run. Raises SpaceError where that cannot be done."""
    try:
        remove_folder(plan.folder)
    except OSError as error:
        raise space_error(plan.folder, error) from error


def clean_up(plan: Plan) -> None:
    """Remove what a run has left whose file is finished, and shards that the file does not name; it must have
    been checked before.

    The parts of another run than this plan's are somebody's unfinished work and stay.
    """
    if plan.keeps_parts:
        return
    begun = _begun(plan.folder)
    if begun is not None and any(differences(begun, _wholly(_as_json(plan.described())))):
        return
    try:
        with suppress(FileNotFoundError):
            os.replace(plan.begun_seen_path, plan.seen_path)
        discard(plan)
    except (StoreError, OSError) as error:  # nothing depends on it any more
        logger.warning("%s", error)
    remove_unnamed(plan.path)


def missing_parts(plan: Plan, share: Iterable[int] | None = None) -> list[int]:
    """Numbers of the parts, of all or of a share, that are still to be made; a damaged or foreign part counts
    as missing."""
    missing = []
    for index in range(len(plan.parts)) if share is None else share:
        try:
            with open_part(plan, index):
                pass
        except StoreError:
            missing.append(index)
    return missing


def write_part(
    plan: Plan, index: int, arrays: Mapping[str, np.ndarray], notes: Mapping[str, list[Any]] | None = None
) -> str:
    """Keep one part's row-aligned arrays (and `failures/*`, rows counted from the part's start).

    `notes` are lists; the merge joins those of all parts into the final file's provenance.
    """
    identity = plan.part_identity(index)
    return write_sealed(plan.part_path(index), PART_SCHEMA, identity, notes or {}, arrays, plan.tag)


def open_part(plan: Plan, index: int) -> SealedFile:
    """Open one part. Raises MissingFileError, IntegrityError, or IdentityError for another run's part."""
    file = SealedFile(plan.part_path(index), PART_SCHEMA, is_held=False)
    expected = plan.part_identity(index)
    check_identity(file.identity, expected, file.path, "Discard the unfinished run: --overwrite")
    return file


def merge_parts(plan: Plan, equal_by: str = "", join_notes: JoinNotes | None = None) -> str:
    """Join all parts into the final file, remove them, and return the content digest.

    Matrices (`outputs/...`) are streamed part by part and checked on the way; where a part is a block and
    keeps its rows, its digest is the part's own, so a bit that flips between part and file is found. Raises
    StoreError if a part is missing.

    `equal_by` names the array that tells which rows were made from the same input, such as `source_sha256`
    or `text`: they get the vectors of the first of them that did not fail. Memory holds those of one output.
    `join_notes` shortens the parts' notes, which are lists, joined in the order of the parts.
    """
    parts = [open_part(plan, index) for index in range(len(plan.parts))]
    rows = joined_parts(plan)
    arrays: dict[str, np.ndarray | Streamed] = dict(plan.ids)
    if parts:
        first = first_of_equal_parts(equal_by, parts, plan) if equal_by else np.arange(plan.n_rows)
        for name in parts[0].arrays:
            if name.startswith("failures/"):
                arrays[name] = join_failures(name, parts, plan)
            elif name.startswith("outputs/"):
                arrays[name] = _stream(name, rows, first)
            else:
                arrays[name] = np.concatenate([part.view(name) for part in parts])
    provenance = joined_provenance(plan, parts, join_notes)
    digest = write_sealed(plan.path, plan.schema, plan.identity, provenance, arrays, plan.tag)
    for leftover in plan.path.parent.glob(f"{escape(plan.path.name)}.*-of-*.partial"):
        leftover.unlink(missing_ok=True)  # of a worker that was killed while it merged
    clean_up(plan)
    return digest


def joined_parts(plan: Plan, n_open: int | None = None) -> Joined:
    """The rows of all parts as if they were in one file."""
    openers = [partial(open_part, plan, index) for index in range(len(plan.parts))]
    return Joined(openers, [stop - start for start, stop in plan.parts], n_open)


def joined_provenance(
    plan: Plan, parts: Iterable[SealedFile], join_notes: JoinNotes | None
) -> dict[str, Any]:
    """The plan's provenance and the notes of all parts."""
    notes: dict[str, list[Any]] = {}
    for part in parts:
        for name, values in part.provenance.items():
            notes.setdefault(name, []).extend(values)
    return {**plan.provenance, **(join_notes(notes) if join_notes else notes)}


def join_failures(name: str, parts: Sequence[SealedFile], plan: Plan) -> np.ndarray:
    """Numbers of failed rows in the whole file, or their reasons."""
    if name.endswith("/row"):
        starts = [start for start, _ in plan.parts]
        shifted = [part.view(name) + start for part, start in zip(parts, starts, strict=True)]
        return np.concatenate(shifted)
    return np.concatenate([part.strings(name) for part in parts])


def first_of_equal_parts(name: str, parts: Sequence[SealedFile], plan: Plan) -> Int[np.ndarray, " n_rows"]:
    """For each row the first that has the same in an array of numbers or strings; for a failed row itself."""
    cells = plan.ids[name] if name in plan.ids else np.concatenate([part.view(name) for part in parts])
    is_usable = np.ones(plan.n_rows, bool)
    if "status" in parts[0].arrays:
        is_usable = np.concatenate([part.view("status") for part in parts]) == Status.OK
    if cells.ndim > 1:
        return first_of_equal_rows(cells, is_usable)
    keys = zip(cells.tolist(), is_usable.tolist(), strict=True)
    return first_of_equal(key if usable else None for key, usable in keys)


def _stream(name: str, rows: Joined, first: np.ndarray) -> Streamed:
    if bool((first == np.arange(rows.n_rows)).all()):
        return rows.streamed(name)
    digests = digest_pieces(_shared(rows.pieces(name), first))
    (_, *rest), dtype = rows.file(0).arrays[name]
    return Streamed((rows.n_rows, *rest), dtype, digests, _shared(rows.pieces(name), first))


def _shared(pieces: Iterable[np.ndarray], first: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of consecutive pieces, row r replaced by row `first[r]`, which comes before it.

    Rows that will be asked for again are kept as they pass.
    """
    leaders = np.unique(first[first != np.arange(len(first))])
    kept: np.ndarray | None = None
    start = 0
    for rows in pieces:
        if kept is None:
            kept = np.empty((len(leaders), *rows.shape[1:]), rows.dtype)
        stop = start + len(rows)
        low, high = np.searchsorted(leaders, (start, stop))
        kept[low:high] = rows[leaders[low:high] - start]
        followers = start + np.flatnonzero(first[start:stop] != np.arange(start, stop))
        if len(followers):
            rows = rows.copy()
            rows[followers - start] = kept[np.searchsorted(leaders, first[followers])]
        yield rows
        start = stop
