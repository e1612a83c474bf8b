"""What people said about images as arrays: counts per level, or one score each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute

from embed.images.errors import DatasetError
from embed.images.ratings.columns import EMPTY, Sheet, is_number

MAX_LEVELS = 100


@dataclass(frozen=True)
class Votes:
    """Counts of the votes 1 to k per image (n_images, k), or one score per image."""

    votes: np.ndarray | None
    scores: np.ndarray | None
    n_levels: int | None = None


def counted(sheet: Sheet, columns: Sequence[str]) -> Votes:
    """Votes of columns that hold a count each. Raises DatasetError, naming the row, for what is no count."""
    counts = np.column_stack([numbers(sheet, c) for c in columns])
    bad = ~(np.isfinite(counts) & (counts >= 0) & (counts == np.floor(counts)) & (counts < 2**53))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DatasetError(
            f"{sheet.row(row)}: {columns[column]} is {counts[row, column]:g}, expected a count of 0 or more"
        )
    empty = np.flatnonzero(counts.sum(axis=1) == 0)
    if len(empty):
        raise DatasetError(f"{sheet.row(empty[0])}: no votes at all ({len(empty)} such rows)")
    return Votes(np.asarray(counts.astype(np.int64)), None)


def shares(sheet: Sheet, columns: Sequence[str]) -> Votes:
    """Mean votes of columns that hold the share of a vote each; shares must add up to 1 within .002."""
    cells = np.column_stack([numbers(sheet, c) for c in columns])
    sums = cells.sum(axis=1)
    bad = np.flatnonzero(~((cells >= 0).all(axis=1) & (np.abs(sums - 1) < 2e-3)))
    if len(bad):
        raise DatasetError(
            f"{sheet.row(bad[0])}: {columns[0]} to {columns[-1]} add up to {sums[bad[0]]:g}, expected "
            "shares that "
            "add up to 1"
        )
    return Votes(None, cells @ np.arange(1, len(columns) + 1) / sums, len(columns))


def count_votes(
    sheet: Sheet,
    image: np.ndarray,
    ratings: np.ndarray,
    n_images: int,
    n_levels: int | None,
    n_per_row: int,
) -> Votes:
    """Votes of single ratings, `ratings[i]` for image `image[i]`, NaN where somebody said nothing.

    Whole numbers from 1 on become counts per level, of `n_levels` levels or of as many as the highest rating;
    others become mean scores. `n_per_row` ratings are of one row of the sheet, for messages.
    """
    given = ~np.isnan(ratings)
    if (bad := np.flatnonzero(np.isinf(ratings))).size:
        raise DatasetError(
            f"{sheet.row(bad[0] // n_per_row)}: a rating is {ratings[bad[0]]}, expected a number"
        )
    counts = np.bincount(image[given], minlength=n_images)
    if (empty := np.flatnonzero(counts == 0)).size:
        row = int(np.flatnonzero(image == empty[0])[0]) // n_per_row
        raise DatasetError(f"{sheet.row(row)}: no votes at all ({empty.size} such images)")
    low, high = float(ratings[given].min()), float(ratings[given].max())
    is_whole = bool((ratings[given] == np.floor(ratings[given])).all())
    if n_levels is not None and not (is_whole and low >= 1 and high <= n_levels):
        wrong = np.flatnonzero(
            given & ~((ratings >= 1) & (ratings <= n_levels) & (ratings == np.floor(ratings)))
        )
        raise DatasetError(
            f"{sheet.row(wrong[0] // n_per_row)}: a vote is {ratings[wrong[0]]:g}, expected a whole number "
            "from 1 to "
            f"{n_levels} (n_levels)"
        )
    if not is_whole or low < 1 or high > MAX_LEVELS or (high < 2 and n_levels is None):
        sheet.notes.append(
            f"ratings go from {low:g} to {high:g}{'' if is_whole else ' and are not all whole numbers'}, "
            "which are no "
            "votes 1 to k: each image has its mean as a score"
        )
        return Votes(None, np.bincount(image[given], ratings[given], n_images) / counts)
    if n_levels is None:
        n_levels = int(high)
        sheet.notes.append(
            f"votes go from {low:g} to {high:g}, so the scale is taken to be 1 to {n_levels}; if it goes on: "
            "-o n_levels=K"
        )
    votes = np.zeros((n_images, n_levels), np.int64)
    np.add.at(votes, (image[given], ratings[given].astype(np.int64) - 1), 1)
    return Votes(votes, None)


def numbers(sheet: Sheet, name: str, may_be_empty: bool = False) -> np.ndarray:
    """A column as float64, NaN where it is empty and may be. Raises DatasetError naming the first other
    cell."""
    column = sheet.table.column(name)
    if pa.types.is_string(column.type):
        column = pa.compute.utf8_trim_whitespace(column.fill_null(""))
        if may_be_empty:
            is_empty = pa.compute.is_in(column, value_set=pa.array(EMPTY))
            column = pa.compute.if_else(is_empty, pa.scalar(None, pa.string()), column)
    try:
        return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        cells = sheet.text(name)
        row = next((i for i, cell in enumerate(cells) if not (is_number(cell) or cell in EMPTY)), None)
        row = next((i for i, cell in enumerate(cells) if not is_number(cell)), 0) if row is None else row
        comma = cells[row].count(",") == 1 and is_number(cells[row].replace(",", "."))
        what = (
            f"{cells[row].replace(',', '.')}, with a point and not a comma" if comma else "4.5 (with a point)"
        )
        raise DatasetError(
            f"{sheet.name}: column {name} is not all numbers: "
            f"{sheet.row(row).removeprefix(sheet.name + ' ')} has "
            f"{cells[row]!r}, expected a number such as {what}"
        ) from error
