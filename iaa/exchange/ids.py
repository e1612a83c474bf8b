"""Ids of imported rows, from the column of a table."""

from pathlib import Path

import pyarrow as pa

from store.errors import SchemaError, TableError
from store.tables import column_text, plain

ID_COLUMNS = ("image_id", "image_path", "key", "id")
_MORE_ID_COLUMNS = ("imageid", "imagepath", "key", "id", "file", "filename", "path", "filepath", "imagename")


def pick_column(file: Path, table: pa.Table, given: str | None) -> str:
    """The column of the ids: the one given, or the first of the usual names. Raises SchemaError."""
    names = table.column_names
    if given is None:
        usual = [c for c in ID_COLUMNS if c in names]
        close = [c for name in _MORE_ID_COLUMNS for c in names if plain(c) == name]
        if usual or close:
            return str((usual or close)[0])
    elif given in names:
        return given
    hint = f". If its first line is an id: call it {file.stem}.txt" if len(names) == 1 else ""
    raise SchemaError(
        f"{file} has no column {given or ' or '.join(ID_COLUMNS)}; its columns are {', '.join(names)}. "
        f"Name it: --id-column NAME{hint}"
    )


def column_ids(table: pa.Table, column: str, file: Path) -> list[str]:
    """The ids of a column: text, or whole numbers, also where a program has made floats of them.

    Raises SchemaError for other columns."""
    kind = table.column(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_floating(kind):
        values = table.column(column).to_pylist()
        if all(v is not None and v == v and v == int(v) for v in values):
            return [str(int(v)) for v in values]
        raise SchemaError(f"{file}: column {column} holds {kind}; ids must be text or whole numbers")
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    if not (is_text or pa.types.is_integer(kind) or pa.types.is_binary(kind)):
        raise SchemaError(f"{file}: column {column} holds {kind}; ids must be text or whole numbers")
    try:
        return column_text(table, column)
    except TableError as error:
        raise SchemaError(f"{file}: {error}") from error
