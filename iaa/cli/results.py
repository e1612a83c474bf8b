"""`iaa results`: predictions of one's own methods, for the report's tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import Answer, removed

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset

verbs = typer.Typer()


@verbs.command("add", no_args_is_help=True)
@options.explain(
    split="Split the method was made on. Default: the data set's own; of another it is shown, never "
    "compared.",
    predictions=typer.Argument(help="CSV or Parquet: image_id (or file), and score, class, or p_1, p_2, ..."),
)
@options.of_dataset
def add(
    chosen: "Dataset",
    predictions: Path,
    name: Annotated[str, typer.Option("--name", help="What the report calls the method.")],
    split: str | None = None,
    overwrite: options.Overwrite = False,
) -> Any:
    """Add the predictions of a method of your own: it stands in the report's tables, tests and figures.

    Every id must be one of the data set's; test images without a prediction are counted. pyiqa's files
    (img_name and a metric) are taken as they are.

    Example: iaa results add predictions.csv --name "My method" --dataset ava
    """
    return chosen.add_results(predictions, name, split, overwrite)


@verbs.command("list")
@options.of_dataset
def list_(chosen: "Dataset") -> Answer:
    """List the methods added to a data set, and what they reach on its test images."""
    found = chosen.list_results()
    how = "Add one: iaa results add predictions.csv --name NAME"
    return Answer({"results": found.rows()}, [found], [how])


@verbs.command("remove", no_args_is_help=True)
@options.of_dataset
def remove(
    chosen: "Dataset", name: Annotated[str, typer.Argument(help="The method's name.")]
) -> Answer:
    """Delete the predictions of a method."""
    return removed(chosen.remove_results(name))
