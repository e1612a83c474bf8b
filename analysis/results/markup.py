"""Foreign text in Markdown: names of files, columns, categories and prompts are shown, never obeyed."""

import re
from collections.abc import Sequence

#: Control characters, line separators, what turns the direction of the text around it, and lone surrogates.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: Characters that Markdown, HTML inside it, or a typesetter of formulas would read as more than themselves.
#: An underscore within a word is none; a bracket alone neither, as intervals have them.
_SPECIAL = re.compile(
    r"[&<>\\`*$~]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|(?<=\])[(\[:]|(?<=!)\[|^#|^[-+](?=\s)|^\d{1,9}[.)](?=\s)"
)
_CODE_SPAN = re.compile(r"`[^`\n]*`")


def visible(text: str) -> str:
    """The text on one line, with control characters and marks that turn the reading direction spelt out."""
    return _HIDDEN.sub(lambda found: _escape(ord(found.group())), text)


def literal(text: str) -> str:
    """Markdown that shows the text as it is, whatever Markdown, HTML or formulas it holds."""
    return _SPECIAL.sub(lambda found: "".join(f"&#{ord(c)};" for c in found.group()), visible(text))


def to_markdown(headings: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """A Markdown table. Cells are shown as they are; only one that is a `code span` as a whole stays one."""
    lines = [[_cell(cell) for cell in line] for line in (headings, *table)]
    lines.insert(1, ["---"] * len(headings))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    shown = visible(text) if _CODE_SPAN.fullmatch(text) else literal(text)
    return shown.replace("|", "\\|")


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
