"""Who may ask, and what a browser may do with the answers: every request passes here first.

The page shows private photographs on a port that every program and every web page on this machine can try. So
a token is needed (a cookie after the first visit, `Authorization: Bearer` for programs); the Host header must
be one of this server's own (a foreign name that was made to point here is DNS rebinding); what changes
anything must come from the page itself (Origin); bodies are bounded; and nothing but this server's own files
runs.
"""

import hmac
import html
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 64 * 2**20
"""Bytes of any request."""
READING = {"GET", "HEAD"}

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Door:
    """Who is let in."""

    token: str
    port: int
    hosts: frozenset[str]
    """Names by which this server may be called, in lower case, without port."""
    takes_addresses: bool = False
    """Any IP address will do as its name: it listens on several, and an address cannot be rebound."""

    @property
    def cookie(self) -> str:
        """Name of the cookie: those of one host are shared by all its ports."""
        return f"iaa-{self.port}"

    def is_token(self, given: str) -> bool:
        """True for the token, in a time that tells nothing about it."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def is_own_host(self, host: str) -> bool:
        """True for a Host header (or the host of an Origin) that means this server."""
        try:
            parted = urlsplit(f"//{host}")
            name, port = (parted.hostname or "").lower(), parted.port
        except ValueError:
            return False
        if "@" in host or parted.netloc != host or (port if port is not None else 80) != self.port:
            return False
        return name in self.hosts or (self.takes_addresses and _is_address(name))


class Guard:
    """Lets a request through to the application, or answers it: 400, 401, 403, 413."""

    def __init__(self, app: Any, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # there is none, so none is let in
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        headers = _Headers(scope["headers"])
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(send, scope, *refused)
            return
        if scope["path"] == "/" and (given := _token_in(scope)):
            await self._let_in(scope, send, given)
            return
        if (bad := self._stranger(scope, headers)) is not None:
            await _answer(send, scope, *bad)
            return
        await self.app(scope, _bounded(receive), _with_headers(send))

    def _refusal(self, scope: Scope, headers: "_Headers") -> tuple[int, str] | None:
        host = headers.one("host")
        if host is None or not self.door.is_own_host(host):
            return 400, "this server is not called by that name; open the address that iaa printed"
        length = headers.one("content-length") or "0"
        if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY:
            return 413, f"at most {MAX_BODY // 2**20} MiB can be sent"
        if scope["method"] in READING:
            return None
        origin = headers.one("origin")
        if origin is None:
            if headers.one("authorization") is None:
                return (
                    403,
                    "what changes something must come from the page itself, or bring the token as Bearer",
                )
        elif urlsplit(origin).netloc != host or urlsplit(origin).scheme not in ("http", "https"):
            return 403, f"{origin[:100]} may change nothing here"
        return None

    def _stranger(self, scope: Scope, headers: "_Headers") -> tuple[int, str] | None:
        given = headers.one("authorization")
        if given is not None:
            kind, _, token = given.partition(" ")
            is_known = kind.lower() == "bearer" and self.door.is_token(token.strip())
        else:
            is_known = self.door.is_token(_cookie(headers.all("cookie"), self.door.cookie))
        if is_known:
            return None
        return 401, "the token is missing or wrong: open the address that iaa printed when it started"

    async def _let_in(self, scope: Scope, send: Send, given: str) -> None:
        """The first visit: the token moves from the address, which is shown and remembered, into a cookie."""
        if not self.door.is_token(given):
            await _answer(
                send, scope, 401, "that token is not this server's: it has another each time it starts"
            )
            return
        cookie = f"{self.door.cookie}={given}; Path=/; HttpOnly; SameSite=Strict"
        headers = {"location": "/", "set-cookie": cookie, "cache-control": "no-store", **HEADERS}
        await send({"type": "http.response.start", "status": 303, "headers": _encoded(headers)})
        await send({"type": "http.response.body", "body": b""})


class _Headers:
    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = [(name.lower(), value.decode("latin-1")) for name, value in raw]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._raw if key == name.encode()]

    def one(self, name: str) -> str | None:
        """The only value; several of one name are as good as none that fits."""
        found = self.all(name)
        return found[0] if len(found) == 1 else ("\n".join(found) if found else None)


class BodyTooLargeError(Exception):
    """A request's body went over the limit while it was read."""


def _bounded(receive: Receive) -> Receive:
    """Refuses a body that is longer than it said."""
    n_bytes = 0

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > MAX_BODY:
            raise BodyTooLargeError
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more = {"cache-control": "no-store", **HEADERS}
            added = [pair for pair in _encoded(more) if pair[0] not in there]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return with_headers


async def _answer(send: Send, scope: Scope, status: int, detail: str) -> None:
    """A refusal, in words: JSON for programs, a page for people."""
    wants_page = not scope["path"].startswith(("/api", "/openapi.json"))
    if wants_page:
        text = f"<!doctype html><meta charset=utf-8><title>{status}</title><p>{html.escape(detail)}."
    else:
        import json

        text = json.dumps({"detail": detail})
    kind = "text/html; charset=utf-8" if wants_page else "application/json"
    headers = {"content-type": kind, "cache-control": "no-store", **HEADERS}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    body = b"" if scope["method"] == "HEAD" else text.encode()
    await send({"type": "http.response.start", "status": status, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def _token_in(scope: Scope) -> str:
    return str(parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0])


def _cookie(headers: list[str], name: str) -> str:
    for header in headers:
        try:
            found: Any = SimpleCookie(header).get(name)
        except CookieError:
            continue
        if found is not None:
            return str(found.value)
    return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
