"""`iaa probe`: fit on the stored arrays, in seconds."""

import enum
from typing import TYPE_CHECKING, Any, Literal, cast

import typer

from iaa.cli import options
from iaa.cli.console import progress
from iaa.library.errors import UsageError

if TYPE_CHECKING:
    from analysis.probing.vote_probes import Target as VoteTarget
    from iaa.library.dataset import Dataset

verbs = typer.Typer()
Target = enum.StrEnum("Target", ["mean", "levels", "distribution", "ordinal"])


@verbs.command("probe")
@options.explain(
    output="One output of the backbone. Default: every output.",
    unit_norm="Fit on features scaled to unit length, too.",
    joint="Fit on one output of each backbone side by side, too: do they add up?",
    target="Fit the votes otherwise, beside ridge on the mean, strength chosen alike: levels (ridge per "
    "level), distribution (soft labels), ordinal (cumulative logits); repeatable.",
    layers="Fit on all outputs side by side, too, each scaled by itself.",
    fit_on="all: fit on every rated photograph, measure by folds that are left out in turn, those that "
    "belong together in one. train: fit and measure by the split. Default: all below 500 ratings.",
    save="Keep the probe (with --unit-norm, that on unit length) as a head for iaa rank: a name in "
    "DATA/heads, or a path.",
    save_fit="Which of the two --save keeps.",
    apply_to=typer.Option("--apply-to", metavar="DATASET", help="Instead: apply the probe of all rated "
        "photographs to this data set, and its probe to this one; all: to every one that shares a backbone "
        "(repeatable)."),
)  # fmt: skip
@options.of_dataset
def probe(
    chosen: "Dataset",
    backbone: options.Embedded = None,
    output: str | None = None,
    unit_norm: bool = False,
    joint: bool = False,
    target: list[Target] | None = None,
    layers: bool = False,
    fit_on: Literal["all", "train"] | None = None,
    save: str | None = None,
    save_fit: Literal["ridge", "ols"] = "ridge",
    apply_to: list[str] | None = None,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
) -> Any:
    """Linear probes: OLS (the paper) and ridge on every output, measured on photographs they did not see.

    Those are the test split's; below 500 ratings each one, by a fit on the others (--fit-on).

    Example: iaa probe -d mine --output pooled --save my-taste; iaa probe -d mine --apply-to theirs
    """
    if apply_to:
        return chosen.apply_probes(apply_to, backbone, output, seed, n_boot)
    if target or layers:
        if save or unit_norm or joint:
            raise UsageError("--target and --layers compare probes: without --save, --unit-norm and --joint")
        wanted = [cast("VoteTarget", each.value) for each in target or ()]
        return chosen.fit_vote_probes(wanted, backbone, output, layers, seed, n_boot, fit_on, progress)
    from iaa.library.probing import fit_probes

    return fit_probes(
        chosen.layout, backbone, output, unit_norm, joint, seed, n_boot, save, save_fit, overwrite, fit_on,
        progress,
    )  # fmt: skip
