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
    A cosine that none of 3.5 million pairs of different photographs reaches (the highest has 0.888), with
    something added.
unknown
    `near` in libraries of up to MANY photographs, `later` beyond: wrong pairs grow with the square of the
    library, right ones do not.

Backbones differ in how alike all photographs are to them. Where nothing was measured, the cosine that 1 % of
the library's own pairs reach says how much, and each distance 1 - cosine is a share of that one's: the
smallest share that was found for four outputs of three backbones, so the rule is strict.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from analysis.grouping.groups import Thresholds
from store.shapes import Float

MEASURED: dict[tuple[str, str], dict[str, float]] = {
    ("efficientnet_lite0.in1k", "pooled"): {"near": 0.825, "burst": 0.75, "bracket": 0.51, "later": 0.92},
}

SHARES = {"near": 0.17, "burst": 0.5, "bracket": 1.0, "later": 0.1}
"""Of the distance that 1 % of pairs do not exceed."""
MANY = 5000
MIN_PHOTOGRAPHS, USUAL = 100, 0.85
"""Fewer photographs say little about all, and this cosine stands for theirs."""
_N_SAMPLE = 2000


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
    found = MEASURED.get((backbone, output))
    origin = "measured at 99 % precision"
    if found is None:
        found = by_rule(high_cosine(vectors))
        origin = f"not measured for {backbone}/{output}: a strict rule, from how alike all photographs are"
    unknown = found["later" if len(vectors) > MANY else "near"]
    if near is not None:
        lower = {name: min(found[name], near) for name in ("burst", "bracket")}
        found, unknown = {"near": near, "later": max(found["later"], near), **lower}, near
        origin = "given"
    return Chosen(Thresholds(**found, unknown=unknown), origin)


def by_rule(high: float) -> dict[str, float]:
    """The rule for what was not measured, from the cosine that 1 % of pairs reach."""
    return {name: max(round(1 - share * (1 - high), 3), 0.1) for name, share in SHARES.items()}


def high_cosine(vectors: Float[np.ndarray, "n dim"]) -> float:
    """The cosine that 1 % of the pairs of different rows reach, to three digits.

    Of many rows 2,000 are taken, which ones is a matter of their bytes and not of their order. USUAL for
    fewer than MIN_PHOTOGRAPHS different rows.
    """
    square = np.einsum("ij,ij->i", vectors, vectors)
    rows = np.flatnonzero(np.isfinite(square) & (square > 0.5)).tolist()
    by_bytes = {zlib.crc32(vectors[row].tobytes()): row for row in rows}
    if len(by_bytes) < MIN_PHOTOGRAPHS:
        return USUAL
    some = vectors[[by_bytes[key] for key in sorted(by_bytes)[:_N_SAMPLE]]]
    cosines = (some @ some.T)[np.triu_indices(len(some), 1)]
    return round(float(np.quantile(cosines, 0.99)), 3)
