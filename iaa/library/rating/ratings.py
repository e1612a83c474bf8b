"""The ratings of a data set, as Python calls them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.names import ME
from iaa.library.rating.contents import Contents, contents_of
from iaa.library.rating.placing import Placed, Places
from iaa.library.table import Table
from store.errors import did_you_mean
from store.ratings import Rating, Ratings

if TYPE_CHECKING:
    import pandas as pd

    from iaa.library.rating.tables import Imported


class Said(Table):
    """Ratings, a row each: image_id, rater, kind (stars, flag, pair), value, the other photograph of a pair,
    whether the file was changed since, time, source."""

    def shown(self) -> Table:
        """The same for people: each rating in words."""
        shown = {
            "photograph": self.columns["image_id"],
            "rater": self.columns["rater"],
            "rating": [_in_words(row) for row in self.rows()],
            "time (UTC)": [time[:19].replace("T", " ") for time in self.columns["time"]],
            "by": self.columns["source"],
        }
        return Table(self.title, shown)

    def notes(self) -> list[str]:
        """How many are about files that are not what they were."""
        n = sum(self.columns["is_changed"])
        told = f"{n:,} are about files that were changed since: edited, or replaced by others"
        return [told] if n else []

    def notes_on_undone(self, rater: str) -> list[str]:
        """What a rater has taken back, if these are it."""
        if not len(self):
            return [f"nothing of {rater} is left to take back"]
        first = self.rows(0, 1)[0]
        more = f" and {len(self) - 1:,} more" if len(self) > 1 else ""
        return [f"taken back: {_in_words(first)} of {first['image_id']}{more}"]


@dataclass(frozen=True)
class DatasetRatings:
    """What people said about the photographs of a data set: kept by content, so that it follows files that
    are renamed or moved. It can be said of a data set of any kind, embedded or not."""

    layout: Layout

    @property
    def path(self) -> Path:
        """The file that keeps them."""
        return self.layout.ratings

    @cached_property
    def contents(self) -> Contents:
        """The photographs as they lie there when this is first asked."""
        return contents_of(self.layout)

    @cached_property
    def places(self) -> Places:
        """Where each of them is in the list."""
        return Places(self.contents.image_id, self.contents.sha256)

    def add(
        self,
        image_id: str | Sequence[str],
        stars: float | Sequence[float] | None = None,
        flag: int | Sequence[int] | None = None,
        rater: str = ME,
        source: str = "python",
    ) -> int:
        """Give photographs stars (1 to 5; 0 takes them back) or a flag (1 picked, -1 rejected, 0 neither),
        one for all or one for each. On the disk when this returns; the number by which it can be undone.

        Raises UsageError for a photograph that is not there, RatingError for what means nothing.
        """
        names = [image_id] if isinstance(image_id, str) else list(image_id)
        if stars is None and flag is None:
            raise UsageError("say what they are rated: stars=4, or flag=1")
        ratings = []
        for kind, given in (("stars", stars), ("flag", flag)):
            if given is not None:
                values = [given] * len(names) if isinstance(given, int | float) else list(given)
                if len(values) != len(names):
                    raise UsageError(f"{len(names)} photographs, but {len(values)} values of {kind}")
                ratings += [
                    Rating(kind, value, *self.photograph(name))  # type: ignore[arg-type]
                    for name, value in zip(names, values, strict=True)
                ]
        return self.add_all(ratings, rater, source)

    def compare(self, first: str, second: str, better: int, rater: str = ME, source: str = "python") -> int:
        """Say which of two photographs is better: 1 the first, -1 the second, 0 neither."""
        pair = Rating("pair", better, *self.photograph(first), *self.photograph(second))
        return self.add_all([pair], rater, source)

    def add_all(self, ratings: Sequence[Rating], rater: str, source: str) -> int:
        """Add ratings as they are, in one act."""
        with Ratings(self.path) as file:
            return file.add(ratings, rater, source)

    def import_table(
        self,
        path: Path | str,
        rater: str | None = None,
        columns: Sequence[str] = (),
        scale: tuple[float, float] | None = None,
    ) -> "Imported":
        """Add the ratings of a table: files and stars; with a column of raters; or a column per rater."""
        from iaa.library.rating.tables import import_ratings

        return import_ratings(self, Path(path), rater, columns, scale)

    def export_table(self, rater: str | None = None) -> Table:
        """Stars and flags that hold now, as `import_table` reads them; `.to_csv(path)` writes them."""
        from iaa.library.rating.tables import export_ratings

        return export_ratings(self, rater)

    def undo(self, rater: str = ME, act: int | None = None, source: str = "python") -> Said:
        """Take back what a rater did last, or an act by its number; what that was."""
        if not self.path.exists():
            return _table(self, "nothing to undo", [])
        with Ratings(self.path) as file:
            undone = file.undo(rater, act, source)
        found = self.places
        placed = [
            Placed(rows[0] if (rows := found.find(event.image_id, event.sha256)[0]) else -1, event)
            for event in undone
        ]
        return _table(self, f"taken back of {rater}", placed)

    def placed(self, rater: str | None = None) -> list[Placed]:
        """What holds now, row by row of `contents`."""
        if not self.path.exists():
            return []
        with Ratings(self.path) as file:
            return self.places.place(file.standing(rater))

    def present(self, rater: str | None = None) -> Said:
        """What holds now about the photographs that are there."""
        return _table(self, "ratings", self.placed(rater))

    def to_frame(self, rater: str | None = None) -> "pd.DataFrame":
        """The same as a pandas DataFrame."""
        return self.present(rater).to_frame()

    def raters(self) -> list[str]:
        """Everybody who has rated here."""
        if not self.path.exists():
            return []
        with Ratings(self.path) as file:
            return file.raters()

    def photograph(self, image_id: str) -> tuple[str, bytes]:
        """A photograph as ratings know it: its id and the SHA-256 of its bytes. Raises UsageError."""
        found = self.places.find(image_id, b"")[0]
        if not found:
            near = did_you_mean(image_id, self.contents.image_id)
            raise UsageError(f"{self.layout.dataset} has no photograph {image_id}.{near}")
        return image_id, self.contents.sha256[found[0]]

    def __repr__(self) -> str:
        return f"<ratings of {self.layout.dataset!r} in {self.path}>"


def _in_words(row: Mapping[str, Any]) -> str:
    value = float(row["value"])
    if row["kind"] == "stars":
        return f"{value:g} star" if value == 1 else f"{value:g} stars"
    if row["kind"] == "flag":
        return "picked" if value == 1 else "rejected"
    said = "equal to" if value == 0 else "better than" if value > 0 else "worse than"
    return f"{said} {row['other_id']}"


def _table(ratings: DatasetRatings, what: str, placed: Sequence[Placed]) -> Said:
    ids = ratings.contents.image_id

    def name(row: int, said: str) -> str:
        return ids[row] if row >= 0 else said

    return Said(
        f"{ratings.layout.dataset}: {what}",
        {
            "image_id": [name(each.row, each.event.image_id) for each in placed],
            "rater": [each.event.rater for each in placed],
            "kind": [each.event.kind for each in placed],
            "value": [each.event.value for each in placed],
            "other_id": [name(each.other, each.event.other_id) for each in placed],
            "is_changed": [each.is_changed for each in placed],
            "time": [each.event.time for each in placed],
            "source": [each.event.source for each in placed],
        },
    )
