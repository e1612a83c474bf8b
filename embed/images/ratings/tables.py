"""Ratings from CSV or Parquet files: a file column, votes or scores or raters, optionally ids and a split."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from embed.images.errors import DatasetError
from embed.images.ratings.columns import (
    FILE_COLUMNS,
    ID_COLUMNS,
    MORE_FILE_COLUMNS,
    MORE_ID_COLUMNS,
    MORE_SCORE_COLUMNS,
    RATER_COLUMNS,
    SCORE_COLUMNS,
    SPLIT_COLUMNS,
    Sheet,
    are_shares,
    is_number,
    likely_raters,
    likely_votes,
    numeric_columns,
    pick,
    rater_columns,
    unused_ratings,
    vote_columns,
)
from embed.images.ratings.votes import Votes, count_votes, counted, numbers, shares
from store.errors import StoreError
from store.matching import CLOSE, WIDE, match_names
from store.tables import PARQUET_ENDINGS, column_text, plain, read_table

SPLITS = ("train", "test", "")
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    "": "",
}
_DRIVE = re.compile(r"[A-Za-z]:")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FLOAT_ID = re.compile(r"[0-9]+\.0")


@dataclass(frozen=True)
class Ratings:
    """The images of a ratings file, in the order of their first rows."""

    image_id: np.ndarray
    """What the id column says; without one, the file without its ending where that is unique."""
    path: np.ndarray
    """The file as it is listed."""
    votes: np.ndarray | None
    scores: np.ndarray | None
    split: np.ndarray | None
    columns: dict[str, np.ndarray]
    has_ids: bool = False
    """True if the ratings have a column of ids."""
    n_levels: int | None = None
    """Where scores are the means of votes of which only the shares are known: their number of levels."""
    notes: tuple[str, ...] = field(default=())
    """How the table was understood where it says so in no usual way, and what of it is not used."""


def read_ratings(path: Path, options: Mapping[str, Any], test_path: Path | None = None) -> Ratings:
    """The ratings of a file, every cell checked; with `test_path`, of two files, train and test.

    Options: see `embed.images.kinds.table`. Columns are found by their usual names, or named by an option.

    Raises:
        DatasetError: no table, a missing column, a bad vote or score, an image rated twice, an unknown split
            word; the message names the row (counted from 1, without the header), the value and what helps.
    """
    sheet = _open(path, test_path, options)
    is_new = "ids" in options  # data sets of before know fewer names, and their ids must not change
    id_column = pick(
        sheet, options.get("id_column"), ID_COLUMNS, MORE_ID_COLUMNS if is_new else (), "id_column"
    )
    file_column = pick(sheet, options.get("file_column"), FILE_COLUMNS, MORE_FILE_COLUMNS, "file_column")
    file_column = file_column or id_column
    if file_column is None:
        raise DatasetError(
            f"{sheet.name} has no file column ({', '.join(FILE_COLUMNS)}, image_name, ... or image_id); "
            f"{sheet.seen()}. Name it: -o file_column=NAME{_header_hint(sheet)}"
        )
    files = _relative_paths(sheet, _names(sheet, file_column))
    first_rows, row_of, rater_column = _images(sheet, files, file_column, options)
    is_by_vote = len(first_rows) < len(files) or options.get("rows") == "votes"
    found, used = _ratings(
        sheet, options, row_of, first_rows, is_by_vote, [file_column, id_column, rater_column]
    )
    split_column = _split_column(sheet, options)
    split = None
    if test_path is not None:
        split = np.where(np.arange(len(files)) < sheet.starts[1], "train", "test").astype("U5")
    elif split_column:
        split = _split(sheet, sheet.text(split_column), options.get("validation"))
    ids = _names(sheet, id_column) if id_column else None
    if ids is not None and id_column is not None:
        _check_filled(sheet, ids, id_column)
    others = _others(sheet, [c for c in sheet.columns if c not in {*used, split_column}])
    if is_by_vote:
        _check_one(sheet, row_of, first_rows, split, "split")
        _check_one(sheet, row_of, first_rows, ids, "id")
        others = _constant(sheet, others, row_of, first_rows)
        split = None if split is None else split[first_rows]
        ids = None if ids is None else [ids[i] for i in first_rows.tolist()]
        files = [files[i] for i in first_rows.tolist()]
    if ids is None:
        stems = [str(PurePosixPath(f).with_suffix("")) for f in files]
        n_uses = Counter(stems)
        image_id = [s if n_uses[s] == 1 else f for s, f in zip(stems, files, strict=True)]
    else:
        image_id = ids
        _check_distinct(sheet, ids, first_rows, "id")
    return Ratings(
        np.array(image_id, dtype=str), np.array(files, dtype=str), found.votes, found.scores, split, others,
        ids is not None, found.n_levels, tuple(sheet.notes),
    )  # fmt: skip


def _open(path: Path, test_path: Path | None, options: Mapping[str, Any]) -> Sheet:
    """The table of one file, or of two that have the same columns, one below the other."""
    paths = [path] if test_path is None else [path, test_path]
    try:
        tables = [read_table(p, options.get("encoding")) for p in paths]
    except StoreError as error:
        raise DatasetError(str(error)) from error
    if len(tables) == 2:
        if set(tables[0].column_names) != set(tables[1].column_names):
            alone = sorted(set(tables[0].column_names) ^ set(tables[1].column_names))
            raise DatasetError(f"{path} and {test_path} must have the same columns; only one has {alone}")
        tables[1] = tables[1].select(tables[0].column_names)
        try:
            joined = pa.concat_tables(tables)
        except pa.ArrowInvalid as error:
            raise DatasetError(f"{path} and {test_path} have columns of different types: {error}") from error
        return Sheet(joined, [str(p) for p in paths], [0, tables[0].num_rows])
    return Sheet(tables[0], [str(path)], [0])


def _names(sheet: Sheet, column: str) -> list[str]:
    """Cells that name images; numbers that a program has made floats (52662.0) as the whole ones they
    were."""
    cells = sheet.text(column)
    if all(_FLOAT_ID.fullmatch(cell) for cell in cells):
        note = f"{column} holds whole numbers written as {cells[0]}: read as {cells[0][:-2]}"
        if note not in sheet.notes:
            sheet.notes.append(note)
        return [cell[:-2] for cell in cells]
    return cells


def _images(
    sheet: Sheet, files: list[str], file_column: str, options: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """First row of each image, the image of each row, and the column of raters where rows are votes.

    Rows are votes if the settings say so, or there is a rater column and images have several rows.
    """
    number: dict[str, int] = {}
    row_of = np.array([number.setdefault(file, len(number)) for file in files])
    _, first_rows = np.unique(row_of, return_index=True)
    rater = pick(sheet, options.get("rater_column"), (), RATER_COLUMNS, "rater_column")
    if len(number) == len(files):
        return first_rows, row_of, rater if options.get("rater_column") else None
    rows = options.get("rows", "votes" if rater else "images")
    if rows == "votes":
        return first_rows, row_of, rater
    second = next(i for i in range(len(files)) if i != first_rows[row_of[i]])
    raise DatasetError(
        f"{sheet.rows(int(first_rows[row_of[second]]), second)}: the same file {files[second]!r} "
        f"({file_column}). "
        "If every row is one person's vote: -o rows=votes; else leave one of them out"
    )


def _ratings(
    sheet: Sheet,
    options: Mapping[str, Any],
    row_of: np.ndarray,
    first_rows: np.ndarray,
    is_by_vote: bool,
    known: Sequence[str | None],
) -> tuple[Votes, list[str]]:
    """Votes or scores of the images, and all columns used for them or for anything else."""
    used = [c for c in known if c]
    n_levels = options.get("n_levels")
    named = [k for k in ("score_column", "votes_prefix", "rater_columns") if options.get(k)]
    if len(named) > 1:
        raise DatasetError(
            f"{sheet.name}: {named[0]} and {named[1]} both say where the ratings are: leave one out"
        )
    usual = next((c for c in SCORE_COLUMNS if c in sheet.columns), None)
    votes = raters = None
    if not is_by_vote:
        if options.get("rater_columns"):
            raters = rater_columns(sheet, options["rater_columns"])
        elif not options.get("score_column"):
            votes = vote_columns(sheet, options.get("votes_prefix")) or (
                likely_votes(sheet) if not usual else None
            )
            raters = likely_raters(sheet) if not votes and not usual else None
    elif options.get("votes_prefix") or options.get("rater_columns"):
        raise DatasetError(
            f"{sheet.name}: {named[0]} is for one row per image, but images have several rows. Name the "
            "column "
            "of the votes: -o score_column=NAME"
        )
    if votes:
        if are_shares(sheet, votes) and not all(c == round(c) for c in numbers(sheet, votes[0])):
            sheet.notes.append(
                f"{votes[0]} to {votes[-1]} are shares of the votes: their mean is used as a score, since "
                "the counts "
                "are not known"
            )
            return shares(sheet, votes), [*used, *votes]
        if not votes[0].startswith("votes_"):
            sheet.notes.append(f"{votes[0]} to {votes[-1]} are read as counts of the votes 1 to {len(votes)}")
        return counted(sheet, votes), [*used, *votes]
    if raters:
        cells = np.column_stack([numbers(sheet, c, may_be_empty=True) for c in raters])
        images = np.repeat(np.arange(len(cells)), len(raters))
        sheet.notes.append(
            f"{raters[0]} to {raters[-1]} ({len(raters)} columns) are read as one rater's votes each"
        )
        return count_votes(sheet, images, cells.ravel(), len(cells), n_levels, len(raters)), [*used, *raters]
    score = pick(sheet, options.get("score_column"), SCORE_COLUMNS, MORE_SCORE_COLUMNS, "score_column")
    if score is None or score in used:
        raise DatasetError(_no_ratings(sheet, used))
    if is_by_vote:
        cells = numbers(sheet, score)
        sheet.notes.append(
            f"{len(cells):,} rows are read as one vote each ({score}) for {len(first_rows):,} images"
        )
        return count_votes(sheet, row_of, cells, len(first_rows), n_levels, 1), [*used, score]
    sheet.notes += unused_ratings(sheet, [*used, score], score)
    return Votes(None, _scores(sheet, score)), [*used, score]


def _no_ratings(sheet: Sheet, used: Sequence[str]) -> str:
    usual = ", ".join(SCORE_COLUMNS)
    message = f"{sheet.name} has neither votes_1..votes_k nor a score column ({usual}); {sheet.seen()}. "
    numeric = numeric_columns(sheet, used)
    if len(numeric) > 1:
        listed = ",".join(numeric[:20])
        return message + (
            f"These hold numbers: {listed}. If each is one rater's: -o rater_columns={listed} (* stands "
            "for any "
            "letters); if they count votes, their common name: -o votes_prefix=NAME; if one is the score: "
            "-o score_column=NAME"
        )
    return message + "Name it: -o score_column=NAME" + _header_hint(sheet)


def _header_hint(sheet: Sheet) -> str:
    """What to say where the header looks like a row."""
    if any(is_number(c) or re.search(r"\.(jpe?g|png|webp|tiff?)$", c, re.IGNORECASE) for c in sheet.columns):
        return ". Its first line looks like a row: put a line of column names above, such as file,score"
    if len(sheet.columns) == 1 and " " in sheet.columns[0]:
        return ". If its columns are separated by spaces: put commas or tabs there"
    return ""


def match_files(
    root: Path | None, listed: Sequence[str], files: Iterable[str]
) -> tuple[list[str | None], list[str]]:
    """The file each listed name means, relative to `root`, None where there is none; and how they were
    matched.

    `files` are those known to be there; others are looked up below `root` (None: nowhere), so that a table
    may name any image. Names may differ from the file's in the encoding of accents, in upper and lower case,
    in having no ending or other folders, unless two files answer to one (see `store.matching`).
    """
    known = list(files)
    close = match_names(listed, known, CLOSE)
    found: list[str | None] = [known[i] if i >= 0 else None for i in close.row.tolist()]
    missing = [
        row
        for row, path in enumerate(found)
        if path is None and not (root is not None and os.path.isfile(root / listed[row]))
    ]
    for row in set(np.flatnonzero(close.row < 0).tolist()).difference(missing):
        found[row] = listed[row]
    taken = [i for i in close.row.tolist() if i >= 0]
    wide = match_names([listed[row] for row in missing], known, WIDE, taken)
    for row, i in zip(missing, wide.row.tolist(), strict=True):
        found[row] = known[i] if i >= 0 else None
    notes = close.notes + wide.notes
    if wide.n_ambiguous:
        notes.append(f"{wide.n_ambiguous:,} listed names could mean several files, and are not guessed")
    return found, notes


def _others(sheet: Sheet, names: Sequence[str]) -> dict[str, np.ndarray]:
    is_text_file = not any(p.lower().endswith(PARQUET_ENDINGS) for p in sheet.paths)
    return {_storable(n, sheet.columns): _column(sheet.table, n, is_text_file) for n in names}


def _column(table: pa.Table, name: str, is_text_file: bool) -> np.ndarray:
    """A column nobody knows: numbers if every filled cell is one (NaN where empty), else text."""
    column = table.column(name)
    kind = column.type
    if not is_text_file and (pa.types.is_decimal(kind) or pa.types.is_floating(kind)):
        return np.array(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    if not is_text_file and pa.types.is_integer(kind) and column.null_count == 0:
        return np.array(column.to_numpy())
    cells = column_text(table, name)
    filled = [cell for cell in cells if cell]
    is_numeric = is_text_file or pa.types.is_integer(kind)
    if is_numeric and filled and all(_NUMBER.fullmatch(cell) for cell in filled):
        if len(filled) == len(cells) and all(_INTEGER.fullmatch(cell) for cell in cells):
            return np.array([int(cell) for cell in cells], dtype=np.int64)
        return np.array([float(cell) if cell else np.nan for cell in cells])
    return np.array(cells, dtype=object)


def _storable(name: str, names: Sequence[str]) -> str:
    """The column's name without the slashes and lone dots that the store cannot keep."""
    safe = name.replace("/", "_").replace("\0", "_")
    safe = safe if safe.strip(".") else safe.replace(".", "_")
    while safe != name and safe in names:
        safe += "_"
    return safe


def _constant(
    sheet: Sheet, columns: Mapping[str, np.ndarray], row_of: np.ndarray, first_rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Of tables with a row per vote, the columns that say one thing per image; the others are named."""
    kept: dict[str, np.ndarray] = {}
    left_out: list[str] = []
    for name, values in columns.items():
        first = values[first_rows]
        same = values == first[row_of]
        if values.dtype.kind == "f":
            same |= np.isnan(values) & np.isnan(first[row_of])
        if same.all():
            kept[name] = first
        else:
            left_out.append(name)
    if left_out:
        sheet.notes.append(f"left out, since they differ between the rows of an image: {', '.join(left_out)}")
    return kept


def _check_one(
    sheet: Sheet,
    row_of: np.ndarray,
    first_rows: np.ndarray,
    values: Sequence[str] | np.ndarray | None,
    what: str,
) -> None:
    """Raise DatasetError where the rows of an image differ in what an image has one of."""
    if values is None:
        return
    cells = np.asarray(values, dtype=object)
    differing = np.flatnonzero(cells != cells[first_rows][row_of])
    if len(differing):
        row = int(differing[0])
        first = int(first_rows[row_of[row]])
        raise DatasetError(
            f"{sheet.rows(first, row)}: rows of one image, but its {what} is {cells[first]!r} "
            f"and {cells[row]!r}"
        )


def _relative_paths(sheet: Sheet, files: Sequence[str]) -> list[str]:
    """The paths in one spelling: './a.jpg' and 'a.jpg' are the same file."""
    for row, file in enumerate(files):
        pure = PurePosixPath(file)
        outside = not pure.parts or pure.is_absolute() or ".." in pure.parts or _DRIVE.match(file)
        if outside or any(character in file for character in "\0\\\n"):
            raise DatasetError(
                f"{sheet.row(row)}: file {file!r} must be a path below the image folder, "
                "written with forward slashes"
            )
    return [str(PurePosixPath(file)) for file in files]


def _check_filled(sheet: Sheet, ids: Sequence[str], column: str) -> None:
    for row, image_id in enumerate(ids):
        if not image_id or "\0" in image_id or "\n" in image_id:
            raise DatasetError(f"{sheet.row(row)}: {column} is {image_id!r}, expected an id")


def _check_distinct(sheet: Sheet, values: Sequence[str], rows: np.ndarray, what: str) -> None:
    seen: dict[str, int] = {}
    for row, value in zip(rows.tolist(), values, strict=True):
        if value in seen:
            raise DatasetError(f"{sheet.rows(seen[value], row)}: the same {what} {value!r}")
        seen[value] = row


def _scores(sheet: Sheet, column: str) -> np.ndarray:
    scores = numbers(sheet, column)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise DatasetError(f"{sheet.row(bad[0])}: {column} is {scores[bad[0]]}, expected a number")
    return scores


def _split_column(sheet: Sheet, options: Mapping[str, Any]) -> str | None:
    """The column of the split: named, or called so, or one of similar name that holds split words only."""
    found = pick(sheet, options.get("split_column"), ("split",), (), "split_column")
    if found or "ids" not in options:  # see read_ratings
        return found
    for column in sheet.columns:
        if plain(column) in SPLIT_COLUMNS and all(w.casefold() in _SPLIT_WORDS for w in sheet.text(column)):
            sheet.notes.append(f"{column} is read as the split")
            return column
    return None


def _split(sheet: Sheet, words: list[str], validation: Any) -> np.ndarray:
    side = {"train": "train", "test": "test", "none": "", None: None}[validation]
    split: list[str] = []
    for row, word in enumerate(words):
        meant = _SPLIT_WORDS.get(word.casefold())
        if meant is None or (meant == "validation" and side is None):
            advice = ". Say what validation images are for: -o validation=train (or test, or none)"
            raise DatasetError(
                f"{sheet.row(row)}: split is {word!r}, expected 'train', 'test' or nothing "
                f"(rows without a split are embedded but take no part in fits){advice if meant else ''}"
            )
        split.append(str(side) if meant == "validation" else meant)
    return np.array(split, dtype="U5")
