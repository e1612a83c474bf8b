"""The first page: the paper's tables and figures in its own layout, ours beside what was published, and what
goes beyond."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.figures.drawn import Drawn
from analysis.figures.photographs import PhotoGrid, Shot
from analysis.prompting.evaluation import join_ratings
from analysis.report import probing
from analysis.report.prompting import photograph_grid, score_prompts_of
from analysis.report.study import Study
from analysis.results.claims import Tested, check_statements, print_statements, sum_up
from analysis.results.markup import literal
from analysis.results.methods import MethodResult
from analysis.results.names import name_backbone
from analysis.results.predictions import Predicted
from analysis.results.printed import Cell, Code, Printed
from analysis.results.prose import Prose, write_methods
from analysis.results.published import TABLE_1, TABLE_2, TODAY
from analysis.results.tables import (
    ADDED,
    Row,
    compare,
    comparison_values,
    mark_best,
    notebook_cells,
    print_comparison,
    print_missing,
    print_notes,
    print_others,
)
from store import painted
from store.json_files import parse_json

_IMAGES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Findings:
    """What the other pages found, set beside what was published."""

    place: str
    """The data set and its split."""
    results: list[MethodResult]
    predicted: dict[str, Predicted]
    rows: list[Row]
    rows_2: list[Row]
    others: list[Row]
    tested: list[Tested]
    seed: int

    @property
    def has_results(self) -> bool:
        """Whether anything was measured."""
        return bool(self.results)


def gather(study: Study) -> Findings:
    """Read what the other pages wrote into the report."""
    results, predicted = study.found()
    rows = compare(TABLE_1, results, with_others=False)
    rows_2 = compare(TABLE_2, results, with_others=False)
    used = {id(row.result) for row in rows if row.result is not None}
    others = [r for r in results if id(r) not in used and r.detail.get("unit_norm") is not True]
    own = [row for row in compare((), others) if row.group.startswith(ADDED)]
    others_ = [row for row in compare((), others) if not row.group.startswith(ADDED)]
    tested = check_statements([*rows, *rows_2], predicted, study.seed)
    place = f"{study.dataset}, split {study.targets.split_name}"
    return Findings(
        place, results, predicted, [*rows, *own], rows_2, sorted(others_, key=_place), tested, study.seed
    )


_ORDER = ("Prompting", "Linear probes", "Fine-tuning", "Heads trained", "Heads made elsewhere", "Baseline")


def _place(row: Row) -> int:
    return next((i for i, start in enumerate(_ORDER) if row.group.startswith(start)), len(_ORDER))


def table_1(found: Findings) -> Iterator[Printed]:
    """The paper's Table 1, and today's systems as a group of their own."""
    rows = [*found.rows, *compare(TODAY, ())]
    marks = mark_best(found.rows, found.predicted, found.seed) if found.has_results else {}
    caption = f"Table 1. Published: AVA, each on the split named at its end. Here: {found.place}"
    yield _with_values(print_comparison(rows, "table_1", caption, marks), rows)
    prints, lines = notebook_cells(found.results)
    if lines:
        yield Printed(
            "notebook_prints",
            prints,
            lines,
            "Bare numbers in the authors' saved output, most likely these, beside ours",
        )


def table_2(found: Findings) -> Printed:
    """The paper's Table 2."""
    marks = mark_best(found.rows_2, found.predicted, found.seed) if found.has_results else {}
    caption = (
        "Table 2. Linear probing of ResNet-50s. Its published numbers are not known to us. Here: "
        f"{found.place}"
    )
    return _with_values(print_comparison(found.rows_2, "table_2", caption, marks), found.rows_2)


def _with_values(table: Printed, rows: Sequence[Row]) -> Printed:
    return Printed(
        table.name,
        table.headings,
        table.rows,
        table.caption,
        table.groups,
        table.over,
        table.notes,
        comparison_values(rows),
    )


def missing(found: Findings) -> Iterator[Printed]:
    """Commands for the rows that were not run, and what is known of rows without numbers."""
    for table in (print_missing([*found.rows, *found.rows_2]), print_notes([*found.rows, *found.rows_2])):
        if len(table):
            yield table


def beyond(found: Findings) -> Iterator[Printed]:
    """Everything else that was measured, with what is best among it."""
    if found.others:
        marks = mark_best(found.others, found.predicted, found.seed)
        table = print_others(found.others, "beyond", f"Beyond the paper: {found.place}", marks)
        yield _with_values(table, found.others)


def at_a_glance(found: Findings) -> Iterator[Drawn]:
    """SRCC of what was measured, axes where the data are."""
    shown = [r for r in found.results if r.srcc is not None and r.detail.get("unit_norm") is not True]
    if shown:
        yield probing.dots(shown, "srcc", "at_a_glance")


def verdict(found: Findings) -> Iterator[Prose]:
    """How many of the paper's sentences hold here: a sentence made from the numbers."""
    if found.has_results:
        yield Prose("verdict", literal(sum_up(found.tested, found.place)))


def claims(found: Findings) -> Iterator[Printed]:
    """Which of the paper's sentences hold here, with the numbers."""
    if found.tested:
        yield print_statements(found.tested, found.place)


def figure_2(study: Study, found: Findings, n_shown: int = 12) -> Iterator[PhotoGrid]:
    """Figure 2 for the backbones whose prompts were measured."""
    for name in study.prompts:
        of = {r.key.removeprefix("prompting."): r for r in found.results if r.backbone == name}
        method = "context_max" if "context_max" in of else "fixed"
        if method in of:
            scores, rated = (
                score_prompts_of(study, name)[method],
                join_ratings(study.features[name], study.targets),
            )
            context, pair = study.prompts[name]["context"], of[method].detail["binary_pair"]
            yield photograph_grid(study, name, scores, rated, context, method, pair, n_shown)


def figure_3(study: Study) -> Iterator[Drawn | Printed]:
    """Figure 3 by least squares, as the paper's: two panels on one scale where both backbones are here."""
    if not study.can_fit:
        return
    fits = [
        f
        for f in study.fits((False,))
        if f.output != "embedding" or len(study.features[f.backbone].outputs) == 1
    ]
    measured = probing.measure_importance(study, fits, "ols")
    yield probing.figure_3(fits, measured, "ols", "figure_3")
    yield probing.importance_table(fits, measured, "ols", "figure_3_measures")


def figure_4(study: Study) -> Iterator[PhotoGrid]:
    """Figure 4, pictures made from prompts, where some lie in the data set's folder `painted`: a column per
    subject, a row per adjective, seed by seed; then what does not say how it was made."""
    folder = study.folder / painted.FOLDER
    files = sorted(f for f in folder.glob("*") if f.suffix.lower() in _IMAGES and f.name != painted.PREVIEW)
    told = _settings_of(study.folder / "derived" / painted.LIST, files)
    ours = sorted((f for f in files if told[f]), key=lambda file: (*_place_of(told[file]), file.name))
    if ours:
        shots = [Shot(f.stem, f.name, _lines_of(told[f])) for f in ours]
        guides = ", ".join(name_backbone(g) for g in sorted({told[f]["backbone"] for f in ours}))
        caption = f"Pictures made from prompts; {guides} guides. Rows: adjectives. How: docs/paint.md."
        columns = len({told[f]["subject"] for f in ours})
        yield PhotoGrid("figure_4", shots, folder, caption, columns, painted.FOLDER, is_matrix=True)
    if others := [file for file in files if not told[file]]:
        shots = [Shot(f.stem, f.name, []) for f in others]
        said = "Pictures that do not say how they were made."
        yield PhotoGrid("figure_4_others", shots, folder, said, 3, painted.FOLDER)


def _settings_of(listed: Path, files: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """What each picture says about itself; nothing for a file that was not painted here."""
    found = parse_json(listed.read_text(encoding="utf-8")) if listed.exists() else {}
    return {file: found.get(file.name, {}) for file in files}


def _place_of(about: dict[str, Any]) -> tuple[Any, ...]:
    """Seed, then adjective in the order in which they were asked for, then subject."""
    asked, word = list(about.get("adjectives", ())), about["adjective"]
    at = asked.index(word) if word in asked else len(asked)
    return about["settings"]["seed"], at, word, about["subject"]


def _lines_of(about: dict[str, Any]) -> list[str]:
    what = about.get("text") or f"{about['adjective']} score of {about.get('head', {}).get('name', 'a head')}"
    return [what, f"seed {about['settings']['seed']}"]


def methods(study: Study, found: Findings) -> Iterator[Prose]:
    """A paragraph for a paper, with references."""
    if found.has_results:
        digests = [study.targets.digest, *(f.digest for f in study.features.values())]
        yield write_methods(
            found.results,
            study.seed,
            study.n_boot,
            study.targets.threshold,
            digests,
            version("image-aesthetics-store"),
        )


def digests(found: Findings) -> Iterator[Printed]:
    """The digests of the files behind the results."""
    lines = sorted(
        {
            (name, r.backbone if name == "features" else "", d)
            for r in found.results
            for name, d in r.digests.items()
        }
    )
    rows: list[list[Cell]] = [
        [name, name_backbone(backbone), Code(digest)] for name, backbone, digest in lines
    ]
    if rows:
        yield Printed(
            "digests",
            ["file", "backbone", "digest (SHA-256)"],
            rows,
            "Files behind the results; iaa verify checks them",
        )
