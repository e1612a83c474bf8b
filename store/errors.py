"""The kinds of error the store raises; each message says what, where, expected, got, what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

Raised = TypeVar("Raised", bound=Exception)


@dataclass(frozen=True)
class Hint:
    """What to do next: as it is typed at a shell, and as it is called in Python, '' where it cannot be."""

    command: str
    python: str = ""

    @property
    def note(self) -> str:
        """The line by which a traceback tells it."""
        return f"In Python: {self.python}"


def hinting(error: Raised, command: str, python: str = "") -> Raised:
    """The error with what to do next as its `hint`, for whoever shows errors in their own way; tracebacks
    show the call in Python below the message."""
    error.hint = hint = Hint(command, python)  # type: ignore[attr-defined]
    if python:
        error.add_note(hint.note)
    return error


class StoreError(Exception):
    """Something is wrong with a stored file or with what was asked of it."""


class MissingFileError(StoreError):
    """The file does not exist."""


class SchemaError(StoreError):
    """The file is of another kind or version, or lacks something its schema demands."""


class IntegrityError(StoreError):
    """The file's content is not what was written: damage, truncation or tampering."""


class ReplacedError(StoreError):
    """Another file has taken the name of one that was being read."""


class IdentityError(StoreError):
    """The file is intact, but it was made from another combination than the one asked for."""


class BusyError(StoreError):
    """Another process is writing the same file."""


class SpaceError(StoreError):
    """The disk has no room for the file, or the place cannot be written."""


class UnsafeNameError(StoreError):
    """A name that cannot become a file or folder of the store."""


class TableError(SchemaError):
    """A table or list that somebody wrote cannot be read without guessing."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence for a mistyped name, " Did you mean X or Y?": up to three known ones, the most alike first;
    '' where none is like it."""
    names = {name.casefold(): name for name in known}
    close = get_close_matches(given.casefold(), names, n=3)
    return f" Did you mean {' or '.join(names[each] for each in close)}?" if close else ""
