"""Photographs one by one: thumbnails, pictures, facts; and pictures that are sent to search by."""

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response

from iaa.library.gallery.facts import facts_of
from iaa.library.gallery.gallery import Gallery, GalleryError
from iaa.library.gallery.grouping import Grouping
from iaa.library.gallery.questions import Questions
from iaa.library.gallery.vocabulary import Vocabulary
from iaa.web import answers
from iaa.web.responses import ASK_AGAIN, FOREVER, Json, Responses, tagged

_NONE: Responses = {404: {"model": answers.Problem}}
_JPEG: Responses = {200: {"content": {"image/jpeg": {}}}, **_NONE}


def add(app: FastAPI, gallery: Gallery, questions: Questions, grouping: Grouping) -> None:
    """Add the routes."""
    vocabulary = Vocabulary(gallery)

    @app.get("/api/photographs/{key}", response_model=answers.Facts, responses=_NONE)
    def facts(key: str) -> Response:
        """Everything that is known of a photograph."""
        row = gallery.row_of(key)
        return Json(
            {**facts_of(gallery, row), "words": vocabulary.words_of(row), "group": grouping.group_of(row)}
        )

    @app.get("/api/photographs/{key}/thumbnail", response_class=Response, responses=_JPEG)
    def thumbnail(key: str, v: str = "") -> Response:
        """A JPEG with a long edge of 480 pixels, upright. With the `thumb` of the list as `v` it may be kept
        for good."""
        row = gallery.row_of(key)
        look = gallery.look(row)
        if not look.jpeg:
            raise GalleryError(look.problem or "there is no thumbnail of this photograph")
        caching = FOREVER if v and v == gallery.rows.thumb_version(row) else ASK_AGAIN
        return Response(look.jpeg, media_type="image/jpeg", headers={"cache-control": caching})

    @app.get("/api/photographs/{key}/picture", response_class=Response, responses=_JPEG)
    def picture(key: str, request: Request, edge: Annotated[int, Query(ge=0, le=16384)] = 2048) -> Response:
        """The picture, upright, with a long edge of at most `edge` pixels; 0: at its full size, the file's
        own bytes where every browser shows them."""
        found = gallery.picture(gallery.row_of(key), edge)
        if found.problem:
            raise GalleryError(found.problem)
        return tagged(request, found.data, found.media_type)

    @app.post(
        "/api/pictures",
        response_model=answers.Sent,
        responses={413: {"model": answers.Problem}, 415: {"model": answers.Problem}},
        openapi_extra={"requestBody": {"content": {"application/octet-stream": {}}, "required": True}},
    )
    async def send(request: Request) -> Response:
        """Send a picture, as the bytes of its file, to search by it. It is kept in memory for a while, and
        nowhere else."""
        from starlette.concurrency import run_in_threadpool

        token, look = await run_in_threadpool(questions.send, await request.body())
        return Json({"token": token, "width": look.width, "height": look.height})

    @app.get("/api/pictures/{token}", response_class=Response, responses=_JPEG)
    def sent(token: str) -> Response:
        """The thumbnail of a picture that was sent."""
        look, _ = questions.picture(token)
        return Response(look.jpeg, media_type="image/jpeg", headers={"cache-control": ASK_AGAIN})
