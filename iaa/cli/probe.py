"""`iaa probe`: fit on the stored arrays, in seconds."""

import enum
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

if TYPE_CHECKING:
    from analysis.probing.vote_probes import Target as VoteTarget

from iaa.cli import options
from iaa.cli.console import answer, progress
from iaa.library.errors import UsageError

verbs = typer.Typer()
Target = enum.StrEnum("Target", ["mean", "levels", "distribution", "ordinal"])


@verbs.command("probe")
def probe(
    dataset: options.Dataset = None,
    backbone: options.Embedded = None,
    output: Annotated[
        str | None, typer.Option(help="One output of the backbone. Default: every output.")
    ] = None,
    unit_norm: Annotated[
        bool, typer.Option("--unit-norm", help="Fit on features scaled to unit length, too.")
    ] = False,
    joint: Annotated[
        bool,
        typer.Option("--joint", help="Fit on one output of each backbone side by side, too: do they add up?"),
    ] = False,
    target: Annotated[
        list[Target] | None,
        typer.Option(
            "--target",
            help="Fit the votes otherwise, beside ridge on the mean, strength chosen alike: levels (ridge "
            "per level), distribution (soft labels), ordinal (cumulative logits); repeatable.",
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Fit on all outputs side by side, too, each scaled by itself."),
    ] = False,
    fit_on: Annotated[
        Literal["all", "train"] | None,
        typer.Option(
            "--fit-on",
            help="all: fit on every rated photograph, measure by folds that are left out in turn, those that "
            "belong together in one. train: fit and measure by the split. Default: all below 500 ratings.",
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            help="Keep the probe (with --unit-norm, that on unit length) as a head for iaa rank: a name in "
            "DATA/heads, or a path."
        ),
    ] = None,
    save_fit: Annotated[
        Literal["ridge", "ols"], typer.Option("--save-fit", help="Which of the two --save keeps.")
    ] = "ridge",
    apply_to: Annotated[
        list[str] | None,
        typer.Option(
            "--apply-to",
            metavar="DATASET",
            help="Instead: apply the probe of all rated photographs to this data set, and its probe to this "
            "one; all: to every one that shares a backbone (repeatable).",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Linear probes: OLS (the paper) and ridge on every output, measured on photographs they did not see.

    Those are the test split's; below 500 ratings each one, by a fit on the others (--fit-on).

    Example: iaa probe -d mine --output pooled --save my-taste; iaa probe -d mine --apply-to theirs
    """
    if apply_to:
        from iaa.library.transfer import apply_probes

        layout = options.choose_layout(dataset, data)
        applied = apply_probes(layout, apply_to, backbone, output, seed, n_boot)
        answer(as_json, applied.to_dict(), applied.table(), notes=applied.notes)
        return
    from iaa.library.probing import fit_probes

    layout = options.choose_layout(dataset, data)
    if target or layers:
        if save or unit_norm or joint:
            raise UsageError("--target and --layers compare probes: without --save, --unit-norm and --joint")
        from iaa.library.vote_probing import fit_vote_probes

        wanted = [cast("VoteTarget", each.value) for each in target or ()]
        found = fit_vote_probes(layout, wanted, backbone, output, layers, seed, n_boot, fit_on, progress)
        answer(as_json, found.to_dict(), *found.tables(), notes=found.notes)
        return
    done = fit_probes(
        layout, backbone, output, unit_norm, joint, seed, n_boot, save, save_fit, overwrite, fit_on, progress
    )
    value = {"dataset": done.dataset, "head": done.head, **done.to_dict()}
    answer(as_json, value, done.table(), notes=done.notes)
