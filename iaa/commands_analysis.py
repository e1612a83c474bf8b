"""`iaa probe`: answers from the stored arrays, in seconds."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from iaa import options
from iaa.console import answer_json, answer_table, note
from iaa.paths import Layout, data_root
from iaa.work import metric_cells, open_embedded, result_title
from store import open_targets

Output = Annotated[
    str | None, typer.Option("--output", help="Which output of the backbone. Default: the usual one.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("probe")(probe)


def probe(
    dataset: options.Dataset = "demo",
    backbone: options.Backbones = None,
    output: Output = None,
    unit_norm: Annotated[
        bool, typer.Option("--unit-norm", help="Fit on features scaled to unit length, too.")
    ] = False,
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Linear probes: OLS (the paper) and ridge (alpha chosen on train) on every output, measured on test.

    Example: iaa probe -d demo -b demo_clip -b demo_vit
    """
    from analysis.probes import evaluate_majority, evaluate_probe, fit_probes

    layout = Layout(data_root(data), dataset)
    ids = options.default_backbones(dataset, backbone)
    opened = [open_embedded(layout, name) for name in ids]
    targets = open_targets(layout.targets)
    results: list[Any] = []
    for features in opened:
        outputs = [output] if output else list(features.outputs)
        for name in outputs:
            for scaled in (False, True) if unit_norm else (False,):
                fit = fit_probes(features, targets, name, scaled, seed=seed)
                if not results:
                    results.append(evaluate_majority(fit, n_boot))
                results += evaluate_probe(fit, n_boot)
    if as_json:
        answer_json({"dataset": dataset, "results": [asdict(r) for r in results]})
        return
    rows = [
        [r.method, f"{r.backbone} {r.output}".strip(), _alpha(r.detail.get("alpha")), *metric_cells(r)]
        for r in results
    ]
    columns = ["method", "backbone, output", "alpha", "accuracy", "SRCC", "PLCC"]
    answer_table(result_title(results[0]), columns, rows)
    n_failed = sum(len(features.failures) for features in opened)
    if n_failed:
        note(f"{n_failed} failed rows took no part; see: iaa info FILE")
    note(f"Next: iaa report --dataset {dataset}")


def _alpha(alpha: float | None) -> str:
    return f"{alpha:.4g}" if alpha else ""
