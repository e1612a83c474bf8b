"""`iaa backbone`: what can embed a data set."""

from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer

verbs = typer.Typer()


@verbs.command("list")
def list_(as_json: options.Json = False) -> None:
    """List backbones: what can run here, and what is missing for the others."""
    from iaa.library import backbones

    found = backbones.list_backbones()
    answer(as_json, {"backbones": found.rows()}, *backbones.shown(found), notes=[backbones.any_other()])


@verbs.command("show", no_args_is_help=True)
def show(name: Annotated[str, typer.Argument(help="A backbone id.")], as_json: options.Json = False) -> None:
    """Say what is known about a backbone before it is loaded, and where its weights are or come from."""
    from iaa.library import backbones
    from iaa.library.table import facts

    found = backbones.describe_backbone(name)
    told = {key: value for key, value in found.items() if value not in ("", None)}
    answer(as_json, found, facts(f"Backbone {name}", told))
