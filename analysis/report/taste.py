"""The page about personal taste: what one person's scores say that the crowd's do not."""

from collections.abc import Iterator, Mapping

import numpy as np

from analysis.figures.drawn import Drawn
from analysis.figures.taste import plot_people, plot_people_curve
from analysis.report.study import NothingToShowError, Study
from analysis.results.markup import literal
from analysis.results.names import name_backbone
from analysis.results.printed import Printed
from analysis.results.prose import Prose
from analysis.taste.findings import difference_cells, person_cells, sentences, srcc_cells
from analysis.taste.people import PeopleResult, evaluate_people
from analysis.taste.protocols import PROTOCOLS, can_be_tested
from analysis.taste.raters import raters_on
from store.file_names import RATERS_FILE
from store.raters import open_raters

MOST = 100
"""People in the table."""


def evaluate(study: Study) -> dict[str, PeopleResult]:
    """Every person tested on every backbone. Raises NothingToShowError where nobody is known to have scored
    enough."""
    path = study.folder / "derived" / RATERS_FILE
    if not path.exists():
        raise NothingToShowError("nothing is known of single people's scores")
    stored, protocol = open_raters(path), PROTOCOLS["curve"]
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
        headings, lines = srcc_cells(result)
        said = sentences(result)
        alt = f"SRCC by number of photographs learned from, {name_backbone(name)}. {' '.join(said)}"
        yield Drawn(
            f"taste_curve_{name}", plot_people_curve(result), alt, headings, lines, name_backbone(name)
        )
        yield Printed(f"taste_curve_{name}", headings, lines, name_backbone(name))
        yield Prose(f"taste_{name}", "\n".join(f"- {literal(sentence)}" for sentence in said))


def differences(found: Mapping[str, PeopleResult]) -> Iterator[Printed]:
    """Differences within each person."""
    for name, result in found.items():
        yield Printed(f"taste_differences_{name}", *difference_cells(result), caption=name_backbone(name))


def people(found: Mapping[str, PeopleResult]) -> Iterator[Drawn | Printed]:
    """Each person: a figure, and the first hundred as a table."""
    for name, result in found.items():
        headings, lines = person_cells(result, result.shots[-1])
        more = len(lines) - MOST
        notes = [f"{more:,} more people: iaa taste evaluate --protocol curve --json."] if more > 0 else []
        alt = f"What each person's scores reach with {result.shots[-1]} photographs, {name_backbone(name)}."
        yield Drawn(f"people_{name}", plot_people(result, result.shots[-1]), alt, headings, lines)
        yield Printed(f"people_{name}", headings, lines[:MOST], name_backbone(name), notes=notes)
