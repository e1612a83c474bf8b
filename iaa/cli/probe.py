"""`iaa probe`: fit on the stored arrays, in seconds."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, metric_cells, note, result_title
from iaa.library.embedding import default_backbones
from iaa.library.errors import UsageError
from iaa.library.layout import Layout, data_root, head_path
from iaa.library.opening import check_new_head, open_embedded
from iaa.library.probing import fit_all, measure


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("probe")(probe)


def probe(
    dataset: options.Dataset = None,
    backbone: options.Backbones = None,
    output: Annotated[
        str | None,
        typer.Option(help="One output of the backbone. Default: every output.", show_default=False),
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
            "DATA/heads, or a path.",
            show_default=False,
        ),
    ] = None,
    save_fit: Annotated[
        Literal["ridge", "ols"], typer.Option("--save-fit", help="Which of the two --save keeps.")
    ] = "ridge",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the head that --save names.")
    ] = False,
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Linear probes: OLS (the paper) and ridge (alpha chosen on train) on every output, measured on test.

    Example: iaa probe -d mine --output pooled --save my-taste
    """
    root = data_root(data)
    layout = Layout(root, options.choose_dataset(dataset, data))
    opened = [open_embedded(layout, name) for name in default_backbones(layout.dataset, backbone)]
    n_outputs = sum(1 if output else len(file.outputs) for file in opened)
    if save is not None:
        if n_outputs != 1:
            raise UsageError(
                f"--save keeps one probe, but {n_outputs} outputs are fitted: name one --backbone and "
                "--output"
            )
        check_new_head(head_path(root, save), overwrite)
    scales = (False, True) if unit_norm else (False,)
    fits = fit_all(layout, opened, output, scales, seed, joint)
    measured = measure(fits, n_boot, root)
    majority = measured[0].results[0]
    results = [majority, *(result for each in measured for result in each.results[1:])]
    saved = None
    if save is not None:
        kept = measured[len(scales) - 1]  # the only output, at unit length where that was asked for
        saved = kept.save(save, save_fit, overwrite)
    if as_json:
        answer_json({"dataset": layout.dataset, "head": saved, "results": [asdict(r) for r in results]})
        return
    table = [
        [r.method, f"{r.backbone} {r.output}".strip(), _alpha(r.detail), *metric_cells(r), _rmse(r.detail)]
        for r in results
    ]
    columns = ["method", "backbone, output", "alpha", "accuracy", "SRCC", "PLCC", "RMSE"]
    answer_table(result_title(results[0]), columns, table)
    for file in opened:
        if file.failures:
            note(f"{len(file.failures)} failed rows took no part; see: iaa info {file.path}")
    if saved is not None:
        note(f"head kept ({save_fit}): {saved}; use it: iaa rank --head {save} --dataset NAME")
    asked = "".join(f" --backbone {name}" for name in backbone or [])
    note(f"Next: iaa report --dataset {layout.dataset}{asked}")


def _alpha(detail: dict[str, Any]) -> str:
    alpha = detail.get("alpha")
    return f"{alpha:.4g}{' (edge)' if detail.get('alpha_is_at_edge') else ''}" if alpha else ""


def _rmse(detail: dict[str, Any]) -> str:
    return "{:.4f} [{:.4f}, {:.4f}]".format(*detail["rmse"]) if "rmse" in detail else ""
