"""Tables that people's programs have written: CSV in its many dialects, and Parquet. Every cell stays text.

What can be read in two ways is an error that names the line: a wrong guess gives one photograph another's
score. Columns may be separated by comma, semicolon, tab, `|` or `=`; Excel's `sep=;` line is obeyed; empty
lines before the header and after the last row, and columns without name and content, are left out.
"""

import csv
import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from store.errors import TableError
from store.text import decode, read_bytes

PARQUET_ENDINGS = (".parquet", ".pq")
_DELIMITERS = ",;\t|="
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "'|'", "=": "'='"}
_N_PROBED = 200
_MAX_COLUMNS = 10_000
_ROWS_PER_PIECE = 20_000
_SEP = re.compile(r'"?sep=(.)"?[ ,]*(?:\n|$)', re.IGNORECASE)
_QUOTE, _NEWLINE = ord('"'), ord("\n")


def read_table(path: Path, encoding: str | None = None) -> pa.Table:
    """The table of a CSV or Parquet file, whichever it is; every cell of a CSV is a string, '' where empty.

    `encoding` is for a CSV without byte order mark that is not UTF-8.

    Raises:
        MissingFileError: no such file.
        TableError: the file is no table, is empty, has two columns of one name, rows of another length than
            its header, or quotes that do not close or close elsewhere; the message names the line.
    """
    data = read_bytes(path)
    if data.startswith(b"PAR1") or path.suffix.lower() in PARQUET_ENDINGS:
        table = _read_parquet(path)
    else:
        table = _parse(decode(data, path, encoding), path)
    names = [str(n).strip() for n in table.column_names]
    kept = [i for i, name in enumerate(names) if name or not _is_empty(table.column(i))]
    table = table.select(kept)
    names = [names[i] or f"column_{i + 1}" for i in kept]
    if twice := [n for n, count in Counter(names).items() if count > 1]:
        raise TableError(
            f"{path} has two columns of one name: {twice[0]!r}. Its columns are {', '.join(names)}. Rename "
            "one"
        )
    if table.num_rows == 0:
        raise TableError(f"{path} has column names and no rows")
    return table.rename_columns(names)


def plain(name: str) -> str:
    """A column's name without case, spaces and marks: 'Image Name' is 'imagename'."""
    return re.sub(r"[\s_.-]+", "", name.casefold())


def column_text(table: pa.Table, name: str) -> list[str]:
    """The cells of a column as text without spaces around, '' where empty. Raises TableError for other
    bytes."""
    column = table.column(name)
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            column = column.cast(pa.string())
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return list(pa.compute.utf8_trim_whitespace(column.fill_null("")).to_pylist())
        return ["" if v is None else str(v).strip() for v in column.to_pylist()]
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise TableError(f"column {name} is not UTF-8 text: {error}") from error


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pyarrow.parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} cannot be read as a table: it is no Parquet file: {error}") from error


def _is_empty(column: pa.ChunkedArray) -> bool:
    if column.null_count == len(column):
        return True
    return pa.types.is_string(column.type) and not any(cell and cell.strip() for cell in column.to_pylist())


def _parse(text: str, path: Path) -> pa.Table:
    """The table of a CSV's text: by pyarrow where each line is a row, else by the strict reader below."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    body = _without_blank_lines(text)
    if not body or body.isspace():
        raise TableError(f"{path} is empty, expected column names in its first line")
    first_line = text.count("\n", 0, len(text) - len(body)) + 1
    delimiter = None
    if said := _SEP.match(body):
        delimiter, rest = said[1], body[said.end() :]
        body = _without_blank_lines(rest)
        first_line += 1 + rest.count("\n", 0, len(rest) - len(body))
        if not body or body.isspace():
            raise TableError(f"{path} is empty, expected column names below its 'sep=' line")
    delimiter = delimiter or _find_delimiter(body)
    body = body.rstrip(" \t\n" if delimiter != "\t" else " \n") + "\n"
    data = body.encode()
    table = _parse_plain(data, delimiter)
    if table is not None:
        return table
    return _parse_strictly(body, delimiter, path, first_line)


def _without_blank_lines(text: str) -> str:
    start = re.match(r"(?:[ \t]*\n)*", text)
    return text[start.end() :] if start and start.end() else text


def _find_delimiter(body: str) -> str:
    """The separator by which most of the first lines have as many cells as the header, and at least two.

    Between equals the one of most columns; a file of one column has a comma.
    """
    lines = body.split("\n", _N_PROBED)[:_N_PROBED]
    best, best_rank = ",", (0.0, 0)
    for delimiter in _DELIMITERS:
        try:
            rows = [row for row in csv.reader((f"{line}\n" for line in lines), delimiter=delimiter) if row]
        except csv.Error:
            continue
        n_columns = len(rows[0])
        share = sum(len(row) == n_columns for row in rows) / len(rows)
        rank = (round(share, 2), n_columns)
        if n_columns >= 2 and rank > best_rank:
            best, best_rank = delimiter, rank
    return best


def _parse_plain(data: bytes, delimiter: str) -> pa.Table | None:
    """The table of text that nobody can read in two ways, or None: then the strict reader decides."""
    characters = np.frombuffer(data, np.uint8)
    line_ends = np.flatnonzero(characters == _NEWLINE)
    if len(delimiter.encode()) > 1 or len(line_ends) == 1:
        return None
    header = next(csv.reader([data[: line_ends[0]].decode()], delimiter=delimiter))
    quotes = np.flatnonzero(characters == _QUOTE)
    if len(header) > _MAX_COLUMNS or not _are_plain(quotes, characters, ord(delimiter)):
        return None
    is_inside = np.searchsorted(quotes, line_ends) % 2 == 1
    if is_inside.any() and _may_be_rows(is_inside, line_ends, characters == ord(delimiter), len(header)):
        return None
    names = [str(i) for i in range(len(header))]
    longest = int(np.diff(line_ends[~is_inside]).max())
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(pa.py_buffer(data)[int(line_ends[0]) + 1 :]),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=max(1 << 22, 2 * longest)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=is_inside.any()),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={n: pa.string() for n in names}, strings_can_be_null=False
            ),
        )
    except pa.ArrowException:
        return None
    return _without_empty_end(table).rename_columns(header)


def _are_plain(quotes: np.ndarray, characters: np.ndarray, delimiter: int) -> bool:
    """True if every quote opens a cell, closes one, or stands twice for itself."""
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before = characters[np.maximum(opening - 1, 0)]
    after = characters[closing + 1]  # the text ends with a newline
    opens = (opening == 0) | (before == delimiter) | (before == _NEWLINE)
    closes = (after == delimiter) | (after == _NEWLINE)
    doubled = opening[1:] == closing[:-1] + 1
    opens[1:] |= doubled
    closes[:-1] |= doubled
    return bool((opens & closes).all())


def _may_be_rows(
    is_inside: np.ndarray, line_ends: np.ndarray, is_delimiter: np.ndarray, n_columns: int
) -> bool:
    """True if the first line, or all lines of a row that goes over lines, could be rows of their own."""
    counts = np.diff(np.searchsorted(np.flatnonzero(is_delimiter), line_ends), prepend=0)
    starts = np.concatenate([[0], np.flatnonzero(~is_inside)[:-1] + 1])
    n_lines = np.diff(np.append(starts, len(line_ends)))
    all_may = np.minimum.reduceat(counts >= n_columns - 1, starts)
    return bool(is_inside[0] or (all_may & (n_lines > 1)).any())


def _without_empty_end(table: pa.Table) -> pa.Table:
    """The table without the rows at its end that are separators only."""
    n_rows = table.num_rows
    while n_rows and not any((column[n_rows - 1].as_py() or "").strip() for column in table.itercolumns()):
        n_rows -= 1
    return table.slice(0, n_rows)


def _parse_strictly(body: str, delimiter: str, path: Path, first_line: int) -> pa.Table:
    """The table of text with cells over several lines, quotes inside cells, or a fault, which is named."""
    lines = body.split("\n")
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    pieces: list[pa.Table] = []
    n_read = 0
    try:
        for row in reader:
            start, n_read = n_read, reader.line_num
            if not row or (len(row) == 1 < len(header) and not row[0].strip()):
                continue
            if not header:
                header = row
                if len(header) > _MAX_COLUMNS:
                    raise TableError(f"{path} has {len(header):,} columns, more than {_MAX_COLUMNS:,}")
                continue
            if len(row) > len(header) and not any(cell.strip() for cell in row[len(header) :]):
                row = row[: len(header)]
            if len(row) != len(header):
                raise TableError(
                    f"{path} line {first_line + start} has {len(row)} cells, its header {len(header)}: "
                    "cannot be "
                    f"read as a table: Expected {len(header)} columns, got {len(row)} in "
                    f"{lines[start][:80]!r}. "
                    f"Columns are taken to be separated by {_NAMES.get(delimiter, repr(delimiter))}; a cell "
                    "that has one inside needs quotes around it"
                )
            if n_read - start > 1:
                _check_cell_over_lines(lines[start:n_read], len(header), delimiter, path, first_line + start)
            rows.append(row)
            if len(rows) == _ROWS_PER_PIECE:
                pieces.append(_as_table(rows, len(header)))
                rows = []
    except csv.Error as error:
        line = lines[min(n_read, len(lines) - 1)]
        raise TableError(
            f"{path} line {first_line + n_read} cannot be read as a table: a quote opens a cell there and "
            "does "
            f"not close it as it must ({error}), in {line[:80]!r}. Close the quote; one that is part of the "
            'text is written twice, in a cell in quotes: "a 5"" lens"'
        ) from error
    pieces.append(_as_table(rows, len(header)))
    return _without_empty_end(pa.concat_tables(pieces)).rename_columns(header)


def _as_table(rows: list[list[str]], n_columns: int) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * n_columns
    return pa.table([pa.array(c, pa.string()) for c in columns], [str(i) for i in range(n_columns)])


def _check_cell_over_lines(
    lines: list[str], n_columns: int, delimiter: str, path: Path, first_line: int
) -> None:
    """Refuse a row over several lines that are rows each, too, if its quotes are read as text: two lone
    quotes would swallow the rows between them."""
    ends = delimiter + " "
    if all(line.rstrip(ends).count(delimiter) < n_columns <= line.count(delimiter) + 1 for line in lines):
        raise TableError(
            f"{path} lines {first_line} to {first_line + len(lines) - 1} can be read as one row, with a "
            "cell that "
            f"goes over lines, and as {len(lines)} rows, with a lone quote in the first and the last: "
            f"{lines[0][:60]!r}, {lines[-1][:60]!r}. If the quotes are part of the text, double them and put "
            "the cell in quotes; else write the cell on one line"
        )
