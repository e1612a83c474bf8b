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
    version: str = Field(
        description="Changes with the list and the photographs' states. What stands before the point names the "
        "list: rows keep their meaning as long as that is the same."
    )
    words: bool = Field(description="Whether it can be searched by words.")
    why_no_words: str
    heads: list[Score]
    default_order: Literal["score", "time", "name"]
    default_head: str | None
    folder: str
    details: Details
    copies_folder: str


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
    thumbnails: int = Field(description="How many photographs have a thumbnail.")


class Photographs(BaseModel):
    """The list, column by column; a row's number is its place in each of them."""

    version: str
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
    title: str
    score_name: str
    rows: list[int]
    score: list[float]
    percentile: list[float] = Field(description="100 for the best, 0 for the worst.")
    n_without: int = Field(description="Photographs that have no score (yet) and stand in no place.")
