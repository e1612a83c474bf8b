"""`iaa probe`: fit on the stored arrays, in seconds."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from iaa.cli import options
from iaa.cli.console import answer
from iaa.library.opening import embedded_backbones
from iaa.library.probing import fit_probes
from iaa.library.results import shown_results


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("probe")(probe)


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
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Linear probes: OLS (the paper) and ridge (alpha chosen on train) on every output, measured on test.

    Example: iaa probe -d mine --output pooled --save my-taste
    """
    layout = options.choose_layout(dataset, data)
    names = embedded_backbones(layout, backbone)
    done = fit_probes(layout, names, output, unit_norm, joint, seed, n_boot, save, save_fit, overwrite)
    notes = [f"{n} failed rows took no part; see: iaa info {path}" for path, n in done.n_failed.items()]
    if done.head is not None:
        notes.append(f"head kept ({save_fit}): {done.head}; use it: iaa rank --head {save} --dataset NAME")
    asked = "".join(f" --backbone {name}" for name in backbone or [])
    notes.append(f"Next: iaa report --dataset {layout.dataset}{asked}")
    results = [asdict(result) for result in done.results]
    value = {"dataset": layout.dataset, "head": done.head, "results": results}
    answer(as_json, value, shown_results(done.results), notes=notes)
