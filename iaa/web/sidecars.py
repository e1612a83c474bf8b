"""Stars of other programs over HTTP, and ours for them: sidecars are read and written, photographs never."""

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from iaa.library.gallery.gallery import Gallery
from iaa.library.gallery.questions import Questions
from iaa.library.gallery.sidecars import read_sidecars, write_sidecars
from iaa.web import answers
from iaa.web.responses import Json, Responses

_CANNOT: Responses = {code: {"model": answers.Problem} for code in (404, 409)}


class Reading(BaseModel):
    """Whether to do it."""

    do: bool = Field(False, description="Without, it is only said what would be done.")


class Writing(Reading):
    """Whose stars, and whether to do it."""

    head: str | None = Field(None, description="Stars by this head's percentiles. Without: your own.")


class Told(BaseModel):
    """What was done, or would be."""

    done: bool
    problems: list[str] = Field(description="Files that are left as they are, and why.")


class WasRead(Told):
    """What other programs said."""

    act: int = Field(description="By which it can be undone; 0 for nothing.")
    n_found: int = Field(description="Photographs that people rated elsewhere.")
    n_new: int = Field(description="Ratings that are not known here, or are others.")
    n_conflicts: int = Field(description="Photographs of which two places say different things: left out.")


class WasWritten(Told):
    """What became of the sidecars."""

    n_new: int
    n_changed: int
    n_same: int
    n_kept: int = Field(description="Those where a person's rating stands, which is never replaced.")


def add(app: FastAPI, gallery: Gallery, questions: Questions) -> None:
    """Add the routes."""

    @app.post("/api/read_sidecars", response_model=WasRead, responses=_CANNOT)
    def read(asked: Reading) -> Response:
        """Take over stars and rejects from sidecars and from inside photographs (`iaa xmp read`)."""
        return Json(read_sidecars(gallery, asked.do))

    @app.post("/api/write_sidecars", response_model=WasWritten, responses=_CANNOT)
    def write(asked: Writing) -> Response:
        """Put stars into sidecars beside the photographs (`iaa xmp write`); what else is in them stays."""
        return Json(write_sidecars(gallery, questions, asked.head, asked.do))
