"""Probes of one data set applied to another: whose taste travels?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import check_known, embedded_backbones, open_embedded
from iaa.library.probing import before_projection
from iaa.library.results import metric_text
from iaa.library.table import Table
from store import open_features, open_targets
from store.errors import hinting

if TYPE_CHECKING:
    from analysis.probing.transfer import Rated, Transfer

ALL = "all"


@dataclass(frozen=True)
class Transfers:
    """What probes of rated data sets are worth on each other's photographs."""

    dataset: str
    found: "list[Transfer]"

    @property
    def notes(self) -> list[str]:
        """What the columns are, and photographs that two data sets share."""
        shared = {(t.source, t.target): t.n_shared for t in self.found if t.n_shared}
        told = [f"{n} photographs of {b} are in {a}, too, and left out" for (a, b), n in shared.items()]
        return [
            "own: the probe of that data set itself, each photograph predicted from other folds; difference: "
            "foreign less own; ceiling: what so few votes allow. Intervals: 95 % over photographs.",
            *told,
        ]

    def table(self) -> Table:
        """A row per probe and data set it is applied to."""
        columns: dict[str, list[Any]] = {
            "probe of": [t.source for t in self.found],
            "applied to": [t.target for t in self.found],
            "backbone": [f"{t.backbone}/{t.output}" for t in self.found],
            "fitted": [t.n_source for t in self.found],
            "applied": [t.n_target for t in self.found],
        }
        for name in ("srcc", "own", "difference", "ceiling"):
            columns[name] = [metric_text(getattr(t, name)) for t in self.found]
        return Table("Probes on other data sets", columns)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"dataset": self.dataset, "transfers": [asdict(t) for t in self.found]}


def apply_probes(
    layout: Layout,
    others: Sequence[str],
    backbones: Sequence[str] | None = None,
    output: str | None = None,
    seed: int = 0,
    n_boot: int = 1000,
) -> Transfers:
    """Ridge probes of a data set applied to others (names, or `all` that share a backbone), and theirs to it.

    Raises UsageError where none shares a backbone; for one that is named, what keeps the two apart.
    """
    from analysis.evidence.labels import require_ratings
    from analysis.probing.transfer import Rated, both_ways, find_partners

    targets = open_targets(layout.targets)
    require_ratings(targets)
    found: list[Transfer] = []
    for name in embedded_backbones(layout, backbones):
        here = Rated(open_embedded(layout, name), targets)
        partners = (
            find_partners(layout.folder, here.features)
            if ALL in others
            else [each for other in others if (each := _partner(layout, other, here)) is not None]
        )
        outputs = [output or before_projection(here.features)]
        found += both_ways(here, partners, outputs, n_boot, seed)
    if not found:
        error = UsageError(
            f"nothing to apply: {', '.join(others)} shares no embedded backbone with {layout.dataset}"
            if ALL not in others
            else f"no other rated data set in {layout.root} shares a backbone with {layout.dataset}"
        )
        other = "NAME" if ALL in others else others[0]
        names = " --backbone ".join(["", *embedded_backbones(layout, backbones)])
        raise hinting(error, f"iaa embed --dataset {other}{names}")
    return Transfers(layout.dataset, found)


def _partner(layout: Layout, other: str, here: "Rated") -> "Rated | None":
    """Another data set by the same backbone; None where it is not embedded with that."""
    from analysis.evidence.labels import require_ratings
    from analysis.probing.transfer import Rated

    if other == layout.dataset:
        raise UsageError(
            f"--apply-to {other}: that is the data set itself; iaa probe measures it on its test images"
        )
    there = Layout(layout.root, other)
    path = there.features_of(here.features.backbone)
    if not path.exists():
        check_known(there)
        return None
    targets = open_targets(there.targets)
    require_ratings(targets)
    features = open_features(path)
    features.check_images(targets.images)
    return Rated(features, targets)
