"""Rating over HTTP: stars, flags and comparisons in, what they are worth and what to rate next out."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, Field

from iaa.library.gallery.learning import Learning
from iaa.web import answers
from iaa.web.responses import Json, Responses

_CANNOT: Responses = {code: {"model": answers.Problem} for code in (400, 404, 409, 507)}


class Said(BaseModel):
    """A rating of one photograph, or the same of several, kept and undone together."""

    key: str = ""
    keys: list[str] = Field([], max_length=100_000, description="Instead of `key`: several.")
    kind: Literal["stars", "flag", "pair"]
    value: float = Field(
        description="stars: 1 to 5, 0 takes them back; flag: 1 picked, -1 rejected, 0 neither; pair: 1 `key` "
        "is better, -1 `other` is, 0 they are equal"
    )
    other: str | None = Field(None, description="Of a pair, the key of the second photograph.")


class Act(BaseModel):
    """What to undo."""

    act: int | None = Field(None, description="As the rating answered; without it, what was said last.")


class Counts(BaseModel):
    """How much was said."""

    n_stars: int
    n_flags: int
    n_pairs: int
    last: int = Field(description="Changes with every rating, in whichever window it was given.")


class Kept(Counts):
    """A rating is on the disk."""

    act: int
    stars: float = Field(description="What now holds of the first photograph, and so for `flag`.")
    flag: int


class Undone(Counts):
    """What was taken back."""

    undone: int
    keys: list[str]


class Held(Counts):
    """What holds now, row by row of the list."""

    version: str
    listing: str
    rater: str
    stars: list[float]
    flag: list[int]


class Next(BaseModel):
    """What to rate next."""

    version: str
    listing: str
    keys: list[str] = Field(description="No two of one group, none that is rated.")
    pair: list[str] = Field(description="Two to compare; empty where there are not two.")
    pairs: list[list[str]] = Field(description="That pair and others, no photograph twice.")


class Taste(Counts):
    """What the ratings are worth."""

    rater: str
    phase: Literal["too few", "working", "ready"]
    sentence: str
    is_better: bool
    n_more: int | None = Field(
        description="About how many more ratings until it is better; null: not in sight."
    )
    error: float | None = Field(description="Of the expected stars of one photograph.")
    n_measured: int = Field(description="Ratings that this was measured on; may be fewer than there are.")
    rows: list[dict[str, Any]] = Field(description="question, by, value, low, high, n.")


def add(app: FastAPI, learning: Learning) -> None:
    """Add the routes."""

    @app.post("/api/ratings", response_model=Kept, responses=_CANNOT)
    def rate(said: Said) -> Response:
        """Rate photographs, or compare two. It is on the disk when this answers: all of it, or none."""
        return Json(learning.rate(said.keys or [said.key], said.kind, said.value, said.other))

    @app.post("/api/undo", response_model=Undone, responses=_CANNOT)
    def undo(given: Act | None = None) -> Response:
        """Take back the last rating, or the one of an act; again, and the one before that goes."""
        return Json(learning.undo(given.act if given else None))

    @app.get("/api/ratings", response_model=Held, responses=_CANNOT)
    def ratings() -> Response:
        """Stars and flags that hold now."""
        return Json(learning.ratings())

    @app.get("/api/next", response_model=Next, responses=_CANNOT)
    def next_(
        n: Annotated[int, Query(ge=1, le=60)] = 20,
        turn: Annotated[int, Query(ge=0, le=2**31, description="Another number: another pair first.")] = 0,
    ) -> Response:
        """Photographs to rate next, of every kind that is there, and pairs of them to compare. The answer is
        the same until something is rated, or more is known of photographs and groups; to pass a pair over, or
        not to be asked what another window is asked, give another `turn`."""
        return Json(learning.next(n, turn))

    @app.get("/api/taste", response_model=Taste, responses=_CANNOT)
    def taste() -> Response:
        """What the ratings are worth so far, on ratings that were held back."""
        return Json(learning.worth())
