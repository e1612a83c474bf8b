"""The page about personal taste: what one person's scores say that the crowd's do not."""

from collections.abc import Iterator, Mapping

import numpy as np

from analysis.figures.drawn import Drawn
from analysis.figures.taste import plot_people, plot_people_curve
from analysis.report.needs import need
from analysis.report.study import NothingToShowError, Study
from analysis.results.markup import literal
from analysis.results.methods import Metric
from analysis.results.names import name_backbone
from analysis.results.printed import Cell, Number, Printed
from analysis.results.prose import Prose
from analysis.taste.findings import QUESTIONS, sentences
from analysis.taste.people import METHODS, PERSONAL, REPEAT, PeopleResult, evaluate_people
from analysis.taste.protocols import PROTOCOLS, can_be_tested
from analysis.taste.raters import raters_on
from store.file_names import RATERS_FILE
from store.raters import open_raters

MOST = 100
"""People in the table."""


def evaluate(study: Study) -> dict[str, PeopleResult]:
    """Every person tested on every backbone. Raises NothingToShowError where nobody is known to have scored
    enough."""
    need(study, "50_taste")
    stored, protocol = open_raters(study.folder / "derived" / RATERS_FILE), PROTOCOLS["curve"]
    found = {}
    for name, file in study.features.items():
        raters = raters_on(stored, file.image_id)
        if can_be_tested(raters, protocol):
            output = min(file.outputs, key=lambda output: output == "embedding")
            rows = np.where(file.ok[:, None], file.read(output, unit_norm=False), np.nan)
            found[name] = evaluate_people(rows, raters, protocol, seed=study.seed)
    if not found:
        raise NothingToShowError("no person scored enough: 30 photographs with features, 10 to learn from")
    return found


def about(study: Study) -> Prose:
    """Whose scores these are, and how many."""
    stored = open_raters(study.folder / "derived" / RATERS_FILE)
    counts = (
        f"{len(stored.score):,} scores by {len(stored.name):,} people of {len(stored.image_id):,} photographs"
    )
    return Prose("raters", f"{literal(stored.source)}: {counts}.")


def curves(found: Mapping[str, PeopleResult]) -> Iterator[Drawn | Printed | Prose]:
    """By how many of a person's photographs were learned from."""
    for name, result in found.items():
        said = sentences(result)
        shots, methods = result.shots, [*METHODS, *([REPEAT] if np.isfinite(_repeat(result).value) else [])]
        measured = {
            m: [_repeat(result) if m == REPEAT else result.metric(m, k) for k in shots] for m in methods
        }
        lines = [
            [method, k, metric.value, metric.low, metric.high, result.n_people(k)]
            for method, metrics in measured.items()
            for k, metric in zip(shots, metrics, strict=True)
        ]
        yield Drawn(
            f"taste_curve_{name}",
            plot_people_curve(result),
            f"SRCC by number of photographs learned from, {name_backbone(name)}. {' '.join(said)}",
            ("method", "photographs", "srcc", "low", "high", "people"),
            lines,
            name_backbone(name),
        )
        rows: list[list[Cell]] = [[method, *metrics] for method, metrics in measured.items()]
        people = ", ".join(f"{k}: {result.n_people(k)}" for k in shots)
        yield Printed(
            f"taste_curve_{name}",
            ["method", *map(str, shots)],
            rows,
            f"SRCC with a person's other scores, {name_backbone(name)}",
            over=[("", 1), ("photographs learned from", len(shots))],
            notes=[f"People, by photographs learned from: {people}. Chance: 0."],
        )
        yield Prose(f"taste_{name}", "\n".join(f"- {literal(sentence)}" for sentence in said))


def differences(found: Mapping[str, PeopleResult]) -> Iterator[Printed]:
    """Differences within each person, and for how many people they are positive."""
    for name, result in found.items():
        rows: list[list[Cell]] = []
        for method, other in QUESTIONS:
            row: list[Cell] = [f"{method} less {other}"]
            for k in result.shots:
                ahead, n_ahead, _ = result.difference(method, other, k)
                row += [Number(ahead.value, ahead.low, ahead.high, signed=True), n_ahead]
            rows.append(row)
        over = [("", 1), *((f"{k} photographs, {result.n_people(k)} people", 2) for k in result.shots)]
        headings = ["difference", *(title for _ in result.shots for title in ("SRCC", "ahead"))]
        yield Printed(f"taste_differences_{name}", headings, rows, name_backbone(name), over=over)


def people(found: Mapping[str, PeopleResult]) -> Iterator[Drawn | Printed]:
    """Each person: a figure, and the first hundred as a table."""
    for name, result in found.items():
        k = result.shots[-1]
        own = result.of_each(PERSONAL, k)
        others = {method: result.per_person(method, k) for method in METHODS if method != PERSONAL}
        repeats = np.isfinite(result.repeat).any()
        rows: list[list[Cell]] = [
            [
                person, int(result.n_rated[at]), own[at], *(_plain(each[at]) for each in others.values()),
                *([_plain(result.repeat[at])] if repeats else []),
            ]
            for at, person in enumerate(result.names)
            if not np.isnan(own[at].value)
        ]  # fmt: skip
        headings = ["person", "photographs", PERSONAL, *others, *([REPEAT] if repeats else [])]
        more = len(rows) - MOST
        notes = [f"{more:,} more people: iaa taste evaluate --protocol curve --json."] if more > 0 else []
        table = Printed(f"people_{name}", headings, rows[:MOST], name_backbone(name), notes=notes)
        every = Printed(f"people_{name}", headings, rows).plain_lines()
        alt = f"What each person's scores reach with {k} photographs, {name_backbone(name)}."
        yield Drawn(f"people_{name}", plot_people(result, k), alt, *every)
        yield table


def _repeat(result: PeopleResult) -> Metric:
    return result.metric(REPEAT, 0)


def _plain(value: float) -> Number | None:
    return None if np.isnan(value) else Number(float(value))
