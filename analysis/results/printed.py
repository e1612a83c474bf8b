"""Tables as people print them: HTML, LaTeX, Markdown and CSV of the same cells.

One line per row; an interval stands small beside its number, and shows as many digits as its width has
to say; rows that belong together stand below one heading.
"""

import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import numpy as np

from analysis.results.markup import to_markdown, visible
from analysis.results.methods import Metric
from store.csv_files import write_rows

MARKS = "Bold: the best of its column. Underlined: not distinguishable from it"


@dataclass(frozen=True)
class Number:
    """A number in a table, perhaps with the ends of its interval and a mark."""

    value: float
    low: float = math.nan
    high: float = math.nan
    signed: bool = False
    mark: Literal["", "best", "tied"] = ""
    shown: str = ""
    """How it is written; '' for as many digits as its column needs."""
    note: str = ""
    """A footnote's sign behind it."""


@dataclass(frozen=True)
class Code:
    """A command or a digest, as it is typed."""

    text: str


_HTML = {
    "": "%s", "best": "<b>%s</b>", "tied": "<u>%s</u>", "code": "<code>%s</code>", "note": "<sup>%s</sup>",
    "ends": " <small>%s</small>",
}  # fmt: skip
_TEX = {
    "": "%s", "best": r"\textbf{%s}", "tied": r"\underline{%s}", "code": r"\texttt{%s}",
    "note": r"\textsuperscript{%s}", "ends": r" {\scriptsize %s}",
}  # fmt: skip
Cell = str | Number | Metric | Code | int | None
Lines = tuple[Sequence[str], Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class Printed:
    """A table with a name for its files. `groups` names the group of each row, `over` the headings over
    the headings with the number of columns below each, `values` what its CSV file holds instead of the
    cells."""

    name: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    groups: Sequence[str] = ()
    over: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()
    values: Lines | None = None
    _digits: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headings):
                raise ValueError(f"{self.name}: {len(row)} cells below {len(self.headings)} headings: {row}")
        columns = [[_as_number(cell) for cell in column] for column in zip(*self.rows, strict=True)]
        object.__setattr__(self, "_digits", [digits_of(column) for column in columns])

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self) -> list[list[str]]:
        """The cells as plain text."""
        return [[self._text(cell, i) for i, cell in enumerate(row)] for row in self.rows]

    def to_markdown(self) -> str:
        """As Markdown, the groups as a first column where there are any."""
        headings, lines = list(self._full_headings()), self.texts()
        if any(self.groups):
            headings = ["", *headings]
            lines = [[group, *line] for group, line in zip(self.groups, lines, strict=True)]
        return to_markdown(headings, lines)

    def to_csv(self) -> str:
        """Comma-separated, one number per cell at full precision, safe to open in a spreadsheet."""
        stream = io.StringIO()
        write_rows(stream, *(self.values or self.plain_lines()))
        return stream.getvalue()

    def to_latex(self) -> str:
        """A table of booktabs, ready for \\input; wide ones are shrunk to the text's width."""
        numeric = self._numeric()
        lines = ["% needs \\usepackage{booktabs,graphicx,textcomp}; names beyond Latin letters need XeLaTeX"]
        lines += ["\\begin{table}", "\\centering", f"\\caption{{{escape_latex(self.caption or self.name)}}}"]
        lines += [f"\\label{{tab:{self.name.replace('_', '-')}}}"]
        lines += ["\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"]
        lines += [f"\\begin{{tabular}}{{{''.join('r' if n else 'l' for n in numeric)}}}", "\\toprule"]
        if self.over:
            cells, rules, at = [], [], 1
            for title, n in self.over:
                cells.append(
                    f"\\multicolumn{{{n}}}{{c}}{{{escape_latex(title)}}}" if title else "&" * (n - 1)
                )
                rules += [f"\\cmidrule(lr){{{at}-{at + n - 1}}}"] if title else []
                at += n
            lines += [" & ".join(cells) + " \\\\", " ".join(rules)]
        lines += [" & ".join(map(escape_latex, self.headings)) + " \\\\", "\\midrule"]
        for number, (group, rows) in enumerate(self._grouped()):
            if group:
                space = "\\addlinespace " if number else ""
                head = f"\\multicolumn{{{len(self.headings)}}}{{l}}{{\\textit{{{escape_latex(group)}}}}}"
                lines.append(f"{space}{head} \\\\")
            lines += [" & ".join(self._latex(c, i) for i, c in enumerate(row)) + " \\\\" for row in rows]
        lines += ["\\bottomrule", "\\end{tabular}}"]
        lines += [f"\\par\\footnotesize {escape_latex(note)}" for note in self.notes]
        return "\n".join([*lines, "\\end{table}"]) + "\n"

    def to_html(self) -> str:
        """As HTML that stands by itself; foreign text in it is text."""
        numeric = self._numeric()
        parts = ['<table class="printed">']
        if self.caption:
            parts.append(f"<caption>{_safe(self.caption)}</caption>")
        parts.append("<thead>")
        if self.over:
            spans = [
                f'<th colspan="{n}" scope="colgroup">{_safe(title)}</th>'
                if title
                else f'<td colspan="{n}"></td>'
                for title, n in self.over
            ]
            parts.append(f'<tr class="over">{"".join(spans)}</tr>')
        classes = [' class="n"' if n else "" for n in numeric]
        heads = zip(classes, self.headings, strict=True)
        parts.append(
            "<tr>" + "".join(f'<th scope="col"{c}>{_safe(h)}</th>' for c, h in heads) + "</tr></thead>"
        )
        for group, rows in self._grouped():
            parts.append("<tbody>")
            if group:
                span = f'colspan="{len(self.headings)}"'
                parts.append(
                    f'<tr class="group"><th {span} scope="rowgroup"><span>{_safe(group)}</span></th></tr>'
                )
            for row in rows:
                first, *others = (self._html(cell, i) for i, cell in enumerate(row))
                cells = [f'<th scope="row"{classes[0]}>{first}</th>']
                cells += [f"<td{c}>{cell}</td>" for c, cell in zip(classes[1:], others, strict=True)]
                parts.append(f"<tr>{''.join(cells)}</tr>")
            parts.append("</tbody>")
        parts.append("</table>")
        notes = "".join(f"<p>{_safe(note)}</p>" for note in self.notes)
        return "".join(parts) + (f'<div class="notes">{notes}</div>' if notes else "")

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        files = {".csv": self.to_csv(), ".tex": self.to_latex(), ".md": self.to_markdown() + "\n"}
        data = {"text/html": self.to_html(), "text/plain": self.to_markdown()}
        return data, {"iaa": {"kind": "table", "name": self.name, "files": files}}

    def _grouped(self) -> list[tuple[str, list[Sequence[Cell]]]]:
        groups = self.groups or [""] * len(self.rows)
        paired = zip(groups, self.rows, strict=True)
        return [(g, [row for _, row in found]) for g, found in groupby(paired, key=lambda pair: pair[0])]

    def _numeric(self) -> list[bool]:
        """Columns that hold numbers and nothing but numbers and blanks."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.headings)
        return [
            any(not isinstance(c, str | Code | None) for c in column)
            and all(
                not isinstance(c, str | Code) or len(c if isinstance(c, str) else c.text) < 4 for c in column
            )
            for column in columns
        ]

    def _full_headings(self) -> list[str]:
        titles = [title for title, n in self.over for _ in range(n)] or [""] * len(self.headings)
        return [f"{t}, {h}" if t else h for t, h in zip(titles, self.headings, strict=True)]

    def plain_lines(self) -> Lines:
        """Each number in a cell of its own, its interval in two more, the group in front."""
        headings: list[str] = ["group"] if any(self.groups) else []
        full, columns = self._full_headings(), list(zip(*self.rows, strict=True)) or [()] * len(self.headings)
        wide = [
            any((n := _as_number(c)) is not None and not math.isnan(n.low) for c in col) for col in columns
        ]
        for heading, is_wide in zip(full, wide, strict=True):
            headings += [heading, f"{heading}, low", f"{heading}, high"] if is_wide else [heading]
        lines = []
        for i, row in enumerate(self.rows):
            line: list[Any] = [self.groups[i]] if any(self.groups) else []
            for cell, is_wide in zip(row, wide, strict=True):
                number = _as_number(cell)
                if number is None:
                    line += [cell.text if isinstance(cell, Code) else cell, *([None] * 2 if is_wide else [])]
                else:
                    parts = [number.value, *([number.low, number.high] if is_wide else [])]
                    line += [None if math.isnan(part) else part for part in parts]
            lines.append(["" if value is None else value for value in line])
        return headings, lines

    def _parts(self, number: Number, column: int) -> tuple[str, str]:
        """The number and its interval as text; the latter '' where there is none."""
        if math.isnan(number.value):
            return "undefined", ""
        digits, sign = self._digits[column], "+" if number.signed else ""
        value = number.shown or _fixed(number.value, sign, digits)
        if math.isnan(number.low):
            return value, ""
        ends = (_short(_fixed(end, sign, digits)) for end in (number.low, number.high))
        return value, f"[{', '.join(ends)}]"

    def _text(self, cell: Cell, column: int) -> str:
        if (number := _as_number(cell)) is not None:
            value, ends = self._parts(number, column)
            return f"{value} {ends}".strip() + number.note
        return f"`{cell.text}`" if isinstance(cell, Code) else "" if cell is None else str(cell)

    def _html(self, cell: Cell, column: int) -> str:
        shown, number = self._marked(cell, column, _HTML, _safe), _as_number(cell)
        if number is None:
            return shown
        sort = "" if math.isnan(number.value) else f' data-v="{number.value!r}"'
        return f"<span{sort}>{shown}</span>"

    def _latex(self, cell: Cell, column: int) -> str:
        return self._marked(cell, column, _TEX, escape_latex)

    def _marked(
        self, cell: Cell, column: int, marks: Mapping[str, str], escape: Callable[[str], str]
    ) -> str:
        """A cell in a language, of which `marks` has the forms of its parts and `escape` foreign text."""
        if (number := _as_number(cell)) is None:
            if isinstance(cell, Code):
                return marks["code"] % escape(cell.text)
            return "" if cell is None else escape(str(cell))
        value, ends = self._parts(number, column)
        shown = marks[number.mark] % value
        note = marks["note"] % escape(number.note) if number.note else ""
        return shown + note + (marks["ends"] % ends if ends else "")


def digits_of(numbers: Sequence[Number | None]) -> int:
    """Decimals for a column: the half width of its median interval to two significant digits, 0 to 6; for
    numbers without intervals 3, and none where all are whole."""
    given = [n for n in numbers if n is not None and not n.shown and math.isfinite(n.value)]
    widths = [n.high - n.low for n in given if n.high > n.low]
    if widths:
        return int(np.clip(1 - math.floor(math.log10(float(np.median(widths)) / 2)), 0, 6))
    if all(n.value == round(n.value) and abs(n.value) > 1 for n in given):
        return 0
    return 3 if max(abs(n.value) for n in given) < 10 else 1


def escape_latex(text: str) -> str:
    """The text as LaTeX shows it."""
    return "".join(_LATEX.get(character, character) for character in visible(text))


def _as_number(cell: Cell) -> Number | None:
    if isinstance(cell, Number):
        return cell
    if isinstance(cell, Metric):
        return Number(cell.value, cell.low, cell.high)
    return None if isinstance(cell, str | Code | None) else Number(float(cell), shown=f"{cell:,}")


def _fixed(value: float, sign: str, digits: int) -> str:
    """The number with a true minus; what rounds to zero has no sign."""
    text = f"{value:{sign},.{digits}f}"
    return text.lstrip("+-") if not float(text.replace(",", "")) else text.replace("-", "−")


def _short(text: str) -> str:
    """Without the zero in front of the point, which every end of an interval below one would repeat."""
    return text.replace("0.", ".", 1) if text.lstrip("+−").startswith("0.") else text


def _safe(text: str) -> str:
    return html.escape(visible(text))


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "×": r"$\times$", "−": "--", "≤": r"$\leq$", "≥": r"$\geq$",
    "’": "'", "“": "``", "”": "''", "…": r"\ldots{}", '"': "''", "[": "{[}", "]": "{]}",
}  # fmt: skip
