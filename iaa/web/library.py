"""The library as a whole: its list, its orders, its groups, its map."""

from typing import Annotated, Literal

import numpy as np
from fastapi import FastAPI, Query, Response

from analysis.plane import plane
from iaa.library.gallery.gallery import Gallery
from iaa.library.gallery.grouping import Grouping
from iaa.library.gallery.jobs import Job
from iaa.library.gallery.learning import Learning
from iaa.library.gallery.questions import Questions
from iaa.web import answers
from iaa.web.responses import Json, Responses

_OLD_LIST: Responses = {409: {"model": answers.Problem}}
_WORKING: Responses = {202: {"model": answers.Working}, **_OLD_LIST}


def add(
    app: FastAPI,
    gallery: Gallery,
    questions: Questions,
    grouping: Grouping,
    learning: Learning,
    is_local: bool,
) -> None:
    """Add the routes."""

    @app.get("/api/library", response_model=answers.Library)
    def library() -> Response:
        """What library this is, and what can be asked of it."""
        heads = questions.scores()
        has_times = bool(np.isfinite(gallery.rows.taken).any())
        made_by, outputs = gallery.made_by, gallery.outputs
        details = {
            "backbone": gallery.backbone,
            "output": min(outputs, key=lambda name: name != "embedding", default=""),
            "dataset": gallery.name,
            "features": "" if made_by is None else str(made_by.path),
            "digest": gallery.digest,
        }
        return Json(
            {
                "name": gallery.name,
                "title": gallery.title,
                "n": len(gallery),
                **gallery.versions,
                "words": not gallery.why_no_words,
                "why_no_words": gallery.why_no_words,
                "heads": [vars(head) for head in heads],
                "default_order": "score" if heads else "time" if has_times else "name",
                "default_head": heads[0].name if heads else None,
                "folder": gallery.folder,
                "details": details,
                "copies_folder": str(gallery.copies_folder),
                "can_reveal": is_local,
            }
        )

    @app.get("/api/state", response_model=answers.State)
    def state() -> Response:
        """What is going on."""
        n_seen = int(np.count_nonzero(gallery.rows.has_look))
        return Json({**vars(gallery.state), **gallery.versions, "thumbnails": n_seen})

    @app.get("/api/photographs", response_model=answers.Photographs)
    def photographs() -> Response:
        """The whole list, column by column."""
        return Json(gallery.columns())

    @app.get("/api/order", response_model=answers.Order, responses=_OLD_LIST)
    def order(
        by: Literal["score", "taste", "words", "search", "sharpness"],
        head: str | None = None,
        high: Annotated[list[str] | None, Query(max_length=20)] = None,
        low: Annotated[list[str] | None, Query(max_length=20)] = None,
        text: Annotated[list[str] | None, Query(max_length=20)] = None,
        like: Annotated[list[str] | None, Query(max_length=20)] = None,
        picture: Annotated[list[str] | None, Query(max_length=20)] = None,
        version: str | None = None,
    ) -> Response:
        """The photographs best first. `by=score` with a `head` of the library; `by=taste` by what was
        learned from ratings; `by=words` with words of
        praise (`high`) and blame (`low`); `by=search` with any number of `text`, `like` (keys) and `picture`
        (tokens of pictures that were sent), which refine each other: the score is the cosine of one question
        alone, and of several the mean of their cosines, each first brought to mean 0 and standard deviation 1
        over the library.
        """
        gallery.check_version(version)
        versions = gallery.versions
        if by == "score":
            found = questions.by_score(head)
        elif by == "words":
            found = questions.by_words(high or [], low or [])
        elif by == "taste":
            found = learning.order()
        elif by == "search":
            found = questions.search(text or [], like or [], picture or [])
        else:
            found = questions.by_sharpness()
        percentile = found.percentile.astype(np.float32)  # half as long to send
        return Json({**versions, **vars(found), "percentile": percentile})

    @app.get("/api/groups", response_model=answers.Groups, responses=_WORKING)
    def groups(version: str | None = None) -> Response:
        """Photographs that belong together: copies, near-duplicates, bursts, brackets, panoramas. 202 while
        the first ones are made; while photographs are still being embedded, the groups of a while ago."""
        gallery.check_version(version)
        versions = gallery.versions
        found = grouping.groups()
        if found is None:
            return Json({"phase": "working", "message": "looking for groups"}, 202)
        return Json({**versions, "threshold": found.threshold, "groups": found.groups})

    def make_map() -> tuple[np.ndarray, np.ndarray]:
        matrix = questions.compared()
        has = matrix.has.copy()
        return np.flatnonzero(has), plane(matrix.rows, has)

    map_job = Job(make_map)

    @app.get("/api/map", response_model=answers.Points, responses=_WORKING)
    def map_(version: str | None = None) -> Response:
        """The photographs as points of a plane in which alike ones lie close: the two directions in which
        their vectors differ most (PCA). 202 while it is made."""
        gallery.check_version(version)
        versions = gallery.versions
        found = map_job.ask(gallery.vectors_version)
        if found is None:
            return Json({"phase": "working", "message": "drawing the map"}, 202)
        rows, places = found
        x, y = np.ascontiguousarray(places.T.astype(np.float32))
        return Json({**versions, "rows": rows, "x": x, "y": y})
