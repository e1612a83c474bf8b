"""`iaa prompt`: zero-shot answers from the stored arrays, in seconds."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from iaa import options
from iaa.console import answer_json, answer_table, note
from iaa.paths import Layout, data_root
from iaa.sheet import open_sheet
from iaa.work import (
    best_and_worst,
    check_file_place,
    image_files,
    metric_cells,
    note_demo,
    open_clip_features,
    result_title,
    shown_of,
    write_csv,
)
from store import (
    Features,
    IdentityError,
    MissingFileError,
    Prompts,
    open_prompts,
    open_targets,
)

Method = Literal[
    "fixed", "context", "context_max", "ensemble_mean_of_raw", "ensemble_mean_of_unit", "clip_iqa"
]
#: Cosines below which the CPU needs no help and torch is not worth loading.
_FEW_COSINES = 100_000_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prompt")(prompt)


def prompt(
    dataset: options.Dataset = "demo",
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            help="A backbone with a text tower. Default: the only one embedded.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", "-p", help="Rank by this prompt set or TOML file. Default: paper_fixed."),
    ] = None,
    high: Annotated[
        list[str] | None, typer.Option(help="Rank by this positive label (repeatable).", show_default=False)
    ] = None,
    low: Annotated[
        list[str] | None, typer.Option(help="Rank by this negative label (repeatable).", show_default=False)
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="How to rank. Default: fixed for one prompt per label, else ensemble_mean_of_unit.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the best and of the worst to show.")] = 10,
    csv_file: options.CsvFile = None,
    sheet_file: options.SheetFile = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Zero-shot prompting: evaluate the paper's methods, or rank the images by labels.

    Without --high/--low/--prompts: all pairs on train, the best per task on test, with intervals. With
    them: the images in order of their score; ratings are not needed. What the methods are:
    docs/prompting.md.

    Example: iaa prompt -d demo --high outstanding --low atrocious --csv ranking.csv
    """
    layout = Layout(data_root(data), dataset)
    ranking = bool(high or low or prompts)
    if ranking and not prompts and not (high and low):
        raise typer.BadParameter("give both --high and --low (or --prompts)")
    if not ranking and (method or csv_file or sheet_file):
        raise typer.BadParameter(
            "--method, --csv and --sheet are for ranking: give --high and --low, or --prompts"
        )
    with open_clip_features(layout, backbone) as features:
        note_demo(features.backbone, dataset)
        if ranking:
            _rank(
                layout, features, prompts or "paper_fixed", high, low, method, top, csv_file, sheet_file,
                device, as_json,
            )  # fmt: skip
        else:
            _evaluate(layout, features, device, seed, n_boot, as_json)


def _evaluate(layout: Layout, features: Features, device: str, seed: int, n_boot: int, as_json: bool) -> None:
    from analysis.labels import majority_prediction
    from analysis.prompt_evaluation import evaluate_prompting, join_ratings, score_methods

    targets = open_targets(layout.targets)
    if not targets.is_rated:
        raise typer.BadParameter(
            f"{layout.dataset} has no ratings to evaluate against; rank it instead: "
            f"iaa prompt -d {layout.dataset} --high outstanding --low atrocious"
        )
    paths = [layout.prompts(f"paper_{kind}", features.backbone) for kind in ("fixed", "context")]
    fixed, context = (open_prompts(path) if path.exists() else None for path in paths)
    if fixed is None and context is None:
        raise _no_prompts(paths[0], layout, features.backbone, "paper_fixed")
    cache = layout.maxima("paper_context", features.backbone)
    if context is not None:
        _prepare_maxima(features, context, cache, device)
    scores = score_methods(features, "embedding", fixed, context, cache)
    rated = join_ratings(features, targets)
    digests = {"targets": targets.digest, "features": features.digest}
    evaluation = evaluate_prompting(
        scores, rated, features.backbone, "embedding", seed, n_boot, digests=digests
    )
    if as_json:
        answer_json({"dataset": layout.dataset, "results": [asdict(r) for r in evaluation.results]})
        return
    rows = []
    for result in evaluation.results:
        pairs = [result.detail.get(k) for k in ("binary_pair", "continuous_pair")]
        named = "; ".join(" / ".join(pair) for pair in pairs if pair)
        rows.append([result.method, named, *metric_cells(result)])
    columns = ["method", "pairs (binary; continuous)", "accuracy", "SRCC", "PLCC"]
    answer_table(f"{result_title(evaluation.results[0])}; {features.backbone}", columns, rows)
    is_high = rated.is_high[rated.test]
    majority = np.mean(majority_prediction(rated.is_high[rated.train], len(is_high)) == is_high)
    note(f"always the commoner class of train: accuracy {majority:.4f}")
    for kind, prompts in (("fixed", fixed), ("context", context)):
        if prompts is None:
            note(f"paper_{kind} is not encoded here; for its methods: iaa embed-prompts -d {layout.dataset}")
    if features.failures:
        note(f"{len(features.failures)} failed rows took no part; see: iaa info {features.path}")
    note(f"Next: iaa report --dataset {layout.dataset}")


def _rank(
    layout: Layout,
    features: Features,
    prompts: str,
    high: list[str] | None,
    low: list[str] | None,
    method: Method | None,
    top: int,
    csv_file: Path | None,
    sheet_file: Path | None,
    device: str,
    as_json: bool,
) -> None:
    from analysis.prompting import rank_images, winning_prompt

    check_file_place(csv_file)
    sheet = open_sheet(sheet_file, layout)
    stored = _open_prompt_set(layout, prompts, features.backbone)
    high, low = _sides(stored, high, low)
    one_each = stored.n_prompts == len(set(stored.label.tolist()))
    method = method or ("fixed" if one_each else "ensemble_mean_of_unit")
    if method == "fixed" and not one_each:
        raise typer.BadParameter(f"{stored.set_name} has several prompts per label: --method fixed takes one")
    cache = layout.maxima(stored.set_name, features.backbone)
    if method in ("context", "context_max"):
        _prepare_maxima(features, stored, cache, device)
    score, is_high, scores = _score(features, stored, method, one_each, high, low, cache)
    ranking = rank_images(score)
    columns: dict[str, list[Any]] = {
        "rank": ranking.rank.tolist(),
        "image_id": features.image_id[ranking.row].tolist(),
        "score": ranking.score.tolist(),
        "percentile": ranking.percentile.tolist(),
        "class": ["high" if yes else "low" for yes in is_high[ranking.row].tolist()],
    }
    if scores.winner is not None and len(high) == len(low) == 1:
        winner = winning_prompt(scores, high[0], low[0])[ranking.row]
        columns["content"] = stored.content[winner].tolist()
    columns["file"] = image_files(open_targets(layout.targets), columns["image_id"])
    table = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if csv_file is not None:
        write_csv(csv_file, list(columns), table)
    best, worst = best_and_worst(table, top)
    title = f"{layout.dataset}: {_listed(high)} against {_listed(low)}"
    if sheet is not None:
        facts = [f"{features.backbone}, {stored.set_name}, {method}; {len(table):,} images ranked"]
        sections = [(f"Best: {_listed(high)}", best), (f"Worst: {_listed(low)}", worst)]
        sheet.write(title, facts, sections, features, "score")
    shown = best + worst
    if as_json:
        answer_json(
            {"dataset": layout.dataset, "backbone": features.backbone, "prompts": stored.set_name,
             "method": method, "high": high, "low": low, "n_ranked": len(table),
             "n_failed": len(features.failures), "shown": shown}
        )  # fmt: skip
        return
    names = [name for name in columns if name != "file"]
    digits = {"score": 4, "percentile": 1}
    cells = [[round(row[n], digits[n]) if n in digits else row[n] for n in names] for row in shown]
    title += f" ({features.backbone}, {method})"
    answer_table(title, ["image" if name == "image_id" else name for name in names], cells)
    note(f"{len(table):,} images ranked{shown_of(len(shown), len(table))}")
    if features.failures:
        n_failed = len(features.failures)
        note(f"{n_failed} images could not be read and have no rank; see: iaa info {features.path}")


def _score(
    features: Features,
    stored: Prompts,
    method: Method,
    one_each: bool,
    high: list[str],
    low: list[str],
    cache: Path,
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Score and class per image, and the label scores behind them."""
    from analysis.prompt_evaluation import score_prompts
    from analysis.prompting import predict_is_high, score_clip_iqa, score_continuous

    if method == "clip_iqa":
        if len(high) != len(low):
            raise typer.BadParameter(
                f"--method clip_iqa pairs the labels in their order: give as many high as low ones, "
                f"not {len(high)} and {len(low)}"
            )
        base = "fixed" if one_each else "ensemble_mean_of_unit"
        scores = score_prompts(features, "embedding", stored, base, cache)
        probability = score_clip_iqa(scores, list(zip(high, low, strict=True)))
        return probability, probability >= 0.5, scores
    scores = score_prompts(features, "embedding", stored, method, cache)
    return score_continuous(scores, high, low), predict_is_high(scores, high, low), scores


def _sides(stored: Prompts, high: list[str] | None, low: list[str] | None) -> tuple[list[str], list[str]]:
    """The labels asked for, or all of a polarity; wrong ones are a typer.BadParameter."""
    known = dict(zip(stored.label.tolist(), stored.polarity.tolist(), strict=True))
    high = list(dict.fromkeys(high or [label for label, polarity in known.items() if polarity > 0]))
    low = list(dict.fromkeys(low or [label for label, polarity in known.items() if polarity < 0]))
    unknown = [label for label in (*high, *low) if label not in known]
    if unknown:
        raise typer.BadParameter(
            f"{stored.set_name} has no label {unknown[0]!r}; it has {', '.join(known)}. Other words: write a "
            "TOML file (docs/prompting.md), then iaa embed-prompts --prompts FILE.toml"
        )
    for side, labels in (("high", high), ("low", low)):
        if not labels:
            raise typer.BadParameter(
                f"{stored.set_name} has no {side} label: name one of {', '.join(known)} by --{side}"
            )
    if both := [label for label in high if label in low]:
        raise typer.BadParameter(f"{both[0]!r} is on both sides: it would say nothing")
    return high, low


def _open_prompt_set(layout: Layout, prompts: str, backbone: str) -> Prompts:
    """An encoded prompt set by name, or that of a TOML file, which must not have changed since."""
    expect: dict[str, Any] = {"backbone": backbone}
    name = prompts
    if prompts.endswith(".toml"):
        from embed.prompt_sets import expand, load_prompt_file, prompt_identity

        prompt_set = load_prompt_file(prompts)
        name = prompt_set.name
        expect |= prompt_identity(name, expand(prompt_set))
    path = layout.prompts(name, backbone)
    if not path.exists():
        from embed.prompt_sets import get_prompt_set

        get_prompt_set(prompts)  # raises for an unknown name, and lists the known
        raise _no_prompts(path, layout, backbone, prompts)
    try:
        return open_prompts(path, expect)
    except IdentityError as error:
        raise IdentityError(
            f"{path} was encoded from another content than {prompts} has now. Encode it again: "
            f"iaa embed-prompts --dataset {layout.dataset} --backbone {backbone} --prompts {prompts} "
            "--overwrite"
        ) from error


def _no_prompts(path: Path, layout: Layout, backbone: str, prompts: str) -> MissingFileError:
    return MissingFileError(
        f"{path} does not exist. Make it: iaa embed-prompts --dataset {layout.dataset} "
        f"--backbone {backbone} --prompts {prompts}"
    )


def _prepare_maxima(features: Features, context: Prompts, cache: Path, device: str) -> None:
    """Make the context maxima on a GPU where there is one; without, analysis makes them on the CPU."""
    from analysis.prompt_maxima import ContextMaxima, maxima_key, save_context_maxima
    from analysis.prompting import index_labels, unit_rows
    from store import load_derived

    key = maxima_key(features, "embedding", context)
    n_cosines = features.n_images * context.n_prompts
    if device == "cpu" or load_derived(cache, key) is not None:
        return
    if device == "auto" and n_cosines < _FEW_COSINES:
        return
    from embed.device import describe_device, pick_device
    from embed.torch_maxima import compute_maxima

    chosen = pick_device(device)
    note(f"{n_cosines:,} cosines with context prompts, once; device: {describe_device(chosen)}")
    if chosen.type == "cpu":
        return
    index = index_labels(context.label.tolist(), context.polarity)
    arrays = compute_maxima(
        features.blocks("embedding"), features.n_images, unit_rows(context.read()), index.of_prompt,
        index.n_labels, chosen,
    )  # fmt: skip
    save_context_maxima(cache, ContextMaxima(index.labels, index.polarity, *arrays), key)


def _listed(labels: list[str]) -> str:
    return ", ".join(labels) if len(labels) <= 4 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"
