"""`iaa probe`: fit on the stored arrays, in seconds."""

from typing import Annotated, Literal

import typer

from iaa.cli import options
from iaa.cli.console import answer

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
    """Linear probes: OLS (the paper) and ridge (alpha chosen on train) on every output, measured on test.

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
    done = fit_probes(layout, backbone, output, unit_norm, joint, seed, n_boot, save, save_fit, overwrite)
    value = {"dataset": done.dataset, "head": done.head, **done.to_dict()}
    answer(as_json, value, done.table(), notes=done.notes)
