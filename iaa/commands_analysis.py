"""`iaa prompt` and `iaa probe`: answers from the stored arrays, in seconds."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from iaa import options
from iaa.console import answer_json, answer_table, note
from iaa.paths import Layout, data_root, file_stem
from store import Features, MissingFileError, Prompts, open_features, open_prompts, open_targets

Output = Annotated[
    str | None, typer.Option("--output", help="Which output of the backbone. Default: the usual one.")
]
Seed = Annotated[int, typer.Option(help="Seed of bootstrap and folds.")]
Boot = Annotated[int, typer.Option(min=1, help="Bootstrap resamples behind each interval.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("prompt")(prompt)
    app.command("probe")(probe)


def prompt(
    dataset: options.Dataset = "demo",
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="A backbone with a text tower.")
    ] = "demo_clip",
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", "-p", help="Rank by this prompt set or TOML file, all of its labels."),
    ] = None,
    high: Annotated[list[str] | None, typer.Option(help="Rank by this positive label (repeatable).")] = None,
    low: Annotated[list[str] | None, typer.Option(help="Rank by this negative label (repeatable).")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the best and of the worst to show.")] = 10,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write every image's score and percentile here.")
    ] = None,
    seed: Seed = 0,
    n_boot: Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Zero-shot prompting: evaluate the paper's methods, or rank the images by labels.

    Without --high/--low/--prompts: all pairs on train, the best per task on test, with intervals. With
    them: the images in order of their score.

    Example: iaa prompt -d demo --high outstanding --low atrocious --csv ranking.csv
    """
    layout = Layout(data_root(data), dataset)
    ranking = bool(high or low or prompts)
    if ranking and not prompts and not (high and low):
        raise typer.BadParameter("give both --high and --low (or --prompts)")
    with _open_features(layout, backbone) as features:
        if "embedding" not in features.outputs:
            raise typer.BadParameter(f"{backbone} has no joint embedding; prompts need a CLIP-like backbone")
        if ranking:
            _rank(layout, features, prompts or "paper_fixed", high, low, top, csv_file, as_json)
        else:
            _evaluate_prompts(layout, features, seed, n_boot, as_json)


def probe(
    dataset: options.Dataset = "demo",
    backbone: options.Backbones = None,
    output: Output = None,
    unit_norm: Annotated[
        bool, typer.Option("--unit-norm", help="Fit on features scaled to unit length, too.")
    ] = False,
    seed: Seed = 0,
    n_boot: Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Linear probes: OLS (the paper) and ridge (alpha chosen on train) on every output, measured on test.

    Example: iaa probe -d demo -b demo_clip -b demo_vit
    """
    from analysis.probes import evaluate_majority, evaluate_probe, fit_probes

    layout = Layout(data_root(data), dataset)
    ids = options.default_backbones(dataset, backbone)
    opened = [_open_features(layout, name) for name in ids]
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
        [r.method, f"{r.backbone} {r.output}".strip(), _alpha(r.detail.get("alpha")), *_metrics(r)]
        for r in results
    ]
    columns = ["method", "backbone, output", "alpha", "accuracy", "SRCC", "PLCC"]
    answer_table(_title(layout, results[0]), columns, rows)
    n_failed = sum(len(features.failures) for features in opened)
    if n_failed:
        note(f"{n_failed} failed rows took no part; see: iaa info FILE")
    note(f"Next: iaa report --dataset {dataset}")


def _evaluate_prompts(layout: Layout, features: Features, seed: int, n_boot: int, as_json: bool) -> None:
    from analysis.prompt_evaluation import evaluate_prompting, join_ratings, score_methods

    fixed = _open_prompts(layout, "paper_fixed", features.backbone)
    context_path = layout.prompts("paper_context", features.backbone)
    context = open_prompts(context_path) if context_path.exists() else None
    targets = open_targets(layout.targets)
    if not targets.is_rated:
        raise typer.BadParameter(
            f"{layout.dataset} has no ratings to evaluate against; rank it instead: "
            f"iaa prompt -d {layout.dataset} --high outstanding --low atrocious"
        )
    cache = layout.derived / f"context_maxima_{file_stem(features.backbone)}.h5"
    scores = score_methods(features, "embedding", fixed, context, cache)
    rated = join_ratings(features, targets)
    evaluation = evaluate_prompting(scores, rated, features.backbone, "embedding", seed, n_boot)
    if as_json:
        answer_json({"dataset": layout.dataset, "results": [asdict(r) for r in evaluation.results]})
        return
    rows = []
    for result in evaluation.results:
        pairs = [result.detail.get(k) for k in ("binary_pair", "continuous_pair")]
        named = "; ".join(" / ".join(pair) for pair in pairs if pair)
        rows.append([result.method, named, *_metrics(result)])
    if context is None:
        note("no context prompts here; for them: iaa embed-prompts")
    columns = ["method", "pairs (binary; continuous)", "accuracy", "SRCC", "PLCC"]
    answer_table(_title(layout, evaluation.results[0]), columns, rows)


def _rank(
    layout: Layout,
    features: Features,
    set_name: str,
    high: list[str] | None,
    low: list[str] | None,
    top: int,
    csv_file: Path | None,
    as_json: bool,
) -> None:
    from analysis.prompting import score_continuous, score_ensemble

    name = Path(set_name).stem if set_name.endswith(".toml") else set_name
    stored = _open_prompts(layout, name, features.backbone)
    known = dict(zip(stored.label.tolist(), stored.polarity.tolist(), strict=True))
    high = high or [label for label, polarity in known.items() if polarity > 0]
    low = low or [label for label, polarity in known.items() if polarity < 0]
    unknown = [label for label in (*high, *low) if label not in known]
    if unknown:
        raise typer.BadParameter(
            f"{name} has no label {unknown[0]!r}; it has {', '.join(known)}. Other words: write a TOML file, "
            "then iaa embed-prompts --prompts FILE.toml"
        )
    ok = np.flatnonzero(features.ok)
    vectors = features.read("embedding", ok)
    scores = score_ensemble(vectors, stored.read(), stored.label.tolist(), stored.polarity, "mean_of_unit")
    values = score_continuous(scores, high, low)
    order = np.argsort(-values, kind="stable")
    percentile = np.empty(len(values))
    percentile[order] = 100 * (1 - (np.arange(len(values)) + 0.5) / max(len(values), 1))
    ids = features.image_id[ok].tolist()
    table: list[dict[str, Any]] = [
        {
            "rank": r + 1,
            "image_id": ids[i],
            "score": float(values[i]),
            "percentile": float(percentile[i]),
        }
        for r, i in enumerate(order)
    ]
    if csv_file is not None:
        with csv_file.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, ["rank", "image_id", "score", "percentile"])
            writer.writeheader()
            writer.writerows(table)
        note(f"wrote {len(table):,} rows: {csv_file}")
    chosen = table[:top] + table[max(top, len(table) - top) :]
    if as_json:
        answer_json(
            {"dataset": layout.dataset, "high": high, "low": low, "n_ranked": len(table),
             "n_failed": len(features.failures), "shown": chosen}
        )  # fmt: skip
        return
    answer_table(
        f"{layout.dataset}: {', '.join(high)} against {', '.join(low)} ({features.backbone})",
        ["rank", "image", "score", "percentile"],
        [[r["rank"], r["image_id"], round(r["score"], 4), round(r["percentile"], 1)] for r in chosen],
    )
    if features.failures:
        note(f"{len(features.failures)} images could not be read and have no rank")


def _open_features(layout: Layout, backbone: str) -> Features:
    path = layout.features / f"{file_stem(backbone)}.h5"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in layout.features.glob("*.h5"))) or "none"
        raise MissingFileError(
            f"{path} does not exist; embedded with: {there}. "
            f"Make it: iaa embed --dataset {layout.dataset} --backbone {backbone}"
        )
    return open_features(path, {"backbone": backbone})


def _open_prompts(layout: Layout, set_name: str, backbone: str) -> Prompts:
    path = layout.prompts(set_name, backbone)
    if not path.exists():
        raise MissingFileError(
            f"{path} does not exist. Make it: iaa embed-prompts --dataset {layout.dataset} "
            f"--backbone {backbone} --prompts {set_name}"
        )
    return open_prompts(path, {"backbone": backbone})


def _title(layout: Layout, result: Any) -> str:
    return f"{layout.dataset}, split {result.split_name}: {result.n_train:,} train, {result.n_test:,} test"


def _metrics(result: Any) -> list[str]:
    return [_interval(getattr(result, name)) for name in ("accuracy", "srcc", "plcc")]


def _alpha(alpha: float | None) -> str:
    return f"{alpha:.4g}" if alpha else ""


def _interval(metric: Any) -> str:
    if metric is None:
        return ""
    if metric.low != metric.low:  # NaN: no interval
        return f"{metric.value:.4f}"
    return f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
