"""Which photographs ratings are about now: by their content, wherever they lie; else by their id."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from store.ratings import UNKNOWN, Event


@dataclass(frozen=True)
class Placed:
    """What one rater says about a photograph of a list, or about two."""

    row: int
    event: Event
    other: int = -1
    """Of a pair, the row of the second photograph."""
    is_changed: bool = False
    """The file under this id has other bytes than were rated, and those are nowhere else: it was edited (its
    metadata, perhaps), or replaced."""


class Places:
    """The rows of a list of photographs by content and by id."""

    def __init__(self, image_id: Sequence[str], sha256: Sequence[bytes]) -> None:
        self.image_id, self.sha256 = image_id, sha256
        self._of_content: dict[bytes, list[int]] = {}
        for row, content in enumerate(sha256):
            if content != UNKNOWN:
                self._of_content.setdefault(content, []).append(row)
        self._of_id = {name: row for row, name in enumerate(image_id)}

    def find(self, image_id: str, sha256: bytes) -> tuple[list[int], bool]:
        """The rows that a rated photograph is at now, copies included, and whether its bytes are others."""
        if rows := self._of_content.get(sha256):
            return rows, False
        row = self._of_id.get(image_id)
        if row is None:
            return [], False
        is_known = sha256 != UNKNOWN and self.sha256[row] != UNKNOWN
        return [row], is_known

    def place(self, events: Sequence[Event]) -> list[Placed]:
        """What holds now of ratings that stand (Ratings.standing), row by row: of each rater and kind the
        latest about each photograph; what was set to nothing is left out, equal pairs are not. A photograph
        and its copies have the same ratings."""
        latest: dict[object, Placed] = {}
        for event in events:
            for placed in self._all(event):
                rows = (placed.row,) if placed.other < 0 else tuple(sorted((placed.row, placed.other)))
                key = (event.rater, event.kind, rows)
                latest.pop(key, None)
                latest[key] = placed
        return [each for each in latest.values() if each.event.kind == "pair" or each.event.value != 0]

    def _all(self, event: Event) -> Iterator[Placed]:
        rows, is_changed = self.find(event.image_id, event.sha256)
        if event.kind != "pair":
            yield from (Placed(row, event, -1, is_changed) for row in rows)
            return
        others, is_other_changed = self.find(event.other_id, event.other_sha256)
        if rows and others and rows[0] != others[0]:
            yield Placed(rows[0], event, others[0], is_changed or is_other_changed)
