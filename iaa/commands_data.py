"""`iaa dataset` and `iaa backbones`: what there is to embed, and what can embed it."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from iaa import options
from iaa.console import answer_json, answer_line, answer_table, at_work, note
from iaa.paths import Layout, data_root


def register(app: typer.Typer) -> None:
    """Add the commands."""
    dataset = typer.Typer(no_args_is_help=True, help="Name data sets once, use them by name.")
    dataset.command("add")(add)
    dataset.command("list")(list_)
    dataset.command("show")(show)
    app.add_typer(dataset, name="dataset")
    app.command("backbones")(backbones)


def add(
    name: Annotated[str, typer.Argument(help="A short name; it becomes a folder below the data root.")],
    kind: Annotated[str, typer.Option(help="table (CSV or Parquet with ratings), ava, or folder.")],
    images: Annotated[
        str,
        typer.Option(
            help="Folder of the photographs; or tar files, as 'x/*.tar' or 'x/{000..010}.tar' in quotes; or "
            "a URL of either, such as s3://bucket/folder."
        ),
    ],
    ratings: Annotated[
        Path | None,
        typer.Option(
            help="table: CSV or Parquet of files with votes_1..votes_k, a score, or raters. "
            "ava: AVA.txt, or its table from Kaggle."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", help="KEY=VALUE for dataset.toml, such as split=paper or threshold=5."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the data set's configuration.")
    ] = False,
    data: options.Data = None,
) -> None:
    """Name a data set: writes DATA/NAME/dataset.toml, which you may edit by hand.

    Example: iaa dataset add oasis --kind table --images photos/ --ratings ratings.csv
    """
    from embed.datasets import add_dataset, build_table

    more: dict[str, Any] = {}
    for entry in option or []:
        key, separator, value = entry.partition("=")
        if not separator:
            raise typer.BadParameter(f"--option takes KEY=VALUE, got {entry!r}")
        more[key] = _parse(key, value)
    if ratings is not None:
        more["ratings"] = ratings
    root = data_root(data)
    with at_work(f"listing the images of {name}"):
        config = add_dataset(root, name, kind, images=images, overwrite=overwrite, **more)
        table = build_table(config, root)
    note(f"wrote {Layout(root, name).folder / 'dataset.toml'}: {len(table):,} images")
    _note_gaps(table)
    note(f"Next: iaa embed --dataset {name} (--backbone ID for another than the default: iaa backbones)")


def list_(data: options.Data = None, as_json: options.Json = False) -> None:
    """List the data sets."""
    from embed.datasets import list_datasets

    configs = list_datasets(data_root(data))
    if as_json:
        answer_json({"datasets": [{"name": c.name, "kind": c.kind} for c in configs]})
        return
    answer_table("Data sets", ["name", "kind"], [[c.name, c.kind] for c in configs])


def show(
    name: Annotated[str, typer.Argument(help="Name of a data set.")],
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Count a data set's images, splits and ratings, and what is missing."""
    from analysis.labels import high_from_targets
    from embed.datasets import build_table, load_config
    from iaa.work import targets_of

    root = data_root(data)
    with at_work(f"listing the images of {name}"):
        table = build_table(load_config(root, name), root, progress=not as_json)
    summary: dict[str, Any] = {
        "dataset": name,
        "images": table.location,
        "n_images": len(table),
        "split_name": table.split_name,
        "splits": {str(k) or "none": v for k, v in Counter(table.split.tolist()).items()},
        "ratings": "votes" if table.votes is not None else "scores" if table.scores is not None else "none",
        "n_labels_without_file": len(table.missing_files),
        "n_files_without_label": len(table.unlabelled_files),
        "n_files_passed_over": dict(table.passed_over),
        "digest": table.digest,
        "notes": list(table.notes),
    }
    if summary["ratings"] != "none":
        high = high_from_targets(targets_of(table))
        n_high = int(high.sum())
        summary |= {
            "threshold": table.threshold,
            "n_high": n_high,
            "majority_accuracy_of_all": max(n_high, len(high) - n_high) / len(high),
        }
    if as_json:
        answer_json(summary)
        return
    answer_table(f"Data set {name}", ["what", "value"], [[k, v] for k, v in summary.items()])
    _note_gaps(table)


def backbones(as_json: options.Json = False) -> None:
    """List backbones: what can run here, and what is missing for the others."""
    from embed.backbones import BACKBONES
    from embed.weights import backbone_availability

    rows: list[dict[str, Any]] = []
    for spec in BACKBONES.values():
        available, reason = backbone_availability(spec)
        rows.append(
            {
                "id": spec.id,
                "library": spec.library,
                "architecture": spec.architecture,
                "outputs": dict(spec.outputs),
                "has_text": spec.has_text,
                "can_run_here": available,
                "weights": reason,
            }
        )
    if as_json:
        answer_json({"backbones": rows})
        return
    cells = [
        [
            row["id"],
            "yes" if row["can_run_here"] else "no",
            ", ".join(f"{k} {v}" for k, v in row["outputs"].items()),
            "yes" if row["has_text"] else "",
        ]
        for row in rows
    ]
    answer_table("Backbones", ["id", "runs here", "outputs", "prompts"], cells)
    for row in rows:
        if not row["can_run_here"]:
            answer_line(f"{row['id']}: {row['weights']}")
    answer_line("Any other: open_clip:ARCH/TAG or timm:NAME, with --weights FILE if the hub is out of reach.")


def _note_gaps(table: Any) -> None:
    from embed.image_files import counted

    for remark in table.notes:
        note(remark)
    if table.passed_over:
        n = sum(table.passed_over.values())
        note(f"passed over: {n:,} files that are no photographs ({counted(Counter(table.passed_over))})")
    if table.missing_files:
        note(f"labels without a file: {len(table.missing_files):,}, the first: {table.missing_files[0]}")
    if table.unlabelled_files:
        first = table.unlabelled_files[0]
        note(f"files without a label: {len(table.unlabelled_files):,}, the first: {first}")


def _parse(key: str, value: str) -> Any:
    """A flag or a number where the setting is one; all else is text, also a column called 2020."""
    from embed.dataset_options import FLAGS, NUMBERS

    if key in FLAGS and value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float) if key in NUMBERS else ():
        try:
            return kind(value)
        except ValueError:
            continue
    return value
