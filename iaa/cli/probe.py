"""`iaa probe`: fit on the stored arrays, in seconds."""

from typing import Annotated, Literal

import typer

from iaa.cli import options
from iaa.cli.console import answer, progress

verbs = typer.Typer()


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
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Linear probes: OLS (the paper) and ridge on every output, measured on photographs they did not see.

    Those are the test split's; below 500 ratings each one, by a fit on the others (--fit-on).

    Example: iaa probe -d mine --output pooled --save my-taste
    """
    from iaa.library.probing import fit_probes

    layout = options.choose_layout(dataset, data)
    done = fit_probes(
        layout, backbone, output, unit_norm, joint, seed, n_boot, save, save_fit, overwrite, fit_on, progress
    )
    value = {"dataset": done.dataset, "head": done.head, **done.to_dict()}
    answer(as_json, value, done.table(), notes=done.notes)
