"""`iaa open` and `iaa serve`: a photo library in the browser."""

import re
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer_line, note
from iaa.library.errors import UsageError
from iaa.library.layout import Layout, data_root

_TOKEN = re.compile("[A-Za-z0-9_-]+")

What = Annotated[
    str,
    typer.Argument(metavar="FOLDER|NAME", help="A folder of photographs, or a data set.", show_default=False),
]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port. Default: a free one.", show_default=False)
]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        "-b",
        help="What looks at the photographs. Default: what they were embedded with; else vit_b32.openai "
        "(CLIP, which knows words) if its weights are on this machine, else efficientnet_lite0.in1k.",
        show_default=False,
    ),
]
Copies = Annotated[
    Path | None,
    typer.Option(help="Where folders of copies are made. Default: DATA/NAME/copies.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("open", no_args_is_help=True)(open_)
    app.command("serve", no_args_is_help=True)(serve)


def open_(
    what: What,
    port: Port = None,
    backbone: Backbone = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file of the backbone.", show_default=False)
    ] = None,
    device: options.Device = "auto",
    copies: Copies = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
    data: options.Data = None,
) -> None:
    """Look through a folder of photographs in the browser: see, search, rank, group, pick.

    The page stands at once; what looks at the photographs works behind it, and what is done can be searched.
    Close it whenever you like (Ctrl-C): opened again, it goes on. Photographs are read and never touched.

    Example: iaa open ~/Pictures/holiday
    """
    _serve(what, "127.0.0.1", port, None, [], backbone, weights, device, copies, True, browser, data)


def serve(
    what: What,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Port = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="IAA_TOKEN",
            help="What lets people and programs in, at least 16 characters. Default, on this machine alone: "
            "a new one at each start. Another --host needs one; better set as IAA_TOKEN, for command lines "
            "can be read by others.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name", help="A name by which others call this machine (repeatable).", show_default=False
        ),
    ] = None,
    backbone: Backbone = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file of the backbone.", show_default=False)
    ] = None,
    device: options.Device = "auto",
    copies: Copies = None,
    embedding: Annotated[
        bool, typer.Option("--embed/--no-embed", help="Embed what is not embedded yet.")
    ] = True,
    data: options.Data = None,
) -> None:
    """The same as `iaa open`, without a browser: for a server, and for programs that search over HTTP.

    Example: iaa serve holiday --port 8080
    """
    _serve(what, host, port, token, name or [], backbone, weights, device, copies, embedding, False, data)


def _serve(
    what: str,
    host: str,
    port: int | None,
    token: str | None,
    names: list[str],
    backbone: str | None,
    weights: Path | None,
    device: str,
    copies: Path | None,
    is_embedding: bool,
    opens_browser: bool,
    data: Path | None,
) -> None:
    from iaa.library.gallery.choosing import check_photographs
    from iaa.library.gallery.gallery import Settings
    from iaa.web import serving

    _check_token(host, token)
    folder = _folder_of(what)
    if folder is None and not (data_root(data) / what / "dataset.toml").is_file():
        check_photographs(Layout(data_root(data), what))  # it may be built in; else this lists what there is
    settings = Settings(
        data_root(data), None if folder is not None else what, folder, backbone, weights, device, copies,
        is_embedding,
    )  # fmt: skip

    page = serving.Page(settings, host, port, token, names)
    answer_line(page.address.url)
    sys.stdout.flush()
    if not serving.is_loopback(host):
        note(
            "others reach this page, too: whoever has the token sees the photographs, and what is sent can "
            "be read on the way. Better: leave --host out, and come by ssh -L"
        )
    note("Ctrl-C ends it; what is finished is kept")
    if opens_browser:
        threading.Thread(target=webbrowser.open, args=(page.address.url,), daemon=True).start()
    page.run()


def _folder_of(what: str) -> Path | None:
    """The folder that is meant; None for the name of a data set. Raises UsageError for neither."""
    path = Path(what).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UsageError(f"{what} is a file; give the folder that it lies in")
    if any(sign in what for sign in "/\\~") or what in (".", ".."):
        raise UsageError(f"there is no folder {what}")
    return None


def _check_token(host: str, token: str | None) -> None:
    from iaa.web.serving import is_loopback

    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host} lets other machines in: choose a token of at least 16 characters and set it as "
            "IAA_TOKEN, or leave --host out and come by ssh -L"
        )
    if token is not None and (len(token) < 16 or not _TOKEN.fullmatch(token)):
        raise UsageError("a token has at least 16 characters: letters, digits, '-' and '_'")
