"""The application: a gallery as a page and an HTTP API."""

import importlib.metadata

from fastapi import FastAPI, Request, Response

from iaa.library.gallery.gallery import GalleryError
from iaa.library.gallery.grouping import Grouping
from iaa.library.gallery.keeping import Keeper
from iaa.library.gallery.learning import Learning
from iaa.library.gallery.questions import Questions
from iaa.web import actions, answers, library, page, pictures, ratings, sidecars
from iaa.web.responses import Json
from iaa.web.security import BodyTooLargeError, Door, Guard

DISTRIBUTION = "image-aesthetics-store"


def create_app(keeper: Keeper, door: Door, is_local: bool = True) -> FastAPI:
    """The application around a gallery; `door` says who is let in. `is_local`: whoever looks at the page sits
    at this machine."""
    gallery = keeper.gallery
    questions = Questions(gallery)
    grouping = Grouping(gallery, questions)
    learning = Learning(gallery, questions, grouping)
    app = FastAPI(
        title="image-aesthetics-store: a photo library",
        version=importlib.metadata.version(DISTRIBUTION),
        description="See, search and rank a library of photographs. Programs send the token that was "
        "printed at the start: `Authorization: Bearer TOKEN`.",
        docs_url=None,
        redoc_url=None,
        responses={code: {"model": answers.Problem} for code in (400, 401, 403)},
    )

    @app.exception_handler(GalleryError)
    def refuse(request: Request, error: GalleryError) -> Response:
        return Json({"detail": str(error)}, error.code)

    @app.exception_handler(BodyTooLargeError)
    def too_large(request: Request, error: BodyTooLargeError) -> Response:
        return Json({"detail": "that is too much to send"}, 413)

    page.add(app, gallery)
    library.add(app, gallery, questions, grouping, learning, is_local)
    ratings.add(app, learning)
    sidecars.add(app, gallery, questions)
    pictures.add(app, gallery, questions, grouping)
    actions.add(app, keeper, questions, learning, is_local)
    app.add_middleware(Guard, door=door)
    return app
