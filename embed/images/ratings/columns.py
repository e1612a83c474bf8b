"""Which columns of a ratings table are what: by their names as people write them, or as the settings say."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa

from embed.images.errors import DatasetError
from store.errors import TableError
from store.tables import column_text, plain

FILE_COLUMNS = ("file", "filename", "path", "image")
MORE_FILE_COLUMNS = (
    "file", "filename", "path", "image", "imagename", "imagefile", "imagepath", "filepath", "img", "imgname",
    "imgpath", "imagepair",
)  # fmt: skip
ID_COLUMNS = ("image_id", "id")
MORE_ID_COLUMNS = ("imageid", "id", "imagenum", "imagenumber", "imgid")
SCORE_COLUMNS = ("score", "mos", "mean")
MORE_SCORE_COLUMNS = (
    "score", "mos", "mean", "meanscore", "meanopinionscore", "rating", "meanrating", "averagerating",
    "aestheticscore", "aestheticscoremean", "averagescore", "avgscore",
)  # fmt: skip
RATER_COLUMNS = (
    "rater", "raterid", "user", "userid", "worker", "workerid", "annotator", "annotatorid", "participant",
    "participantid", "subject", "subjectid", "observer", "observerid", "judge", "judgeid",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "set", "subset", "partition")
_RATERS = {
    "rater", "user", "worker", "annotator", "participant", "subject", "observer", "judge", "expert", "person",
}  # fmt: skip
_NUMBERED = re.compile(r"(.*?)[ _.-]*([0-9]{1,4})")
_WHOLE = re.compile(r"-?[0-9]{1,9}(\.0+)?")
_N_TRIED = 1000
EMPTY = ("", "NA", "N/A", "NaN", "nan", "null")


@dataclass
class Sheet:
    """A table with the places of its rows, for messages, and what was noticed while it was read."""

    table: pa.Table
    paths: list[str]
    """The files it was read from, and the number of its first row that each begins with."""
    starts: list[int]
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The files, for people."""
        return " and ".join(self.paths)

    @property
    def columns(self) -> list[str]:
        return list(self.table.column_names)

    def text(self, column: str) -> list[str]:
        """Cells of a column without spaces around, '' where empty."""
        try:
            return column_text(self.table, column)
        except TableError as error:
            raise DatasetError(f"{self.name}: {error}") from error

    def row(self, row: int) -> str:
        """'FILE row N', counted from 1 without the header."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.paths[part]} row {row - self.starts[part] + 1}"

    def rows(self, first: int, second: int) -> str:
        """Two rows, for messages."""
        if len(self.paths) == 1:
            return f"{self.paths[0]} rows {first + 1} and {second + 1}"
        return f"{self.row(first)} and {self.row(second)}"

    def seen(self) -> str:
        """The columns and the first row, for messages."""
        first = ", ".join(repr(self.text(c)[0][:40]) for c in self.columns[:20])
        more = f" (and {len(self.columns) - 20} more)" if len(self.columns) > 20 else ""
        return f"its columns are {', '.join(self.columns)}; its first row is {first}{more}"


def pick(sheet: Sheet, given: Any, exact: Sequence[str], also: Sequence[str], option: str) -> str | None:
    """The column a setting names, else the first of the usual names, else one of them written otherwise.

    Raises DatasetError for a setting that names no column, and for two columns of which either may be meant.
    """
    if given:
        return named(sheet, str(given), option)
    for name in exact:
        if name in sheet.columns:
            return name
    for name in also:
        found = [c for c in sheet.columns if plain(c) == name]
        if len(found) > 1:
            raise DatasetError(
                f"{sheet.name}: {found[0]!r} and {found[1]!r} may both be the {option.replace('_', ' ')}. "
                f"Name it: -o {option}=NAME"
            )
        if found:
            return found[0]
    return None


def named(sheet: Sheet, given: str, option: str) -> str:
    """The column that a setting names, exactly or in another case. Raises DatasetError."""
    found = [c for c in sheet.columns if c == given] or [c for c in sheet.columns if plain(c) == plain(given)]
    if len(found) != 1:
        raise DatasetError(f"{sheet.name} has no column {given!r} ({option}); {sheet.seen()}")
    return found[0]


def families(columns: Sequence[str]) -> dict[str, dict[int, str]]:
    """Columns of one name with a number behind, by that name (see `plain`) and their numbers."""
    found: dict[str, dict[int, str]] = {}
    for column in columns:
        if numbered := _NUMBERED.fullmatch(column):
            found.setdefault(plain(numbered[1]), {}).setdefault(int(numbered[2]), column)
    return found


def vote_columns(sheet: Sheet, prefix: Any) -> list[str]:
    """The columns of counts or shares of the votes 1 to k, in order; [] where there are none.

    Raises DatasetError for a setting that names none, and for `votes_...` columns with gaps.
    """
    there = families(sheet.columns)
    if prefix:
        family = there.get(plain(str(prefix)), {})
        return _without_gaps(sheet, family, f"votes_prefix={prefix}")
    for name in ("votes", "vote"):
        if name in there and any(c.startswith(f"{name}_") for c in there[name].values()):
            return _without_gaps(sheet, there[name], f"{name}_")
    return []


def likely_votes(sheet: Sheet) -> list[str]:
    """Columns of counts by another usual name (c1..c5), or of shares that add up to 1 (p_1..p_10)."""
    for name, family in families(sheet.columns).items():
        if len(family) < 2 or sorted(family) != list(range(1, len(family) + 1)):
            continue
        columns = [family[i] for i in sorted(family)]
        if name in ("c", "count", "counts", "votes", "vote") and all(is_whole(sheet, c) for c in columns):
            return columns
        if name in ("p", "prob", "share", "fraction") and are_shares(sheet, columns):
            return columns
    return []


def likely_raters(sheet: Sheet) -> list[str]:
    """Columns of one rater each (rater_1, rater_2, ...), all numbers or empty."""
    for name, family in families(sheet.columns).items():
        columns = [family[i] for i in sorted(family)]
        if name in _RATERS and len(columns) > 1 and all(_is_numeric(sheet, c) for c in columns):
            return columns
    return []


def rater_columns(sheet: Sheet, given: Any) -> list[str]:
    """The columns that `rater_columns` names: a list, or names with commas; * stands for any letters."""
    wanted = given if isinstance(given, list) else [w.strip() for w in str(given).split(",")]
    found: list[str] = []
    for pattern in wanted:
        if "*" in pattern:
            matching = [c for c in sheet.columns if fnmatchcase(c.casefold(), pattern.casefold())]
            if not matching:
                raise DatasetError(f"{sheet.name} has no column {pattern!r} (rater_columns); {sheet.seen()}")
            found += matching
        else:
            found.append(named(sheet, pattern, "rater_columns"))
    found = list(dict.fromkeys(found))
    if len(found) < 2:
        raise DatasetError(
            f"{sheet.name}: rater_columns names {found}, expected the columns of two people or more. One "
            "column "
            "of scores: -o score_column=NAME"
        )
    return found


def unused_ratings(sheet: Sheet, used: Sequence[str], score_column: str) -> list[str]:
    """What to say of columns not used that look like ratings as well as `score_column`: counts of votes;
    columns of its name with another number; where its name is no usual one, whole numbers on such a scale."""
    left = [c for c in sheet.columns if c not in used]
    notes: list[str] = []
    votes = [c for c in likely_votes(sheet) if c in left]
    if votes:
        prefix = votes[0].rstrip("0123456789 _.-")
        notes.append(
            f"{votes[0]} to {votes[-1]} look like counts of votes and are not used: only {score_column} "
            "is. To use "
            f"them: -o votes_prefix={prefix}"
        )
    raters = set(likely_raters(sheet))
    for family in families(sheet.columns).values():
        if score_column in family.values():
            raters |= set(family.values())
    if plain(score_column) not in MORE_SCORE_COLUMNS and _is_numeric(sheet, score_column):
        high = _range(sheet, score_column)[1]
        scale = next((s for s in (10, 100) if high <= s), high)
        for column in left:
            if (
                _is_numeric(sheet, column)
                and 0 <= _range(sheet, column)[0] < _range(sheet, column)[1] <= scale
            ):
                raters.add(column)
    if others := [c for c in left if c in raters and c not in votes]:
        several = ",".join([score_column, *others]) if len(others) < 20 else f"{score_column},..."
        notes.append(
            f"only {score_column} is used as the score; {len(others)} more columns look like ratings and "
            "are not "
            f"used: {', '.join(others[:12])}{', ...' if len(others) > 12 else ''}. If each is one rater's: "
            f"-o rater_columns={several}"
        )
    return notes


def numeric_columns(sheet: Sheet, used: Sequence[str]) -> list[str]:
    """Columns not used of which all cells are numbers."""
    return [c for c in sheet.columns if c not in used and _is_numeric(sheet, c)]


def is_whole(sheet: Sheet, column: str) -> bool:
    """True if every cell tried (the first thousand) is a whole number."""
    return all(_WHOLE.fullmatch(cell) for cell in _tried(sheet, column))


def are_shares(sheet: Sheet, columns: Sequence[str]) -> bool:
    """True if the cells of each row tried are shares that add up to 1."""
    try:
        cells = np.array([[float(cell) for cell in _tried(sheet, c)] for c in columns])
    except ValueError:
        return False
    return bool(cells.size and (cells >= 0).all() and (np.abs(cells.sum(axis=0) - 1) < 2e-3).all())


def _without_gaps(sheet: Sheet, family: Mapping[int, str], what: str) -> list[str]:
    columns = [family[i] for i in sorted(family)]
    if sorted(family) != list(range(1, len(family) + 1)) or len(family) < 2:
        raise DatasetError(
            f"{sheet.name}: vote columns must be numbered 1, 2, ... without gaps, two or more ({what}); "
            f"got {columns}. {sheet.seen()}"
        )
    return columns


def _tried(sheet: Sheet, column: str) -> list[str]:
    return Sheet(sheet.table.slice(0, _N_TRIED), sheet.paths, sheet.starts).text(column)


def _is_numeric(sheet: Sheet, column: str) -> bool:
    cells = [cell for cell in _tried(sheet, column) if cell not in EMPTY]
    return bool(cells) and all(is_number(cell) for cell in cells)


def is_number(cell: str) -> bool:
    """True for what is a finite number with a decimal point."""
    try:
        return "_" not in cell and math.isfinite(float(cell))
    except ValueError:
        return False


def _range(sheet: Sheet, column: str) -> tuple[float, float]:
    values = [float(cell) for cell in _tried(sheet, column) if cell not in EMPTY]
    return min(values), max(values)
