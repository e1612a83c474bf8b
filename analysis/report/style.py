"""The page about style and content: altered photographs, how well they are read, and how far scores move."""

from collections.abc import Iterator, Sequence

import numpy as np

from analysis.evidence.bootstrap import holm
from analysis.figures import variants as figures
from analysis.figures.drawn import Drawn
from analysis.report.needs import need
from analysis.report.study import Study
from analysis.results.claims import LEVEL
from analysis.results.markup import literal
from analysis.results.methods import Metric
from analysis.results.names import name_backbone, name_output
from analysis.results.printed import Cell, Number, Printed
from analysis.results.prose import Prose
from analysis.variants.directions import N_PERMUTED, Share
from analysis.variants.moving import Move
from analysis.variants.page import StyleResults, study_all
from analysis.variants.stored import open_pictures

MEASURES = {
    "move": "change of the score, standard deviations",
    "order": "SRCC of the order before and after",
}


def evaluate(study: Study) -> list[StyleResults]:
    """What was altered, by each backbone. Raises NothingToShowError where nothing was."""
    need(study, "40_style")
    return study_all(study.folder, list(study.features), study.n_boot, study.seed)


def about(found: Sequence[StyleResults]) -> Prose:
    """How many photographs were altered, and in what the directions are compared."""
    told = [f"{found[0].n_photographs:,} photographs, each in {found[0].n_versions} versions."]
    for each in found:
        name = name_backbone(each.backbone)
        if each.n_failed:
            told.append(f"{each.n_failed:,} rows failed with {name} and take no part.")
        for output, kept in each.kept.items():
            told.append(
                f"Of {name_output(each.backbone, output)} {kept['rank']:.0f} of {kept['dim']:.0f} components "
                f"are compared; they hold {kept['held']:.0%} of the variance of the probe's scores on train."
            )
        for output in each.fitted:
            if output not in each.kept:
                told.append(
                    f"Of {name_output(each.backbone, output)} no direction is compared: it has too few "
                    "components, or too few photographs are left that the probe did not learn from."
                )
    return Prose("style_about", literal(" ".join(told)))


def strip(study: Study) -> Iterator[Drawn]:
    """Every version of one photograph, where it was kept."""
    pictures = open_pictures(study.folder)
    if pictures is not None:
        figure = figures.plot_strip(
            pictures.pixels, pictures.change.tolist(), pictures.strength, pictures.unchanged_at
        )
        changes = ", ".join(pictures.unchanged_at)
        alt = f"One photograph, altered step by step: {changes}."
        yield Drawn("alterations", figure, alt, shows_photographs=True)


def readings(found: Sequence[StyleResults]) -> Iterator[Drawn | Printed | Prose]:
    """How well each alteration is read from each output."""
    of = {name_output(e.backbone, output): rs for e in found for output, rs in e.readings.items() if rs}
    if not of:
        return
    metrics = {name: {change: r.r2 for change, r in rs.items()} for name, rs in of.items()}
    changes = list(dict.fromkeys(change for rs in metrics.values() for change in rs))
    said = [_read(name, rs) for name, rs in metrics.items()]
    lines = [[name, c, m.value, m.low, m.high] for name, rs in metrics.items() for c, m in rs.items()]
    yield Drawn(
        "readings",
        figures.plot_readings(metrics),
        f"R2 of the strength of each alteration, with 95 % intervals. {' '.join(said)}",
        ("features", "alteration", "r2", "low", "high"),
        lines,
    )
    rows: list[list[Cell]] = [[c, *(rs.get(c) for rs in metrics.values())] for c in changes]
    yield Printed("readings", ["alteration", *metrics], rows, "R² of the strength, photographs left out")
    yield _list("readings_said", said)


def _read(name: str, found: dict[str, Metric]) -> str:
    best = max(found, key=lambda change: found[change].value)
    unread = [change for change, m in found.items() if not m.low > 0]
    said = f"{name}: {best} is read best (R² {found[best].value:.2f})"
    return f"{said}; {_joined(unread)} cannot be read (intervals not above 0)." if unread else f"{said}."


def moves(found: Sequence[StyleResults]) -> Iterator[Drawn]:
    """By how much each alteration moves each method's scores, and what is left of the order."""
    for each in found:
        for measure, said in MEASURES.items() if each.moves else ():
            lines = [
                [called(m), m.change, float(s), v.value, v.low, v.high, m.n_photographs]
                for m in each.moves
                for s, v in zip(m.strengths, getattr(m, measure), strict=True)
            ]
            name = name_backbone(each.backbone)
            yield Drawn(
                f"alterations_{measure}_{each.backbone}",
                figures.plot_moves(each.moves, measure, called),
                f"{said} by strength, a panel per alteration, {name}. {_moved(each.moves)}",
                ("method", "alteration", "strength", measure, "low", "high", "n"),
                lines,
                f"{name}: {said}.",
            )


def move_tables(found: Sequence[StyleResults]) -> Iterator[Printed]:
    """What the strength that moves most does, a row per method and alteration."""
    for each in found:
        strongest = [(m, step) for m in each.moves if (step := strongest_step(m)) is not None]
        if not strongest:
            continue
        rows: list[list[Cell]] = [
            [m.change, _strength(m.strengths[i]), *map(_signed, (m.move[i], m.places[i])), m.order[i]]
            for m, i in strongest
        ]
        remarks = {f"{called(m)}: {m.remark}." for m, _ in strongest if m.remark}
        headings = ["alteration", "strength", "move (standard deviations)", "places (%)", "order (SRCC)"]
        groups = [called(m) for m, _ in strongest]
        caption = f"{name_backbone(each.backbone)}, {each.moves[0].n_photographs:,} photographs"
        name = f"alterations_{each.backbone}"
        yield Printed(name, headings, rows, caption, groups, notes=sorted(remarks))


def strongest_step(move: Move) -> int | None:
    """The strength that moves the scores most; None where a score is constant."""
    sizes = np.abs([m.value for m in move.move])
    return int(np.argmax(sizes)) if np.isfinite(sizes).all() else None


def called(move: Move) -> str:
    """A method's name for people: a probe's is that of its output."""
    if not move.method.startswith("probe on "):
        return move.method
    backbone, _, output = move.method.removeprefix("probe on ").rpartition("/")
    return f"probe, {name_output(backbone, output).rpartition(', ')[2]}"


def _moved(found: Sequence[Move]) -> str:
    said = []
    for method in dict.fromkeys(called(m) for m in found):
        of = [(m, i) for m in found if called(m) == method and (i := strongest_step(m)) is not None]
        if of:
            m, i = max(of, key=lambda pair: abs(pair[0].move[pair[1]].value))
            said.append(f"{method}: {m.change} {_strength(m.strengths[i])} moves it most.")
    return " ".join(said)


def along(found: Sequence[StyleResults]) -> Iterator[Drawn | Printed | Prose]:
    """Along what each probe's direction lies, and what follows from that."""
    of = _shares(found)
    if not of:
        return
    shown = [(name, share) for name, shares in of.items() for share in shares]
    corrected = holm(np.array([share.p_value for _, share in shown]))
    said = [
        tell_shares(name, [(s, float(p)) for (n, s), p in zip(shown, corrected, strict=True) if n == name])
        for name in of
    ]
    lines = [
        [
            name, s.what, s.n_directions, s.share.value, s.share.low, s.share.high, s.measured,
            s.random.value, s.unlearned.value, s.unlearned.low, s.unlearned.high, s.p_value, float(p),
        ]
        for (name, s), p in zip(shown, corrected, strict=True)
    ]  # fmt: skip
    headings = ["probe", "directions", "number", "share", "low", "high", "as measured", "random"]
    headings += ["dealt anew", "dealt anew, low", "dealt anew, high", "p", "p, corrected (Holm)"]
    yield Drawn(
        "shares",
        figures.plot_shares(of),
        f"Share of each probe's direction by what it lies along. {' '.join(said)}",
        headings,
        lines,
    )
    rows: list[list[Cell]] = [
        [s.what, s.n_directions, s.share, Number(s.measured), s.random, s.unlearned, _p(s.p_value), _p(p)]
        for (_, s), p in zip(shown, corrected, strict=True)
    ]
    table = ["directions", "number", "share", "as measured", "random directions", "ratings dealt anew", "p"]
    least = min(1.0, len(shown) / (N_PERMUTED + 1))
    note = (
        f"p over {N_PERMUTED:,} probes of ratings dealt out anew, Holm's correction over the {len(shown)} "
        f"rows; no corrected p can fall below {least:.3f}."
    )
    yield Printed("shares", [*table, "p, corrected"], rows, "", [n for n, _ in shown], notes=[note])
    yield _list("shares_said", said)


def tell_shares(name: str, found: Sequence[tuple[Share, float]]) -> str:
    """Which shares are more than probes of ratings dealt out anew have; with corrected p."""
    more = [f"{_what(s)} ({s.share.value:.2f}, p {p:.3f})" for s, p in found if p < LEVEL]
    rest = [_what(s) for s, p in found if not p < LEVEL]
    said = []
    if more:
        said.append(f"more of its direction than chance gives lies along {_joined(more)}")
    if rest:
        said.append(f"of {_joined(rest)} that cannot be said")
    return f"{name}: {'; '.join(said)}."


def _what(share: Share) -> str:
    kind, _, what = share.what.partition(": ")
    return f"{what} ({kind})" if what and kind != "both" else what or kind


def cosines(found: Sequence[StyleResults]) -> Iterator[Drawn | Printed]:
    """Which alterations each probe likes."""
    of = {name_output(e.backbone, output): cs for e in found for output, cs in e.cosines.items()}
    if not of:
        return
    changes = list(dict.fromkeys(change for cs in of.values() for change in cs))
    likes = [
        f"{name}: {_joined([c for c, m in cs.items() if m.low > 0]) or 'none'}" for name, cs in of.items()
    ]
    yield Drawn(
        "cosines",
        figures.plot_cosines(of),
        f"Cosine of each probe's direction with each alteration's. Above zero: {'; '.join(likes)}.",
        ("probe", "alteration", "cosine", "low", "high"),
        [[name, c, m.value, m.low, m.high] for name, cs in of.items() for c, m in cs.items()],
    )
    rows: list[list[Cell]] = [[c, *map(_signed, (cs.get(c) for cs in of.values()))] for c in changes]
    yield Printed("cosines", ["alteration", *of], rows, "Cosine with the probe's direction")


def _shares(found: Sequence[StyleResults]) -> dict[str, Sequence[Share]]:
    return {name_output(e.backbone, o): shares for e in found for o, shares in e.shares.items() if shares}


def _signed(metric: Metric | None) -> Number | None:
    return None if metric is None else Number(metric.value, metric.low, metric.high, signed=True)


def _p(value: float) -> Number:
    return Number(value, shown=f"{value:.3f}")


def _strength(value: float) -> Number | str:
    return f"{value:+g}".replace("-", "−") if value < 0 else f"{value:g}"


def _joined(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _list(name: str, said: Sequence[str]) -> Prose:
    return Prose(name, "\n".join(f"- {literal(sentence)}" for sentence in said))
