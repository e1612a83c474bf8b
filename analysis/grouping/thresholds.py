"""From which cosine on photographs are like each other: what was measured, and a rule for the rest.

`benchmarks/grouping/measure.py` on the 710 photographs of OASIS and of Vessel's architecture (docs/groups.md
has the tables):

near
    The lowest cosine from which on 99 % of the pairs are a photograph with a variant of itself (re-encoded,
    half the edge, cropped to 85 %, +-0.7 EV, turned by 3 degrees, shifted by 5 %), each photograph compared
    with the variants of all.
burst
    Within seconds there is little else to be compared with than the same subject: the cosine that 1 % of
    pairs of different photographs of the same subject reach (Lake1 to Lake17, and the like).
bracket
    The cosine that 1 % of pairs of different photographs reach: the compensation says nearly all, and vectors
    change with two EV.
later
    The cosine that none of 3.5 million pairs of different photographs reaches, with something added.

Backbones differ in how alike all photographs are to them. Where nothing was measured, each distance
1 - cosine is taken to be the same share of the mean distance of the library's photographs as where it was.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from analysis.grouping.groups import Thresholds

MEASURED = {
    ("efficientnet_lite0.in1k", "pooled"): Thresholds(near=0.82, burst=0.75, bracket=0.51, later=0.95),
}

SHARES = {"near": 0.23, "burst": 0.32, "bracket": 0.62, "later": 0.064}
"""Of the mean distance."""
MIN_PHOTOGRAPHS, USUAL_MEAN = 100, 0.5
"""Below so many photographs their mean cosine says little, and this one stands for it."""


@dataclass(frozen=True)
class Chosen:
    """Thresholds, and a few words about where they come from."""

    thresholds: Thresholds
    origin: str


def choose_thresholds(
    backbone: str, output: str, vectors: Float[np.ndarray, "n dim"], near: float | None = None
) -> Chosen:
    """The thresholds of a backbone's output, whose unit rows are `vectors` (NaN or zeros: none).

    `near` replaces the one of near-duplicates; the others stay on their side of it.
    """
    measured = MEASURED.get((backbone, output))
    found = measured if measured is not None else by_mean(mean_cosine(vectors))
    origin = (
        "measured at 99 % precision"
        if measured is not None
        else f"not measured for {backbone}/{output}, taken from how alike the photographs are on the whole"
    )
    if near is not None:
        lower = {name: min(getattr(found, name), near) for name in ("burst", "bracket")}
        found = replace(found, near=near, later=max(found.later, near), **lower)
        origin = "given"
    return Chosen(found, origin)


def by_mean(mean: float) -> Thresholds:
    """The rule for what was not measured, to two digits."""
    return Thresholds(**{name: max(round(1 - share * (1 - mean), 2), 0.1) for name, share in SHARES.items()})


def mean_cosine(vectors: Float[np.ndarray, "n dim"]) -> float:
    """Mean cosine of all pairs of different rows; USUAL_MEAN for fewer than MIN_PHOTOGRAPHS."""
    n, total = 0, np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), 4096):
        rows = vectors[start : start + 4096]
        square = np.einsum("ij,ij->i", rows, rows)
        rows = rows[np.isfinite(square) & (square > 0.5)]
        n, total = n + len(rows), total + rows.sum(axis=0, dtype=np.float64)
    return USUAL_MEAN if n < MIN_PHOTOGRAPHS else float((total @ total - n) / (n * (n - 1)))
