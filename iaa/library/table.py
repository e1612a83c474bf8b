"""Answers as tables: rows with named columns, that a notebook shows and other programs read."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.csv_files import write_rows
from store.durable import whole_file

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

        Raises SpaceError where it cannot be written.
        """
        path = Path(path)
        with (
            whole_file(path) as partial,
            partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as handle,
        ):
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            write_rows(handle, list(self.columns), zip(*self.columns.values(), strict=True), delimiter)
        return path

    def _repr_html_(self) -> str:
        """The first rows, for notebooks."""
        shown = {name: values[:N_SHOWN] for name, values in self.columns.items()}
        sides = [f' style="text-align:{"right" if is_numeric(v) else "left"}"' for v in shown.values()]
        head = "".join(f"<th{side}>{escape(str(n))}</th>" for n, side in zip(shown, sides, strict=True))
        rows = zip(*map(column_texts, shown.values()), strict=True)
        body = "".join(f"<tr>{''.join(map(_html_cell, row, sides))}</tr>" for row in rows)
        more = f"<p>{len(self) - N_SHOWN:,} rows more: .to_frame()</p>" if len(self) > N_SHOWN else ""
        more = more if len(self) else "<p>nothing</p>"
        caption = f'<caption style="text-align:left"><b>{escape(self.title)}</b></caption>'
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.title}: {len(self):,} rows>"


def facts(title: str, about: Mapping[str, Any]) -> Table:
    """What is known about one thing, a row per fact."""
    return Table(title, {"what": list(about), "value": list(about.values())})


def column_texts(values: Sequence[Any]) -> list[str]:
    """A column's cells as people read them: in a column of numbers as many decimals as give the largest four
    digits, so that they line up (0.5000 below 0.7125); nothing for None, yes and no, "name value, ..."."""
    are_numbers = is_numeric(values)
    sizes = [abs(v) for v in values if isinstance(v, float) and math.isfinite(v) and v]
    decimals = max(0, 3 - math.floor(math.log10(max(sizes, default=1.0))))

    def text(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, Mapping):
            return ", ".join(f"{key} {each}" for key, each in value.items())
        if not are_numbers:
            return f"{value:.4g}" if isinstance(value, float) else str(value)
        return f"{value:,.{decimals}f}" if isinstance(value, float) else f"{value:,}"

    return [text(value) for value in values]


def is_numeric(values: Sequence[Any]) -> bool:
    """True for a column of numbers, of which some may be missing."""
    is_number = [isinstance(v, int | float) and not isinstance(v, bool) for v in values if v is not None]
    return bool(is_number) and all(is_number)


def _html_cell(text: str, side: str) -> str:
    """A cell; of a long text its beginning, of a long name or path its two ends, the whole as its tooltip."""
    if len(text) <= N_CHARACTERS:
        return f"<td{side}>{escape(text)}</td>"
    n_end = 0 if " " in text else N_CHARACTERS - 12
    short = text[: N_CHARACTERS - n_end] + "…" + text[len(text) - n_end :]
    return f'<td{side} title="{escape(text)}">{escape(short)}</td>'
