"""`iaa rate`: what people say about photographs, in and out as tables."""

from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer, answer_json, note
from iaa.library.ranking import check_file_place
from iaa.library.rating.ratings import ME, DatasetRatings
from iaa.library.rating.tables import export_ratings, import_ratings
from iaa.library.table import Table

_N_NAMED = 5

Rater = Annotated[
    str | None, typer.Option("--rater", help="Whose ratings. Default: everybody's.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    about = "What people say about photographs: stars, flags, pairs. In and out as tables; undo."
    rate = typer.Typer(no_args_is_help=True, help=about)
    rate.command("import", no_args_is_help=True)(import_)
    rate.command("export", no_args_is_help=True)(export)
    rate.command("show")(show)
    rate.command("undo")(undo)
    app.add_typer(rate, name="rate")


def import_(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file.", show_default=False)],
    dataset: options.Dataset = None,
    rater: Annotated[
        str | None,
        typer.Option(
            "--rater", help=f"Who rated, where the table does not say. Default: {ME}.", show_default=False
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            help="The column of stars; repeat for a column per rater. Default: by its name.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOWEST HIGHEST", help="The scale of the ratings, if not 1 to 5.", show_default=False
        ),
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Add the ratings of a table: files and stars; with a column of raters; or a column per rater.

    Example: iaa rate import stars.csv -d mine
    """
    ratings = _ratings(dataset, data)
    found = import_ratings(ratings, table, rater, column or [], scale)
    if as_json:
        answer_json({"dataset": ratings.layout.dataset, **vars(found)})
        return
    for line in found.notes:
        note(line)
    who = ", ".join(found.acts) if len(found.acts) <= _N_NAMED else f"{len(found.acts)} raters"
    note(f"{found.n_added:,} ratings of {found.n_rated:,} photographs by {who or 'nobody'}: {ratings.path}")
    if found.unknown:
        named = ", ".join(found.unknown[:_N_NAMED]) + (", ..." if len(found.unknown) > _N_NAMED else "")
        note(f"{len(found.unknown):,} names mean no photograph of {ratings.layout.dataset}: {named}")
    if found.n_again:
        note(f"{found.n_again:,} were about a photograph that the same rater had rated above: the last holds")
    if len(found.acts) == 1:
        ((rater_, act),) = found.acts.items()
        note(f"To take it back: iaa rate undo --rater {rater_} --act {act}")


def export(
    table: Annotated[Path, typer.Argument(help="CSV file to write.", show_default=False)],
    dataset: options.Dataset = None,
    rater: Rater = None,
    data: options.Data = None,
) -> None:
    """Write stars and flags that hold now: file, rater, stars, flag, time. It can be imported again."""
    check_file_place(table)
    found = export_ratings(_ratings(dataset, data), rater)
    note(f"wrote {len(found):,} rows: {found.to_csv(table)}")


def show(
    dataset: options.Dataset = None,
    rater: Rater = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Show the ratings that hold now, the latest last."""
    ratings = _ratings(dataset, data)
    found = ratings.present(rater)
    rows = found.rows()
    shown = {
        "photograph": found.columns["image_id"],
        "rater": found.columns["rater"],
        "rating": [_said(row) for row in rows],
        "time (UTC)": [row["time"][:19].replace("T", " ") for row in rows],
        "by": found.columns["source"],
    }
    n_changed = sum(found.columns["is_changed"])
    told = f"{n_changed:,} are about files that were changed since: edited, or replaced by others"
    value = {"dataset": ratings.layout.dataset, "ratings": rows}
    answer(as_json, value, Table(found.title, shown), notes=[told] if n_changed else [])


def undo(
    dataset: options.Dataset = None,
    rater: Annotated[str, typer.Option("--rater", help="Whose.")] = ME,
    act: Annotated[
        int | None, typer.Option(help="What to take back. Default: the last.", show_default=False)
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Take back what a rater did last; again, and what was done before that goes, too."""
    ratings = _ratings(dataset, data)
    found = ratings.undo(rater, act, "iaa rate undo")
    if as_json:
        answer_json({"dataset": ratings.layout.dataset, "undone": found.rows()})
        return
    if not len(found):
        note(f"nothing of {rater} is left to take back")
        return
    first = found.rows(0, 1)[0]
    more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
    note(f"taken back: {_said(first)} of {first['image_id']}{more}")


def _said(row: dict[str, object]) -> str:
    value = float(str(row["value"]))
    if row["kind"] == "stars":
        return f"{value:g} stars"
    if row["kind"] == "flag":
        return "picked" if value == 1 else "rejected"
    said = "equal to" if value == 0 else "better than" if value > 0 else "worse than"
    return f"{said} {row['other_id']}"


def _ratings(dataset: str | None, data: Path | None) -> DatasetRatings:
    return DatasetRatings(options.choose_layout(dataset, data))
