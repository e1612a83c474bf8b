"""Captions as people and programs write them: CSV, Parquet, JSON lines, JSON; one or more texts per
photograph."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iaa.library.errors import UsageError
from iaa.library.rating.tables import FILES
from store.errors import TableError, did_you_mean
from store.json_files import parse_json
from store.matching import match_names
from store.tables import column_text, plain, read_table
from store.text import read_text

_CAPTION = re.compile(r"(captions?|texts?|descriptions?|alttext|alt|title)\d*")
_NOTHING = {"nan", "na", "n/a", "null", "none", "-"}
MAX_CHARACTERS = 2000
"""A longer text is taken for a mistake, not for a caption."""
N_NAMED = 5

Said = tuple[str, Any]
"""The name of a photograph, and what is in its cell."""


@dataclass
class Sorted:
    """What is said of each photograph of a list, in its order, and what was noticed on the way."""

    captions: list[list[str]]
    reason: list[str]
    """Why a photograph has none; '' where it has."""
    unknown: list[str] = field(default_factory=list)
    """Names that mean no photograph of the list."""
    n_doubled: int = 0
    """Texts that the same photograph has already: they count once."""
    notes: list[str] = field(default_factory=list)

    @property
    def n_captioned(self) -> int:
        """Photographs with a caption or more."""
        return sum(map(bool, self.captions))


def read_captions(path: Path, columns: Sequence[str] = (), encoding: str | None = None) -> list[Said]:
    """(name of the photograph, text or None) for every cell of a captions file, in its order.

    A column (key) names the photographs: image_id, file, path ...; one or more hold captions: caption, text,
    caption_1, ..., or those given. In JSON a value may be a list of texts, and one object of names may stand
    for all. Raises MissingFileError, TableError, UsageError.
    """
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return _from_json(path, columns, encoding)
    table = read_table(path, encoding)
    names = table.column_names
    file_column = next((c for c in names if plain(c) in FILES and c not in columns), names[0])
    texts = _caption_columns(path, [c for c in names if c != file_column], columns)
    files = column_text(table, file_column)
    cells = [column_text(table, column) for column in texts]
    return [(name, cell) for name, *row in zip(files, *cells, strict=True) for cell in row]


def sort_captions(said: Iterable[Said], image_id: Sequence[str], path: Sequence[str], origin: str) -> Sorted:
    """The captions of each photograph in the order of a list: by its id, or by its file where ids match none.

    Raises UsageError where no name means a photograph, or no photograph gets a caption.
    """
    said = list(said)
    names = list(dict.fromkeys(name for name, _ in said))
    by_id, by_path = match_names(names, image_id), None
    if (by_id.row < 0).any():
        by_path = match_names(names, path)
    best = by_path if by_path is not None and (by_path.row >= 0).sum() > (by_id.row >= 0).sum() else by_id
    row_of = {name: row for name, row in zip(names, best.row.tolist(), strict=True) if row >= 0}
    if not row_of:
        first = repr(names[0]) if names else "nothing"
        raise UsageError(
            f"{origin} names no photograph of this data set: it has {first} where they are called "
            f"{str(image_id[0])!r} ({path[0]}). Give the column of ids or files one of these names: "
            f"{', '.join(FILES[:6])}"
        )
    found = Sorted(
        [[] for _ in image_id],
        [f"no caption in {origin}"] * len(image_id),
        [name for name in names if name not in row_of],
        notes=list(best.notes),
    )
    for name, cell in said:
        if (row := row_of.get(name)) is None:
            continue
        text, why = clean_caption(cell)
        if why:
            if not found.captions[row]:
                found.reason[row] = why
        elif text in found.captions[row]:
            found.n_doubled += 1
        else:
            found.captions[row].append(text)
            found.reason[row] = ""
    if not found.n_captioned:
        example = next(why for why in found.reason if why)
        raise UsageError(f"{origin} gives no photograph a caption, the first because: {example}")
    return found


def clean_caption(cell: Any) -> tuple[str, str]:
    """The text of a cell in one line, and '' or the reason why it is no caption."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "", "its caption is NaN"
    if not isinstance(cell, str):
        return "", f"its caption is no text but {type(cell).__name__}"
    text = " ".join(cell.split())
    if not text:
        return "", "its caption is empty"
    if text.casefold() in _NOTHING:
        return "", f"its caption is {text!r}, which says that there is none"
    if len(text) > MAX_CHARACTERS:
        return "", f"its caption has {len(text):,} characters, more than {MAX_CHARACTERS:,}"
    if not text.isprintable():
        return "", "its caption holds characters that are no text"
    return text, ""


def _caption_columns(path: Path, there: Sequence[str], asked: Sequence[str]) -> list[str]:
    if asked:
        if unknown := [name for name in asked if name not in there]:
            raise UsageError(
                f"{path} has no column {unknown[0]!r}; it has {', '.join(there)}."
                + did_you_mean(unknown[0], there)
            )
        return list(asked)
    found = [name for name in there if _CAPTION.fullmatch(plain(name))]
    if not found:
        raise UsageError(f"{path}: which column holds the captions? It has {', '.join(there)}: --column NAME")
    return found


def _from_json(path: Path, columns: Sequence[str], encoding: str | None) -> list[Said]:
    text = read_text(path, encoding)
    said: list[Said] = []
    if path.suffix.lower() == ".json":
        value = _parsed(text, str(path))
        if isinstance(value, dict):
            return [(name, each) for name, cell in value.items() for each in _each(cell)]
        records = list(enumerate(value, 1)) if isinstance(value, list) else []
    else:
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        records = [(number, _parsed(line, f"{path} line {number}")) for number, line in lines]
    if not records:
        raise TableError(f"{path} holds no captions: expected an object per photograph")
    for number, record in records:
        where = f"{path} {'entry' if path.suffix.lower() == '.json' else 'line'} {number}"
        if not isinstance(record, dict):
            raise TableError(f'{where} is no object such as {{"image_id": "1", "caption": "a dog"}}')
        key = next((name for name in record if plain(name) in FILES and name not in columns), None)
        if key is None:
            raise TableError(
                f"{where} names no photograph; it has {', '.join(record)}; expected image_id or file"
            )
        keys = [name for name in record if name != key]
        texts = (
            [c for c in columns if c in record]
            if columns
            else [n for n in keys if _CAPTION.fullmatch(plain(n))]
        )
        if not texts and not said:
            texts = _caption_columns(path, keys, columns)
        name = record[key]
        cells = [each for column in texts for each in _each(record[column])] or [None]
        said += [(name if isinstance(name, str) else json.dumps(name), cell) for cell in cells]
    return said


def _each(cell: Any) -> list[Any]:
    return (cell or [""]) if isinstance(cell, list) else [cell]


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise TableError(f"{where} is no JSON: {error}") from error
