"""Scores of many people about the photographs of a feature file: from a table, or the data set's ratings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import has_photographs
from iaa.library.rating.contents import stored_contents
from iaa.library.rating.placing import Places
from iaa.library.rating.tables import EMPTY_CELLS, FILES, RATERS, STARS, one_column
from store import Features
from store.matching import match_names
from store.ratings import Ratings
from store.tables import column_text, read_table

if TYPE_CHECKING:
    from analysis.taste.raters import Raters


@dataclass(frozen=True)
class Scored:
    """What many people said about the photographs of a feature file."""

    raters: "Raters"
    source: str
    """Where it was read from."""
    n_unknown: int
    """Names of photographs that the feature file does not have."""


def raters_of(
    layout: Layout, features: Features, table: Path | None = None, columns: Sequence[str] = ()
) -> Scored:
    """Everybody's scores: of a table with a row per photograph, rater and score (or a column per rater); else
    of the table that the data set was made from, if it names raters; else the stars in its ratings file.

    Raises UsageError where nothing says who rated, TableError for a table that cannot be read.
    """
    if table is not None:
        return read_raters(table, features, columns)
    if own := _own_table(layout):
        path, options = own
        wanted = [options["score_column"]] if options.get("score_column") else []
        return read_raters(path, features, wanted, options.get("file_column"), options.get("rater_column"))
    if layout.ratings.exists():
        return _stars(layout, features)
    raise UsageError(
        f"{layout.dataset} has no ratings of single people. Give a table with the columns file, rater, score "
        "(--ratings FILE.csv), or import one: iaa rate import FILE.csv"
    )


def keep_raters(layout: Layout, features: Features) -> bool:
    """Write the data set's scores of single people for the report; False where there are not two people, and
    nothing is left of an earlier report."""
    from store.raters import StoredRaters, write_raters

    try:
        scored = raters_of(layout, features)
    except UsageError:
        scored = None
    if scored is None or len(np.unique(scored.raters.person)) < 2:
        layout.raters.unlink(missing_ok=True)
        return False
    said = scored.raters
    names = np.array(said.names, dtype=str)
    source = Path(scored.source).name
    stored = StoredRaters(features.image_id, names, said.person, said.row, said.score, source)
    layout.derived.mkdir(parents=True, exist_ok=True)
    write_raters(layout.raters, stored)
    return True


def _own_table(layout: Layout) -> tuple[Path, dict[str, str]] | None:
    """The data set's own table and its settings, where a column of it says who rated."""
    from embed.images.datasets import load_config

    if not has_photographs(layout):
        return None
    config = load_config(layout.root, layout.dataset)
    if config.kind != "table" or config.options.get("rows") == "images":
        return None
    path = config.resolve(config.options["ratings"])
    if config.options.get("rater_column"):
        return path, config.options
    names = read_table(path).column_names
    return (path, config.options) if one_column(path, names, RATERS) else None


def read_raters(
    path: Path,
    features: Features,
    columns: Sequence[str] = (),
    file_column: str | None = None,
    rater_column: str | None = None,
) -> Scored:
    """Scores from a CSV or Parquet file, on any scale, in the order of its rows; empty cells say nothing.
    With a column of raters a row is one score; else `columns` are one rater each.

    Raises UsageError where it cannot be told which columns are which, and for cells that are no numbers.
    """
    from analysis.taste.raters import Raters

    table = read_table(path)
    names = table.column_names
    file_column = file_column or one_column(path, names, FILES) or names[0]
    rater_column = rater_column or one_column(path, names, RATERS)
    if missing := [n for n in (file_column, rater_column, *columns) if n is not None and n not in names]:
        raise UsageError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
    files = column_text(table, file_column)
    distinct = list(dict.fromkeys(files))
    matched = match_names(distinct, features.image_id.tolist())
    row_of = dict(zip(distinct, matched.row.tolist(), strict=True))
    rows = np.array([row_of[name] for name in files], dtype=int)
    n_unknown = int((matched.row < 0).sum())
    if not (rows >= 0).any():
        raise UsageError(
            f"{path}: no photograph that is embedded is meant by its column {file_column!r}, such as "
            f"{distinct[0]!r}; they are called {str(features.image_id[0])!r}"
        )
    if rater_column is not None:
        score_column = columns[0] if columns else one_column(path, names, STARS)
        if score_column is None or len(columns) > 1:
            raise UsageError(
                f"{path} has a row per rating ({rater_column}): name the one column of scores (--column); it "
                f"has {', '.join(names)}"
            )
        who = column_text(table, rater_column)
        said = [(who, rows, _numbers(path, score_column, column_text(table, score_column)))]
    else:
        if len(columns) < 2:
            raise UsageError(
                f"{path} does not say who rated: expected a column {', '.join(RATERS[:4])} or the like, or a "
                f"column per rater (--column, repeatable); it has {', '.join(names)}"
            )
        said = [([n] * len(rows), rows, _numbers(path, n, column_text(table, n))) for n in columns]
    place: dict[str, int] = {}
    person = np.array([place.setdefault(name, len(place)) for who, *_ in said for name in who], dtype=int)
    row = np.concatenate([rows for _, rows, _ in said])
    score = np.concatenate([values for *_, values in said])
    if "" in place and np.isfinite(score[person == place[""]]).any():
        raise UsageError(f"{path}: there are ratings by nobody (column {rater_column!r} is empty)")
    use = (row >= 0) & np.isfinite(score)
    return Scored(Raters(tuple(place), person[use], row[use], score[use]), str(path), n_unknown)


def _numbers(path: Path, column: str, cells: Sequence[str]) -> np.ndarray:
    """The cells as numbers, NaN where empty."""
    distinct = dict.fromkeys(cells)
    values: dict[str, float] = {}
    for cell in distinct:
        try:
            values[cell] = float("nan") if cell.lower() in EMPTY_CELLS else float(cell)
        except ValueError:
            values[cell] = float("inf")
        if np.isinf(values[cell]):
            at = cells.index(cell) + 1
            raise UsageError(f"{path} row {at}, column {column!r}: {cell[:40]!r} is no score")
    return np.array([values[cell] for cell in cells])


def _stars(layout: Layout, features: Features) -> Scored:
    """The stars that hold now of everybody who rated."""
    from analysis.taste.raters import Raters

    with Ratings(layout.ratings, is_new=False) as file:
        standing, names = file.standing(), file.raters()
    placed = Places(features.image_id.tolist(), stored_contents(features)[1]).place(standing)
    stars = [each for each in placed if each.event.kind == "stars"]
    at = {name: number for number, name in enumerate(names)}
    person = np.array([at[each.event.rater] for each in stars], dtype=int)
    row = np.array([each.row for each in stars], dtype=int)
    score = np.array([each.event.value for each in stars], dtype=float)
    return Scored(Raters(tuple(names), person, row, score), str(layout.ratings), 0)
