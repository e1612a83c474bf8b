"""Text and values made plain: names and messages for a terminal, answers as JSON."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

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


def json_text(value: Mapping[str, Any], encoding: str = "utf-8") -> str:
    """One JSON object in one line: null for what is no finite number, text for paths and the like, escapes
    for what the encoding or a terminal could not take."""
    text = json.dumps(_finite(value), default=str, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(_finite(value), default=str, allow_nan=False)
    # Unsafe characters can only stand within strings, where JSON's escapes mean the same.
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _finite(value: Any) -> Any:
    """NaN and infinities, which JSON does not have, as null."""
    if hasattr(value, "tolist"):  # of numpy
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
