"""Ratings from a CSV or Parquet file: a file column, votes or a score, optionally ids and a split."""

import re
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
_VOTES = re.compile(r"votes_(\d+)$")


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
    """A CSV (comma, semicolon or tab; UTF-8, with or without a byte order mark) or Parquet file."""
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; expected a CSV or Parquet file with ratings")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pyarrow.parquet.read_table(path)
        first = path.read_bytes()[:100_000].splitlines()[:1]
        if not first:
            raise DatasetError(f"{path} is empty")
        delimiter = max(",;\t", key=lambda d: first[0].decode("utf-8", "replace").count(d))
        names = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        text_file = _text_columns(first[0], delimiter)
        convert = pyarrow.csv.ConvertOptions(column_types=text_file, strings_can_be_null=False)
        return pyarrow.csv.read_csv(path, parse_options=names, convert_options=convert)
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} cannot be read as a table: {error}") from error


def _text_columns(header: bytes, delimiter: str) -> dict[str, pa.DataType]:
    """Names and paths stay text even where they look like numbers (AVA's ids)."""
    names = [n.strip().strip('"') for n in header.decode("utf-8-sig", "replace").split(delimiter)]
    return {n: pa.string() for n in names if n in (*FILE_COLUMNS, "image_id", "id", "split")}


def read_ratings(path: Path, options: dict[str, Any]) -> Ratings:
    """The ratings of a file, every cell checked.

    Options: `file_column`, `id_column`, `score_column`, `split_column` where the names are not the usual.

    Raises:
        DatasetError: a missing column, a bad vote or score, a file named twice, an unknown split word;
            the message names the row (counted from 1, without the header) and the value.
    """
    table = read_table(path)
    names = table.column_names
    if len(set(names)) != len(names):
        raise DatasetError(f"{path} has two columns of one name: {names}")
    file_column = _pick(path, names, options.get("file_column"), FILE_COLUMNS, "a file column")
    assert file_column is not None
    files = _strings(table, file_column)
    _check_paths(path, files)
    _check_distinct(path, files, "file")
    vote_columns = sorted((c for c in names if _VOTES.match(c)), key=lambda c: int(c.split("_")[1]))
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
        _check_distinct(path, ids, "id")
    else:
        stems = [str(PurePosixPath(f).with_suffix("")) for f in files]
        ids = stems if len(set(stems)) == len(stems) else files
    used = {file_column, score_column, split_column, id_column, *vote_columns}
    others = {n: _column(table, n) for n in names if n not in used and "/" not in n}
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


def _strings(table: pa.Table, name: str) -> list[str]:
    return ["" if v is None else str(v) for v in table.column(name).to_pylist()]


def _column(table: pa.Table, name: str) -> np.ndarray:
    column = table.column(name)
    if column.null_count == 0 and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return np.asarray(column.to_numpy())
    return np.array(_strings(table, name), dtype=str)


def _check_paths(path: Path, files: list[str]) -> None:
    for number, file in enumerate(files, start=1):
        pure = PurePosixPath(file)
        if not file or pure.is_absolute() or ".." in pure.parts or "\0" in file:
            raise DatasetError(f"{path} row {number}: file {file!r} must be a path below the image folder")


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
        raise DatasetError(f"{path}: column {name} is not all numbers: {error}") from error


def _split(path: Path, words: list[str]) -> np.ndarray:
    for number, word in enumerate(words, start=1):
        if word not in SPLITS:
            raise DatasetError(
                f"{path} row {number}: split is {word!r}, expected 'train', 'test' or nothing "
                "(rows without a split are embedded but take no part in fits)"
            )
    return np.array(words, dtype=str)
