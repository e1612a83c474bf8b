"""What people see: notes on stderr, answers on stdout, one JSON object with --json.

Everything that reaches a terminal passes `clean`: names of files, ids, texts and the messages of errors come
from elsewhere, and a terminal obeys what it is sent.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from iaa.library.lines import Lines
from iaa.library.plain import clean, clean_lines, json_text
from iaa.library.progress import show_progress
from iaa.library.table import Table as Found
from iaa.library.table import column_texts, is_numeric
from store.system import let_go

_IS_TERMINAL = sys.stdout is not None and sys.stdout.isatty()
notes = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
# A table that goes into a file or a pipe is not squeezed into 80 columns.
answers = Console(highlight=False, soft_wrap=True, emoji=False, width=None if _IS_TERMINAL else 160)

LOG_FORMAT = "IAA_LOG_FORMAT"
"""Environment variable, which processes that are started inherit: text or json."""
MIN_TABLE_WIDTH = 60
"""Below it a table runs over the edge of the terminal instead of being folded into single letters."""


def note(text: str, level: str = "info") -> None:
    """A line about what is going on, on stderr; an object of JSON where logs are to be that."""
    if logs_are_json():
        sys.stderr.write(json_line(time.time(), level, "iaa", text) + "\n")
        sys.stderr.flush()
    else:
        notes.print(Text(clean_lines(text, sys.stderr)))


def logs_are_json() -> bool:
    """True where every line on stderr is to be an object: `--log-format json` or IAA_LOG_FORMAT."""
    return os.environ.get(LOG_FORMAT) == "json"


def json_line(when: float, level: str, logger: str, message: str, **more: str) -> str:
    """One object on one line: time (UTC, ISO 8601), level, logger, message."""
    moment = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": moment, "level": level, "logger": logger, "message": message, **more})


def answer_line(text: str) -> None:
    """A line of an answer, on stdout."""
    answers.print(Text(clean_lines(text, sys.stdout)))


def answer(as_json: bool, value: Mapping[str, Any], *tables: Found, notes: Iterable[str] = ()) -> None:
    """What a command has found: with --json the value and nothing else, else tables, and notes below them.

    Notes that cost something to find out are a generator: nobody runs it for a machine.
    """
    if as_json:
        answer_json(value)
        return
    for table in tables:
        answer_table(table)
    for text in notes:
        note(text)


@dataclass(frozen=True)
class Answer:
    """What a command has found that is no value of the library's own."""

    value: Mapping[str, Any]
    tables: Sequence[Found] = ()
    notes: Iterable[str] = ()


def removed(what: Any) -> Answer:
    """What was deleted, a line for each."""
    paths = what if isinstance(what, list) else [what]
    return Answer({"removed": what}, notes=[f"removed {path}" for path in paths])


def show(found: Any, as_json: bool) -> None:
    """A value of the library as an answer: its dictionary, its table or tables, and its notes."""
    if not isinstance(found, Answer):
        value = found if isinstance(found, Mapping) else found.to_dict()
        tables = found.tables() if hasattr(found, "tables") else [found.table()]
        found = Answer(value, tables, found.notes() if callable(found.notes) else found.notes)
    answer(as_json, found.value, *found.tables, notes=found.notes)


def answer_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout and nothing else; with escapes where the stream or a terminal needs them."""
    sys.stdout.write(json_text(value, sys.stdout.encoding or "utf-8") + "\n")


def answer_table(found: Found) -> None:
    """A table on stdout; numbers to the right, digests by their beginning, a tuple as a line for each of its
    values."""
    table = Table(title=Text(clean(found.title, sys.stdout)), title_justify="left")
    cells = []
    for name, values in found.columns.items():
        heading = Text(clean(name.removeprefix("n_").replace("_", " "), sys.stdout))
        table.add_column(heading, justify="right" if is_numeric(values) else "left", overflow="fold")
        texts = column_texts([value[:12] for value in values] if name == "digest" else values)
        cells.append([_cell(*each) for each in zip(values, texts, strict=True)])
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    if answers.width < MIN_TABLE_WIDTH:
        Console(highlight=False, soft_wrap=True, emoji=False, width=MIN_TABLE_WIDTH).print(table)
    else:
        answers.print(table)


def progress(description: str, total: int, unit: str, **how: Any) -> AbstractContextManager[Any]:
    """A progress bar with rate and time left on a terminal, lines elsewhere (iaa.library.progress)."""
    if logs_are_json() and not how.get("is_hidden"):
        return Lines(description, total, unit, note, how.get("initial", 0))
    return show_progress(clean(description, sys.stderr), total, unit, note, **how)


def at_work(description: str) -> AbstractContextManager[Any]:
    """A line now and then about work of which nobody knows how much it is."""
    return progress(description, 0, "")


class CleanFormatter(logging.Formatter):
    """Log lines like all other lines on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, cleaned."""
        return clean_lines(super().format(record), sys.stderr)


class JsonFormatter(logging.Formatter):
    """Log lines as objects, for machines that collect them."""

    def format(self, record: logging.LogRecord) -> str:
        """One object on one line, a traceback in `exception`."""
        more = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        return json_line(record.created, record.levelname.lower(), record.name, record.getMessage(), **more)


def finish(code: int) -> None:
    """End with this code, if the answer has really gone out."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        let_go()
    except OSError as error:
        note(f"error: the answer cannot be written to standard output: {error.strerror}")
        let_go(1)
    sys.exit(code)


def _cell(value: Any, text: str) -> Text:
    lines = map(str, value) if isinstance(value, tuple) else (text,)
    return Text("\n".join(clean(line, sys.stdout) for line in lines))
