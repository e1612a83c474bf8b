"""`iaa dataset` and `iaa backbone`: what there is to embed, and what can embed it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import answer, at_work, note
from iaa.library import datasets
from iaa.library.backbones import any_other, describe_backbone, list_backbones
from iaa.library.dataset import add_dataset, list_datasets
from iaa.library.errors import UsageError
from iaa.library.layout import Layout, data_root
from iaa.library.table import Table, facts

Name = Annotated[str, typer.Argument(help="Name of a data set.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    dataset = typer.Typer(no_args_is_help=True, help="Data sets: add under a name, list, show, remove.")
    dataset.command("add", no_args_is_help=True)(add)
    dataset.command("list")(list_)
    dataset.command("show", no_args_is_help=True)(show)
    dataset.command("remove", no_args_is_help=True)(remove)
    app.add_typer(dataset, name="dataset")
    backbone = typer.Typer(no_args_is_help=True, help="What can embed: list, show.")
    backbone.command("list")(backbones)
    backbone.command("show", no_args_is_help=True)(show_backbone)
    app.add_typer(backbone, name="backbone")


def add(
    name: Annotated[str, typer.Argument(help="A short name; it becomes a folder below the data root.")],
    kind: Annotated[str, typer.Option(help=f"{datasets.told_kinds()}.")],
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
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Name a data set: writes DATA/NAME/dataset.toml, which you may edit by hand.

    Example: iaa dataset add oasis --kind table --images photos/ --ratings ratings.csv
    """
    from embed.images.datasets import parse_option

    more: dict[str, Any] = {}
    for entry in option or []:
        key, separator, value = entry.partition("=")
        if not separator:
            raise UsageError(f"--option takes KEY=VALUE, got {entry!r}")
        more[key] = parse_option(kind, key, value)
    with at_work(f"listing the images of {name}"):
        layout = add_dataset(name, kind, images, ratings, overwrite, data, **more).layout
        table = datasets.read_table(layout)
    notes = [
        f"wrote {layout.folder / 'dataset.toml'}: {len(table):,} images",
        *datasets.gaps(table),
        "Other backbones than the default: iaa backbone list, then iaa embed --backbone ID",
        f"Next: iaa embed --dataset {name}",
    ]
    answer(as_json, datasets.describe_dataset(layout, table), notes=notes)


def list_(data: options.Data = None, as_json: options.Json = False) -> None:
    """List the data sets."""
    found = list_datasets(data)
    answer(as_json, {"datasets": found.rows()}, found)


def show(name: Name, data: options.Data = None, as_json: options.Json = False) -> None:
    """Count a data set's images, splits and ratings, and what is missing."""
    layout = Layout(data_root(data), name)
    with at_work(f"listing the images of {name}"):
        table = datasets.read_table(layout)
    summary = datasets.describe_dataset(layout, table)
    answer(as_json, summary, facts(f"Data set {name}", summary), notes=datasets.gaps(table))


def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Delete what was made for a data set: vectors, prompts, reports, its name. Photographs stay."""
    layout = Layout(data_root(data), name)
    made = datasets.made_files(layout)
    if made and not yes:
        for path in made:
            note(f"  {path}")
        typer.confirm("Delete these?", abort=True, err=True)
    removed = datasets.remove_dataset(layout)
    told = f"removed data set {name}: {len(removed)} files and folders; the photographs are where they were"
    answer(as_json, {"removed": removed}, notes=[told])


def backbones(as_json: options.Json = False) -> None:
    """List backbones: what can run here, and what is missing for the others."""
    found = list_backbones()
    names = {"id": "id", "can_run_here": "runs here", "outputs": "outputs", "has_text": "prompts"}
    shown = Table(found.title, {heading: found.columns[name] for name, heading in names.items()})
    missing = {row["id"]: row["weights"] for row in found.rows() if not row["can_run_here"]}
    lacking = Table("What is missing", {"id": list(missing), "weights": list(missing.values())})
    answer(as_json, {"backbones": found.rows()}, shown, lacking, notes=[any_other()])


def show_backbone(
    name: Annotated[str, typer.Argument(help="A backbone id.")], as_json: options.Json = False
) -> None:
    """Say what is known about a backbone before it is loaded, and where its weights are or come from."""
    found = describe_backbone(name)
    told = {key: value for key, value in found.items() if value not in ("", None)}
    answer(as_json, found, facts(f"Backbone {name}", told))
