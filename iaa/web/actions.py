"""What a page may do besides looking: take photographs along, and pause what works behind it. No original is
ever moved, renamed, changed or deleted."""

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Body, FastAPI, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from iaa.library.gallery.gallery import GalleryError
from iaa.library.gallery.handing import copy_files, csv_of, reveal, zip_files
from iaa.library.gallery.keeping import Keeper
from iaa.library.gallery.learning import Learning
from iaa.library.gallery.orders import Order
from iaa.library.gallery.questions import Questions
from iaa.library.gallery.rows import shown
from iaa.web import answers
from iaa.web.responses import Json, Responses

_CANNOT: Responses = {code: {"model": answers.Problem} for code in (404, 409, 507)}


def add(app: FastAPI, keeper: Keeper, questions: Questions, learning: Learning, is_local: bool) -> None:
    """Add the routes."""
    gallery = keeper.gallery

    def rows_of(keys: list[str]) -> list[int]:
        return [gallery.row_of(key) for key in dict.fromkeys(keys)]

    @app.post("/api/copy", response_model=answers.Copied, responses=_CANNOT)
    def copy(asked: answers.Copy) -> Response:
        """Copy files into a new folder below the library's folder of copies, complete or not at all. Nothing
        is ever replaced."""
        rows = rows_of(asked.keys)
        folder = copy_files(gallery, rows, asked.name)
        return Json({"folder": shown(str(folder)), "n": len(rows)})

    @app.post("/api/csv", response_class=PlainTextResponse, responses={200: {"content": {"text/csv": {}}}})
    def csv(asked: answers.Table) -> Response:
        """A table of photographs with what is known of them, and the score of an order, in this order."""
        rows = rows_of(asked.keys)
        text = csv_of(gallery, rows, columns_of(asked.order) if asked.order else {})
        return Response(
            text.encode(), media_type="text/csv; charset=utf-8", headers=_download("photographs.csv")
        )

    def columns_of(query: str) -> dict[str, dict[int, float]]:
        found = order_of(query)
        return {
            found.score_name: dict(zip(found.rows.tolist(), found.score.tolist(), strict=True)),
            "percentile": dict(zip(found.rows.tolist(), found.percentile.tolist(), strict=True)),
        }

    def order_of(query: str) -> Order:
        asked = parse_qs(query.removeprefix("?"))
        by = asked.get("by", [""])[0]
        if by == "score":
            return questions.by_score(asked.get("head", [None])[0])
        if by == "words":
            return questions.by_words(asked.get("high", []), asked.get("low", []))
        if by == "search":
            return questions.search(*(asked.get(name, []) for name in ("text", "like", "picture")))
        if by == "taste":
            return learning.order()
        if by == "sharpness":
            return questions.by_sharpness()
        raise GalleryError(f"order is the query of /api/order, such as by=score, not {query[:80]!r}", 400)

    @app.post(
        "/api/zip", response_class=StreamingResponse, responses={200: {"content": {"application/zip": {}}}}
    )
    def zip_(asked: answers.Keys) -> Response:
        """The files as they are, in a zip that is made as it is sent."""
        rows = rows_of(asked.keys)
        if not rows:
            raise GalleryError("nothing is selected", 400)
        return StreamingResponse(
            zip_files(gallery, rows), media_type="application/zip", headers=_download("photographs.zip")
        )

    @app.post("/api/reveal", response_model=answers.Done, responses=_CANNOT)
    def reveal_(key: Annotated[str, Body(embed=True)]) -> Response:
        """Show a photograph in the file manager of the machine that this runs on."""
        if not is_local:
            raise GalleryError("that would open a window on another machine than yours", 403)
        reveal(gallery, gallery.row_of(key))
        return Json({"done": True})

    @app.post("/api/stop", response_model=answers.Done)
    def stop() -> Response:
        """Pause embedding; what is finished is kept."""
        keeper.pause()
        return Json({"done": True})

    @app.post("/api/start", response_model=answers.Done)
    def start() -> Response:
        """Go on with embedding; photographs that came or changed since are found, too."""
        keeper.go_on()
        return Json({"done": True})


def _download(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
