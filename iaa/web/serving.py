"""Serving a gallery: the port, the token, the life of the server."""

import os
import re
import secrets
import socket
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from iaa.library.errors import UsageError
from iaa.library.gallery.gallery import Gallery, Settings
from iaa.library.gallery.keeping import Keeper
from iaa.library.layout import Layout, data_root
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

    def notes(self) -> list[str]:
        """What to know about a page that is open."""
        others = (
            "others reach this page, too: whoever has the token sees the photographs, and what is sent can "
            "be read on the way. Better: leave --host out, and come by ssh -L"
        )
        is_alone = is_loopback(self.address.host)
        return [*([] if is_alone else [others]), "Ctrl-C ends it; what is finished is kept"]

    def run(self, opens_browser: bool = False) -> None:
        """Answer until it is stopped or interrupted. What is finished is kept."""
        if opens_browser:
            threading.Thread(target=webbrowser.open, args=(self.address.url,), daemon=True).start()
        self.keeper.start()
        try:
            self._server.run(sockets=[self._listening])
        finally:
            self.keeper.close()
            self._listening.close()

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True


def settings_of(
    what: str,
    data: Path | None = None,
    backbone: str | None = None,
    weights: Path | None = None,
    device: str = "auto",
    copies: Path | None = None,
    is_embedding: bool = True,
) -> Settings:
    """What to show: a folder of photographs, or a data set by its name. Raises UsageError for neither."""
    from iaa.library.gallery.choosing import check_photographs

    root, path = data_root(data), Path(what).expanduser()
    folder = path if path.is_dir() else None
    if folder is None and path.exists():
        raise UsageError(f"{what} is a file; give the folder that it lies in")
    if folder is None and (any(sign in what for sign in "/\\~") or what in (".", "..")):
        raise UsageError(f"there is no folder {what}")
    if folder is None and not (root / what / "dataset.toml").is_file():
        check_photographs(Layout(root, what))  # it may be built in; else this lists what there is
    name = what if folder is None else None
    return Settings(root, name, folder, backbone, weights, device, copies, is_embedding)


def check_token(host: str, token: str | None) -> None:
    """Raises UsageError for a token that lets anybody in, or none where other machines reach the page."""
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host} lets other machines in: choose a token of at least 16 characters and set it as "
            "IAA_TOKEN, or leave --host out and come by ssh -L"
        )
    if token is not None and (len(token) < 16 or not re.fullmatch("[A-Za-z0-9_-]+", token)):
        raise UsageError("a token has at least 16 characters: letters, digits, '-' and '_'")


def door_of(address: Address, names: Sequence[str] = ()) -> Door:
    """Who is let in at an address; `names` are further ones by which it may be called."""
    hosts = {"127.0.0.1", "::1", "localhost", *(name.lower() for name in names)}
    takes_any = not is_loopback(address.host)
    if takes_any:
        hosts |= {socket.gethostname().lower(), socket.getfqdn().lower(), address.host.lower()}
    return Door(address.token, address.port, frozenset(hosts), takes_addresses=takes_any)
