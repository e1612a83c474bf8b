"""`iaa dataset`: what there is to embed."""

from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer, at_work, note
from iaa.library import datasets
from iaa.library.layout import Layout, data_root

Name = Annotated[str, typer.Argument(help="Name of a data set.")]
verbs = typer.Typer()


@verbs.command("add", no_args_is_help=True)
@options.explain(
    ratings="table: CSV or Parquet of files with votes_1..votes_k, a score, or raters. ava: AVA.txt, or its "
    "table from Kaggle.",
    option=("-o", "KEY=VALUE for dataset.toml, such as split=paper or threshold=5."),
    images=typer.Option(help="Folder of the photographs; or tar files, as 'x/*.tar' or 'x/{000..010}.tar' in "
        "quotes; or a URL of either, such as s3://bucket/folder."),
)  # fmt: skip
def add(
    name: Annotated[str, typer.Argument(help="A short name; it becomes a folder below the data root.")],
    kind: Annotated[str, typer.Option(help=f"{datasets.told_kinds()}.")],
    images: str,
    ratings: Path | None = None,
    option: list[str] | None = None,
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Name a data set: writes DATA/NAME/dataset.toml, which you may edit by hand.

    Example: iaa dataset add oasis --kind table --images photos/ --ratings ratings.csv
    """
    from iaa.library.dataset import add_dataset

    more = datasets.parse_options(kind, option or [])
    with at_work(f"listing the images of {name}"):
        layout = add_dataset(name, kind, images, ratings, overwrite, data, **more).layout
        found = datasets.describe_dataset(layout, datasets.read_table(layout))
    answer(as_json, found, notes=found.notes_on_added())


@verbs.command("list")
def list_(data: options.Data = None, as_json: options.Json = False) -> None:
    """List the data sets."""
    found = datasets.list_datasets(data)
    answer(as_json, {"datasets": found.rows()}, found)


@verbs.command("show", no_args_is_help=True)
def show(name: Name, data: options.Data = None, as_json: options.Json = False) -> None:
    """Count a data set's images, splits and ratings, and what is missing."""
    layout = Layout(data_root(data), name)
    with at_work(f"listing the images of {name}"):
        found = datasets.describe_dataset(layout, datasets.read_table(layout))
    answer(as_json, found, found.table(), notes=found.gaps)


@verbs.command("remove", no_args_is_help=True)
@options.explain(
    yes="Delete without asking.",
)
def remove(
    name: Name,
    yes: bool = False,
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
