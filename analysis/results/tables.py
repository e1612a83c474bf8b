"""Tables 1 and 2: what this store has, beside what was published (`published.py`).

A published value that is not known to us is absent, and the table says so; none is guessed. Differences are
formed within one split only.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.evidence.bootstrap import Difference
from analysis.results.markup import to_markdown
from analysis.results.methods import MethodResult, Metric
from analysis.results.published import NOTEBOOK_PRINTS, PAPER_SPLIT, TABLE_1, TABLE_2, Published
from store.csv_files import write_rows

__all__ = ["TABLE_1", "TABLE_2", "Published", "to_markdown"]
UNKNOWN = "not known to us"
COLUMNS = ("accuracy", "recall_low", "recall_high", "srcc", "plcc")
HEADINGS = {
    "accuracy": "accuracy",
    "recall_low": "recall low",
    "recall_high": "recall high",
    "srcc": "SRCC",
    "plcc": "PLCC",
}


@dataclass(frozen=True)
class Cell:
    """Our value and the published one; either may be missing."""

    ours: Metric | None = None
    published: float | None = None
    is_comparable: bool = True
    """False where the two are of different splits, or of different backbones."""

    @property
    def difference(self) -> float | None:
        """Ours minus published, where they are comparable."""
        if self.ours is None or self.published is None or math.isnan(self.ours.value):
            return None
        return self.ours.value - self.published if self.is_comparable else None

    @property
    def covers(self) -> bool | None:
        """Whether our interval contains the published value; None if either is missing or they are not
        comparable."""
        if self.ours is None or self.published is None or not self.is_comparable:
            return None
        return self.ours.covers(self.published)


@dataclass(frozen=True)
class Row:
    """One row of a comparison table."""

    label: str
    result: MethodResult | None
    cells: Mapping[str, Cell]
    published: Published | None = None
    """None for our other results."""
    missing: str = ""
    """Why there is no result of ours, and the command that would make it."""
    apart: str = ""
    """Why ours and the published values form no difference; '' where they do."""

    @property
    def key(self) -> str:
        """Which of our methods reproduces the published row; '' for cited rows and for our other results."""
        return "" if self.published is None else self.published.key


def compare(
    published: Sequence[Published], results: Sequence[MethodResult], with_others: bool = True
) -> list[Row]:
    """The published rows with our results beside them, then (if asked for) our other results.

    A result stands beside a published row if method, backbone, output and treatment of features are those of
    the paper, or if it is the demo world's stand-in for the backbone, which its label then says. It is
    compared with the published values only where backbone and split are those that they were measured on.
    """
    rows, used = [], set()
    for row in published:
        found = next((i for i, result in enumerate(results) if _reproduces(row, result)), None)
        result = None if found is None else results[found]
        if found is not None:
            used.add(found)
        stands_in = result is not None and bool(result.backbone) and result.backbone != row.backbone
        apart = ""
        if result is not None and row.values:
            apart = "another backbone" if stands_in else _other_split(row, result)
        cells = {
            name: Cell(None if result is None else getattr(result, name), row.values.get(name), not apart)
            for name in COLUMNS
        }
        missing = ""
        if result is None:
            missing = f"make it: {row.command}" if row.command else "cited, not reproduced here"
        label = row.label + (f" [{result.backbone} in its place]" if result and stands_in else "")
        rows.append(Row(label, result, cells, row, missing, apart))
    if with_others:
        for i, result in enumerate(results):
            if i not in used:
                cells = {name: Cell(getattr(result, name)) for name in COLUMNS}
                rows.append(Row(_own_label(result), result, cells))
    return rows


def comparison_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: per row our values with intervals, then for each metric that was published
    the published value with its split and source, the difference, and whether our interval covers it.
    The last two only where ours were measured on the same split."""
    headings = ["method", "split, n test", *(HEADINGS[name] for name in COLUMNS)]
    headings += ["published on AVA (split; source)", "ours - published", "interval covers it"]
    table = []
    for row in rows:
        line = [row.label]
        if row.result is None:
            line += [row.missing, *("" for _ in COLUMNS)]
        else:
            line.append(f"{row.result.dataset}, {row.result.split_name}, {row.result.n_test:,}")
            line += [format_metric(row.cells[name].ours) for name in COLUMNS]
        line.append(_published_cell(row))
        known = {name: cell for name, cell in row.cells.items() if cell.published is not None}
        if row.result is None or not known:
            line += ["", ""]
        elif row.apart:
            line += [row.apart, ""]
        else:
            line.append(_each(known, lambda cell: _signed(cell.difference)))
            line.append(_each(known, lambda cell: _yes(cell.covers)))
        table.append(line)
    return headings, table


def comparison_values(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The same comparison for programs: one line per method and metric, numbers at full precision, empty
    where something is missing."""
    headings = ["method", "backbone", "output", "dataset", "split", "n_train", "n_test", "metric", "ours"]
    headings += ["low", "high", "published", "published_split", "published_source", "difference", "covers"]
    headings += ["missing"]
    table = []
    for row in rows:
        found = row.result
        place = ["", "", "", "", "", ""]
        if found is not None:
            place = [found.backbone, found.output, found.dataset, found.split_name]
            place += [str(found.n_train), str(found.n_test)]
        for name, cell in row.cells.items():
            numbers = [] if cell.ours is None else [cell.ours.value, cell.ours.low, cell.ours.high]
            ours = [_plain(number) for number in numbers] or ["", "", ""]
            published = ["", "", ""]
            if row.published is not None and cell.published is not None:
                published = [_plain(cell.published), row.published.split, row.published.source]
            covers = "" if cell.covers is None else str(cell.covers).lower()
            table.append(
                [row.label, *place, name, *ours, *published, _plain(cell.difference), covers, row.missing]
            )
    return headings, table


def notebook_cells(results: Sequence[MethodResult]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: the bare numbers in the authors' saved output beside those of our least-squares
    probes on the paper's split, one row each; no rows where there is no such probe."""
    headings = ["probe", *NOTEBOOK_PRINTS]
    ours = [
        result
        for result in results
        if result.key == "probe.ols" and result.split_name == PAPER_SPLIT and "prints" in result.detail
    ]
    if not ours:
        return headings, []
    table = [["authors' notebook", *(f"{value:.8g}" for value in NOTEBOOK_PRINTS.values())]]
    for result in ours:
        prints = result.detail["prints"]
        table.append([_own_label(result), *(f"{prints[name]:.8g}" for name in NOTEBOOK_PRINTS)])
    return headings, table


def result_cells(results: Sequence[MethodResult]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of probes alone, one row each, with what the fit was like."""
    headings = ["backbone", "output", "probe", *(HEADINGS[name] for name in COLUMNS)]
    headings += ["RMSE", "alpha", "rank", "condition", "solver"]
    table = []
    for result in results:
        detail = result.detail
        line = [result.backbone, result.output, result.method.removeprefix("linear probe, ")]
        line += [format_metric(getattr(result, name)) for name in COLUMNS]
        line.append(format_metric(Metric(*detail["rmse"])) if "rmse" in detail else "")
        alpha = f"{detail['alpha']:.3g}" + (" (edge)" if detail.get("alpha_is_at_edge") else "")
        line += [alpha if detail["alpha"] else "", f"{detail['rank']} of {detail['dim']}"]
        table.append([*line, f"{detail['condition']:.3g}", detail["solver"]])
    return headings, table


def difference_cells(differences: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of paired differences."""
    headings = ["first", "second", "first - second", "p", "p, corrected"]
    table = [
        [
            found.first,
            found.second,
            format_metric(Metric(found.value, found.low, found.high)),
            f"{found.p_value:.4f}",
            f"{found.p_holm:.4f}",
        ]
        for found in differences
    ]
    return headings, table


def write_table(
    path: Path,
    headings: Sequence[str],
    table: Sequence[Sequence[str]],
    caption: str = "",
    values: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None,
) -> list[Path]:
    """Write a table as PATH.md, PATH.tex and PATH.csv; returns the three paths. The CSV file holds `values`
    (headings and lines) where they are given, else the same cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = {
        ".md": to_markdown(headings, table) + "\n",
        ".tex": to_latex(headings, table, caption),
        ".csv": to_csv(*(values or (headings, table))),
    }
    for suffix, text in texts.items():
        path.with_suffix(suffix).write_text(text, encoding="utf-8")
    return [path.with_suffix(suffix) for suffix in texts]


def to_latex(headings: Sequence[str], table: Sequence[Sequence[str]], caption: str = "") -> str:
    """A LaTeX table, as wide as the page allows, ready for \\input; needs booktabs and graphicx."""
    lines = ["% \\usepackage{booktabs,graphicx}", "\\begin{table}", "\\centering"]
    if caption:
        lines.append(f"\\caption{{{_escape(caption)}}}")
    lines += ["\\resizebox{\\textwidth}{!}{%", f"\\begin{{tabular}}{{{'l' * len(headings)}}}", "\\toprule"]
    lines.append(" & ".join(_escape(cell) for cell in headings) + " \\\\")
    lines.append("\\midrule")
    lines += [" & ".join(_escape(cell) for cell in line) + " \\\\" for line in table]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}}", "\\end{table}"]) + "\n"


def to_csv(headings: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """Comma-separated values, safe to open in a spreadsheet."""
    stream = io.StringIO()
    write_rows(stream, headings, table)
    return stream.getvalue()


def format_metric(metric: Metric | None, digits: int = 4) -> str:
    """A value with its interval; 'undefined' if it is not a number, '' without a metric."""
    if metric is None:
        return ""
    if math.isnan(metric.value):
        return "undefined"
    if math.isnan(metric.low):
        return f"{metric.value:.{digits}f}"
    return f"{metric.value:.{digits}f} [{metric.low:.{digits}f}, {metric.high:.{digits}f}]"


def _reproduces(row: Published, result: MethodResult) -> bool:
    is_method = result.key == row.key or (row.key == "finetune" and result.key.startswith("finetune"))
    if not row.key or not is_method or result.detail.get("unit_norm") is True:
        return False
    if row.backbone and result.backbone not in (row.backbone, row.stand_in or row.backbone):
        return False
    if not row.outputs or result.backbone != row.backbone:
        # A stand-in has outputs of other names; what matters is the side of the projection.
        is_embedding = result.output == "embedding"
        return not row.key.startswith("probe.") or is_embedding == ("embedding" in row.outputs)
    return result.output in row.outputs


def _other_split(row: Published, result: MethodResult) -> str:
    return "" if result.split_name == row.split else f"another split ({result.split_name})"


def _published_cell(row: Row) -> str:
    if row.published is None:
        return ""
    known = {name: cell for name, cell in row.cells.items() if cell.published is not None}
    note = f"; {row.published.note}" if row.published.note else ""
    if not known:
        return f"{UNKNOWN}{note}"
    values = _each(known, lambda cell: _number(cell.published))
    return f"{values} (split {row.published.split}; {row.published.source}{note})"


def _own_label(result: MethodResult) -> str:
    place = "/".join(part for part in (result.backbone, result.output) if part)
    return f"{result.method} ({place})" if place else result.method


def _each(cells: Mapping[str, Cell], text: Callable[[Cell], str]) -> str:
    return "; ".join(f"{HEADINGS[name]} {text(cell)}" for name, cell in cells.items())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:+.4f}"


def _plain(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "no interval"}[value]


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
