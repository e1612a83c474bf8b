"""Personalised aesthetics on a data set with scores of single people: a protocol, and what it found."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.names import PROTOCOL
from iaa.library.opening import open_embedded
from iaa.library.probing import before_projection
from iaa.library.progress import Progress, show_progress
from iaa.library.rating.raters import raters_of
from iaa.library.table import Table
from store.errors import did_you_mean

if TYPE_CHECKING:
    from analysis.taste.people import PeopleResult


@dataclass(frozen=True)
class PeopleTaste:
    """How well single people's scores are predicted, by method and by how many of them were learned from."""

    dataset: str
    backbone: str
    output: str
    source: str
    n_unknown: int
    result: "PeopleResult"
    """SRCC by method, k, person and draw."""
    _about: dict[str, Any] = field(default_factory=dict)

    def table(self) -> Table:
        """A row per k and method: SRCC with its interval over people, chance and a person's own repeat."""
        from analysis.taste.people import METHODS, REPEAT

        found = self.result
        rows: list[list[Any]] = []
        for k in found.shots:
            for method in (*METHODS, REPEAT):
                metric = found.metric(method, k)
                n = int(np.isfinite(found.repeat).sum()) if method == REPEAT else found.n_people(k)
                if n:
                    rows.append([k, method, metric.value, metric.low, metric.high, n])
        return _table(f"{self._title}: SRCC", ("k", "method", "srcc", "low", "high", "n_people"), rows)

    def differences(self) -> Table:
        """A row per k and pair of methods: the difference person by person, for how many it is positive."""
        from analysis.taste.findings import QUESTIONS

        rows: list[list[Any]] = []
        for k in self.result.shots:
            for method, other in QUESTIONS:
                ahead, n_ahead, n = self.result.difference(method, other, k)
                if n:
                    rows.append([k, method, other, ahead.value, ahead.low, ahead.high, n_ahead, n])
        names = ("k", "method", "less", "difference", "low", "high", "n_ahead", "n_people")
        return _table(f"{self._title}: differences, person by person", names, rows)

    def people(self) -> Table:
        """A row per person and k: what each method reaches, mean over draws; her own scores with interval."""
        from analysis.taste.people import METHODS, PERSONAL

        found = self.result
        rows: list[list[Any]] = []
        for k in found.shots:
            reached = {method: found.per_person(method, k).tolist() for method in METHODS}
            for at, own in enumerate(found.of_each(PERSONAL, k)):
                if own.value == own.value:
                    cells = [reached[method][at] for method in METHODS]
                    repeat = float(found.repeat[at])
                    told = None if repeat != repeat else repeat
                    n = int(found.n_rated[at])
                    rows.append([found.names[at], k, n, *cells, own.low, own.high, told])
        names = ("person", "k", "n_rated", *METHODS, "personal_low", "personal_high", "own repeat")
        return _table(f"{self._title}: people", names, rows)

    def shown(self) -> list[Table]:
        """SRCC and differences for people: each value with its interval in one cell."""
        from analysis.taste.findings import difference_cells, srcc_cells

        cells = srcc_cells(self.result), difference_cells(self.result)
        titles = (f"{self._title}: SRCC, mean over people [95 %]", "Person by person")
        return [_table(t, names, rows) for t, (names, rows) in zip(titles, cells, strict=True)]

    def notes(self) -> list[str]:
        """What the numbers say, and what they were measured on."""
        from analysis.taste.findings import sentences
        from analysis.taste.protocols import PROTOCOLS

        found = self.result
        more = []
        if found.n_left_out:
            more.append(f"{found.n_left_out:,} people scored too few photographs, or all alike, to be tested")
        if dropped := [k for k in PROTOCOLS[found.protocol.name].shots if k not in found.shots]:
            more.append(f"too few people scored enough for {' and '.join(map(str, dropped))} photographs")
        if self.n_unknown:
            more.append(f"{self.n_unknown:,} names in {self.source} mean no photograph that is embedded")
        about = f"{len(found.names)} people tested, each by a generic model of {found.n_others:,} others"
        about += f"; {found.protocol.n_draws} draws; scores: {self.source}"
        return [*sentences(found), about, *more]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            **self._about,
            "results": self.table().rows(),
            "differences": self.differences().rows(),
            "people": self.people().rows(),
            "notes": self.notes(),
        }

    @property
    def _title(self) -> str:
        return f"{self.dataset} by {self.backbone}, protocol {self.result.protocol.name}"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    return Table(title, {name: [row[at] for row in rows] for at, name in enumerate(names)})


def evaluate_people(
    layout: Layout,
    protocol: str = PROTOCOL,
    ratings: Path | None = None,
    columns: Sequence[str] = (),
    people: Sequence[str] | None = None,
    backbone: str | None = None,
    output: str | None = None,
    n_draws: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> PeopleTaste:
    """Personalised aesthetics by a named protocol (curve, flickr-aes, para) on scores of single people: a
    table with a row per photograph, rater and score, or the data set's own (see raters_of). `people` names
    those who are tested, as publications do; without it they are drawn.

    Raises UsageError for an unknown protocol or person, and where nobody scored enough.
    """
    from analysis.taste.people import evaluate_people as evaluate
    from analysis.taste.protocols import PROTOCOLS

    if protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UsageError(f"no protocol {protocol!r}; there are {known}.{did_you_mean(protocol, PROTOCOLS)}")
    chosen = PROTOCOLS[protocol]
    if n_draws is not None:
        chosen = replace(chosen, n_draws=n_draws)
    with open_embedded(layout, backbone) as features:
        output = output or before_projection(features)
        scored = raters_of(layout, features, ratings, columns)
        rows = np.where(features.ok[:, None], features.read(output, unit_norm=False), np.nan)
        if unknown := [name for name in people or () if name not in scored.raters.names]:
            raise UsageError(
                f"nobody called {unknown[0]!r} rated: {scored.source}."
                + did_you_mean(unknown[0], scored.raters.names)
            )
        n = len(people) if people else len(scored.raters.names)
        with (progress or show_progress)("people", n, "people") as bar:
            try:
                result = evaluate(rows, scored.raters, chosen, people, seed, lambda *_: bar.update(1))
            except ValueError as error:
                raise UsageError(f"{layout.dataset}: {error}") from error
        about = {
            "dataset": layout.dataset,
            "backbone": features.backbone,
            "output": output,
            "protocol": chosen.name,
            "seed": seed,
            "n_draws": chosen.n_draws,
            "source": scored.source,
            "digests": {"features": features.digest},
        }
        return PeopleTaste(
            layout.dataset, features.backbone, output, scored.source, scored.n_unknown, result, about
        )
