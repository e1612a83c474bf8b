"""What people see: notes on stderr, answers on stdout, one JSON object with --json."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from iaa.lines import Lines

notes = Console(stderr=True, highlight=False, soft_wrap=True)
# A table that goes into a file or a pipe is not squeezed into 80 columns.
answers = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def note(text: str) -> None:
    """A line about what is going on, on stderr."""
    notes.print(text, markup=False)


def answer_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout and nothing else."""
    sys.stdout.write(json.dumps(_finite(value), default=_plain, ensure_ascii=False, allow_nan=False) + "\n")


def answer_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; numbers to the right."""
    table = Table(title=Text(title), title_justify="left")
    numeric = [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))
    ]
    for column, right in zip(columns, numeric, strict=True):
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[_cell(value) for value in row])
    answers.print(table)


@contextmanager
def progress(
    description: str,
    total: int,
    unit: str,
    is_hidden: bool = False,
    initial: int = 0,
    stays: bool = True,
) -> Iterator[Any]:
    """A progress bar with rate and time left on a terminal, lines elsewhere, nothing if hidden."""
    if not is_hidden and not sys.stderr.isatty():
        with Lines(description, total, unit, note, initial) as lines:
            yield lines
        return
    with tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        disable=is_hidden,
        dynamic_ncols=True,
        smoothing=0.1,
        initial=initial,
        leave=stays,
    ) as bar:
        yield bar


@contextmanager
def at_work(description: str) -> Iterator[Lines]:
    """A line now and then about work of which nobody knows how much it is."""
    with Lines(description, 0, "", note) as lines:
        yield lines


def _cell(value: Any) -> str:
    from rich.markup import escape

    return f"{value:,.4g}" if isinstance(value, float) else escape(str(value))


def _finite(value: Any) -> Any:
    """NaN and infinities, which JSON does not have, as null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    return str(value)
