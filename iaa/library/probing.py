"""Linear probes fitted on the stored arrays, with what they reach on the test images."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.layout import Layout, head_path
from iaa.library.opening import check_new_head, embedded_backbones, next_report, open_embedded
from iaa.library.progress import Progress, show_progress
from iaa.library.results import Results, edge_note, folds_note, results_table, shown_results
from iaa.library.table import Table
from store import Features, open_targets

if TYPE_CHECKING:
    import pandas as pd

    from analysis.probing import probes
    from analysis.probing.vote_probes import VoteProbes
    from analysis.results.methods import MethodResult

logger = logging.getLogger(__name__)

Kind = Literal["ridge", "ols"]
FitOn = Literal["all", "train"]
_GROUPED_UP_TO = 5_000
"""Photographs up to which those that belong together are looked for before they are dealt into folds."""


@dataclass(frozen=True)
class Probed(Results):
    """What the probes of several outputs reach (the majority baseline, then both probes of each output), and
    the head that was kept of the only one."""

    head: Path | None
    notes: list[str]
    """Failed rows, which took no part; how to use the head; what is next."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"dataset": self.dataset, "head": self.head, **super().to_dict()}


@dataclass(frozen=True)
class ProbeFit:
    """Least squares and ridge on one output of a backbone, and what both reach on the test images."""

    fit: "probes.ProbeFit"
    results: "list[MethodResult]"
    root: Path
    """The data root, where `save` keeps heads."""

    def save(self, name: str, kind: Kind = "ridge", overwrite: bool = False) -> Path:
        """Keep one of the probes as a head, for `rank(head=name)`; returns its file.

        `name` is a name in the data root's folder of heads, or a path. Raises UsageError for a name that is
        taken.
        """
        from analysis.probing.heads import head_of, save_head

        path = head_path(self.root, name)
        check_new_head(path, overwrite)
        result = next(r for r in self.results if r.key == f"probe.{kind}")
        return save_head(path, head_of(self.fit, getattr(self.fit, kind), result))

    def importance(self, kind: Kind = "ols") -> "np.ndarray":
        """|weight x standard deviation of the feature| per dimension, (dim,) float64 (Figure 3)."""
        from analysis.probing.importance import feature_importance

        return feature_importance(getattr(self.fit, kind))

    def table(self) -> Table:
        """Metrics with their intervals, a row per probe."""
        return results_table(self.results)

    def to_frame(self) -> "pd.DataFrame":
        """The same as a pandas DataFrame."""
        return self.table().to_frame()

    def _repr_html_(self) -> str:
        return shown_results(self.results)._repr_html_()


def fit_probe(
    layout: Layout,
    backbone: str | None = None,
    output: str | None = None,
    unit_norm: bool = False,
    seed: int = 0,
    n_boot: int = 1000,
    fit_on: FitOn | None = None,
    progress: Progress | None = None,
) -> ProbeFit:
    """The probes of one output, fitted on the train images alone and measured on the test images; or
    (`fit_on="all"`, the default below 500 ratings) fitted on all and measured by folds.

    Raises RatingsError for a data set without ratings, UsageError where the output must be named.
    """
    with open_embedded(layout, backbone) as features:
        if output is None and len(features.outputs) > 1:
            output = before_projection(features)
        fits = fit_all(layout, [features], output, (unit_norm,), seed, fit_on=fit_on, progress=progress)
        return measure(fits, n_boot, layout.root)[0]


def fit_probes(
    layout: Layout,
    backbones: Sequence[str] | None = None,
    output: str | None = None,
    unit_norm: bool = False,
    joint: bool = False,
    seed: int = 0,
    n_boot: int = 1000,
    save: str | None = None,
    save_fit: Kind = "ridge",
    overwrite: bool = False,
    fit_on: FitOn | None = None,
    progress: Progress | None = None,
) -> Probed:
    """The probes of one output, or of every one, of several backbones (default: all that are embedded); with
    `unit_norm` also on unit length, with `joint` also of one output of each side by side. `save` keeps the
    only one as a head, that on unit length where it was asked for. `fit_on`: as in `fit_probe`.

    Raises RatingsError, and UsageError for a head of several outputs or a name that is taken.
    """
    opened = [open_embedded(layout, name) for name in embedded_backbones(layout, backbones)]
    if save is not None:
        n_outputs = sum(1 if output else len(file.outputs) for file in opened)
        if n_outputs != 1:
            raise UsageError(
                f"--save keeps one probe, but {n_outputs} outputs are fitted: name one --backbone and "
                "--output"
            )
        check_new_head(head_path(layout.root, save), overwrite)
    scales = (False, True) if unit_norm else (False,)
    fits = fit_all(layout, opened, output, scales, seed, joint, fit_on, progress)
    measured = measure(fits, n_boot, layout.root)
    results = [measured[0].results[0], *(result for each in measured for result in each.results[1:])]
    head = None if save is None else measured[len(scales) - 1].save(save, save_fit, overwrite)
    failed = {file.path: len(file.failures) for file in opened if file.failures}
    notes = [f"{n} failed rows took no part; see: iaa info {path}" for path, n in failed.items()]
    notes += [*edge_note(results), *folds_note(results), *protocol_note(fits[0])]
    if head is not None:
        notes.append(f"head kept ({save_fit}): {head}; use it: iaa rank --head {save} --dataset NAME")
    return Probed(layout.dataset, results, head, [*notes, next_report(layout.dataset, backbones)])


def fit_all(
    layout: Layout,
    opened: Sequence[Features],
    output: str | None,
    scales: Sequence[bool] = (False,),
    seed: int = 0,
    joint: bool = False,
    fit_on: FitOn | None = None,
    progress: Progress | None = None,
) -> "list[probes.ProbeFit]":
    """The probes of one output, or of every one, of several backbones; with `joint` also of one output of
    each side by side. `fit_on` None: all below 500 ratings, else train."""
    from analysis.evidence.labels import require_ratings
    from analysis.probing.crossing import N_FOLDS, fit_on_all, join_all
    from analysis.probing.joint import Joint
    from analysis.probing.probes import fit_probes, join_rows, probed_outputs, too_wide

    if joint and len(opened) < 2:
        raise UsageError("a joint probe needs two backbones or more")
    targets = open_targets(layout.targets)
    require_ratings(targets)
    asked: list[tuple[Any, str]] = [
        (file, name) for file in opened for name in ([output] if output else probed_outputs(file))
    ]
    n_train = int(np.count_nonzero(targets.split == "train"))
    for file, name in asked:
        if why := too_wide(file, name, n_train):
            others = ", ".join(probed_outputs(file))
            raise UsageError(why + (f". The same without cells: --output {others}" if others else ""))
    if joint:
        side_by_side = Joint([(file, output or before_projection(file)) for file in opened])
        asked.append((side_by_side, side_by_side.output))
    if is_crossed(opened, fit_on):
        groups = together_in(layout, opened[0])
        with (progress or show_progress)(
            "cross-validating", N_FOLDS * len(asked) * len(scales), "folds"
        ) as bar:
            return [
                fit_on_all(file, targets, name, scaled, groups, seed=seed, rows=rows, on_fold=bar.update)
                for file, names in _by_file(asked)
                for rows in [join_all(file, targets)]
                for name in names
                for scaled in scales
            ]
    return [
        fit_probes(file, targets, name, scaled, seed=seed, cache=layout.derived, rows=rows)
        for file, names in _by_file(asked)
        for rows in [join_rows(file, targets)]
        for name in names
        for scaled in scales
    ]


def is_crossed(opened: Sequence[Features], fit_on: FitOn | None) -> bool:
    """Whether probes are fitted on all and measured by folds: asked for, or below 500 ratings. Raises
    UsageError for what is neither."""
    from analysis.probing.crossing import FEW

    if fit_on not in (None, "all", "train"):
        raise UsageError(f"a probe is fitted on all or on train, not on {fit_on!r}")
    return fit_on == "all" or (fit_on is None and int(np.count_nonzero(opened[0].ok)) < FEW)


def _by_file(asked: Sequence[tuple[Any, str]]) -> list[tuple[Any, list[str]]]:
    """Outputs by the file that they are in."""
    names: dict[int, tuple[Any, list[str]]] = {}
    for file, name in asked:
        names.setdefault(id(file), (file, []))[1].append(name)
    return list(names.values())


def together_in(layout: Layout, features: Features) -> dict[str, str]:
    """By image_id the first photograph of its group, for those that belong together (`iaa groups`); nothing
    is looked for in large libraries. Where the photographs are not to be found only exact copies are told."""
    from embed.images.errors import DatasetError
    from iaa.library.groups import group_photographs

    if features.n_images > _GROUPED_UP_TO:
        return {}
    try:
        groups = group_photographs(layout, features.backbone).groups
    except DatasetError as error:
        logger.warning("only exact copies are held back together, the photographs are not here: %s", error)
        has_hashes = "source_sha256" in features.file.arrays
        groups = group_photographs(layout, features.backbone, kinds="copies").groups if has_hashes else []
    found: dict[str, str] = {}
    for group in groups:
        members = features.image_id[group.rows].tolist()
        found |= dict.fromkeys(members, min(members))
    return found


def protocol_note(fit: "probes.ProbeFit | VoteProbes") -> list[str]:
    """How a fit on all was measured."""
    if not fit.n_folds:
        return []
    kept = "; photographs that belong together were left out together" if fit.is_grouped else ""
    return [
        f"{len(fit.test_id):,} ratings: fitted on all of them, measured on each by fits on the other folds "
        f"({fit.n_folds}){kept}. On the split instead: --fit-on train"
    ]


def measure(fits: "Sequence[probes.ProbeFit]", n_boot: int, root: Path) -> list[ProbeFit]:
    """Each fit with its results on the test images: the majority baseline of the first, then both probes."""
    from analysis.probing.probes import evaluate_majority, evaluate_probe

    majority = evaluate_majority(fits[0], n_boot)
    return [ProbeFit(fit, [majority, *evaluate_probe(fit, n_boot)], root) for fit in fits]


def before_projection(features: Features) -> str:
    """The output that the paper's probe reads. (An embedding is a linear map of it and adds nothing.)"""
    return next((name for name in features.outputs if name != "embedding"), "embedding")
