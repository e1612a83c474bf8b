"""What people see: notes on stderr, answers on stdout, one JSON object with --json.

Everything that reaches a terminal passes `clean`: names of files, ids, texts and the messages of errors come
from elsewhere, and a terminal obeys what it is sent.
"""

import json
import logging
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iaa.library.progress import show_progress

if TYPE_CHECKING:
    from analysis.results.methods import MethodResult, Metric

_IS_TERMINAL = sys.stdout is not None and sys.stdout.isatty()
notes = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
# A table that goes into a file or a pipe is not squeezed into 80 columns.
answers = Console(highlight=False, soft_wrap=True, emoji=False, width=None if _IS_TERMINAL else 160)

MIN_TABLE_WIDTH = 60
"""Below it a table runs over the edge of the terminal instead of being folded into single letters."""

# Control characters (C0, DEL, C1), what turns the direction of text or is invisible, line ends of other
# alphabets, halves of surrogate pairs (bytes that are no UTF-8). Joiners stay: words and emoji need them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def clean(text: str, stream: Any = None) -> str:
    """The text in one line, as it can be shown: each character that a terminal would obey, hide or not know
    stands as its escape (`\\x1b`, `\\u202e`, `\\udcff`), and so does what the stream cannot encode."""
    text = _UNSAFE.sub(_escaped, text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def clean_lines(text: str, stream: Any = None) -> str:
    """A message of several lines, cleaned; all but the first are indented, so that a line end in somebody's
    file name begins no message of ours."""
    first, *more = (clean(line, stream) for line in text.split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") or not line else f"  {line}" for line in more)])


def note(text: str) -> None:
    """A line about what is going on, on stderr."""
    notes.print(Text(clean_lines(text, sys.stderr)))


def answer_line(text: str) -> None:
    """A line of an answer, on stdout."""
    answers.print(Text(clean_lines(text, sys.stdout)))


def answer_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout and nothing else; with escapes where the stream or a terminal needs them."""
    text = json.dumps(_finite(value), default=_plain, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(_finite(value), default=_plain, allow_nan=False)
    # Unsafe characters can only stand within strings, where JSON's escapes mean the same.
    sys.stdout.write(_UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n")


def answer_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; numbers to the right, a tuple as one line for each of its values."""
    table = Table(title=Text(clean(title, sys.stdout)), title_justify="left")
    numeric = [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))
    ]
    for column, right in zip(columns, numeric, strict=True):
        name = Text(clean(column, sys.stdout))
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[_cell(value) for value in row])
    if answers.width < MIN_TABLE_WIDTH:
        Console(highlight=False, soft_wrap=True, emoji=False, width=MIN_TABLE_WIDTH).print(table)
    else:
        answers.print(table)


def progress(description: str, total: int, unit: str, **how: Any) -> AbstractContextManager[Any]:
    """A progress bar with rate and time left on a terminal, lines elsewhere (iaa.library.progress)."""
    return show_progress(clean(description, sys.stderr), total, unit, note, **how)


def at_work(description: str) -> AbstractContextManager[Any]:
    """A line now and then about work of which nobody knows how much it is."""
    return show_progress(description, 0, "", note)


class CleanFormatter(logging.Formatter):
    """Log lines like all other lines on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, cleaned."""
        return clean_lines(super().format(record), sys.stderr)


def prepare_streams() -> None:
    """Make standard streams that can be written to whatever the shell, the locale or a closed pipe left us.

    A closed one is opened on nothing: else the next file that is opened would get its number, and be
    written into by whoever prints. What cannot be encoded is escaped instead of ending the program.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _cell(value: Any) -> Text:
    if isinstance(value, float):
        return Text(f"{value:,.4g}")
    lines = value if isinstance(value, tuple) else (value,)
    return Text("\n".join(clean(str(line), sys.stdout) for line in lines))


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


def result_title(result: "MethodResult") -> str:
    """Data set, split and sizes, for the title of a table of results."""
    sizes = f"{result.n_train:,} train, {result.n_test:,} test"
    return f"{result.dataset}, split {result.split_name}: {sizes}"


def metric_cells(result: "MethodResult") -> list[str]:
    """Accuracy, SRCC and PLCC with their intervals as table cells; empty where not measured."""
    return [interval_cell(metric) for metric in (result.accuracy, result.srcc, result.plcc)]


def interval_cell(metric: "Metric | None") -> str:
    """A metric with its interval, where it has one."""
    if metric is None:
        return ""
    if math.isnan(metric.value):
        return "not defined"
    if math.isnan(metric.low):
        return f"{metric.value:.4f}"
    return f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
