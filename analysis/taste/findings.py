"""What a protocol found, as tables and as sentences that follow from its numbers."""

from collections.abc import Sequence

from analysis.results.methods import Metric
from analysis.results.tables import format_metric as with_interval
from analysis.taste.people import (
    BOTH,
    GENERIC,
    METHODS,
    OTHERS,
    PERSONAL,
    REPEAT,
    RESIDUAL,
    PeopleResult,
)

QUESTIONS = (
    (PERSONAL, GENERIC),
    (RESIDUAL, GENERIC),
    (RESIDUAL, PERSONAL),
    (PERSONAL, OTHERS),
    (BOTH, OTHERS),
)
"""Which methods are compared, person by person."""


def srcc_cells(result: PeopleResult) -> tuple[list[str], list[list[str]]]:
    """Header and rows: SRCC of every method by k, mean over people with interval; chance and own repeat."""
    rows = [[method, *(_told(result.metric(method, k)) for k in result.shots)] for method in METHODS]
    rows.append(["chance", *("0" for _ in result.shots)])
    if (repeat := result.metric(REPEAT, 0)).value == repeat.value:
        rows.append([REPEAT, *(_told(repeat) for _ in result.shots)])
    rows.append(["people", *(str(result.n_people(k)) for k in result.shots)])
    return ["SRCC with a person's other scores", *(f"{k} photographs" for k in result.shots)], rows


def difference_cells(result: PeopleResult) -> tuple[list[str], list[list[str]]]:
    """Header and rows: differences of methods, person by person, and for how many they are positive."""
    rows = []
    for method, other in QUESTIONS:
        cells = []
        for k in result.shots:
            ahead, n_ahead, n = result.difference(method, other, k)
            cells.append(f"{_told(ahead)}, {n_ahead} of {n}")
        rows.append([f"{method} less {other}", *cells])
    return ["difference, people with more", *(f"{k} photographs" for k in result.shots)], rows


def sentences(result: PeopleResult) -> list[str]:
    """What the numbers say: who is ahead from where on, how far the ceiling is, who is predictable."""
    said = [
        _ahead(result, PERSONAL, GENERIC, "Own scores alone", "the generic model"),
        _ahead(result, RESIDUAL, GENERIC, "The generic model with what a person differs in", "it alone"),
        _ahead(result, PERSONAL, OTHERS, "Own scores alone", "what all others really said"),
    ]
    last = max(k for k in result.shots if result.n_people(k))
    best = max((PERSONAL, RESIDUAL), key=lambda method: result.metric(method, last).value)
    reached, repeat = result.metric(best, last).value, result.metric(REPEAT, last).value
    if repeat == repeat and repeat > 0:
        far = f"{reached:.2f}, {100 * max(0.0, reached) / repeat:.0f} % of the {repeat:.2f}"
        told = "reaches" if reached < repeat else "is above"
        said.append(
            f"With {last} photographs {best} {told} {far} at which people agree with themselves when asked "
            "again."
        )
    own = [metric for metric in result.of_each(PERSONAL, last) if metric.value == metric.value]
    n_sure = sum(metric.low > 0 for metric in own)
    rest = len(own) - n_sure
    if not rest:
        n = len(own)
        said.append(f"All {n} people are predictable from {last} of their own scores (intervals above 0).")
    else:
        said.append(
            f"{n_sure} of {len(own)} people are predictable from {last} of their own scores; of the other "
            f"{rest} it cannot be told from answers at random (intervals hold 0)."
        )
    if result.covered < 1:
        said.append(
            f"Somebody else scored {100 * result.covered:.1f} % of the photographs that are tested; for the "
            "others, the others' mean is that of all."
        )
    return said


def _ahead(result: PeopleResult, method: str, other: str, name: str, rival: str) -> str:
    """From which k on a method is ahead of another, by intervals over people."""
    found = {k: result.difference(method, other, k)[0] for k in result.shots if result.n_people(k)}
    better = [k for k, ahead in found.items() if ahead.low > 0]
    worse = [k for k, ahead in found.items() if ahead.high < 0]
    last = max(found)
    if better and all(k in better for k in found if k >= better[0]):
        at = f"at every number of photographs tried ({_joined(list(found))})"
        where = at if better == list(found) else f"from {better[0]} photographs on"
        sentence = f"{name}: better than {rival} {where} (at {last} by {_told(found[last])})"
    elif better:
        sentence = f"{name}: better than {rival} at {_joined(better)} photographs alone"
    else:
        sentence = f"{name}: not better than {rival} with up to {last} photographs ({_told(found[last])})"
    if worse:
        sentence += f"; worse at {_joined(worse)}"
    return sentence + "."


def _joined(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def _told(metric: Metric) -> str:
    return with_interval(metric, 3)
