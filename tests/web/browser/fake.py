"""A library of which everything is planted, behind the same HTTP API: states that a real one reaches in hours
or not at all (20,000 photographs, half looked at, gone) stand here at once, and every answer is known.

What it answers is compared with the API's own description in test_fake.py, so that the two cannot part.
"""

import io
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image, ImageDraw

import iaa.web
from iaa.web.security import HEADERS

SLOWER = float(os.environ.get("IAA_BROWSER_SLOWER", "1"))
"""How many times slower the page's processor is made, and later its answers: what holds on a fast machine alone
is found with 6."""

WEB = Path(iaa.web.__file__).parent
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

CHANGE = "iaa open holiday --backbone vit_b32.openai"

Picture = Callable[[int, int], bytes]
"""JPEG of a row with its long edge in pixels; 0 is the full size."""


@dataclass(eq=False)
class Fake:
    """A planted library. Change its fields and call `news()`: the page hears of it with its next question."""

    names: list[str]
    picture: Picture
    sizes: list[tuple[int, int]]
    folders: list[str] = field(default_factory=list)
    taken: list[float | None] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    sharpness: list[float | None] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    likeness: dict[str, list[float]] = field(default_factory=dict)
    """Of a text, a key or a token: that of every row. What is not here is spread by its own name."""
    groups: list[dict[str, Any]] = field(default_factory=list)
    words: bool = True
    title: str = "holiday"
    phase: str = "ready"
    rate: float = 14.0
    version: int = 1
    listing: int = 1
    stars: dict[int, float] = field(default_factory=dict)
    """What is said of each row."""
    flags: dict[int, int] = field(default_factory=dict)
    pairs: list[tuple[int, int, float]] = field(default_factory=list)
    refusing: str = ""
    """Why no rating can be kept now."""
    worth: dict[str, Any] = field(default_factory=dict)
    """What /api/taste answers in place of its own."""
    gone: bool = False
    """It takes no connection's question: what a page sees of a program that was stopped."""
    asked: list[tuple[str, Any]] = field(default_factory=list)
    """What was posted, in order."""

    def __post_init__(self) -> None:
        n = len(self.names)
        self._acts: dict[int, list[tuple[str, int, float]]] = {}
        """By number: kind, row, what was there before."""
        self._last = 0
        self._kept: tuple[dict[str, str], tuple[int, str, bytes]] | None = None
        rng = np.random.default_rng(7)
        self.folders = self.folders or ["" for _ in range(n)]
        self.taken = self.taken or [None] * n
        self.states = self.states or ["ok"] * n
        self.reasons = self.reasons or ["" if state != "failed" else "broken file" for state in self.states]
        self.sharpness = self.sharpness or [float(v) for v in rng.random(n)]
        self.scores = self.scores or [float(v) for v in 5 + rng.normal(0, 0.8, n)]
        self.x, self.y = rng.random(n), rng.random(n)
        self.colours = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in rng.integers(50, 190, (n, 3))]

    @property
    def keys(self) -> list[str]:
        return [f"k{row:06d}" for row in range(len(self.names))]

    def news(self, listing: bool = False) -> None:
        self.version += 1
        self.listing += listing

    def stamp(self) -> dict[str, str]:
        return {"version": str(self.version), "listing": str(self.listing)}

    def library(self) -> dict[str, Any]:
        why = "" if self.words else f"What looks at them knows no words: {CHANGE}"
        heads = [
            {
                "name": "liked",
                "title": "Liked by people",
                "about": "How much people liked photographs like it, 1 to 10.",
            },
            {"name": "fresh", "title": "Fresh", "about": ""},
        ]
        details = {
            "backbone": "planted",
            "output": "embedding",
            "dataset": "holiday",
            "features": "",
            "digest": "00",
        }
        return self.stamp() | {
            "name": "holiday",
            "title": self.title,
            "n": len(self.names),
            "words": self.words,
            "why_no_words": why,
            "heads": heads,
            "default_order": "score",
            "default_head": "liked",
            "folder": "/photographs/holiday",
            "details": details,
            "copies_folder": "/photographs/copies",
            "can_reveal": True,
        }

    def state(self) -> dict[str, Any]:
        done = sum(state != "waiting" for state in self.states)
        total = len(self.states)
        busy = self.phase == "embedding"
        return self.stamp() | {
            "phase": self.phase,
            "message": "",
            "done": done,
            "total": total,
            "failed": self.states.count("failed"),
            "rate": self.rate if busy else 0.0,
            "seconds_left": (total - done) / self.rate if busy else None,
            "thumbnails": done,
        }

    def photographs(self) -> dict[str, Any]:
        endings = [Path(name).suffix.lower() for name in self.names]
        return self.stamp() | {
            "key": self.keys,
            "name": self.names,
            "folder": self.folders,
            "ending": endings,
            "width": [w for w, _ in self.sizes],
            "height": [h for _, h in self.sizes],
            "taken": self.taken,
            "colour": self.colours,
            "state": self.states,
            "reason": self.reasons,
            "sharpness": self.sharpness,
            "thumb": ["1"] * len(self.names),
        }

    def order(self, query: dict[str, list[str]]) -> dict[str, Any]:
        by = query["by"][0]
        ok = np.array([state == "ok" for state in self.states], bool)
        if by == "search":
            asked = query.get("text", []) + query.get("like", []) + query.get("picture", [])
            values = np.mean([self.likeness_of(one) for one in asked], axis=0)
            title, name = " and ".join(query.get("text", [])) or "Likeness", "likeness"
        elif by == "words":
            values = self.likeness_of(query["high"][0]) - self.likeness_of(query["low"][0])
            title, name = f"{query['high'][0]} or {query['low'][0]}", "score"
        elif by == "taste":
            values, title, name = self.taste_scores(), "the taste of me", "score"
        else:
            values = np.array(self.scores) * (1 if query.get("head", ["liked"])[0] == "liked" else -1)
            title, name = "Liked by people", "score"
        rows = np.flatnonzero(ok)
        rows = rows[np.argsort(-values[rows], kind="stable")]
        percentile = 100 * (1 - np.arange(len(rows)) / max(1, len(rows) - 1))
        return self.stamp() | {
            "title": title,
            "score_name": name,
            "rows": rows.tolist(),
            "score": values[rows].tolist(),
            "percentile": percentile.tolist(),
            "n_without": int(len(ok) - ok.sum()),
        }

    def taste_scores(self) -> np.ndarray:
        """Learned as simply as can be: near in the list is alike."""
        rows = np.arange(len(self.names))
        said = self.stars | {row: 3 + 2 * flag for row, flag in self.flags.items() if row not in self.stars}
        values = np.zeros(len(rows))
        for row, stars in said.items():
            values += (stars - 3) / (1 + np.abs(rows - row))
        for first, second, value in self.pairs:
            values += value * (1 / (1 + np.abs(rows - first)) - 1 / (1 + np.abs(rows - second)))
        return values

    def counts(self) -> dict[str, int]:
        n_stars, n_flags = len(self.stars), len(self.flags)
        return {"n_stars": n_stars, "n_flags": n_flags, "n_pairs": len(self.pairs), "last": self._last}

    def ratings(self) -> dict[str, Any]:
        rows = range(len(self.names))
        stars, flag = [self.stars.get(row, 0.0) for row in rows], [self.flags.get(row, 0) for row in rows]
        return self.stamp() | {"rater": "me", "stars": stars, "flag": flag} | self.counts()

    def next(self, n: int) -> dict[str, Any]:
        """From the last row to the first, every seventh: what is rated or compared is not asked for again."""
        compared = {row for pair in self.pairs for row in pair[:2]}
        count = len(self.names)
        order = sorted(range(count), key=lambda row: (row % 7, -row))
        open_ = [row for row in order if row not in {*self.stars, *self.flags, *compared}]
        keys = [self.keys[row] for row in open_[:n]]
        pairs = [[keys[at], keys[-1 - at]] for at in range(len(keys) // 2)]
        return self.stamp() | {"keys": keys, "pair": pairs[0] if pairs else [], "pairs": pairs}

    def taste(self) -> dict[str, Any]:
        n = len(self.stars) + len(self.flags) + len(self.pairs)
        row = {"low": 0.6, "high": 1.1, "n": n}
        rows = [
            {"question": "pairs in order", "by": "taste", "value": 0.74} | row,
            {"question": "pairs in order", "by": "general head", "value": 0.62} | row,
            {"question": "ahead of general head", "by": "taste", "value": 0.12} | row,
        ]
        is_measured = n >= 10
        return {
            "rater": "me",
            **self.counts(),
            "phase": "ready" if is_measured else "too few",
            "sentence": "not better than general head yet: about 30 more" if is_measured else "too few",
            "is_better": n >= 20,
            "n_more": 30 if is_measured else 10 - n,
            "error": None,
            "n_measured": n if is_measured else 0,
            "rows": rows if is_measured else [],
        } | self.worth

    def keep(self, said: dict[str, Any]) -> tuple[int, str, bytes]:
        if self.refusing:
            return as_json({"detail": self.refusing}, 507)
        rows, value = [self.keys.index(key) for key in said.get("keys") or [said["key"]]], said["value"]
        act = self._last + 1
        self._last += len(rows)
        if said["kind"] == "pair":
            self.pairs.append((rows[0], self.keys.index(said["other"]), value))
            self._acts[act] = [("pair", rows[0], 0)]
        else:
            held: dict[int, Any] = self.stars if said["kind"] == "stars" else self.flags
            self._acts[act] = [(said["kind"], row, held.get(row, 0)) for row in rows]
            for row in rows:
                self.hold(said["kind"], row, value)
        about = {"stars": float(self.stars.get(rows[0], 0)), "flag": int(self.flags.get(rows[0], 0))}
        return as_json({"act": act, **about, **self.counts()})

    def take_back(self, act: int | None) -> tuple[int, str, bytes]:
        if self.refusing:
            return as_json({"detail": self.refusing}, 507)
        if act is None:
            act = max(self._acts, default=0)
        elif act not in self._acts:
            return as_json({"detail": f"me has no act {act} to undo"}, 409)
        if not act:
            return as_json({"undone": 0, "keys": [], **self.counts()})
        done = self._acts.pop(act)
        self._last += 1
        for kind, row, before in done:
            if kind == "pair":
                self.pairs.pop()
            else:
                self.hold(kind, row, before)
        return as_json({"undone": len(done), "keys": [self.keys[row] for _, row, _ in done], **self.counts()})

    def hold(self, kind: str, row: int, value: float) -> None:
        held: dict[int, Any] = self.stars if kind == "stars" else self.flags
        held.pop(row, None)
        if value:
            held[row] = value

    def likeness_of(self, asked: str) -> np.ndarray:
        if asked in self.likeness:
            return np.array(self.likeness[asked])
        rng = np.random.default_rng(sum(map(ord, asked)))
        return rng.normal(0.2, 0.05, len(self.names))

    def facts(self, row: int) -> dict[str, Any]:
        width, height = self.sizes[row]
        group = next((group["id"] for group in self.groups if row in group["rows"]), None)
        words = [
            {"text": "lake", "cosine": 0.3, "percentile": 97.0},
            {"text": "boat", "cosine": 0.28, "percentile": 91.0},
        ]
        return {
            "key": self.keys[row],
            "name": self.names[row],
            "file": f"{self.folders[row]}/{self.names[row]}".lstrip("/"),
            "size_bytes": 2_345_678,
            "width": width,
            "height": height,
            "taken": self.taken[row],
            "camera": "Fujifilm X-T4",
            "lens": "XF 35mm F1.4",
            "exposure": 0.004,
            "aperture": 2.8,
            "iso": 400,
            "focal": 35.0,
            "bias": -0.33,
            "state": self.states[row],
            "reason": self.reasons[row],
            "changed": False,
            "words": words if self.words else [],
            "group": group,
            "exact_copies": [],
        }

    def answer(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, str, bytes]:
        """Status, type and content of one answer."""
        parts = path.strip("/").split("/")
        if path == "/":
            page = Environment(loader=FileSystemLoader(WEB / "templates"), autoescape=True).get_template(
                "page.html"
            )
            return 200, "text/html; charset=utf-8", page.render(title=self.title, version="0").encode()
        if parts[0] == "static":
            file = WEB / path.strip("/")
            return (
                (200, TYPES[file.suffix], file.read_bytes()) if file.is_file() else (404, "text/plain", b"")
            )
        if parts[:2] == ["api", "photographs"] and len(parts) > 2:
            row = int(parts[2][1:])
            if len(parts) == 3:
                return as_json(self.facts(row))
            edge = 480 if parts[3] == "thumbnail" else int(query["edge"][0])
            if self.states[row] == "failed":
                return as_json({"detail": self.reasons[row]}, 404)
            return 200, "image/jpeg", self.picture(row, edge)
        if method == "POST":
            return self.post(parts[1], body)
        if parts[:2] == ["api", "pictures"]:
            return 200, "image/jpeg", self.picture(0, 480)
        answers: dict[str, Callable[[], Any]] = {
            "library": self.library,
            "state": self.state,
            "photographs": self.photographs,
            "order": lambda: self.order(query),
            "ratings": self.ratings,
            "next": lambda: self.next(int(query.get("n", ["20"])[0])),
            "taste": self.taste,
            "groups": lambda: self.stamp() | {"threshold": 0.95, "groups": self.groups},
            "map": lambda: (
                self.stamp()
                | {"rows": list(range(len(self.names))), "x": self.x.tolist(), "y": self.y.tolist()}
            ),
        }
        if parts[0] != "api" or parts[1] not in answers:
            return as_json({"detail": "there is no such thing here"}, 404)
        if parts[1] == "order" and query["by"] == ["taste"] and not (self.stars or self.flags or self.pairs):
            return as_json({"detail": "nothing is rated yet"}, 409)
        if parts[1] != "photographs":
            return as_json(answers[parts[1]]())
        # The longest answer is kept, as the real server keeps it.
        if self._kept is None or self._kept[0] != self.stamp():
            self._kept = (self.stamp(), as_json(self.photographs()))
        return self._kept[1]

    def post(self, what: str, body: bytes) -> tuple[int, str, bytes]:
        if what == "pictures":
            self.asked.append((what, len(body)))
            try:
                width, height = Image.open(io.BytesIO(body)).size
            except OSError:
                return as_json(
                    {"detail": "this is no picture that can be read: send a JPEG, PNG or HEIC"}, 415
                )
            return as_json({"token": "sent", "width": width, "height": height})
        asked = json.loads(body or b"{}")
        self.asked.append((what, asked))
        if what == "ratings":
            return self.keep(asked)
        if what == "undo":
            return self.take_back(asked.get("act"))
        if what == "read_sidecars":
            elsewhere = {row: 5.0 for row in (3, 4) if self.stars.get(row) != 5}
            act = self._last + 1 if asked["do"] and elsewhere else 0
            if act:
                self._acts[act] = [("stars", row, self.stars.get(row, 0)) for row in elsewhere]
                self._last += len(elsewhere)
                self.stars |= elsewhere
            told = {"done": asked["do"], "act": act, "problems": ["IMG_0007.jpg.xmp: it is no XML"]}
            return as_json(told | {"n_found": 2, "n_new": len(elsewhere), "n_conflicts": 1})
        if what == "write_sidecars":
            counts = {"n_new": 60 if asked["head"] else 3, "n_changed": 0, "n_same": 0, "n_kept": 2}
            return as_json({"done": asked["do"], "problems": []} | counts)
        if what == "copy":
            return as_json({"folder": f"/photographs/copies/{asked['name']}", "n": len(asked["keys"])})
        if what in ("csv", "zip"):
            return 200, f"application/{what}", "\n".join(asked["keys"]).encode()
        if what in ("stop", "start"):
            self.phase = {"stop": "stopped", "start": "embedding"}[what]
        return as_json({"done": True})


def as_json(value: Any, status: int = 200) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode()


class Server:
    """Answers for a `Fake` from a thread until closed; can be closed and opened again on the same port."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake
        self.port = 0
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def open(self) -> None:
        fake = self.fake

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                split = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if fake.gone:
                    self.close_connection = True
                    return
                time.sleep(0.02 * (SLOWER - 1))
                status, kind, content = fake.answer(self.command, split.path, parse_qs(split.query), body)
                self.send_response(status)
                for name, value in HEADERS.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "max-age=9999" if "v=" in split.query else "no-store")
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        # A page that goes away in the middle of an answer is nothing to report.
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def drawn(sizes: list[tuple[int, int]], n_kinds: int = 40, grain: float = 0) -> Picture:
    """Pictures that are told apart by soft colours and circles, one for each `n_kinds` rows; with grain their
    files become as large as those of photographs."""
    kept: dict[tuple[int, int, int], bytes] = {}
    lock = threading.Lock()

    def picture(row: int, edge: int) -> bytes:
        width, height = sizes[row]
        scale = edge / max(width, height) if edge else 1
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        with lock:
            if (row % n_kinds, width, height) not in kept:
                kept[row % n_kinds, width, height] = _blobs(row % n_kinds, width, height, grain)
            return kept[row % n_kinds, width, height]

    return picture


def _blobs(seed: int, width: int, height: int, grain: float) -> bytes:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(30, 220, (4, 6, 3)).astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    draw = ImageDraw.Draw(small)
    for _ in range(12):
        x, y, r = rng.random() * width, rng.random() * height, rng.random() * min(width, height) / 3
        draw.ellipse(
            (x - r, y - r, x + r, y + r), outline=tuple(int(v) for v in rng.integers(0, 255, 3)), width=3
        )
    if grain:
        noisy = np.asarray(small) + rng.normal(0, grain, (height, width, 1))
        small = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()


def from_folder(folder: Path, limit: int = 10**9) -> Fake:
    """The photographs of a folder, to look at the page with."""
    files = sorted(folder.iterdir())[:limit]
    sizes = [Image.open(file).size for file in files]

    def picture(row: int, edge: int) -> bytes:
        if not edge:
            return files[row].read_bytes()
        image = Image.open(files[row]).convert("RGB")
        image.thumbnail((edge, edge))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=85)
        return out.getvalue()

    fake = Fake([file.name for file in files], picture, sizes, title=folder.parent.name)
    small = [
        Image.open(file).convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        for file in files
    ]
    fake.colours = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in small]
    return fake
