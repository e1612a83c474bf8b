"""`iaa probe`: fit on the stored arrays, in seconds."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from iaa import options
from iaa.commands_heads import check_new
from iaa.console import answer_json, answer_table, note
from iaa.paths import Layout, data_root, head_path
from iaa.work import metric_cells, open_embedded, result_title
from store import Features, open_targets

if TYPE_CHECKING:
    from analysis.probes import ProbeFit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("probe")(probe)


def probe(
    dataset: options.Dataset = "demo",
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
            help="Keep the probe (with --unit-norm, that on unit length) as a head for iaa score: a name in "
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

    Example: iaa probe -d demo -b demo_clip --output embedding --save mine
    """
    from analysis.joint import Joint
    from analysis.labels import require_ratings
    from analysis.probes import evaluate_majority, evaluate_probe, fit_probes, join_rows

    root = data_root(data)
    layout = Layout(root, dataset)
    ids = options.default_backbones(dataset, backbone)
    opened = [open_embedded(layout, name) for name in ids]
    targets = open_targets(layout.targets)
    require_ratings(targets)
    wanted = [(file, name) for file in opened for name in ([output] if output else file.outputs)]
    scales = (False, True) if unit_norm else (False,)
    if joint and len(opened) < 2:
        raise typer.BadParameter("--joint needs two backbones or more: repeat --backbone")
    if save is not None:
        _check_save(head_path(root, save), len(wanted), overwrite)
    rows = {id(file): join_rows(file, targets) for file in opened}
    fits = [
        fit_probes(file, targets, name, scaled, seed=seed, cache=layout.derived, rows=rows[id(file)])
        for file, name in wanted
        for scaled in scales
    ]
    if joint:
        together = Joint([(file, output or _before_projection(file)) for file in opened])
        fits += [
            fit_probes(together, targets, together.output, scaled, seed=seed, cache=layout.derived)
            for scaled in scales
        ]
    results = [evaluate_majority(fits[0], n_boot)]
    results += [result for fit in fits for result in evaluate_probe(fit, n_boot)]
    kept = fits[len(scales) - 1]  # the only output, at unit length where that was asked for
    saved = None if save is None else _save(head_path(root, save), save_fit, kept, n_boot)
    if as_json:
        answer_json({"dataset": dataset, "head": saved, "results": [asdict(r) for r in results]})
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
        note(f"head kept ({save_fit}): {saved}; use it: iaa score --head {save} --dataset NAME")
    note(f"Next: iaa report --dataset {dataset}")


def _before_projection(features: Features) -> str:
    """The output that the paper's probe reads. (An embedding is a linear map of it and adds nothing.)"""
    return next((name for name in features.outputs if name != "embedding"), "embedding")


def _check_save(path: Path, n_outputs: int, overwrite: bool) -> None:
    if n_outputs != 1:
        raise typer.BadParameter(
            f"--save keeps one probe, but {n_outputs} outputs are fitted: name one --backbone and --output"
        )
    check_new(path, overwrite)


def _save(path: Path, kind: str, fit: "ProbeFit", n_boot: int) -> str:
    from analysis.heads import head_of, save_head
    from analysis.probes import evaluate_probe

    result = next(r for r in evaluate_probe(fit, n_boot) if r.key == f"probe.{kind}")
    return str(save_head(path, head_of(fit, getattr(fit, kind), result)))


def _alpha(detail: dict[str, Any]) -> str:
    alpha = detail.get("alpha")
    return f"{alpha:.4g}{' (edge)' if detail.get('alpha_is_at_edge') else ''}" if alpha else ""


def _rmse(detail: dict[str, Any]) -> str:
    return "{:.4f} [{:.4f}, {:.4f}]".format(*detail["rmse"]) if "rmse" in detail else ""
