"""Answers as tables: rows with named columns, that a notebook shows and other programs read."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from store.csv_files import write_rows

if TYPE_CHECKING:
    import pandas as pd

N_SHOWN = 20
N_CHARACTERS = 40


class Table:
    """Named columns of one length. Columns keep their order; cells are plain Python values."""

    def __init__(self, title: str, columns: Mapping[str, Sequence[Any]]) -> None:
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{title}: columns differ in length: {lengths}")
        self.title = title
        self.columns = {name: list(values) for name, values in columns.items()}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def rows(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """Rows [start, stop) as dictionaries, in order."""
        cells = [values[start:stop] for values in self.columns.values()]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*cells, strict=True)]

    def to_frame(self) -> "pd.DataFrame":
        """A pandas DataFrame, one row per row."""
        import pandas as pd

        return pd.DataFrame(self.columns)

    def to_csv(self, path: Path | str) -> Path:
        """Write a CSV file (UTF-8, safe to open in a spreadsheet; by tabs if it ends in .tsv), complete or
        not at all; returns its path.

        Raises UsageError where it cannot be written.
        """
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as handle:
                delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
                write_rows(handle, list(self.columns), zip(*self.columns.values(), strict=True), delimiter)
            os.replace(partial, path)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)
        return path

    def _repr_html_(self) -> str:
        """The first rows, for notebooks."""
        side = {name: _side(values[:N_SHOWN]) for name, values in self.columns.items()}
        head = "".join(f"<th{side[name]}>{escape(str(name))}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(_html_cell(cell, side[name]) for name, cell in row.items()) + "</tr>"
            for row in self.rows(0, N_SHOWN)
        )
        more = f"<p>{len(self) - N_SHOWN:,} rows more: .to_frame()</p>" if len(self) > N_SHOWN else ""
        more = more if len(self) else "<p>nothing</p>"
        caption = f'<caption style="text-align:left"><b>{escape(self.title)}</b></caption>'
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.title}: {len(self):,} rows>"


def cell_text(value: Any) -> str:
    """A cell as people read it: four digits of a float, nothing for None, yes and no, "name value, ..."."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _side(values: Sequence[Any]) -> str:
    """Numbers to the right, all else to the left."""
    is_number = [isinstance(v, int | float) and not isinstance(v, bool) for v in values if v is not None]
    return f' style="text-align:{"right" if is_number and all(is_number) else "left"}"'


def _html_cell(value: Any, side: str) -> str:
    """A cell; of a long text its beginning, of a long name or path its two ends, the whole as its tooltip."""
    text = cell_text(value)
    if len(text) <= N_CHARACTERS:
        return f"<td{side}>{escape(text)}</td>"
    n_end = 0 if " " in text else N_CHARACTERS - 12
    short = text[: N_CHARACTERS - n_end] + "…" + text[len(text) - n_end :]
    return f'<td{side} title="{escape(text)}">{escape(short)}</td>'
