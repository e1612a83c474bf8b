"""Rating in a gallery, and what is learned from it: after every key photographs stand in the new order."""

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.gallery.gallery import Gallery, GalleryError
from iaa.library.gallery.grouping import Grouping
from iaa.library.gallery.jobs import Job
from iaa.library.gallery.orders import Order, order_by
from iaa.library.gallery.questions import Questions
from iaa.library.gallery.vectors import Matrix
from iaa.library.names import ME
from iaa.library.rating.placing import Placed, Places
from iaa.library.taste import as_opinions, worth_rows
from store import StoreError
from store.ratings import UNKNOWN, Rating, RatingError, Ratings

if TYPE_CHECKING:
    from analysis.taste.evaluation import Standing, Worth
    from analysis.taste.fitting import Taste
    from analysis.taste.gram import Gram, Scaling
    from analysis.taste.opinions import Opinions

SOURCE = "page"
_RECENT = 5
"""Standings by no more ratings less than this are those just before the present one."""
_GROWN = 1.25
"""More vectors than this times those before: the features are standardised anew."""
_CHOOSE_ANEW = 1.05
"""More ratings than this times those before: the penalty is chosen anew, and whether to begin with a head."""
_MANY = 200
_QUEUE = 60
_PAIRED = 20
"""Photographs of which pairs are made, at least."""


@dataclass
class _Learned:
    """A taste, and what it was learned from."""

    key: tuple[object, ...]
    opinions: "Opinions"
    taste: "Taste"
    general: np.ndarray | None
    n_chosen: int
    """Ratings when the penalty was last chosen."""


class Learning:
    """What one person says about a gallery's photographs. Methods may be called from any thread."""

    def __init__(self, gallery: Gallery, questions: Questions, grouping: Grouping, rater: str = ME) -> None:
        self.gallery, self.questions, self.grouping, self.rater = gallery, questions, grouping, rater
        self._lock = threading.RLock()
        self._file: Ratings | None = None
        self._places: tuple[object, Places] | None = None
        self._placed: tuple[object, list[Placed]] | None = None
        self._space: tuple[object, int, Gram] | None = None
        self._learned: _Learned | None = None
        self._standings: list[Standing] = []
        """The last ones, for the next."""
        self._worth: Job[dict[str, Any]] = Job(self._evaluate)

    def rate(self, keys: list[str], kind: str, value: float, other: str | None = None) -> dict[str, Any]:
        """Keep a rating of each of these photographs, all or none; they are on the disk when this returns.
        What they are undone by, and what now holds of the first."""
        rows = [self.gallery.row_of(key) for key in keys]
        others = [] if other is None else [self.gallery.row_of(other)]
        ids = self._ids()
        try:
            said = []
            for row in rows:
                about = [part for each in (row, *others) for part in (ids[each], self._content(each))]
                said.append(Rating(kind, value, *about))  # type: ignore[arg-type]
            with self._lock:
                act = self._ratings().add(said, self.rater, SOURCE)
        except RatingError as error:
            raise GalleryError(str(error), 400) from error
        except StoreError as error:
            raise GalleryError(f"this rating could not be kept: {error}", 507) from error
        return {"act": act, **self._about(rows[0])}

    def undo(self, act: int | None = None) -> dict[str, Any]:
        """Take back what was said last, or an act; the photographs it was about."""
        try:
            with self._lock:
                undone = self._ratings().undo(self.rater, act, SOURCE)
        except RatingError as error:
            raise GalleryError(str(error), 409) from error
        except StoreError as error:
            raise GalleryError(f"this could not be undone: {error}", 507) from error
        places = self._where()
        rows = [row for event in undone for row in places.find(event.image_id, event.sha256)[0]]
        keys = self._keys()
        return {"undone": len(undone), "keys": [keys[row] for row in dict.fromkeys(rows)], **self._count()}

    def ratings(self) -> dict[str, Any]:
        """Stars (0: none) and flags of every row, and how many comparisons there are."""
        n = len(self.gallery)
        stars, flag = np.zeros(n), np.zeros(n, np.int8)
        for each in self._held():
            if each.event.kind == "stars":
                stars[each.row] = each.event.value
            elif each.event.kind == "flag":
                flag[each.row] = int(each.event.value)
        return {**self.gallery.versions, "rater": self.rater, "stars": stars, "flag": flag, **self._count()}

    def order(self) -> Order:
        """By taste, as far as it is known by now."""
        learned = self._learn()
        return order_by(f"the taste of {self.rater}", "score", self._scores(learned))

    def next(self, n: int, turn: int = 0) -> dict[str, Any]:
        """Photographs to rate next, no two of one group, and pairs of them to compare, none of them twice.
        Another `turn` begins with another pair: who passes one over, or rates elsewhere, gives one."""
        from analysis.taste.choosing import choose_next, choose_pairs

        matrix = self._matrix()
        gram = self._gram(matrix)
        group, is_open = self.grouping.moments(), matrix.has.copy()
        with self._lock:
            rated = np.array(
                [row for each in self._held() for row in (each.row, each.other) if row >= 0], int
            )
        rated = np.unique(rated[matrix.has[rated]])
        is_open[rated] = False
        rng = np.random.default_rng(len(rated))
        pool = np.flatnonzero(is_open)
        pool = rng.permutation(pool)[: _QUEUE * 20]
        if not len(pool):
            return {**self.gallery.versions, "keys": [], "pair": [], "pairs": []}
        some = np.concatenate([pool, rated])
        standard = gram.scaling.apply(matrix.rows[some])
        may_be_asked = np.arange(len(some)) < len(pool)
        # The same photographs stand for others however many are asked for; pairs are of enough of them.
        known = np.arange(len(pool), len(some))
        telling = choose_next(standard, known, max(n, _PAIRED), may_be_asked, group[some], rng)
        places = telling[:n]
        score = np.zeros(len(some))
        if (learned := self._learned) is not None:
            score = self._scores(learned)[some]
        keys = self._keys()
        pairs = [[keys[some[at]] for at in pair] for pair in choose_pairs(telling, score)]
        start = turn % len(pairs) if pairs else 0
        pairs = pairs[start:] + pairs[:start]
        return {
            **self.gallery.versions,
            "keys": [keys[some[at]] for at in places.tolist()],
            "pair": pairs[0] if pairs else [],
            "pairs": pairs,
        }

    def worth(self) -> dict[str, Any]:
        """What the ratings are worth by now; measured in the background, so it may be that of a few ratings
        ago (`n_measured`)."""
        from analysis.taste.evaluation import FEWEST

        count = self._count()
        empty = {
            "rows": [],
            "sentence": "",
            "is_better": False,
            "n_more": None,
            "error": None,
            "n_measured": 0,
        }
        about = {"rater": self.rater, **count, **empty}
        try:
            learned = self._learn()
        except GalleryError as error:
            return {**about, "phase": "too few", "sentence": str(error)}
        if len(learned.opinions) < FEWEST:
            more = FEWEST - len(learned.opinions)
            said = f"{more} more ratings until some can be held back and predicted"
            return {**about, "phase": "too few", "sentence": said, "n_more": more}
        made = self._worth.ask((self.gallery.list_version, *learned.key))
        if made is None:
            return {**about, "phase": "working"}
        phase = "ready" if made["key"] == learned.key else "working"
        return {**about, **{name: made[name] for name in empty}, "phase": phase}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()

    # What is known

    def _ratings(self) -> Ratings:
        layout = self.gallery.layout
        if layout is None:
            raise GalleryError("the photographs are still being looked for; ask again in a while", 409)
        if self._file is None:
            try:
                self._file = Ratings(layout.ratings)
            except StoreError as error:
                raise GalleryError(f"ratings cannot be kept: {error}", 507) from error
        return self._file

    def _ids(self) -> list[str]:
        if self.gallery.listing is None:
            raise GalleryError("the photographs are still being looked for; ask again in a while", 409)
        return self.gallery.listing.ids

    def _keys(self) -> list[str]:
        assert self.gallery.listing is not None
        return self.gallery.listing.keys

    def _content(self, row: int) -> bytes:
        """SHA-256 of a photograph's bytes, read now where it was not looked at yet."""
        from embed.images.decode import ImageError, read_bytes

        if content := self.gallery.rows.content(row):
            return content
        assert self.gallery.listing is not None
        try:
            return hashlib.sha256(read_bytes(self.gallery.listing.at(row))).digest()
        except ImageError:
            return UNKNOWN

    def _where(self) -> Places:
        """The rows by content and id, as far as contents are known by now."""
        gallery, ids = self.gallery, self._ids()
        with self._lock:
            known = int(gallery.rows.sha256.any(axis=1).sum())
            key = (gallery.list_version, known)
            if self._places is None or self._places[0] != key:
                contents = [gallery.rows.content(row) or UNKNOWN for row in range(len(ids))]
                self._places = key, Places(ids, contents)
            return self._places[1]

    def _held(self) -> list[Placed]:
        """What holds now; read again where anybody has added something."""
        with self._lock:
            places, file = self._where(), self._ratings()
            try:
                key = (file.last, places)
                if self._placed is None or self._placed[0] != key:
                    self._placed = key, places.place(file.standing(self.rater))
            except StoreError as error:
                raise GalleryError(f"ratings cannot be read: {error}", 507) from error
            return self._placed[1]

    def _count(self) -> dict[str, int]:
        kinds = [each.event.kind for each in self._held()]
        return {
            "n_stars": kinds.count("stars"),
            "n_flags": kinds.count("flag"),
            "n_pairs": kinds.count("pair"),
            "last": self._ratings().last,
        }

    def _about(self, row: int) -> dict[str, Any]:
        of_row = {each.event.kind: each.event.value for each in self._held() if each.row == row}
        return {
            "stars": of_row.get("stars", 0.0),
            "flag": int(of_row.get("flag", 0)),
            **self._count(),
        }

    # What is learned

    def _matrix(self) -> Matrix:
        outputs = self.gallery.outputs
        if not outputs:
            raise GalleryError("no photograph has been looked at yet; ask again in a while", 409)
        return self.gallery.matrix(min(outputs, key=lambda name: name == "embedding"))

    def _gram(self, matrix: Matrix) -> "Gram":
        from analysis.taste.gram import Gram, scaling_of

        with self._lock:
            n, key = int(np.count_nonzero(matrix.has)), (self.gallery.list_version, self.gallery.digest)
            if not n:
                raise GalleryError("no photograph has been looked at yet; ask again in a while", 409)
            if self._space is None or self._space[0] != key or n > _GROWN * self._space[1]:
                self._space = key, n, Gram(matrix.rows, scaling_of(matrix.rows[matrix.has]))
                self._learned = None
            return self._space[2]

    def _learn(self) -> _Learned:
        """The taste of what has been said by now."""
        from analysis.taste.fitting import ALPHAS, fit_taste

        matrix = self._matrix()
        with self._lock:
            gram, held = self._gram(matrix), self._held()
            assert self._space is not None
            opinions = as_opinions(held, matrix.has, self._first_copy)
            key = (self._ratings().last, len(opinions), self._space[1], self._space[0])
            before = self._learned
            if before is not None and before.key == key:
                return before
            if not len(opinions):
                raise GalleryError("nothing is rated yet: rate a few photographs with the keys 1 to 5", 409)
            is_soon = before is not None and _MANY < len(opinions) <= _CHOOSE_ANEW * before.n_chosen
            alphas, generals = ALPHAS, self._generals()
            if is_soon and before is not None:  # with what it begins stays, too: one fit, not two
                alphas = (before.taste.alpha,)
                generals = generals[:1] if before.general is None else generals[-1:]
            fits = [(fit_taste(gram, opinions, general, alphas=alphas), general) for general in generals]
            taste, general = min(fits, key=lambda fit: _left_out(fit[0], opinions))
            n_chosen = before.n_chosen if is_soon and before is not None else len(opinions)
            self._learned = _Learned(key, opinions, taste, general, n_chosen)
            return self._learned

    def _generals(self) -> list[np.ndarray | None]:
        """To start from nothing, or from the first general head that there is."""
        heads = [head for head in self.questions._heads().values() if head.about.get("kind") != "taste"]
        if not heads:
            return [None]
        return [None, np.nan_to_num(self.questions._head_scores(heads[0]))]

    def _scores(self, learned: _Learned) -> np.ndarray:
        """The taste's score of every row, NaN for those without a vector."""
        matrix = self._matrix()
        scaling: Scaling = self._gram(matrix).scaling
        weight = learned.taste.weights / scaling.scale
        score = (matrix.rows @ weight.astype(np.float32)).astype(np.float64)
        score += learned.taste.bias - float(weight @ scaling.mean)
        if learned.general is not None:
            score += learned.taste.slope * learned.general
        score[~matrix.has] = np.nan
        return matrix.tied(score)

    def _first_copy(self, row: int) -> int:
        content = self.gallery.rows.content(row)
        return min(self.gallery.rows.of_content(content), default=row) if content else row

    def _evaluate(self) -> dict[str, Any]:
        from analysis.taste.evaluation import evaluate_taste
        from analysis.taste.gram import Gram

        learned, matrix = self._learn(), self._matrix()
        gram = Gram(matrix.rows, self._gram(matrix).scaling)  # of its own: the other is in use
        worth: Worth = evaluate_taste(
            gram,
            learned.opinions,
            learned.general,
            self.grouping.numbers(),
            self._generals()[-1],
            n_boot=400,
            n_repeats=3,
            recent=[each for each in self._standings if each.n < len(learned.opinions) <= each.n + _RECENT],
        )
        self._standings = [*self._standings, worth.standing][-_RECENT:]
        names = ("question", "by", "value", "low", "high", "n")
        return {
            "key": learned.key,
            "rows": [dict(zip(names, row, strict=True)) for row in worth_rows(worth)],
            "sentence": worth.sentence,
            "is_better": worth.is_better,
            "n_more": worth.n_more,
            "error": None if worth.calibration is None else worth.calibration.error,
            "n_measured": len(learned.opinions),
        }


def _left_out(taste: "Taste", opinions: "Opinions") -> float:
    """Squared error on left-out stars; 0, so that the first fit is taken, where there is none."""
    error = (taste.left_out - opinions.stars) ** 2
    return float(np.mean(error[np.isfinite(error)])) if np.isfinite(error).any() else 0.0
