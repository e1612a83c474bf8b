"""`iaa score` and `iaa head`: fitted probes as files, and those that others have fitted."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iaa import options
from iaa.console import answer_json, answer_table, note
from iaa.paths import Layout, data_root, head_path, named_head
from iaa.sheet import open_sheet
from iaa.work import (
    best_and_worst,
    check_file_place,
    image_files,
    metric_cells,
    open_embedded,
    shown_of,
    write_csv,
)
from store import MissingFileError, open_targets

if TYPE_CHECKING:
    from analysis.heads import Head

HeadName = Annotated[str, typer.Argument(help="A name in DATA/heads, or a path.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("score")(score)
    head = typer.Typer(no_args_is_help=True, help="Fitted probes as files: import LAION's, look at one.")
    head.command("import", no_args_is_help=True)(import_)
    head.command("show", no_args_is_help=True)(show)
    app.add_typer(head, name="head")


def score(
    head: Annotated[
        str, typer.Option("--head", help="A name in DATA/heads, or a path.", show_default=False)
    ],
    dataset: options.Dataset = "demo",
    top: Annotated[int, typer.Option(min=1, help="How many of the best and of the worst to show.")] = 10,
    csv_file: options.CsvFile = None,
    sheet_file: options.SheetFile = None,
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Score images by a head: best first, and against their ratings where the data set has them.

    A head fits the features of one backbone only; the images must have been embedded with it.

    Example: iaa probe -d demo -b demo_clip --output embedding --save mine; iaa score --head mine -d demo
    """
    import numpy as np

    from analysis.heads import evaluate_head, load_head, may_have_seen_test, score_features
    from analysis.labels import RatingsError
    from analysis.probes import join_rows
    from analysis.prompting import rank_images

    check_file_place(csv_file)
    root = data_root(data)
    layout = Layout(root, dataset)
    sheet = open_sheet(sheet_file, layout)
    loaded = load_head(existing_head(root, head))
    with open_embedded(layout, loaded.backbone) as features:
        scores = score_features(loaded, features)
        targets = open_targets(layout.targets)
        result, why_not = None, ""
        if targets.is_rated and may_have_seen_test(loaded, targets):
            why_not = f"fitted on another split of {dataset}, it may have seen the test images"
        elif targets.is_rated and np.any(targets.split == "test"):
            try:
                rows = join_rows(features, targets)
                result = evaluate_head(loaded, features, rows, targets, n_boot, seed)
            except RatingsError as error:
                why_not = str(error)
        ranking = rank_images(scores)
        ids = features.image_id[ranking.row].tolist()
        n_failed = len(features.failures)
        columns: dict[str, list[Any]] = {
            "rank": ranking.rank.tolist(),
            "image_id": ids,
            "score": ranking.score.tolist(),
            "percentile": ranking.percentile.tolist(),
            "file": image_files(targets, ids),
        }
        table = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if csv_file is not None:
            write_csv(csv_file, list(columns), table)
        best, worst = best_and_worst(table, top)
        title = f"{dataset} by head {loaded.name}"
        origin = f"{loaded.backbone}/{loaded.output}, fitted on {loaded.origin}"
        if sheet is not None:
            facts = [f"{origin}; {len(table):,} images scored"]
            sheet.write(title, facts, [("Best", best), ("Worst", worst)], features, "score")
    shown = best + worst
    if as_json:
        answer_json(
            {"dataset": dataset, "head": loaded.name, "backbone": loaded.backbone, "output": loaded.output,
             "fitted_on": loaded.origin, "n_scored": len(table), "n_failed": n_failed, "shown": shown,
             "result": None if result is None else asdict(result)}
        )  # fmt: skip
        return
    answer_table(
        f"{title} ({origin})",
        ["rank", "image", "score", "percentile"],
        [[r["rank"], r["image_id"], round(r["score"], 4), round(r["percentile"], 1)] for r in shown],
    )
    note(f"{len(table):,} images scored{shown_of(len(shown), len(table))}")
    if result is not None:
        names = ("accuracy", "SRCC", "PLCC")
        measured = [f"{name} {cell}" for name, cell in zip(names, metric_cells(result), strict=True) if cell]
        note(f"on the {result.n_test:,} test images of split {result.split_name}: {', '.join(measured)}")
    elif why_not:
        note(f"not measured: {why_not}")
    if table and table[0]["score"] == table[-1]["score"] and len(table) > 1:
        note("every image has the same score: this head ranks nothing here")
    if n_failed:
        note(f"{n_failed} images could not be read and have no score")


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="LAION's .pth file.", show_default=False)],
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone", "-b", help="What it was trained on: vit_b32.openai or vit_l14.openai.",
            show_default=False,
        ),
    ],
    save: Annotated[
        str | None,
        typer.Option(help="A name in DATA/heads, or a path. Default: the file's name.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a head of that name.")] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Import a head of LAION's aesthetic predictors, linear or MLP, bound to its backbone.

    Example: iaa head import sa_0_4_vit_b_32_linear.pth -b vit_b32.openai --save laion
    """
    from embed.laion import convert_head

    if not checkpoint.is_file():
        raise typer.BadParameter(f"{checkpoint} does not exist")
    root = data_root(data)
    target = head_path(root, save) if save else named_head(root, checkpoint.name.removesuffix(".pth"))
    check_new(target, overwrite)
    written = convert_head(checkpoint, _base(target), backbone)
    if as_json:
        answer_json({"head": str(written), "backbone": backbone})
        return
    note(f"wrote {written}")
    note(f"Next: iaa score --head {save or target.name} --dataset NAME")


def show(
    head: HeadName,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", "-d", help="Data set whose spread of features weighs the dimensions (Figure 3).",
            show_default=False,
        ),
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Say what a head expects and where it comes from; with a data set, which features count (Figure 3).

    Layers without activations multiply out to one vector, so this works for LAION's MLP as well.
    """
    from analysis.heads import load_head

    root = data_root(data)
    loaded = load_head(existing_head(root, head))
    described: dict[str, Any] = {
        "name": loaded.name,
        "backbone": loaded.backbone,
        "output": loaded.output,
        "unit_norm": loaded.unit_norm,
        "layers": [list(weight.shape) for weight, _ in loaded.layers],
        "about": loaded.about,
    }
    if dataset is not None:
        described["importance"] = _importance(loaded, Layout(root, dataset))
    if as_json:
        answer_json(described)
        return
    shapes = " -> ".join([str(loaded.layers[0][0].shape[1]), *(str(w.shape[0]) for w, _ in loaded.layers)])
    described["layers"] = f"{len(loaded.layers)}: {shapes}"
    about = described.pop("about")
    importance = described.pop("importance", {})
    rows = [[key, str(value)] for key, value in {**described, **about}.items()]
    rows += [[f"Figure 3 on {dataset}: {key}", str(value)] for key, value in importance.items()]
    answer_table(f"Head {loaded.name}", ["what", "value"], rows)


def _importance(head: "Head", layout: Layout) -> dict[str, Any]:
    """How concentrated the head's |weight x std| is, the features' spread taken over the data set."""
    import numpy as np

    from analysis.heads import check_features, feature_std, head_importance
    from analysis.importance import CONCENTRATION

    with open_embedded(layout, head.backbone) as features:
        check_features(head, features)
        importance = head_importance(head, feature_std(features, head.output, head.unit_norm))
    largest = np.argsort(-importance)[:10]
    measured = {name: round(float(measure(importance)), 4) for name, measure in CONCENTRATION.items()}
    return {**measured, "largest_dimensions": largest.tolist()}


def existing_head(root: Path, given: str) -> Path:
    """The head of that name or path. Raises MissingFileError, with the heads there are, for any other."""
    path = head_path(root, given)
    if Path(f"{_base(path)}.json").exists() or Path(f"{_base(path)}.safetensors").exists():
        return path
    known = ", ".join(sorted(p.stem for p in (root / "heads").glob("*.json"))) or "none"
    raise MissingFileError(
        f"there is no head {path}; in {root / 'heads'} there are: {known}. Make one: "
        "iaa probe --dataset RATED --backbone B --output O --save NAME, or iaa head import FILE.pth"
    )


def check_new(path: Path, overwrite: bool) -> None:
    """A typer.BadParameter where a head exists that must not be replaced."""
    if not overwrite and Path(f"{_base(path)}.json").exists():
        raise typer.BadParameter(f"the head {path} exists: choose another name, or give --overwrite")


def _base(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path
