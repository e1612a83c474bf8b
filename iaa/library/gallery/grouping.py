"""The groups of a gallery: photographs that belong together, from what is in memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from iaa.library.gallery.gallery import Gallery, GalleryError
from iaa.library.gallery.jobs import Job
from iaa.library.gallery.questions import Questions
from iaa.library.gallery.viewing import small_grey

_PARTS_PER_ANSWER = 8
"""While parts of a run come in, groups are looked for anew after so many."""


@dataclass(frozen=True)
class Made:
    """The groups as JSON has them, and which one a row is in."""

    threshold: float
    groups: list[dict[str, Any]]
    group_of: dict[int, str]
    has: np.ndarray
    """Rows that had a vector when they were made."""


class Grouping:
    """The groups of one gallery, made in the background."""

    def __init__(self, gallery: Gallery, questions: Questions) -> None:
        self.gallery, self.questions = gallery, questions
        self._job: Job[Made] = Job(self._make)

    def groups(self) -> Made | None:
        """The groups, or those of a while ago on the same list; None while the first ones are made."""
        listing, digest, n_pieces = self.gallery.vectors_version
        return self._job.ask((listing, digest, n_pieces // _PARTS_PER_ANSWER))

    def group_of(self, row: int) -> str | None:
        """The group of a row, as far as groups have been asked for."""
        made = self._job.last(self.gallery.list_version)
        return None if made is None else made.group_of.get(row)

    def numbers(self) -> np.ndarray:
        """Number of the group of each row, -1 for none, as far as groups are known by now."""
        made = self.groups()
        group = np.full(len(self.gallery), -1)
        for number, each in enumerate([] if made is None else made.groups):
            group[each["rows"]] = number
        return group

    def moments(self) -> np.ndarray:
        """The same, and those for which no groups were looked for yet: with what was taken within SECONDS of
        them they are taken for one group."""
        from analysis.grouping.groups import SECONDS

        group, taken = self.numbers(), self.gallery.rows.taken
        made = self._job.last(self.gallery.list_version)
        is_known = np.zeros(len(group), bool) if made is None else made.has
        by_time = np.argsort(taken, kind="stable")  # NaN last
        first, second = by_time[:-1], by_time[1:]
        is_one = (taken[second] - taken[first] <= SECONDS) & ~(is_known[first] & is_known[second])
        for one, next_one in zip(first[is_one].tolist(), second[is_one].tolist(), strict=True):
            number = max(group[one], group[next_one])
            if number < 0:
                number = group.max() + 1
            group[one] = number if group[one] < 0 else group[one]
            group[next_one] = number if group[next_one] < 0 else group[next_one]
        return group

    def _make(self) -> Made:
        from analysis.grouping.groups import Shots, group_photographs
        from analysis.grouping.thresholds import choose_thresholds

        gallery, rows, listing = self.gallery, self.gallery.rows, self.gallery.listing
        matrix = self.questions.compared()
        assert listing is not None
        contents = [rows.content(row) for row in range(len(rows))]
        looks = {} if gallery.looks is None else gallery.looks.of([c for c in contents if c])
        bias = [looks[c].facts.get("bias") if c in looks else None for c in contents]
        shots = Shots(
            sha256=rows.sha256.copy(),
            taken=rows.taken.copy(),
            bias=np.array([np.nan if b is None else b for b in bias], np.float64),
            score=self._score(),
            sharpness=rows.sharpness.copy(),
            width=rows.width.copy(),
            height=rows.height.copy(),
            name=listing.ids,
        )
        thresholds = choose_thresholds(gallery.backbone, matrix.output, matrix.rows).thresholds
        found = group_photographs(matrix.rows, shots, thresholds, small=self._small)
        groups: list[dict[str, Any]] = []
        group_of: dict[int, str] = {}
        for group in found:
            members = group.rows.tolist()
            name = f"{group.kind}-{listing.keys[min(members)]}"
            groups.append({"id": name, "kind": group.kind, "rows": members, "ranked": group.is_ranked})
            group_of |= dict.fromkeys(members, name)
        return Made(thresholds.near, groups, group_of, matrix.has.copy())

    def _score(self) -> np.ndarray | None:
        """The score that the page begins with; None where there is none."""
        try:
            order = self.questions.by_score()
        except GalleryError:
            return None
        score = np.full(len(self.gallery), np.nan)
        score[order.rows] = order.score
        return score

    def _small(self, row: int) -> np.ndarray | None:
        from analysis.grouping.overlap import EDGE

        jpeg = self.gallery.look(row).jpeg
        return self.gallery.viewers.call(small_grey, jpeg, EDGE) if jpeg else None
