"""JSON that may be damaged or sent by somebody: read within bounds, with one kind of error."""

import codecs
import json
from pathlib import Path
from typing import Any

from store.errors import IntegrityError, MissingFileError, StoreError

MAX_BYTES = 2**28
MAX_DEPTH = 64
#: A note beside tensors (a head's, a run's) is some kB.
MAX_NOTE_BYTES = 4 * 2**20


def parse_json(text: str | bytes, takes_nan: bool = True) -> Any:
    """The value of a JSON text.

    Raises ValueError for what is no JSON, has a key twice, is nested deeper than 64 levels, or has NaN or
    Infinity where they are not taken.
    """
    try:
        constant = None if takes_nan else _refuse_constant
        value = json.loads(text, object_pairs_hook=_object, parse_constant=constant)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return value


def read_json(path: Path, advice: str, max_bytes: int = MAX_BYTES, takes_nan: bool = True) -> dict[str, Any]:
    """The object in a JSON file of this project; `advice` says what to do where it is damaged.

    Raises MissingFileError, IntegrityError for anything but one JSON object, StoreError.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise IntegrityError(f"{path} is damaged: it has more than {max_bytes:,} bytes. {advice}")
        value = parse_json(path.read_bytes().removeprefix(codecs.BOM_UTF8), takes_nan)
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. {advice}") from None
    except ValueError as error:
        raise IntegrityError(f"{path} is no JSON ({error}). {advice}") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} is damaged: it holds no JSON object. {advice}")
    return value


def read_note(path: Path, advice: str = "Restore it from a copy") -> dict[str, Any]:
    """As read_json, for a small object of finite numbers that may have come from somebody else."""
    return read_json(path, advice, MAX_NOTE_BYTES, takes_nan=False)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a key twice")
    return found
