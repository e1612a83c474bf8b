"""Identity: the combination a file was made from, compared field by field on opening."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from store.errors import IdentityError

UNSAID = {"engine": "torch"}
"""What an identity means by leaving a field out: files are older than the field, and keep their bytes."""


def complete(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity with what it means by leaving fields out, to ask for all of it."""
    return {**UNSAID, **identity}


def differences(found: Any, expected: Any, field: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(field, found, expected) wherever `expected` asks for something `found` does not have.

    Fields that `expected` does not name are not compared (`complete` names them all); nested mappings are
    compared field by field.
    """
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key, value in expected.items():
            path = f"{field}.{key}" if field else str(key)
            yield from differences(found.get(key, UNSAID.get(key)), value, path)
    elif _plain(found) != _plain(expected):
        yield field, found, expected


def check_identity(
    found: Mapping[str, Any], expected: Mapping[str, Any], where: Path | str, advice: str
) -> None:
    """Raise IdentityError naming every field in which a file is another than the one asked for."""
    wrong = list(differences(found, expected))
    if wrong:
        lines = [f"  {field}: the file has {_shown(a)}, asked for {_shown(b)}" for field, a, b in wrong]
        raise IdentityError("\n".join([f"{where} was made from another combination:", *lines, advice]))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
