"""Ratings from a CSV or Parquet file: a file column, votes or a score, optionally ids and a split."""

import csv
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

FILE_COLUMNS = ("file", "filename", "path", "image")
SCORE_COLUMNS = ("score", "mos", "mean")
SPLITS = ("train", "test", "")
_VOTES = re.compile(r"votes_([0-9]+)")
_DRIVE = re.compile(r"[A-Za-z]:")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class DatasetError(Exception):
    """A data set's files or settings are not as they must be."""


@dataclass(frozen=True)
class Ratings:
    """The rows of a ratings file, in its order."""

    image_id: np.ndarray
    path: np.ndarray
    votes: np.ndarray | None
    scores: np.ndarray | None
    split: np.ndarray | None
    columns: dict[str, np.ndarray]


def read_table(path: Path) -> pa.Table:
    """A CSV (comma, semicolon or tab; UTF-8, with or without a byte order mark) or Parquet file.

    Every cell of a CSV is text: 007 is a name until somebody asks for a number.
    """
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; expected a CSV or Parquet file with ratings")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pyarrow.parquet.read_table(path)
        else:
            table = _read_csv(path)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"{path} cannot be read as a table: {error}") from error
    names = [n.strip() or f"column_{i}" for i, n in enumerate(table.column_names, start=1)]
    if len(set(names)) != len(names):
        raise DatasetError(f"{path} has two columns of one name: {names}")
    if table.num_rows == 0:
        raise DatasetError(f"{path} has column names and no rows")
    return table.rename_columns(names)


def _read_csv(path: Path) -> pa.Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
    if not header.strip():
        raise DatasetError(f"{path} is empty, expected column names in its first line")
    delimiter = max(",;\t", key=lambda d: len(next(csv.reader([header], delimiter=d))))
    names = next(csv.reader([header], delimiter=delimiter))
    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={n: pa.string() for n in names}, strings_can_be_null=False
        ),
    )


def read_ratings(path: Path, options: dict[str, Any]) -> Ratings:
    """The ratings of a file, every cell checked.

    Options: `file_column`, `id_column`, `score_column`, `split_column` where the names are not the usual.

    Raises:
        DatasetError: a missing column, a bad vote or score, a file named twice, an unknown split word;
            the message names the row (counted from 1, without the header) and the value.
    """
    table = read_table(path)
    names = table.column_names
    file_column = _pick(path, names, options.get("file_column"), FILE_COLUMNS, "a file column")
    assert file_column is not None
    files = _relative_paths(path, _strings(table, file_column))
    _check_distinct(path, files, "file")
    vote_columns = sorted((c for c in names if _VOTES.fullmatch(c)), key=lambda c: int(c.split("_")[1]))
    score_column = None
    if options.get("score_column") or not vote_columns:
        score_column = _pick(path, names, options.get("score_column"), SCORE_COLUMNS, None)
    if not vote_columns and score_column is None:
        raise DatasetError(
            f"{path} has neither votes_1..votes_k nor a score column ({', '.join(SCORE_COLUMNS)}); "
            f"its columns are {', '.join(names)}. Name it: -o score_column=NAME"
        )
    votes = None if score_column else _votes(path, table, vote_columns)
    scores = _scores(path, table, score_column) if score_column else None
    split_column = _pick(path, names, options.get("split_column"), ("split",), None)
    split = _split(path, _strings(table, split_column)) if split_column else None
    id_column = _pick(path, names, options.get("id_column"), ("image_id", "id"), None)
    if id_column:
        ids = _strings(table, id_column)
        _check_filled(path, ids, id_column)
    else:
        stems = [str(PurePosixPath(f).with_suffix("")) for f in files]
        n_uses = Counter(stems)
        ids = [s if n_uses[s] == 1 else f for s, f in zip(stems, files, strict=True)]
    _check_distinct(path, ids, "id")
    used = {file_column, score_column, split_column, id_column, *vote_columns}
    is_text_file = path.suffix.lower() not in (".parquet", ".pq")
    others = {n: _column(table, n, is_text_file) for n in names if n not in used}
    others = {_storable(n, names): values for n, values in others.items()}
    return Ratings(np.array(ids, dtype=str), np.array(files, dtype=str), votes, scores, split, others)


def _pick(path: Path, names: list[str], given: Any, usual: tuple[str, ...], needed: str | None) -> str | None:
    if given:
        if given not in names:
            raise DatasetError(f"{path} has no column {given!r}; its columns are {', '.join(names)}")
        return str(given)
    found = [n for n in usual if n in names]
    if not found and needed:
        raise DatasetError(
            f"{path} has no {needed.removeprefix('a ')} ({', '.join(usual)}); "
            f"its columns are {', '.join(names)}. "
            "Name it: -o file_column=NAME"
        )
    return found[0] if found else None


def match_files(root: Path | None, listed: Sequence[str], files: Iterable[str]) -> list[str | None]:
    """The file each listed path means, relative to `root`; None where there is none.

    `files` are those known to be there; others are looked up below `root` (None: nowhere), so that a table
    may name any image.
    Names that differ only in how an accented letter is encoded (as between macOS and Linux) are the
    same name, unless two files answer to it.
    """
    known = set(files)
    found = [
        path if path in known or (root is not None and os.path.isfile(root / path)) else None
        for path in listed
    ]
    if None not in found:
        return found
    composed = Counter(unicodedata.normalize("NFC", path) for path in known)
    by_composed = {unicodedata.normalize("NFC", path): path for path in known}
    taken = set(found)
    for row, path in enumerate(listed):
        name = unicodedata.normalize("NFC", path)
        if found[row] is None and composed[name] == 1 and by_composed[name] not in taken:
            found[row] = by_composed[name]
            taken.add(by_composed[name])
    return found


def _strings(table: pa.Table, name: str) -> list[str]:
    return ["" if v is None else str(v).strip() for v in table.column(name).to_pylist()]


def _column(table: pa.Table, name: str, is_text_file: bool) -> np.ndarray:
    """A column nobody knows: numbers if every filled cell is one (NaN where empty), else text."""
    column = table.column(name)
    kind = column.type
    if not is_text_file and (pa.types.is_decimal(kind) or pa.types.is_floating(kind)):
        return np.array(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    if not is_text_file and pa.types.is_integer(kind) and column.null_count == 0:
        return np.array(column.to_numpy())
    cells = _strings(table, name)
    filled = [cell for cell in cells if cell]
    is_number = is_text_file or pa.types.is_integer(kind)
    if is_number and filled and all(_NUMBER.fullmatch(cell) for cell in filled):
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


def _relative_paths(path: Path, files: Sequence[str]) -> list[str]:
    """The paths in one spelling: './a.jpg' and 'a.jpg' are the same file."""
    for number, file in enumerate(files, start=1):
        pure = PurePosixPath(file)
        outside = not pure.parts or pure.is_absolute() or ".." in pure.parts or _DRIVE.match(file)
        if outside or "\0" in file or "\\" in file:
            raise DatasetError(
                f"{path} row {number}: file {file!r} must be a path below the image folder, "
                "written with forward slashes"
            )
    return [str(PurePosixPath(file)) for file in files]


def _check_filled(path: Path, ids: Sequence[str], column: str) -> None:
    for number, image_id in enumerate(ids, start=1):
        if not image_id or "\0" in image_id:
            raise DatasetError(f"{path} row {number}: {column} is {image_id!r}, expected an id")


def _check_distinct(path: Path, values: list[str], what: str) -> None:
    seen: dict[str, int] = {}
    for number, value in enumerate(values, start=1):
        if value in seen:
            raise DatasetError(f"{path} rows {seen[value]} and {number}: the same {what} {value!r}")
        seen[value] = number


def _votes(path: Path, table: pa.Table, columns: list[str]) -> np.ndarray:
    expected = [f"votes_{i}" for i in range(1, len(columns) + 1)]
    if columns != expected or len(columns) < 2:
        raise DatasetError(f"{path}: vote columns must be votes_1, votes_2, ... without gaps; got {columns}")
    counts = np.column_stack([_numbers(path, table, c) for c in columns])
    bad = ~(np.isfinite(counts) & (counts >= 0) & (counts == np.floor(counts)))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DatasetError(
            f"{path} row {row + 1}: {columns[column]} is {counts[row, column]:g}, "
            "expected a count of 0 or more"
        )
    empty = np.flatnonzero(counts.sum(axis=1) == 0)
    if len(empty):
        raise DatasetError(f"{path} row {empty[0] + 1}: no votes at all ({len(empty)} such rows)")
    return np.asarray(counts.astype(np.int64))


def _scores(path: Path, table: pa.Table, column: str) -> np.ndarray:
    scores = _numbers(path, table, column)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise DatasetError(f"{path} row {bad[0] + 1}: {column} is {scores[bad[0]]}, expected a number")
    return scores


def _numbers(path: Path, table: pa.Table, name: str) -> np.ndarray:
    column = table.column(name)
    try:
        return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    except pa.ArrowInvalid as error:
        cells = _strings(table, name)
        row = next((i for i, cell in enumerate(cells, start=1) if not _is_number(cell)), None)
        if row is None:
            return np.array([float(cell) for cell in cells])
        raise DatasetError(
            f"{path}: column {name} is not all numbers: row {row} has {cells[row - 1]!r}, "
            "expected a number such as 4.5 (with a point)"
        ) from error


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and "_" not in cell
    except ValueError:
        return False


def _split(path: Path, words: list[str]) -> np.ndarray:
    for number, word in enumerate(words, start=1):
        if word not in SPLITS:
            raise DatasetError(
                f"{path} row {number}: split is {word!r}, expected 'train', 'test' or nothing "
                "(rows without a split are embedded but take no part in fits)"
            )
    return np.array(words, dtype=str)
