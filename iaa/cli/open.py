"""`iaa open` and `iaa serve`: a photo library in the browser."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer_line, note

if TYPE_CHECKING:
    from iaa.web.serving import Page
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
Weights = Annotated[Path | None, typer.Option(help="Weights file of the backbone.", show_default=False)]
verbs = typer.Typer()


@verbs.command("open", no_args_is_help=True)
def open_(
    what: What,
    port: Port = None,
    backbone: Backbone = None,
    weights: Weights = None,
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
    from iaa.web.serving import Page, settings_of

    settings = settings_of(what, data, backbone, weights, device, copies)
    _serve(Page(settings, port=port), browser)


@verbs.command("serve", no_args_is_help=True)
@options.explain(
    host="Address to listen on.",
    name="A name by which others call this machine (repeatable).",
    token=typer.Option(envvar="IAA_TOKEN", show_default=False, help="What lets people and programs in, at "
        "least 16 characters. Default, on this machine alone: a new one at each start. Another --host needs "
        "one; better set as IAA_TOKEN, for command lines can be read by others."),
    embedding=typer.Option("--embed/--no-embed", help="Embed what is not embedded yet."),
)  # fmt: skip
def serve(
    what: What,
    host: str = "127.0.0.1",
    port: Port = None,
    token: str | None = None,
    name: list[str] | None = None,
    backbone: Backbone = None,
    weights: Weights = None,
    device: options.Device = "auto",
    copies: Copies = None,
    embedding: bool = True,
    data: options.Data = None,
) -> None:
    """The same as `iaa open`, without a browser: for a server, and for programs that search over HTTP.

    Example: iaa serve holiday --port 8080
    """
    from iaa.web.serving import Page, check_token, settings_of

    check_token(host, token)
    settings = settings_of(what, data, backbone, weights, device, copies, embedding)
    _serve(Page(settings, host, port, token, name or []))


def _serve(page: "Page", opens_browser: bool = False) -> None:
    answer_line(page.address.url)
    sys.stdout.flush()
    for line in page.notes():
        note(line)
    page.run(opens_browser)
