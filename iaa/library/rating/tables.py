"""Ratings as tables: read from what people and programs wrote, and written for them."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.names import ME
from iaa.library.rating.ratings import DatasetRatings
from iaa.library.table import Table
from store.matching import match_names
from store.ratings import MAX_STARS, Kind, Rating
from store.tables import column_text, plain, read_table

if TYPE_CHECKING:
    import pyarrow as pa

FILES = (
    "file", "filename", "image", "imageid", "imagename", "imagefile", "path", "filepath", "sourcefile",
    "photo", "photograph", "name", "id", "imgname", "img", "imagepair",
)  # fmt: skip
STARS = ("stars", "star", "rating", "score", "value", "vote", "aestheticscore")
FLAGS = ("flag", "pick", "picked")
RATERS = ("rater", "raterid", "user", "userid", "worker", "workerid", "annotator", "participant", "subject")
_N_NAMED = 5
EMPTY_CELLS = {"", "na", "n/a", "nan", "null", "none", "-"}
_FLAGS = {
    "pick": 1, "picked": 1, "yes": 1, "1": 1, "reject": -1, "rejected": -1, "no": -1, "-1": -1, "0": 0,
}  # fmt: skip
_DECIMAL_COMMA = re.compile(r"(-?\d+),(\d{1,2})")
"""A number as spreadsheets of many countries write it; three digits after it might be thousands."""
Said = tuple[int, Kind, float]
"""Row of the table, kind and value."""


@dataclass
class Imported:
    """What a table said, and what of it was added."""

    path: Path
    n_added: int = 0
    n_rated: int = 0
    """Photographs that have a rating by it."""
    acts: dict[str, int] = field(default_factory=dict)
    """By rater, the number by which it can be undone."""
    unknown: list[str] = field(default_factory=list)
    """Names that no photograph of the data set has."""
    n_again: int = 0
    """Ratings of a photograph that the same rater had rated above in the table: the last one holds."""
    notes: list[str] = field(default_factory=list)

    def told(self, ratings: DatasetRatings) -> Iterator[str]:
        """What was added to these ratings and what was not, and how it can be taken back."""
        yield from self.notes
        who = ", ".join(self.acts) if len(self.acts) <= _N_NAMED else f"{len(self.acts)} raters"
        yield f"{self.n_added:,} ratings of {self.n_rated:,} photographs by {who or 'nobody'}: {ratings.path}"
        if self.unknown:
            named = ", ".join(self.unknown[:_N_NAMED]) + (", ..." if len(self.unknown) > _N_NAMED else "")
            yield f"{len(self.unknown):,} names mean no photograph of {ratings.layout.dataset}: {named}"
        if self.n_again:
            n = f"{self.n_again:,}"
            yield f"{n} were about a photograph that the same rater had rated above: the last holds"
        for rater, act in self.acts.items() if len(self.acts) == 1 else ():
            yield f"To take it back: iaa rate undo --rater {rater} --act {act}"


def import_ratings(
    ratings: DatasetRatings,
    path: Path,
    rater: str | None = None,
    columns: Sequence[str] = (),
    scale: tuple[float, float] | None = None,
) -> Imported:
    """Add the ratings of a CSV or Parquet file: a column of files (or ids) and one of stars (and flags); with
    a column of raters, a row per rating; else a column per rater.

    Stars are 1 to 5, 0 and empty cells say nothing, -1 rejects (as in XMP). Another `scale`, (lowest,
    highest), is brought to 1 to 5. `columns` names the columns to take where there are others. A photograph
    is known by its name as far as only one can be meant. All is read before anything is added.

    Raises UsageError where the table can be read in two ways or names no photograph, TableError, RatingError.
    """
    table = read_table(path)
    names = table.column_names
    file_column = one_column(path, names, FILES)
    if file_column is None:
        file_column = names[0]
        if match_names([file_column], ratings.contents.image_id).row[0] >= 0:
            raise UsageError(
                f"{path} does not name its columns: its first line is {', '.join(names[:3])!r}. Write a line "
                "above it, such as: file,stars. Nothing was added"
            )
    found = Imported(path)
    files = column_text(table, file_column)
    distinct = list(dict.fromkeys(files))
    matched = match_names(distinct, ratings.contents.image_id)
    row_of = {name: row for name, row in zip(distinct, matched.row.tolist(), strict=True) if row >= 0}
    found.notes += matched.notes
    found.unknown = [name for name in distinct if name not in row_of]
    if not row_of:
        raise UsageError(
            f"{path}: no photograph of {ratings.layout.dataset} is meant by its column {file_column!r}, such "
            f"as {distinct[0]!r}; they are called {ratings.contents.image_id[0]!r}. Nothing was added"
        )
    rated: set[int] = set()
    given: dict[str, list[Rating]] = {}
    for who, said in _said(path, table, file_column, rater, columns, scale).items():
        known = [(row_of[files[at]], kind, value) for at, kind, value in said if files[at] in row_of]
        found.n_again += len(known) - len({(row, kind) for row, kind, _ in known})
        rated |= {row for row, _, _ in known}
        about = [(ratings.contents.image_id[row], ratings.contents.sha256[row]) for row, _, _ in known]
        given[who] = [
            Rating(kind, value, *photograph)
            for (_, kind, value), photograph in zip(known, about, strict=True)
        ]
    for who, rating in given.items():
        if rating:
            found.acts[who] = ratings.add_all(rating, who, path.name[:200])
            found.n_added += len(rating)
    found.n_rated = len(rated)
    return found


def _said(
    path: Path,
    table: "pa.Table",
    file_column: str,
    rater: str | None,
    columns: Sequence[str],
    scale: tuple[float, float] | None,
) -> dict[str, list[Said]]:
    """By rater: (row of the table, kind, value)."""
    names = [name for name in table.column_names if name != file_column]
    if missing := [name for name in columns if name not in names]:
        raise UsageError(f"{path} has no column {missing[0]!r} of ratings; it has {', '.join(names)}")
    raters_column = one_column(path, names, RATERS)
    stars_column = columns[0] if len(columns) == 1 else one_column(path, names, STARS)
    flag_column = one_column(path, names, FLAGS) if not columns else None
    found: dict[str, list[Said]] = {}
    if len(columns) < 2 and (stars_column or flag_column):
        raters = column_text(table, raters_column) if raters_column else [rater or ME] * table.num_rows
        if rater is not None and raters_column is not None:
            raise UsageError(f"{path} says itself who rated (column {raters_column!r}): leave --rater out")
        if stars_column:
            for at, kind, value in _values(path, table, stars_column, scale):
                found.setdefault(raters[at], []).append((at, kind, value))
        if flag_column:
            for at, cell in enumerate(column_text(table, flag_column)):
                if cell.lower() not in EMPTY_CELLS:
                    found.setdefault(raters[at], []).append((at, "flag", _flag(path, flag_column, cell)))
        if "" in found:
            raise UsageError(f"{path}: {len(found[''])} ratings are by nobody (column {raters_column!r})")
        return found
    if rater is not None:
        raise UsageError(
            f"{path} has no column of stars ({', '.join(STARS[:3])}); it has {', '.join(names)}. If one of "
            "them is, name it: --column NAME"
        )
    if not names:
        raise UsageError(f"{path} has no ratings: its only column is {file_column!r}")
    return {name: _values(path, table, name, scale) for name in columns or names}


def _values(path: Path, table: "pa.Table", column: str, scale: tuple[float, float] | None) -> list[Said]:
    found: list[Said] = []
    for at, cell in enumerate(column_text(table, column)):
        if cell.lower() in EMPTY_CELLS:
            continue
        try:
            value = float(_DECIMAL_COMMA.sub(r"\1.\2", cell) if _DECIMAL_COMMA.fullmatch(cell) else cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(
                f"{path} row {at + 1}, column {column!r}: {cell[:40]!r} is no rating. Which columns are "
                "ratings? Name them: --column NAME (repeatable)"
            )
        if scale is not None:
            low, high = scale
            if not low <= value <= high:
                raise UsageError(
                    f"{path} row {at + 1}, column {column!r}: {value:g} is not on {low:g} to {high:g}"
                )
            found.append((at, "stars", 1 + (MAX_STARS - 1) * (value - low) / (high - low)))
        elif value == -1:
            found.append((at, "flag", -1))
        elif 1 <= value <= MAX_STARS:
            found.append((at, "stars", value))
        elif value != 0:
            raise UsageError(
                f"{path} row {at + 1}, column {column!r}: {value:g} is no number of stars (1 to 5). Another "
                "scale? Say which: --scale LOWEST HIGHEST"
            )
    return found


def _flag(path: Path, column: str, cell: str) -> float:
    try:
        return _FLAGS[cell.lower().removesuffix(".0")]
    except KeyError:
        raise UsageError(f"{path}, column {column!r}: {cell[:40]!r} is no flag (pick, reject)") from None


def one_column(path: Path, names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The column of the first usual name that is there."""
    for wanted in usual:
        found = [name for name in names if plain(name) == wanted]
        if len(found) > 1:
            raise UsageError(f"{path}: {found[0]!r} and {found[1]!r} may both be meant. Rename one")
        if found:
            return found[0]
    return None


def export_ratings(ratings: DatasetRatings, rater: str | None = None) -> Table:
    """Stars and flags that hold now, a row per photograph and rater: file, rater, stars, flag, time. It can
    be imported again."""
    rows: dict[tuple[int, str], list[Any]] = {}
    for placed in ratings.placed(rater):
        event = placed.event
        if event.kind == "pair":
            continue
        row = rows.setdefault((placed.row, event.rater), [None, None, ""])
        row[0 if event.kind == "stars" else 1] = event.value
        row[2] = max(row[2], event.time)
    ordered = sorted(rows.items())
    ids = ratings.contents.image_id
    return Table(
        f"{ratings.layout.dataset}: stars and flags",
        {
            "file": [ids[row] for (row, _), _ in ordered],
            "rater": [who for (_, who), _ in ordered],
            "stars": [_short(cells[0]) for _, cells in ordered],
            "flag": [{1: "pick", -1: "reject"}.get(cells[1], "") for _, cells in ordered],
            "time": [cells[2] for _, cells in ordered],
        },
    )


def _short(value: float | None) -> float | int | str:
    if value is None:
        return ""
    return int(value) if value == int(value) else value
