"""`iaa rate`: what people say about photographs, in and out as tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iaa.cli import options
from iaa.cli.console import Answer, note
from iaa.library.names import ME

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset

Rater = Annotated[
    str | None, typer.Option("--rater", help="Whose ratings. Default: everybody's.", show_default=False)
]
verbs = typer.Typer()


@verbs.command("import", no_args_is_help=True)
@options.explain(
    column="The column of stars; repeat for a column per rater. Default: by its name.",
    scale=typer.Option(metavar="LOWEST HIGHEST", show_default=False, help="The scale of the ratings, if not "
        "1 to 5."),
)  # fmt: skip
@options.of_dataset
def import_(
    chosen: "Dataset",
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file.", show_default=False)],
    rater: Annotated[
        str | None,
        typer.Option(
            "--rater", help=f"Who rated, where the table does not say. Default: {ME}.", show_default=False
        ),
    ] = None,
    column: list[str] | None = None,
    scale: tuple[float, float] | None = None,
) -> Answer:
    """Add the ratings of a table: files and stars; with a column of raters; or a column per rater.

    Example: iaa rate import stars.csv -d mine
    """
    found = chosen.ratings.import_table(table, rater, column or [], scale)
    return Answer({"dataset": chosen.name, **vars(found)}, notes=found.told(chosen.ratings))


@verbs.command("export", no_args_is_help=True)
def export(
    table: Annotated[Path, typer.Argument(help="CSV file to write.", show_default=False)],
    dataset: options.Dataset = None,
    rater: Rater = None,
    data: options.Data = None,
) -> None:
    """Write stars and flags that hold now: file, rater, stars, flag, time. It can be imported again."""
    from iaa.library.ranking import check_file_place

    check_file_place(table)
    found = options.choose(dataset, data).ratings.export_table(rater)
    note(f"wrote {len(found):,} rows: {found.to_csv(table)}")


@verbs.command("show")
@options.of_dataset
def show(chosen: "Dataset", rater: Rater = None) -> Answer:
    """Show the ratings that hold now, the latest last."""
    found = chosen.ratings.present(rater)
    return Answer({"dataset": chosen.name, "ratings": found.rows()}, [found.shown()], found.notes())


@verbs.command("undo")
@options.explain(rater="Whose.", act="What to take back. Default: the last.")
@options.of_dataset
def undo(chosen: "Dataset", rater: str = ME, act: int | None = None) -> Answer:
    """Take back what a rater did last; again, and what was done before that goes, too."""
    found = chosen.ratings.undo(rater, act, "iaa rate undo")
    value = {"dataset": chosen.name, "undone": found.rows()}
    return Answer(value, notes=found.notes_on_undone(rater))
