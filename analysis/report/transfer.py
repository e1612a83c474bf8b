"""The page about other people's photographs: probes of one data set applied to another."""

from collections.abc import Iterator, Sequence

from analysis.figures.drawn import Drawn
from analysis.figures.transfer import plot_transfers
from analysis.probing.transfer import Transfer, transfer_all
from analysis.report.needs import need
from analysis.report.study import Study
from analysis.results.markup import literal
from analysis.results.names import name_output
from analysis.results.printed import Cell, Number, Printed
from analysis.results.prose import Prose
from analysis.results.tables import format_metric


def evaluate(study: Study) -> list[Transfer]:
    """Both ways between this data set and every other. Raises NothingToShowError where there is none."""
    need(study, "45_transfer")
    return transfer_all(study.folder, list(study.features), study.n_boot, study.seed)


def figure(found: Sequence[Transfer]) -> Drawn:
    """SRCC of each foreign probe beside the data set's own."""
    lines = [
        [
            t.source, t.target, name_output(t.backbone, t.output), t.srcc.value, t.srcc.low, t.srcc.high,
            t.own.value, t.own.low, t.own.high, t.ceiling.value if t.ceiling else "", t.n_source, t.n_target,
        ]
        for t in found
    ]  # fmt: skip
    headings = ["probe_of", "applied_to", "features", "srcc", "low", "high", "own", "own_low", "own_high"]
    headings += ["ceiling", "n_fitted", "n_applied"]
    alt = f"SRCC of probes on other people's photographs with 95 % intervals. {' '.join(map(tell, found))}"
    return Drawn("transfers", plot_transfers(found), alt, headings, lines)


def table(found: Sequence[Transfer]) -> Printed:
    """A row per probe and data set that it is applied to."""
    rows: list[list[Cell]] = [
        [
            f"{t.source} → {t.target}", t.srcc, t.own,
            Number(t.difference.value, t.difference.low, t.difference.high, signed=True),
            t.ceiling, t.n_source, t.n_target,
        ]
        for t in found
    ]  # fmt: skip
    headings = ["probe → applied to", "SRCC", "its own probe", "difference", "ceiling", "fitted", "applied"]
    groups = [name_output(t.backbone, t.output) for t in found]
    notes = [
        f"{t.n_shared:,} photographs of {t.target} are in {t.source}, too, and left out."
        for t in found
        if t.n_shared
    ]
    return Printed("transfers", headings, rows, "Ridge probes on other data sets", groups, notes=notes)


def said(found: Sequence[Transfer]) -> Iterator[Prose]:
    """What follows from the intervals, a sentence per row."""
    yield Prose("transfers_said", "\n".join(f"- {literal(tell(each))}" for each in found))


def tell(found: Transfer) -> str:
    """Whether a taste travels, by the foreign probe's interval and by that of the difference."""
    name = f"{found.source} → {found.target}, {name_output(found.backbone, found.output)}"
    value, difference = format_metric(found.srcc, 3), format_metric(found.difference, 3)
    if found.srcc.high < 0:
        return f"{name}: the taste turns round (SRCC {value})."
    if not found.srcc.low > 0:
        return f"{name}: it cannot be told from a probe that knows nothing of this taste (SRCC {value})."
    if found.difference.high < 0:
        return (
            f"{name}: some of the taste travels (SRCC {value}), less than its own probe knows "
            f"(difference {difference})."
        )
    if found.difference.low > 0:
        return (
            f"{name}: the taste travels; the foreign probe is better than its own (difference {difference})."
        )
    return (
        f"{name}: the taste travels (SRCC {value}); it cannot be told from what its own probe knows "
        f"(difference {difference})."
    )
