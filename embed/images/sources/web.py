"""What a web server may send: bounded in size and time, and the part of the file that was asked for.

fsspec reads whole answers into memory; its sessions are given answers that stop at a limit. Redirections are
followed ten times at most, and to http and https alone, as aiohttp does.
"""

import re

import aiohttp
from fsspec.config import conf

CONNECT_SECONDS, SILENT_SECONDS, TOTAL_SECONDS = 20.0, 60.0, 600.0
"""To be connected, without a byte, and for one answer in all."""
MAX_ANSWER = 2**31
MAX_PAGE = 2**26
"""A page of links: about 500,000 files."""
_RANGE = re.compile(r"bytes[= ]([0-9]+)-([0-9]+)")


class BoundedResponse(aiohttp.ClientResponse):
    """An answer that is read up to a limit: that of its kind, or the bytes that were asked for."""

    async def read(self) -> bytes:
        """The bytes. Raises OSError for more than the limit, or for others than were asked for."""
        limit = MAX_PAGE if self.content_type == "text/html" else MAX_ANSWER
        asked = _RANGE.fullmatch(self.request_info.headers.get("Range", ""))
        if asked and self.status in (200, 206):
            first, last = int(asked[1]), int(asked[2])
            limit = last - first + 1
            sent = _RANGE.match(self.headers.get("Content-Range", ""))
            if self.status == 200 or (sent and int(sent[1]) != first):
                raise OSError("the server does not send parts of a file (HTTP range requests)")
        return await self._read_up_to(limit)

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        """A page of links. Raises OSError for more than MAX_PAGE bytes."""
        page = await self._read_up_to(MAX_PAGE)
        return page.decode(encoding or self.charset or "utf-8", errors)

    async def _read_up_to(self, limit: int) -> bytes:
        body = bytearray()
        async for chunk in self.content.iter_chunked(2**16):
            body += chunk
            if len(body) > limit:
                self.close()
                raise OSError(f"the server sends more than {limit:,} bytes")
        return bytes(body)


def client_settings() -> dict[str, object]:
    """What fsspec gives to aiohttp's sessions; the user's own settings for http come first."""
    timeout = aiohttp.ClientTimeout(TOTAL_SECONDS, None, SILENT_SECONDS, CONNECT_SECONDS)
    own = {"timeout": timeout, "response_class": BoundedResponse}
    return {
        **own,
        **conf.get("http", {}).get("client_kwargs", {}),
        **conf.get("https", {}).get("client_kwargs", {}),
    }
