"""What is taken for one moment before groups were looked for among all photographs."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from iaa.library.gallery.grouping import Grouping, Made

NAN = np.nan
TAKEN = np.array([30.0, 0.0, 4.0, 100.0, NAN, 105.0, 112.0, 500.0, NAN, 504.0])


class Photographs(SimpleNamespace):
    """As much of a gallery as is asked for its moments."""

    def __len__(self) -> int:
        return len(self.rows.taken)


def moments(made: Made | None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    photographs: Any = Photographs(rows=SimpleNamespace(taken=TAKEN), list_version="1")
    grouping = Grouping(photographs, questions=None)  # type: ignore[arg-type]
    monkeypatch.setattr(grouping, "groups", lambda: made)
    monkeypatch.setattr(grouping._job, "last", lambda version: made)
    return grouping.moments().tolist()


def test_before_groups_are_known_seconds_make_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moments(None, monkeypatch) == [-1, 0, 0, 1, -1, 1, 1, 2, -1, 2]


def test_what_came_after_them_joins_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    has = np.array([True, True, True, True, True, True, False, False, True, True])
    made = Made(0.9, [{"rows": [3, 5]}, {"rows": [4, 8]}], {}, has)
    # 1 and 2 were looked at together and are no burst; 6 is one with 3 and 5; 7 with 9, which was alone.
    assert moments(made, monkeypatch) == [-1, -1, -1, 0, 1, 0, 0, 2, 1, 2]


def test_groups_of_all_photographs_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(0.9, [{"rows": [1, 2]}], {}, np.ones(len(TAKEN), bool))
    assert moments(made, monkeypatch) == [-1, 0, 0, -1, -1, -1, -1, -1, -1, -1]
