"""What graded alterations do to scores: how far they move them, and whether they change the order.

Three numbers per method and strength, each with an interval over photographs:

- move: the mean change of a photograph's score, in standard deviations of the unchanged photographs' scores,
  so that methods of any unit can be compared;
- places: the mean change of a photograph's place among the others, when it alone is altered, in percent of
  the way from last to first;
- order: Spearman's correlation of the scores before and after, when all are altered alike.
"""

from dataclasses import dataclass

import numpy as np

from analysis.evidence.bootstrap import Prediction, bootstrap_metrics, interval, resample_counts
from analysis.probing.distribution import mean_with_interval
from analysis.results.methods import Metric
from analysis.variants.stored import Variants
from store.shapes import Bool, Float


@dataclass(frozen=True)
class Scored:
    """What one method says about every row of the variants."""

    name: str
    kind: str
    """'probe', 'head' or 'prompts'."""
    output: str
    score: Float[np.ndarray, " n_rows"]
    """NaN where a row failed."""
    unseen: Bool[np.ndarray, " n_photographs"]
    """Photographs that the method was not fitted on."""
    remark: str = ""


@dataclass(frozen=True)
class Move:
    """What one alteration does to the scores of one method."""

    method: str
    change: str
    strengths: Float[np.ndarray, " n_steps"]
    at_rest: int
    move: list[Metric]
    places: list[Metric]
    order: list[Metric]
    n_photographs: int
    remark: str = ""
    """What else should be known about these photographs."""


def moves_of(
    scored: Scored, variants: Variants, changes: list[str] | None = None, n_boot: int = 1000, seed: int = 0
) -> list[Move]:
    """What each alteration does to one method's scores, on the photographs it was not fitted on; on all, with
    a remark, where there are fewer than ten of those."""
    enough = int(scored.unseen.sum()) >= 10
    only = scored.unseen if enough else np.ones_like(scored.unseen)
    remark = "" if enough else "fitted on these very photographs"
    found = []
    for change in variants.changes if changes is None else changes:
        family = variants.family(change, only)
        if len(family.rows) >= 2:
            scores = scored.score[family.rows]
            measured = measure_moves(scores, family.at_rest, n_boot, seed)
            found.append(
                Move(scored.name, change, family.strengths, family.at_rest, *measured, len(scores), remark)
            )
    return found


def measure_moves(
    scores: Float[np.ndarray, "n_photographs n_steps"], at_rest: int, n_boot: int = 1000, seed: int = 0
) -> tuple[list[Metric], list[Metric], list[Metric]]:
    """Move, places and order (see the module) at each step; at rest 0, 0 and 1."""
    before = scores[:, at_rest]
    spread = before.std()
    counts = np.stack(list(resample_counts(len(before), n_boot, np.random.default_rng(seed)))).astype(float)
    share = counts / len(before)
    spreads = np.sqrt(
        np.maximum(share @ (before - before.mean()) ** 2 - (share @ (before - before.mean())) ** 2, 0)
    )
    moves, places, orders = [], [], []
    for step in range(scores.shape[1]):
        if step == at_rest or spread == 0:
            still = spread == 0
            moves.append(Metric(np.nan) if still else Metric(0.0, 0.0, 0.0))
            places.append(Metric(0.0, 0.0, 0.0))
            orders.append(Metric(np.nan) if still else Metric(1.0, 1.0, 1.0))
            continue
        difference = scores[:, step] - before
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled = (share @ difference) / spreads
        moves.append(Metric(float(difference.mean() / spread), *interval(resampled)))
        moved = places_gained(before, scores[:, step])
        places.append(mean_with_interval(moved, n_boot, np.random.default_rng(seed)))
        after = Prediction(scores[:, step], None)
        order = bootstrap_metrics(before, None, after, n_boot, np.random.default_rng(seed), ("srcc",))
        orders.append(order["srcc"])
    return moves, places, orders


def places_gained(before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """By how many percent of the way from last to first each photograph rises among the others, when it alone
    has its score of `after`; ties count half."""
    ordered, n = np.sort(before), len(before)

    def below(values: np.ndarray) -> np.ndarray:
        less, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        own_less, own_up_to = before < values, before <= values  # nobody is among the others
        return np.asarray((less - own_less + up_to - own_up_to) / 2)

    return np.asarray(100 * (below(after) - below(before)) / max(n - 1, 1))
