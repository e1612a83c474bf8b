"""How often a taste is fitted while somebody rates: the page shows the new order after every key."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analysis.taste import fitting
from analysis.taste.fitting import ALPHAS
from analysis.taste.gram import Gram, scaling_of
from iaa.library.gallery.learning import Learning

N, DIM = 260, 6


class Planted(Learning):
    """Somebody who likes what the first feature shows, and a head that says the same; no files."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.rows = rng.normal(size=(N, DIM)).astype(np.float32)
        gallery: Any = SimpleNamespace(list_version="1", digest="1")
        super().__init__(gallery, questions=None, grouping=None)  # type: ignore[arg-type]
        self.n_rated = 0
        self._space = "1", N, Gram(self.rows, scaling_of(self.rows))

    def _matrix(self) -> Any:
        return SimpleNamespace(has=np.ones(N, bool), rows=self.rows)

    def _gram(self, matrix: Any) -> Gram:
        assert self._space is not None
        return self._space[2]

    def _ratings(self) -> Any:
        return SimpleNamespace(last=self.n_rated)

    def _first_copy(self, row: int) -> int:
        return row

    def _held(self) -> Any:
        stars = np.clip(np.round(3 + self.rows[:, 0]), 1, 5)
        events = (SimpleNamespace(kind="stars", value=value) for value in stars[: self.n_rated])
        return [SimpleNamespace(row=row, other=-1, event=event) for row, event in enumerate(events)]

    def _generals(self) -> list[np.ndarray | None]:
        return [None, self.rows[:, 0].astype(float)]


def test_of_many_ratings_one_more_costs_one_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[tuple[int, int, bool]] = []
    fit = fitting.fit_taste

    def counted(gram: Any, opinions: Any, general: Any = None, alphas: Any = ALPHAS) -> Any:
        fits.append((len(opinions), len(alphas), general is not None))
        return fit(gram, opinions, general, alphas=alphas)

    monkeypatch.setattr(fitting, "fit_taste", counted)
    learning = Planted()
    for learning.n_rated in (150, 151, 220, 221, 222, 232):
        learned = learning._learn()
        assert learned.general is not None, "the head says what they like: it is begun with"
    tried = len(ALPHAS)
    both = [(150, tried), (151, tried), (220, tried), (232, tried)]
    assert fits == [
        *((n, m, with_head) for n, m in both[:3] for with_head in (False, True)),
        (221, 1, True), (222, 1, True),
        *((*both[3], with_head) for with_head in (False, True)),
    ]  # fmt: skip
