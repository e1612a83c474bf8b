"""Serving a gallery: the port, the token, the life of the server."""

import secrets
import socket
import threading
from collections.abc import Callable, Sequence
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
            if hasattr(socket, "SO_REUSEADDR") and socket.has_dualstack_ipv6 is not None:
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


def serve(
    settings: Settings,
    host: str = LOOPBACK,
    port: int | None = None,
    token: str | None = None,
    names: Sequence[str] = (),
    on_open: Callable[[Address], None] | None = None,
) -> None:
    """Serve a gallery until it is interrupted; `on_open(address)` is called once the page can be opened.

    Raises UsageError for a port that is taken.
    """
    import uvicorn

    from iaa.web.app import create_app

    with open_port(host, port) as listening:
        address = Address(host, listening.getsockname()[1], token or secrets.token_urlsafe(24))
        keeper = Keeper(Gallery(settings))
        app = create_app(keeper, door_of(address, names))
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        keeper.start()
        if on_open is not None:
            threading.Thread(target=on_open, args=(address,), daemon=True).start()
        try:
            server.run(sockets=[listening])
        finally:
            keeper.close()


def door_of(address: Address, names: Sequence[str] = ()) -> Door:
    """Who is let in at an address; `names` are further ones by which it may be called."""
    hosts = {"127.0.0.1", "::1", "localhost", *(name.lower() for name in names)}
    takes_any = not is_loopback(address.host)
    if takes_any:
        hosts |= {socket.gethostname().lower(), socket.getfqdn().lower(), address.host.lower()}
    return Door(address.token, address.port, frozenset(hosts), takes_addresses=takes_any)
