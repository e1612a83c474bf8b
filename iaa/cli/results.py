"""`iaa results`: predictions of one's own methods, for the report's tables."""

from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer

verbs = typer.Typer()


@verbs.command("add", no_args_is_help=True)
@options.explain(
    split="Split the method was made on. Default: the data set's own; of another it is shown, never "
    "compared.",
    predictions=typer.Argument(help="CSV or Parquet: image_id (or file), and score, class, or p_1, p_2, ..."),
)
def add(
    predictions: Path,
    name: Annotated[str, typer.Option("--name", help="What the report calls the method.")],
    split: str | None = None,
    overwrite: options.Overwrite = False,
    dataset: options.Dataset = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Add the predictions of a method of your own: it stands in the report's tables, tests and figures.

    Every id must be one of the data set's; test images without a prediction are counted. pyiqa's files
    (img_name and a metric) are taken as they are.

    Example: iaa results add predictions.csv --name "My method" --dataset ava
    """
    from iaa.library.own_results import add_results

    added = add_results(options.choose_layout(dataset, data), predictions, name, split, overwrite)
    answer(as_json, added.to_dict(), added.table(), notes=added.notes)


@verbs.command("list")
def list_(dataset: options.Dataset = None, data: options.Data = None, as_json: options.Json = False) -> None:
    """List the methods added to a data set, and what they reach on its test images."""
    from iaa.library.own_results import list_results

    found = list_results(options.choose_layout(dataset, data))
    answer(
        as_json,
        {"results": found.rows()},
        found,
        notes=["Add one: iaa results add predictions.csv --name NAME"],
    )


@verbs.command("remove", no_args_is_help=True)
def remove(
    name: Annotated[str, typer.Argument(help="The method's name.")],
    dataset: options.Dataset = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Delete the predictions of a method."""
    from iaa.library.own_results import remove_results

    removed = remove_results(options.choose_layout(dataset, data), name)
    answer(as_json, {"removed": removed}, notes=[f"removed {removed}"])
