"""Probes of the whole vote beside ridge on the mean, on one output or on several side by side."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import embedded_backbones, open_embedded
from iaa.library.probing import FitOn, is_crossed, protocol_note, together_in
from iaa.library.progress import Progress, show_progress
from iaa.library.prompts import differences_table
from iaa.library.results import Results, shown_results
from iaa.library.table import Table
from store import open_targets

if TYPE_CHECKING:
    from analysis.evidence.bootstrap import Difference
    from analysis.probing.vote_probes import Target, VoteProbes


@dataclass(frozen=True)
class VoteProbed(Results):
    """What the probes of each target reach on the test images, and how far they differ."""

    fits: "VoteProbes"
    differences: "dict[str, list[Difference]]"
    notes: list[str]

    def table(self) -> Table:
        """A row per target and output, with the earth mover's distance of the predicted votes."""
        shown = shown_results(self.results)
        emd = [
            "{:.4f} [{:.4f}, {:.4f}]".format(*d["emd_r2"]) if "emd_r2" in d else "" for d in self._details()
        ]
        shares = [" : ".join(f"{s:g}" for s in d.get("shares", [])) for d in self._details()]
        columns = {**shown.columns, "emd (r = 2)": emd, "shares of variance": shares}
        return Table(shown.title, {name: cells for name, cells in columns.items() if any(cells)})

    def tables(self) -> list[Table]:
        """The results, then the paired differences of each metric."""
        return [
            self.table(),
            *(differences_table(name, found) for name, found in self.differences.items() if found),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return super().to_dict() | {
            "differences": [asdict(d) for each in self.differences.values() for d in each]
        }

    def _details(self) -> list[dict[str, Any]]:
        return [result.detail for result in self.results]


def fit_vote_probes(
    layout: Layout,
    targets: "Sequence[Target]" = ("mean", "levels", "distribution", "ordinal"),
    backbones: Sequence[str] | None = None,
    output: str | None = None,
    layers: bool = False,
    seed: int = 0,
    n_boot: int = 1000,
    fit_on: FitOn | None = None,
    progress: Progress | None = None,
) -> VoteProbed:
    """Probes of the mean vote, of the shares of votes and of their order, on each output (or one), under one
    protocol, with paired differences from ridge on the mean. With `layers`, all outputs that are fitted
    also side by side, each scaled by itself. `fit_on`: as for linear probes, all below 500 ratings.

    Raises RatingsError for a data set without votes, UsageError where nothing stands side by side.
    """
    from analysis.evidence.labels import require_ratings
    from analysis.probing.crossing import N_FOLDS, fit_votes_on_all
    from analysis.probing.probes import probed_outputs
    from analysis.probing.vote_probes import TARGETS, compare_votes, evaluate_votes, fit_votes

    if unknown := [target for target in targets if target not in TARGETS]:
        raise UsageError(f"unknown target {unknown[0]!r}; known: {', '.join(TARGETS)}")
    opened = [open_embedded(layout, name) for name in embedded_backbones(layout, backbones)]
    found = open_targets(layout.targets)
    require_ratings(found)
    for file in opened:
        if output is not None and output not in file.outputs:
            raise UsageError(f"{file.backbone} has no output {output!r}; it has {', '.join(file.outputs)}")
    entries = [[(file, name)] for file in opened for name in ([output] if output else probed_outputs(file))]
    if layers:
        if len(entries) < 2:
            raise UsageError(
                "--layers puts several outputs side by side, but one is fitted: name no --output"
            )
        entries.append([named for entry in entries for named in entry])
    wanted: list[Target] = list(dict.fromkeys(("mean", *targets)))
    crossed = is_crossed(opened, fit_on)
    n_fits = len(entries) * len(wanted) * (N_FOLDS + 1 if crossed else 1)
    with (progress or show_progress)("fitting probes", n_fits, "probes") as bar:
        if crossed:
            groups = together_in(layout, opened[0])
            probes = fit_votes_on_all(entries, found, wanted, groups, N_FOLDS, seed, bar.update)
        else:
            probes = fit_votes(entries, found, wanted, seed, bar.update)
    results = evaluate_votes(probes, n_boot)
    differences = {metric: compare_votes(probes, metric) for metric in ("srcc", "plcc", "accuracy", "emd_r2")}
    notes = protocol_note(probes)
    notes += [f"{n:,} failed rows of {split} took no part" for split, n in probes.rows.n_failed.items() if n]
    if any("emd_r2_train_mean" in result.detail for result in results):
        constant = next(r.detail["emd_r2_train_mean"] for r in results if "emd_r2_train_mean" in r.detail)
        notes.append(
            "emd of the mean votes of train for every image: {:.4f} [{:.4f}, {:.4f}]".format(*constant)
        )
    if edge := [r.method for r in results if r.detail["alpha_is_at_edge"]]:
        notes.append(f"strength at the edge of its grid: {', '.join(dict.fromkeys(edge))}")
    return VoteProbed(layout.dataset, results, probes, differences, notes)
