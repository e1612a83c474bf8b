"""The settings of a data set: how each is typed, checked and shown in dataset.toml."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Option:
    """One setting of a kind of data set."""

    meaning: str
    """The comment it gets in dataset.toml; docs/datasets.md has examples."""
    expected: Callable[[Any], str]
    """What a value should be, in words, or '' where it is that."""
    parse: Callable[[str], Any] = str
    """The value of what is typed as KEY=VALUE; what it cannot be stays text, which `expected` refuses."""
    is_path: bool = False
    """True for files: relative ones that are given to `add` start from the working directory."""


def text(meaning: str) -> Option:
    """A name, such as a column's."""
    return Option(meaning, _expected_text)


def path(meaning: str) -> Option:
    """A file or folder, or a URL."""
    return replace(text(meaning), is_path=True)


def texts(meaning: str, what: str) -> Option:
    """A name, or a list of them, which are called `what` in messages."""

    def expected(value: Any) -> str:
        if not isinstance(value, list):
            return _expected_text(value)
        return "" if value and all(isinstance(v, str) and v for v in value) else what

    return Option(meaning, expected)


def paths(meaning: str) -> Option:
    """A file, or a list of them."""
    return replace(texts(meaning, "file names"), is_path=True)


def patterns(meaning: str) -> Option:
    """A name or pattern, several with commas, or a list of them."""

    def expected(value: Any) -> str:
        given = value if isinstance(value, list) else [value]
        is_text = bool(given) and all(isinstance(v, str) and v.strip() for v in given)
        return "" if is_text else "a name or pattern in quotes, or a list of them"

    return Option(meaning, expected)


def choice(meaning: str, *values: str) -> Option:
    """One of a few words."""
    return Option(meaning, lambda value: "" if value in values else f"one of {', '.join(values)}")


def flag(meaning: str) -> Option:
    """True or false."""

    def expected(value: Any) -> str:
        return "" if isinstance(value, bool) else "true or false, without quotes"

    return Option(meaning, expected, lambda typed: {"true": True, "false": False}.get(typed.lower(), typed))


def number(
    meaning: str, what: str = "a number", fits: Callable[[float], bool] = lambda value: True
) -> Option:
    """A finite number that fits, which is called `what` in messages."""

    def expected(value: Any) -> str:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if is_number and abs(value) < float("inf") and fits(value) else what

    return Option(meaning, expected, _parse_number)


def whole(meaning: str, low: float = float("-inf"), high: float = float("inf")) -> Option:
    """A whole number, from `low` to `high` where both are given."""
    what = "a whole number" + (f" from {low} to {high}" if high < float("inf") else "")

    def expected(value: Any) -> str:
        return "" if type(value) is int and low <= value <= high else what

    return Option(meaning, expected, _parse_number)


def format_toml(name: str, kind: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> str:
    """The text of dataset.toml: every setting with its meaning, those not given as comments."""
    lines = [
        f"# Data set {name!r}. You may edit this by hand; docs/datasets.md explains every setting.",
        "# Relative paths are relative to this file's folder.",
        f"kind = {_toml_value(kind)}",
    ]
    for key, option in known.items():
        lines += ["", f"# {option.meaning}"]
        lines.append(f"{key} = {_toml_value(given[key])}" if key in given else f"# {key} =")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    """A string, number, boolean or list in TOML; JSON's escapes are TOML's but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _parse_number(typed: str) -> Any:
    for kind in (int, float):
        try:
            return kind(typed)
        except ValueError:
            continue
    return typed


def _expected_text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        return "a name in quotes"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return "a name in UTF-8"
    return ""
