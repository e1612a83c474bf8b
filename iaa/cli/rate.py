"""`iaa rate`: what people say about photographs, in and out as tables."""

from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer, note
from iaa.library.names import ME

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
def import_(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file.", show_default=False)],
    dataset: options.Dataset = None,
    rater: Annotated[
        str | None,
        typer.Option(
            "--rater", help=f"Who rated, where the table does not say. Default: {ME}.", show_default=False
        ),
    ] = None,
    column: list[str] | None = None,
    scale: tuple[float, float] | None = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Add the ratings of a table: files and stars; with a column of raters; or a column per rater.

    Example: iaa rate import stars.csv -d mine
    """
    from iaa.library.rating.tables import import_ratings

    ratings = options.choose(dataset, data).ratings
    found = import_ratings(ratings, table, rater, column or [], scale)
    answer(as_json, {"dataset": ratings.layout.dataset, **vars(found)}, notes=found.told(ratings))


@verbs.command("export", no_args_is_help=True)
def export(
    table: Annotated[Path, typer.Argument(help="CSV file to write.", show_default=False)],
    dataset: options.Dataset = None,
    rater: Rater = None,
    data: options.Data = None,
) -> None:
    """Write stars and flags that hold now: file, rater, stars, flag, time. It can be imported again."""
    from iaa.library.ranking import check_file_place
    from iaa.library.rating.tables import export_ratings

    check_file_place(table)
    found = export_ratings(options.choose(dataset, data).ratings, rater)
    note(f"wrote {len(found):,} rows: {found.to_csv(table)}")


@verbs.command("show")
def show(
    dataset: options.Dataset = None,
    rater: Rater = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Show the ratings that hold now, the latest last."""
    ratings = options.choose(dataset, data).ratings
    found = ratings.present(rater)
    value = {"dataset": ratings.layout.dataset, "ratings": found.rows()}
    answer(as_json, value, found.shown(), notes=found.notes())


@verbs.command("undo")
@options.explain(
    rater="Whose.",
    act="What to take back. Default: the last.",
)
def undo(
    dataset: options.Dataset = None,
    rater: str = ME,
    act: int | None = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Take back what a rater did last; again, and what was done before that goes, too."""
    ratings = options.choose(dataset, data).ratings
    found = ratings.undo(rater, act, "iaa rate undo")
    value = {"dataset": ratings.layout.dataset, "undone": found.rows()}
    answer(as_json, value, notes=found.notes_on_undone(rater))
