"""What people ask of a gallery, answered as an order of its photographs, from vectors in memory.

A score is a head's, or what words of praise have over words of blame (as `iaa rank`); a search is by words,
by a photograph of the gallery, by a picture that was sent, or by several of these, which refine each other.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.gallery.encoding import MadeBy, encode_picture, words_of
from iaa.library.gallery.gallery import Gallery, GalleryError
from iaa.library.gallery.orders import Order, mean_z, order_by
from iaa.library.gallery.processes import HelperDied
from iaa.library.gallery.vectors import Matrix, Piece
from iaa.library.gallery.viewing import look_at_data
from store import StoreError
from store.looks import Look

if TYPE_CHECKING:
    from analysis.probing.heads import Head

MAX_PICTURE_BYTES = 64 * 2**20
MAX_PICTURE_PIXELS = 100_000_000
PRAISE, BLAME = "beautiful", "ugly"
WORDS_HEAD = f"{PRAISE}|{BLAME}"
"""The score that needs no ratings, beside the heads; no head can be called so."""
_N_PICTURES, _N_VECTORS = 16, 2000


@dataclass(frozen=True)
class Score:
    """Something to rank by."""

    name: str
    title: str
    about: str


def card_of(head: "Head") -> str:
    """What a head was fitted on, and how far it agrees with people on which photographs, in two sentences."""
    card = f"fitted on {head.origin}"
    on = [("photographs it had not seen", head.srcc)] if head.srcc is not None else []
    if on := [*on, *head.agreements]:
        told = ", ".join(f"{value:.2f} on {kind}" for kind, value in on)
        card += f". Agreement with people (1: the same order, 0: chance): {told}"
    return card


class Questions:
    """Answers about one gallery. Methods may be called from any thread and raise GalleryError."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._lock = threading.Lock()
        self._pictures: OrderedDict[str, tuple[Look, bytes]] = OrderedDict()
        self._vectors: OrderedDict[Any, np.ndarray] = OrderedDict()
        self._scores: dict[str, tuple[list[Piece], int, np.ndarray]] = {}

    def scores(self) -> list[Score]:
        """What can be ranked by: the heads for these vectors, then words of praise against words of blame."""
        gallery = self.gallery
        found = []
        if gallery.layout is not None:
            for name, head in self._heads().items():
                found.append(Score(name, name.replace("-", " ").replace("_", " "), card_of(head)))
        if gallery.backbone and not gallery.why_no_words:
            about = f'the words "a {PRAISE} picture" against "a {BLAME} picture"'
            found.append(Score(WORDS_HEAD, PRAISE, about))
        return found

    def by_score(self, name: str | None = None) -> Order:
        """By a head, or by the words of praise; by the first there is where none is named."""
        known = {score.name: score for score in self.scores()}
        if not known:
            raise GalleryError(
                "there is nothing to score by: no head fits these vectors, and no words can be read. "
                f"{self.gallery.why_no_words}", 409,
            )  # fmt: skip
        name = name or next(iter(known))
        if name == WORDS_HEAD and name in known:
            return self.by_words([PRAISE], [BLAME])
        if name not in known:
            raise GalleryError(f"there is no score {name!r}; there are: {', '.join(known)}")
        return order_by(known[name].title, "score", self._head_scores(self._heads()[name]))

    def by_words(self, high: Sequence[str], low: Sequence[str]) -> Order:
        """By words that praise against words that damn: mean cosine with the one side less that with the
        other, each word as "a [word] picture"."""
        from embed.prompts.sets import FIXED_TEMPLATE

        sides = [[word.strip() for word in dict.fromkeys(side) if word.strip()] for side in (high, low)]
        if not all(sides):
            raise GalleryError("give at least one word for each side, high and low", 400)
        if both := set(sides[0]) & set(sides[1]):
            raise GalleryError(f"{min(both)!r} is on both sides: it would say nothing", 400)
        matrix = self.gallery.matrix("embedding")
        vectors = self._words([*sides[0], *sides[1]], FIXED_TEMPLATE)
        cosines = matrix.cosines(vectors)
        n = len(sides[0])
        score = cosines[:, :n].mean(axis=1) - cosines[:, n:].mean(axis=1)
        title = f"{', '.join(sides[0])} against {', '.join(sides[1])}"
        return order_by(title, "score", score)

    def search(
        self, texts: Sequence[str] = (), like: Sequence[str] = (), pictures: Sequence[str] = ()
    ) -> Order:
        """By likeness to words, photographs of the gallery (keys) and pictures that were sent (tokens).

        One question alone: its cosine. Several: the mean of their cosines, each brought to mean 0 and
        standard deviation 1 over the gallery first (orders.mean_z). A photograph that is asked about is left
        out.
        """
        texts = [text.strip() for text in dict.fromkeys(texts) if text.strip()]
        rows = [self.gallery.row_of(key) for key in like]
        sent = [self.picture(token) for token in pictures]
        if not (texts or rows or sent):
            raise GalleryError("there is nothing to look for: give text, like or picture", 400)
        matrix = self.compared()
        vectors = self._words(texts, "{label}") if texts else []
        for key, row in zip(like, rows, strict=True):
            if not matrix.has[row]:
                raise GalleryError(f"photograph {key} has no vector to compare with (yet)", 409)
            vectors.append(matrix.rows[row])
        vectors += [self._picture_vector(matrix, look, data) for look, data in sent]
        cosines = matrix.cosines(vectors)
        n_left_out = int(np.isfinite(cosines[list(set(rows)), 0]).sum()) if rows else 0
        cosines[rows] = np.nan
        names = [f'"{text}"' for text in texts]
        names += ["a photograph"] * len(rows) + ["a picture"] * len(sent)
        if cosines.shape[1] == 1:
            return order_by(f"like {names[0]}", "cosine", cosines[:, 0], n_left_out)
        score = mean_z([cosines[:, n] for n in range(cosines.shape[1])])
        return order_by(f"like {' and '.join(names)}", "likeness", score, n_left_out)

    def by_sharpness(self) -> Order:
        """By sharpness, of the photographs whose thumbnail is made."""
        return order_by("sharpness", "sharpness", self.gallery.rows.sharpness)

    def send(self, data: bytes) -> tuple[str, Look]:
        """Keep a picture that was sent; the token by which it is asked for, and its look.

        The last few are kept in memory, and nothing on the disk.
        """
        try:
            look = self.gallery.viewers.call(look_at_data, data, MAX_PICTURE_PIXELS)
        except HelperDied as error:
            raise GalleryError(f"the picture cannot be used: {error}", 415) from error
        if look.problem:
            raise GalleryError(f"the picture cannot be used: {look.problem}", 415)
        token = hashlib.sha256(b"picture" + look.sha256).hexdigest()[:32]
        with self._lock:
            self._pictures[token] = look, data
            self._pictures.move_to_end(token)
            while len(self._pictures) > _N_PICTURES:
                self._pictures.popitem(last=False)
        return token, look

    def picture(self, token: str) -> tuple[Look, bytes]:
        """A picture that was sent, its look and its bytes."""
        with self._lock:
            if token not in self._pictures:
                raise GalleryError("that picture is no longer here: send it again")
            return self._pictures[token]

    def compared(self) -> Matrix:
        """The vectors that are compared: of the joint embedding where there is one."""
        outputs = self.gallery.outputs
        if not outputs:
            raise GalleryError("no photograph has been looked at yet; ask again in a while", 409)
        return self.gallery.matrix(min(outputs, key=lambda name: name != "embedding"))

    def _made_by(self) -> MadeBy:
        if self.gallery.made_by is None:
            raise GalleryError("no photograph has been looked at yet; ask again in a while", 409)
        return self.gallery.made_by

    def _words(self, words: Sequence[str], template: str) -> list[np.ndarray]:
        """Vectors of words, from memory where they were asked for before."""
        if why := self.gallery.why_no_words:
            raise GalleryError(why, 409)
        made_by = self._made_by()
        wanted = [(made_by.backbone, template, word) for word in words]
        missing = [word for key, word in zip(wanted, words, strict=True) if key not in self._vectors]
        if missing:
            vectors = self._encode(made_by, list(missing), template)
            for word, vector in zip(missing, vectors, strict=True):
                self._remember((made_by.backbone, template, word), vector)
        return [self._vectors[key] for key in wanted]

    def _picture_vector(self, matrix: Matrix, look: Look, data: bytes) -> np.ndarray:
        """The vector of a picture: of a copy of one that is there, that one's."""
        for row in self.gallery.rows.of_content(look.sha256):
            if matrix.has[row]:
                return np.asarray(matrix.rows[row])
        made_by = self._made_by()
        key = (made_by.backbone, matrix.output, look.sha256)
        if key not in self._vectors:
            with _asking():
                vector = self.gallery.encoder.call(encode_picture, made_by, matrix.output, data)
            self._remember(key, vector)
        return self._vectors[key]

    def _remember(self, key: Any, vector: np.ndarray) -> None:
        with self._lock:
            self._vectors[key] = vector
            while len(self._vectors) > _N_VECTORS:
                self._vectors.popitem(last=False)

    def _encode(self, made_by: MadeBy, words: list[str], template: str) -> np.ndarray:
        with _asking():
            return words_of(self.gallery.encoder, made_by, words, template)

    def _heads(self) -> dict[str, "Head"]:
        """The heads of the data root that are for these vectors, by name."""
        from analysis.probing.heads import HeadError, head_files, load_head

        gallery = self.gallery
        found: dict[str, Head] = {}
        if gallery.layout is None:
            return found
        for path in head_files(gallery.layout.root / "heads"):
            try:
                head = load_head(path)
            except HeadError:
                continue
            if head.backbone == gallery.backbone and head.output in gallery.outputs:
                found[head.name] = head
        return found

    def _head_scores(self, head: "Head") -> np.ndarray:
        """A head's score of every row, NaN for those without; kept, so that only new parts are scored."""
        from store.rows import unit_rows

        gallery = self.gallery
        with gallery.lock:
            pieces, n = gallery.pieces, len(gallery.rows)
            todo = list(pieces)
        of_pieces, n_done, scores = self._scores.get(head.name, (pieces, 0, np.full(n, np.nan)))
        if of_pieces is not pieces:  # another feature file
            n_done, scores = 0, np.full(n, np.nan)
        for piece in todo[n_done:]:
            try:
                for row, raw in piece.blocks(head.output):
                    scores[row] = head.score(unit_rows(raw) if head.unit_norm else raw)
            except StoreError:  # joined meanwhile
                continue
        scores[~np.isfinite(scores)] = np.nan
        self._scores[head.name] = pieces, len(todo), scores
        return gallery.matrix(head.output).tied(scores)


@contextmanager
def _asking() -> Iterator[None]:
    """What goes wrong while something is encoded, as GalleryError."""
    try:
        yield
    except HelperDied as error:
        raise GalleryError(f"this cannot be compared: {error}", 503) from error
    except (UsageError, StoreError) as error:
        raise GalleryError(str(error), 409) from error
    except ValueError as error:
        raise GalleryError(str(error), 400) from error
