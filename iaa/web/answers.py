"""What the HTTP API answers with, for its documentation: lists of equal length, one entry per photograph."""

from typing import Literal

from pydantic import BaseModel, Field

Phase = Literal["listing", "starting", "embedding", "ready", "stopped", "failed"]


class Problem(BaseModel):
    """Every error: what is wrong, where, what to do."""

    detail: str


class Score(BaseModel):
    """Something to rank by."""

    name: str
    title: str
    about: str


class Details(BaseModel):
    """What the photographs were looked at with, for those who want to know."""

    backbone: str
    output: str
    dataset: str
    features: str
    digest: str


class Library(BaseModel):
    """The library as a whole."""

    name: str = Field(description="The data set, as `iaa --dataset` calls it.")
    title: str
    n: int
    version: str = Field(description="Changes with any news.")
    listing: str = Field(description="Changes when rows mean other photographs.")
    words: bool = Field(description="Whether it can be searched by words.")
    why_no_words: str
    heads: list[Score]
    default_order: Literal["score", "time", "name"]
    default_head: str | None
    folder: str
    details: Details
    copies_folder: str
    can_reveal: bool = Field(description="Whether a photograph can be shown in the file manager.")


class State(BaseModel):
    """What is going on; ask once a second while it is busy."""

    phase: Phase
    message: str
    done: int
    total: int
    failed: int
    rate: float = Field(description="Photographs per second.")
    seconds_left: float | None
    version: str
    listing: str
    thumbnails: int = Field(description="How many photographs have a thumbnail.")


class Photographs(BaseModel):
    """The list, column by column; a row's number is its place in each of them."""

    version: str
    listing: str
    key: list[str] = Field(description="By which a photograph is asked for; never a path.")
    name: list[str]
    folder: list[str] = Field(description="Below the library's folder; '' at its top.")
    ending: list[str]
    width: list[int] = Field(description="Pixels of the upright picture, 0 while nobody knows.")
    height: list[int]
    taken: list[float | None] = Field(description="Seconds from 1970 by the camera's own clock.")
    colour: list[str] = Field(description="Mean colour, #rrggbb.")
    state: list[Literal["ok", "waiting", "failed"]]
    reason: list[str]
    sharpness: list[float | None]
    thumb: list[str] = Field(description="For `?v=`: changes when the file does.")


class Order(BaseModel):
    """Photographs best first."""

    version: str
    listing: str
    title: str
    score_name: str = Field(description="score, cosine (of one question), likeness (of several) or sharpness")
    rows: list[int]
    score: list[float]
    percentile: list[float] = Field(description="100 for the best, 0 for the worst.")
    n_without: int = Field(description="Photographs that have no score (yet) and stand in no place.")


class Working(BaseModel):
    """The answer is being made: ask again in a second."""

    phase: Literal["working"]
    message: str


class Points(BaseModel):
    """Photographs as points of a plane, 0 to 1 each way; those without a vector are left out."""

    version: str
    listing: str
    rows: list[int]
    x: list[float]
    y: list[float]


class Group(BaseModel):
    """Photographs that belong together."""

    id: str
    kind: Literal["copies", "near", "burst", "bracket", "panorama"]
    rows: list[int] = Field(
        description="The suggested best first; of brackets and panoramas in order of time."
    )
    ranked: bool


class Groups(BaseModel):
    """All groups of the library; a photograph is in one of them at most."""

    version: str
    listing: str
    threshold: float = Field(description="Cosine from which on two photographs are near-duplicates.")
    groups: list[Group]


class Word(BaseModel):
    """A content word that fits a photograph."""

    text: str
    cosine: float
    percentile: float = Field(description="Of that cosine among all photographs.")


class Facts(BaseModel):
    """Everything that is known of a photograph; null where something is not."""

    key: str
    name: str
    file: str = Field(description="Below the library's folder.")
    size_bytes: int | None = Field(description="null where the file is no longer there.")
    width: int
    height: int
    taken: float | None
    camera: str | None
    lens: str | None
    exposure: float | None = Field(description="Seconds.")
    aperture: float | None
    iso: float | None
    focal: float | None = Field(description="Millimetres, as engraved.")
    bias: float | None = Field(description="Exposure compensation in EV.")
    state: Literal["ok", "waiting", "failed"]
    reason: str
    changed: bool = Field(description="The file is another one than when it was listed, or gone.")
    words: list[Word]
    group: str | None
    exact_copies: list[str] = Field(description="Keys of photographs whose files have the same bytes.")


class Sent(BaseModel):
    """A picture that was sent."""

    token: str
    width: int
    height: int


class Keys(BaseModel):
    """Some photographs."""

    keys: list[str] = Field(max_length=1_000_000)


class Copy(Keys):
    """Some photographs, and a name for the folder of their copies."""

    name: str = Field(min_length=1, max_length=120)


class Table(Keys):
    """Some photographs, and an order whose scores are told, as /api/order is asked: `by=score`."""

    order: str = Field(default="", max_length=100_000)


class Copied(BaseModel):
    """Where the copies are."""

    folder: str
    n: int


class Done(BaseModel):
    """It is done."""

    done: bool
