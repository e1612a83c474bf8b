"""CSV files as this project writes them, safe to open in a spreadsheet.

A cell of text that a spreadsheet would run (`=cmd...`, or one that begins with + - @, tab or a line end)
gets an apostrophe in front, which spreadsheets take as "this is text"; so does one that already has such an
apostrophe, so that taking one away always gives the text back. Numbers stay numbers.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_RUNS = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|nan)")


def safe_cell(value: Any) -> Any:
    """The value, with an apostrophe before text that a spreadsheet would run."""
    if not isinstance(value, str) or not _RUNS.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def unsafe_cell(text: str) -> str:
    """The text that `safe_cell` was given."""
    return text[1:] if text.startswith("'") and _RUNS.match(text) else text


def write_rows(
    file: TextIO, columns: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ","
) -> None:
    """Write a header and rows of cells; lines end with a newline."""
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow([safe_cell(column) for column in columns])
    writer.writerows([safe_cell(cell) for cell in row] for row in rows)
