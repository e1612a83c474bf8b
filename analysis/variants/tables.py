"""Tables of altered photographs: headings and cells, ready for to_markdown."""

from collections.abc import Sequence

import numpy as np

from analysis.results.methods import Metric
from analysis.results.tables import format_metric
from analysis.variants.directions import Share
from analysis.variants.moving import Move
from analysis.variants.page import StyleResults
from analysis.variants.reading import Reading

Cells = tuple[list[str], list[list[str]]]


def reading_cells(found: Sequence[StyleResults]) -> Cells:
    """How well each alteration is read: a row per alteration, a column per output."""
    of: dict[str, dict[str, Reading]] = {
        f"{each.backbone}/{output}": readings for each in found for output, readings in each.readings.items()
    }
    changes = list(dict.fromkeys(change for readings in of.values() for change in readings))
    table = [
        [change, *(format_metric(r[change].r2, 3) if change in r else "" for r in of.values())]
        for change in changes
    ]
    return ["alteration", *of], table


def move_cells(moves: Sequence[Move]) -> Cells:
    """What each alteration does to each method, at the strength that moves its scores most."""
    table = []
    for move in moves:
        sizes = np.abs([m.value for m in move.move])
        if np.isfinite(sizes).all():
            step = int(np.argmax(sizes))
            metrics = (move.move[step], move.places[step], move.order[step])
            cells = [format_metric(m, digits) for m, digits in zip(metrics, (2, 1, 3), strict=True)]
            table.append([move.method, move.change, f"{move.strengths[step]:g}", *cells, move.remark])
    headings = [
        "method",
        "alteration",
        "strength",
        "move (standard deviations)",
        "places (%)",
        "order kept (SRCC)",
    ]
    with_remarks = any(line[-1] for line in table)
    return [*headings, *(["remark"] if with_remarks else [])], table if with_remarks else [
        t[:-1] for t in table
    ]


def share_cells(found: Sequence[StyleResults]) -> Cells:
    """Along style or along content: a row per probe and set of directions."""

    def line(name: str, share: Share) -> list[str]:
        metrics: list[Metric] = [share.random, share.unlearned]
        told = [
            format_metric(share.share, 3),
            f"{share.measured:.3f}",
            *(format_metric(m, 3) for m in metrics),
        ]
        return [name, share.what, str(share.n_directions), *told, f"{share.p_value:.3f}"]

    headings = [
        "probe on",
        "directions",
        "number",
        "share",
        "as measured",
        "random directions",
        "shuffled ratings",
        "p",
    ]
    table = [
        line(f"{each.backbone}/{output}", share)
        for each in found
        for output, shares in each.shares.items()
        for share in shares
    ]
    return headings, table
