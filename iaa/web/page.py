"""The page and its own files, each asked for by its exact name; and the documentation of the API."""

import importlib.metadata
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader

from iaa.library.gallery.gallery import Gallery
from iaa.web.responses import tagged

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


def add(app: FastAPI, gallery: Gallery) -> None:
    """Add the routes."""
    templates = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True)
    folder = _HERE / "static"
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        version = importlib.metadata.version("image-aesthetics-store")
        return HTMLResponse(templates.get_template("page.html").render(title=gallery.title, version=version))

    @app.get("/static/{name:path}", include_in_schema=False)
    def static(name: str, request: Request) -> Response:
        path = files.get(name)
        if path is None:
            raise HTTPException(404, "there is no such file")
        return tagged(request, path.read_bytes(), _TYPES.get(path.suffix, "application/octet-stream"))

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        """What can be asked, as a plain page: the usual viewers come from other people's servers."""
        return HTMLResponse(templates.get_template("docs.html").render(api=app.openapi()))
