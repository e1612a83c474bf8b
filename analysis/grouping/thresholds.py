"""From which cosine on photographs are like each other: what was measured, and what stands in for the rest.

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
    The cosine that 95 % of photographs keep with themselves two EV lighter or darker.
"""

from dataclasses import dataclass, replace

from analysis.grouping.groups import Thresholds

MEASURED = {
    ("efficientnet_lite0.in1k", "pooled"): Thresholds(near=0.9, burst=0.85, bracket=0.5),
}

NOT_MEASURED = Thresholds(near=0.95, burst=0.9, bracket=0.8)
"""On the strict side for every backbone that was looked at: fewer groups rather than wrong ones."""


@dataclass(frozen=True)
class Chosen:
    """Thresholds, and a sentence about where they come from."""

    thresholds: Thresholds
    origin: str


def choose_thresholds(backbone: str, output: str, near: float | None = None) -> Chosen:
    """The thresholds of a backbone's output; `near` replaces the one of near-duplicates, and those within
    seconds where they would be stricter."""
    found = MEASURED.get((backbone, output))
    origin = (
        f"measured for {backbone}/{output} at 99 % precision"
        if found is not None
        else f"not measured for {backbone}/{output}: strict ones that suit most backbones"
    )
    chosen = found or NOT_MEASURED
    if near is not None:
        chosen = replace(chosen, near=near, burst=min(chosen.burst, near), bracket=min(chosen.bracket, near))
        origin = "given"
    return Chosen(chosen, origin)
