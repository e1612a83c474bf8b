"""The application: a gallery as a page and an HTTP API."""

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader

from iaa.library.gallery.gallery import Gallery, GalleryError
from iaa.library.gallery.keeping import Keeper
from iaa.library.gallery.questions import Questions
from iaa.web import answers
from iaa.web.security import BodyTooLargeError, Door, Guard

FOREVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"
_HERE = Path(__file__).parent
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}


class Json(Response):
    """JSON, of numpy's arrays, too: lists of 100,000 numbers in a few milliseconds. NaN becomes null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def create_app(keeper: Keeper, door: Door) -> FastAPI:
    """The application around a gallery; `door` says who is let in."""
    gallery = keeper.gallery
    questions = Questions(gallery)
    app = FastAPI(
        title="image-aesthetics-store: a photo library",
        version=importlib.metadata.version("image-aesthetics-store"),
        description="Search, rank and look at a library of photographs. Programs send the token that was "
        "printed at the start as `Authorization: Bearer TOKEN`.",
        docs_url=None,
        redoc_url=None,
        responses={400: {"model": answers.Problem}, 401: {"model": answers.Problem}},
    )
    app.add_middleware(Guard, door=door)

    @app.exception_handler(GalleryError)
    async def refuse(request: Request, error: GalleryError) -> Response:
        return Json({"detail": str(error)}, error.code)

    @app.exception_handler(BodyTooLargeError)
    async def too_large(request: Request, error: BodyTooLargeError) -> Response:
        return Json({"detail": "that is too much to send"}, 413)

    add_page(app, gallery)
    add_library(app, gallery, questions)
    add_pictures(app, gallery)
    return app


def add_page(app: FastAPI, gallery: Gallery) -> None:
    """The page and its own files, each by its exact name."""
    pages = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True)
    folder = _HERE / "static"
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        version = importlib.metadata.version("image-aesthetics-store")
        return HTMLResponse(pages.get_template("page.html").render(title=gallery.title, version=version))

    @app.get("/static/{name:path}", include_in_schema=False)
    def static(name: str, request: Request) -> Response:
        path = files.get(name)
        if path is None:
            raise HTTPException(404, "there is no such file")
        data = path.read_bytes()
        return _tagged(request, data, _TYPES.get(path.suffix, "application/octet-stream"))


def add_library(app: FastAPI, gallery: Gallery, questions: Questions) -> None:
    """The library as a whole, its list, its orders."""

    @app.get("/api/library", response_model=answers.Library)
    def library() -> Response:
        """What library this is, and what can be asked of it."""
        heads = questions.scores()
        has_times = bool((gallery.rows.taken == gallery.rows.taken).any())
        made_by = gallery.made_by
        return Json(
            {
                "name": gallery.name,
                "title": gallery.title,
                "n": len(gallery),
                "version": gallery.version,
                "words": not gallery.why_no_words,
                "why_no_words": gallery.why_no_words,
                "heads": [vars(head) for head in heads],
                "default_order": "score" if heads else "time" if has_times else "name",
                "default_head": heads[0].name if heads else None,
                "folder": gallery.folder,
                "details": {
                    "backbone": gallery.backbone,
                    "output": min(gallery.outputs, key=lambda name: name != "embedding", default=""),
                    "dataset": gallery.name,
                    "features": "" if made_by is None else str(made_by.path),
                    "digest": gallery.digest,
                },
                "copies_folder": str(gallery.copies_folder),
            }
        )

    @app.get("/api/state", response_model=answers.State)
    def state() -> Response:
        """What is going on."""
        rows = gallery.rows
        return Json(
            {**vars(gallery.state), "version": gallery.version, "thumbnails": int(rows.has_look.sum())}
        )

    @app.get("/api/photographs", response_model=answers.Photographs)
    def photographs() -> Response:
        """The whole list, column by column."""
        return Json(gallery.columns())

    @app.get("/api/order", response_model=answers.Order, responses={409: {"model": answers.Problem}})
    def order(
        by: Literal["score", "words", "search", "sharpness"],
        head: str | None = None,
        high: Annotated[list[str] | None, Query()] = None,
        low: Annotated[list[str] | None, Query()] = None,
        text: Annotated[str, Query(max_length=2000)] = "",
        like: Annotated[list[str] | None, Query(max_length=20)] = None,
        picture: Annotated[list[str] | None, Query(max_length=20)] = None,
        version: str | None = None,
    ) -> Response:
        """The photographs best first. Several questions of one search refine each other: the mean of their
        cosines, each first brought to mean 0 and standard deviation 1 over the library."""
        gallery.check_version(version)
        if by == "score":
            found = questions.by_score(head)
        elif by == "words":
            found = questions.by_words(high or [], low or [])
        elif by == "search":
            found = questions.search(text, like or [], picture or [])
        else:
            found = questions.by_sharpness()
        return Json({"version": gallery.version, **vars(found)})


def add_pictures(app: FastAPI, gallery: Gallery) -> None:
    """Thumbnails and pictures."""

    @app.get(
        "/api/photographs/{key}/thumbnail",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, 404: {"model": answers.Problem}},
    )
    def thumbnail(key: str, v: str = "") -> Response:
        """A JPEG with a long edge of 480 pixels, upright. With the `thumb` of the list as `v` it may be kept
        for good."""
        row = gallery.row_of(key)
        look = gallery.look(row)
        if not look.jpeg:
            raise GalleryError(look.problem or "there is no thumbnail of this photograph")
        caching = FOREVER if v and v == gallery.rows.thumb_version(row) else ASK_AGAIN
        return Response(look.jpeg, media_type="image/jpeg", headers={"cache-control": caching})

    @app.get(
        "/api/photographs/{key}/picture",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, 404: {"model": answers.Problem}},
    )
    def picture(key: str, request: Request, edge: Annotated[int, Query(ge=0, le=16384)] = 2048) -> Response:
        """The picture, upright, with a long edge of at most `edge` pixels; 0: at its full size, the file's own
        bytes where every browser shows them."""
        found = gallery.picture(gallery.row_of(key), edge)
        if found.problem:
            raise GalleryError(found.problem)
        return _tagged(request, found.data, found.media_type)


def _tagged(request: Request, data: bytes, kind: str) -> Response:
    """A file that a browser keeps and asks about: 304 where it is still the same."""
    tag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
    headers = {"etag": tag, "cache-control": ASK_AGAIN}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)
