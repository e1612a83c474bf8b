"""Serving a gallery: the port, the token, the life of the server."""

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from iaa.library.errors import UsageError
from iaa.library.gallery.gallery import Gallery, Settings
from iaa.library.gallery.keeping import Keeper
from iaa.web.security import Door

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """Where the page is."""

    host: str
    port: int
    token: str

    @property
    def url(self) -> str:
        """The address to open, with the token."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/?token={self.token}"


def is_loopback(host: str) -> bool:
    """True if only this machine reaches a server there."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def open_port(host: str, port: int | None) -> socket.socket:
    """A listening socket, on a free port where none is asked for. Raises UsageError where it is taken."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere it would let two servers share a port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}, port {port or 'any'}: {error.strerror or error}"
        ) from error
    return listening


class Page:
    """A gallery's server: it listens from the start, and answers while it runs.

    Raises UsageError for a port that is taken.
    """

    def __init__(
        self,
        settings: Settings,
        host: str = LOOPBACK,
        port: int | None = None,
        token: str | None = None,
        names: Sequence[str] = (),
    ) -> None:
        import uvicorn

        from iaa.web.app import create_app

        self._listening = open_port(host, port)
        self.address = Address(host, self._listening.getsockname()[1], token or secrets.token_urlsafe(24))
        self.keeper = Keeper(Gallery(settings))
        app = create_app(self.keeper, door_of(self.address, names), is_loopback(host))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=60,
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Answer until it is stopped or interrupted. What is finished is kept."""
        self.keeper.start()
        try:
            self._server.run(sockets=[self._listening])
        finally:
            self.keeper.close()
            self._listening.close()

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True


def door_of(address: Address, names: Sequence[str] = ()) -> Door:
    """Who is let in at an address; `names` are further ones by which it may be called."""
    hosts = {"127.0.0.1", "::1", "localhost", *(name.lower() for name in names)}
    takes_any = not is_loopback(address.host)
    if takes_any:
        hosts |= {socket.gethostname().lower(), socket.getfqdn().lower(), address.host.lower()}
    return Door(address.token, address.port, frozenset(hosts), takes_addresses=takes_any)
