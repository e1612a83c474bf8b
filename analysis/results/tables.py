"""Tables 1 and 2: what this store has, beside what was published (`published.py`).

A published value that is not known to us is absent, and the table says so; none is guessed. Differences are
formed within one split only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.evidence.bootstrap import Difference, resamples_needed, resolution
from analysis.results.markup import to_markdown
from analysis.results.methods import MethodResult, Metric
from analysis.results.names import name_backbone, name_method, name_output, name_result, short_method
from analysis.results.predictions import Predicted, compare_methods, result_name
from analysis.results.printed import MARKS, Code, Number, Printed
from analysis.results.printed import Cell as PrintedCell
from analysis.results.published import NOTEBOOK_PRINTS, PAPER_SPLIT, TABLE_1, TABLE_2, Published

__all__ = ["TABLE_1", "TABLE_2", "Published", "to_markdown"]
UNKNOWN = "not known to us"
ADDED = "Added here"
"""How the group of methods begins that somebody brought."""
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
    def group(self) -> str:
        """Under which heading of the table the row stands."""
        if self.published is not None:
            return self.published.group
        return "" if self.result is None else own_group(self.result)

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
        label = row.label + ("†" if result and stands_in else "")
        rows.append(Row(label, result, cells, row, missing, apart))
    if with_others:
        for i, result in enumerate(results):
            if i not in used:
                cells = {name: Cell(getattr(result, name)) for name in COLUMNS}
                rows.append(Row(name_result(result), result, cells))
    return rows


def print_comparison(
    rows: Sequence[Row], name: str, caption: str, marks: Mapping[str, Mapping[str, str]] | None = None
) -> Printed:
    """A published table in its own layout: its rows in groups, for each metric the published value beside
    ours; differences only where backbone and split are those of the published values.

    `marks` gives 'best' or 'tied' by metric and label (`mark_best`).
    """
    metrics = [
        m for m in COLUMNS if any(row.cells[m].ours or row.cells[m].published is not None for row in rows)
    ]
    metrics = [m for m in METRICS_SHOWN if m in metrics] or ["accuracy"]
    differing = [m for m in metrics if any(row.cells[m].difference is not None for row in rows)]
    over = [
        ("", 1),
        *((HEADINGS[m], 2) for m in metrics),
        *([("here − published", len(differing))] if differing else []),
    ]
    headings = ["method", *("published", "here") * len(metrics), *(HEADINGS[m] for m in differing)]
    headings += ["n", "split; source"]
    cells: list[list[PrintedCell]] = []
    sources: dict[str, str] = {}
    for row in rows:
        line: list[PrintedCell] = [row.label]
        for m in metrics:
            cell = row.cells[m]
            line.append(
                None
                if cell.published is None
                else Number(cell.published, shown=_as_published(cell.published))
            )
            line.append(_ours(cell.ours, (marks or {}).get(m, {}).get(row.label, "")))
        for m in differing:
            d, covered = row.cells[m].difference, row.cells[m].covers
            note = {True: "✓", False: "✗", None: ""}[covered]
            line.append(None if d is None else Number(d, signed=True, shown=f"{d:+.4f}", note=note))
        published = row.published
        line.append(row.result.n_test if row.result else None)
        if published is None:
            line.append(_own_remark(row.result))
        else:
            letter = sources.setdefault(published.source, _LETTERS[len(sources)]) if published.source else ""
            line.append(f"{published.split} {letter}".strip())
        cells.append(line)
    notes = []
    standing = sorted({name_backbone(r.result.backbone) for r in rows if r.result and r.label.endswith("†")})
    if standing:
        notes.append(f"† {' and '.join(standing)} in the place of the backbones named.")
    if marks and any(marks.values()):
        notes.append(f"{MARKS} (paired bootstrap, Holm, .05), among the methods run here.")
    if sources:
        notes.append(
            "Sources: " + "; ".join(f"{letter}: {source}" for source, letter in sources.items()) + "."
        )
    if differing:
        notes.append("✓: our 95 % interval covers the published value; ✗: it does not.")
    return Printed(
        name,
        headings,
        cells,
        caption,
        [row.group for row in rows],
        [*over, ("", 1), ("published", 1)],
        notes,
    )


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
METRICS_SHOWN = ("accuracy", "srcc", "plcc")


def print_others(
    rows: Sequence[Row], name: str, caption: str, marks: Mapping[str, Mapping[str, str]] | None = None
) -> Printed:
    """Our results that no published row asks for, in groups, with all five metrics."""
    splits = {row.result.split_name for row in rows if row.result}
    cells: list[list[PrintedCell]] = []
    for row in rows:
        found = row.result
        assert found is not None
        line: list[PrintedCell] = [short_method(found), name_output(found.backbone, found.output)]
        line += [_ours(row.cells[m].ours, (marks or {}).get(m, {}).get(row.label, "")) for m in COLUMNS]
        cells.append([*line, found.n_test, *([found.split_name] if len(splits) > 1 else [])])
    notes = [f"{MARKS} (paired bootstrap, Holm, .05)."] if marks and any(marks.values()) else []
    headings = [
        "method",
        "backbone",
        *(HEADINGS[m] for m in COLUMNS),
        "n",
        *(["split"] if len(splits) > 1 else []),
    ]
    return Printed(name, headings, cells, caption, [r.group for r in rows], notes=notes)


def print_missing(rows: Sequence[Row]) -> Printed:
    """The commands that would make the published rows that were not run here."""
    commands: dict[str, list[str]] = {}
    for row in rows:
        if row.result is None and row.published and row.published.command:
            commands.setdefault(row.published.command, []).append(row.label)
    lines: list[list[PrintedCell]] = [
        [Code(command), "; ".join(names)] for command, names in commands.items()
    ]
    return Printed("missing_rows", ["command", "rows it makes"], lines, "Rows that were not run here")


def print_notes(rows: Sequence[Row]) -> Printed:
    """What the paper's text says of rows, with its section."""
    lines: list[list[PrintedCell]] = [
        [r.label, r.published.note] for r in rows if r.published and r.published.note
    ]
    return Printed(
        "paper_notes", ["row", "what is known of it"], lines, "What the paper's text says of the rows"
    )


def mark_best(
    rows: Sequence[Row], predicted: Mapping[str, Predicted], seed: int = 0
) -> dict[str, dict[str, str]]:
    """For each metric the best of the rows that were run ('best'), and those not distinguishable from it on
    the same test images ('tied'): paired bootstrap, Holm-corrected over the comparisons of a metric."""
    named = {
        r.label: predicted[result_name(r.result)]
        for r in rows
        if r.result and result_name(r.result) in predicted
    }
    marks: dict[str, dict[str, str]] = {}
    for metric in COLUMNS if named else ():
        if metric.startswith("recall"):
            continue  # one recall is bought with the other: the best of one alone means nothing
        values = {
            r.label: r.cells[metric].ours.value  # type: ignore[union-attr]
            for r in rows
            if r.label in named
            and r.cells[metric].ours is not None
            and math.isfinite(r.cells[metric].ours.value)  # type: ignore[union-attr]
        }
        if len(values) < 2:
            continue
        best = max(values, key=values.__getitem__)
        without = [r.cells[metric].ours for r in rows if r.label not in named]
        if any(m is not None and m.value > values[best] for m in without):
            continue  # the best has no predictions to compare by
        pairs = [(best, other) for other in values if other != best]
        n_boot = resamples_needed(len(pairs), smallest=0.02)
        found = compare_methods({n: named[n] for n in values}, metric, n_boot, seed, pairs)
        marks[metric] = {best: "best"} | {d.second: "tied" for d in found if d.p_holm >= 0.05}
    return marks


def print_differences(
    differences: Sequence[Difference], name: str, caption: str = "", names: Mapping[str, str] | None = None
) -> Printed:
    """Paired differences: two methods, the difference with its interval, p as it is and corrected."""
    called = names or {}
    rows: list[list[PrintedCell]] = [
        [
            called.get(d.first, d.first),
            called.get(d.second, d.second),
            Number(d.value, d.low, d.high, signed=True),
            Number(d.p_value, shown=f"{d.p_value:.4f}"),
            Number(d.p_holm, shown=f"{d.p_holm:.4f}"),
        ]
        for d in differences
    ]
    groups = [f"{HEADINGS.get(d.metric, d.metric)}, first − second" for d in differences]
    notes = list(
        dict.fromkeys(
            resolution([d for d in differences if d.metric == m]) for m in {d.metric: 0 for d in differences}
        )
    )
    headings = ["first", "second", "difference", "p", "p, corrected (Holm)"]
    return Printed(name, headings, rows, caption, groups, notes=notes)


def _own_remark(result: MethodResult | None) -> str:
    """What should be known of predictions that somebody brought."""
    if result is None:
        return ""
    missing = result.detail.get("n_missing_test", 0)
    return f"{missing:,} test images missing" if missing else f"made on split {result.split_name}"


def _as_published(value: float) -> str:
    """With the three decimals that most sources give, or as many as this one does."""
    return f"{value:.3f}" if round(value, 3) == value else f"{value:.4f}"


def _ours(metric: Metric | None, mark: str) -> PrintedCell:
    if metric is None:
        return None
    return Number(metric.value, metric.low, metric.high, mark=mark)  # type: ignore[arg-type]


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
        table.append([name_result(result), *(f"{prints[name]:.8g}" for name in NOTEBOOK_PRINTS)])
    return headings, table


def print_probes(results: Sequence[MethodResult], name: str, caption: str) -> Printed:
    """Probes alone, one row each below the output they read, with what the fit was like."""
    rows: list[list[PrintedCell]] = []
    for result in results:
        detail = result.detail
        line: list[PrintedCell] = [name_method(result).removeprefix("linear probe, ")]
        line += [_ours(getattr(result, m), "") for m in COLUMNS]
        line.append(Metric(*detail["rmse"]) if "rmse" in detail else None)
        alpha = f"{detail['alpha']:.3g}" + (" (edge)" if detail.get("alpha_is_at_edge") else "")
        line += [alpha if detail["alpha"] else "", f"{detail['rank']} of {detail['dim']}"]
        rows.append([*line, f"{detail['condition']:.3g}", detail["solver"]])
    headings = ["probe", *(HEADINGS[m] for m in COLUMNS), "RMSE", "alpha", "rank", "condition", "solver"]
    return Printed(name, headings, rows, caption, [name_output(r.backbone, r.output) for r in results])


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


def own_group(result: MethodResult) -> str:
    """Under which heading a result of ours stands."""
    if result.key.startswith("own."):
        return f"{ADDED} (iaa results add)"
    if result.key.startswith("head"):
        return "Heads made elsewhere"
    if result.key.startswith("stacked"):
        return "Heads trained on stored features"
    for start, group in (("prompting", "Prompting"), ("probe", "Linear probes"), ("majority", "Baseline")):
        if result.key.startswith(start):
            return group
    return "Fine-tuning"


def _plain(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))
