"""A small library, embedded once, behind a real server on a real port; a client that speaks plain HTTP."""

import http.client
import io
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iaa.library.dataset import add_dataset
from iaa.library.gallery.gallery import Settings
from tests.iaa.conftest import invoke

__all__ = ["invoke"]

pytest.importorskip("fastapi", reason="the page needs the extra [web]")

TAKEN = "2021:07:03 10:11:12"
HOSTILE = '<img src=x onerror="alert(1)">.jpg'
FAILED = "broken.jpg"
TOKEN = "a-token-of-the-tests"


@dataclass
class Answer:
    """What the server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Client:
    """Requests with exactly the headers given, and by default the token."""

    port: int
    token: str = TOKEN
    headers: dict = field(default_factory=dict)

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        given = {"Authorization": f"Bearer {self.token}", **self.headers, **headers}
        given = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, body, **headers):
        return self.ask("POST", path, body, **headers)

    def key(self, name):
        """Key of the photograph of this file name."""
        listed = self.get("/api/photographs").json
        return listed["key"][listed["name"].index(name)]

    def until(self, *phases, seconds=120):
        """The state, once it is one of these phases."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.get("/api/state").json
            if state["phase"] in phases:
                return state
            time.sleep(0.1)
        raise AssertionError(f"not {phases} but {state}")


def jpeg(seed, size=(300, 200), **how):
    """A picture of a few soft shapes, as a JPEG."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90, **how)
    return buffer.getvalue()


def exif(orientation=1):
    """EXIF of a camera, as bytes."""
    tags = Image.Exif()
    tags[0x0110], tags[0x0112], tags[0x0132] = "A Camera", orientation, TAKEN
    return tags.tobytes()


def make_photographs(folder: Path, n: int = 8) -> Path:
    """A folder of photographs, some of them awkward."""
    (folder / "lake").mkdir(parents=True)
    for i in range(n):
        (folder / f"img{i}.jpg").write_bytes(jpeg(i))
    (folder / "copy.jpg").write_bytes(jpeg(0))
    (folder / "lake" / "turned.jpg").write_bytes(jpeg(50, exif=exif(6)))
    (folder / "large.jpg").write_bytes(jpeg(51, (1600, 1000), exif=exif()))
    (folder / FAILED).write_bytes(jpeg(52)[:900])
    if os.name == "posix":
        (folder / HOSTILE).write_bytes(jpeg(53))
    return folder


@pytest.fixture(scope="session")
def embedded(tmp_path_factory):
    """Data root with the data set `mine`, embedded by a tiny backbone that reads words; thumbnails made."""
    root = tmp_path_factory.mktemp("library")
    photographs = make_photographs(root / "photographs")
    add_dataset("mine", "folder", photographs, data=root / "data").embed("demo_clip", thumbnails=True)
    return root


@pytest.fixture
def open_page():
    """Starts servers: the client of each, after the gallery has been listed."""
    from iaa.web.serving import Page

    pages = []

    def start(settings, **how):
        page = Page(settings, token=TOKEN, **how)
        thread = threading.Thread(target=page.run, daemon=True)
        thread.start()
        pages.append((page, thread))
        client = Client(page.address.port)
        client.until("ready", "starting", "embedding", "failed", "stopped")
        return client

    yield start
    for page, thread in pages:
        page.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def client(embedded):
    """A client of a server that looks at `mine` and embeds nothing."""
    from iaa.web.serving import Page

    page = Page(Settings(embedded / "data", "mine", is_embedding=False), token=TOKEN)
    thread = threading.Thread(target=page.run, daemon=True)
    thread.start()
    client = Client(page.address.port)
    client.until("ready")
    yield client
    page.stop()
    thread.join(30)
