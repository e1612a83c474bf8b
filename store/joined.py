"""A finished file made anew from rows of its last version and rows of another file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from store.arrays import Arrays
from store.digests import digest_pieces, piece_bounds
from store.errors import SchemaError
from store.parts import Plan
from store.sealed import Streamed, write_sealed
from store.shapes import Int
from store.sharding import write_joined_shards
from store.shards import remove_unnamed


def write_joined(
    plan: Plan,
    old: Arrays,
    new: Arrays | None,
    old_row: Int[np.ndarray, " n_rows"],
    new_row: Int[np.ndarray, " n_rows"],
    provenance: Mapping[str, Any],
) -> str:
    """Write the plan's file from rows of two others and return its content digest.

    Row r is row `old_row[r]` of `old` or row `new_row[r]` of `new`; the other number is -1. Rows of `old`
    must not be failed ones. Every block that is read is checked, and the result appears under its name
    complete or not at all, so `old` may be the file that is replaced.

    Raises SchemaError if the two files do not have the same arrays.
    """
    if not len(old_row) == len(new_row) == plan.n_rows or ((old_row < 0) == (new_row < 0)).any():
        raise ValueError(f"each of {plan.n_rows} rows must come from one file, the old or the new one")
    names = [name for name in old.arrays if name not in plan.ids and not name.startswith("failures/")]
    if new is not None and _form(old) != _form(new):
        raise SchemaError(f"{old.path} and {new.path} do not have the same arrays")

    def release() -> None:
        old.close()
        if new is not None:
            new.close()

    if plan.is_sharded:

        def rows_of(name: str, start: int, stop: int) -> np.ndarray:
            return _rows(name, old, new, old_row[start:stop], new_row[start:stop])

        failures = _failures(new, new_row)
        digest = write_joined_shards(plan, old, old_row, rows_of, failures, provenance, release)
        remove_unnamed(plan.path)
        return digest
    arrays: dict[str, np.ndarray | Streamed] = dict(plan.ids)
    arrays |= _failures(new, new_row)
    for name in names:

        shape, dtype = old.arrays[name]
        bounds = list(piece_bounds(plan.n_rows, dtype.itemsize * math.prod(shape[1:])))

        def pieces(name: str = name, bounds: Sequence[tuple[int, int]] = bounds) -> Iterator[np.ndarray]:
            for start, stop in bounds:
                yield _rows(name, old, new, old_row[start:stop], new_row[start:stop])

        arrays[name] = Streamed((plan.n_rows, *shape[1:]), dtype, digest_pieces(pieces()), pieces())

    digest = write_sealed(plan.path, plan.schema, plan.identity, provenance, arrays, plan.tag, release)
    remove_unnamed(plan.path)
    return digest


def _form(file: Arrays) -> dict[str, Any]:
    """What must be equal for rows to fit together: the width of strings may differ."""
    return {
        name: None if dtype.kind == "S" else (shape[1:], dtype)
        for name, (shape, dtype) in file.arrays.items()
    }


def _failures(new: Arrays | None, new_row: np.ndarray) -> dict[str, np.ndarray]:
    reason_of: dict[int, str] = {}
    if new is not None:
        reasons = new.strings("failures/reason").tolist()
        reason_of = dict(zip(new.view("failures/row").tolist(), reasons, strict=True))
    failed = [(row, reason_of[n]) for row, n in enumerate(new_row.tolist()) if n in reason_of]
    return {
        "failures/row": np.array([row for row, _ in failed], np.int64),
        "failures/reason": np.array([reason for _, reason in failed], dtype=str),
    }


def _rows(
    name: str, old: Arrays, new: Arrays | None, old_row: np.ndarray, new_row: np.ndarray
) -> np.ndarray:
    shape, dtype = old.arrays[name]
    rows = np.empty((len(old_row), *shape[1:]), dtype)
    rows[old_row >= 0] = old.take(name, old_row[old_row >= 0])
    if new is not None:
        rows[new_row >= 0] = new.take(name, new_row[new_row >= 0])
    return rows
