"""`iaa head`: fitted probes as files, and those that others have fitted."""

from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer
from iaa.library import heads
from iaa.library.layout import Layout, data_root
from iaa.library.table import facts

HeadName = Annotated[str, typer.Argument(help="A name in DATA/heads, or a path.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    about = "Fitted probes as files: list, show, import LAION's, remove."
    head = typer.Typer(no_args_is_help=True, help=about)
    head.command("list")(list_)
    head.command("show", no_args_is_help=True)(show)
    head.command("import", no_args_is_help=True)(import_)
    head.command("remove", no_args_is_help=True)(remove)
    app.add_typer(head, name="head")


def list_(data: options.Data = None, as_json: options.Json = False) -> None:
    """List the heads of the data root, and what each expects."""
    found = heads.list_heads(data_root(data))
    notes = ["Fit one of your own: iaa probe --dataset RATED --output O --save NAME"]
    answer(as_json, {"heads": found.rows()}, found, notes=notes)


def show(
    head: HeadName,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", "-d", help="Data set whose spread of features weighs the dimensions (Figure 3)."
        ),
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Say what a head expects and where it comes from; with a data set, which features count (Figure 3).

    Layers without activations multiply out to one vector, so this works for LAION's MLP as well.
    """
    root = data_root(data)
    described = heads.describe_head(root, head)
    importance = {} if dataset is None else heads.measure_importance(Layout(root, dataset), head)
    widths = " -> ".join(str(width) for width in heads.widths(described["layers"]))
    told = {key: value for key, value in described.items() if key != "about"} | {"layers": widths}
    told |= described["about"]
    told |= {f"Figure 3 on {dataset}: {key}": value for key, value in importance.items()}
    value = described | ({"importance": importance} if importance else {})
    answer(as_json, value, facts(f"Head {described['name']}", told))


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="LAION's .pth file.")],
    backbone: Annotated[
        str,
        typer.Option("--backbone", "-b", help="What it was trained on: vit_b32.openai or vit_l14.openai."),
    ],
    save: Annotated[
        str | None, typer.Option(help="A name in DATA/heads, or a path. Default: the file's name.")
    ] = None,
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Import a head of LAION's aesthetic predictors, linear or MLP, bound to its backbone.

    Example: iaa head import sa_0_4_vit_b_32_linear.pth -b vit_b32.openai --save laion
    """
    written = heads.import_head(data_root(data), checkpoint, backbone, save, overwrite)
    name = save or written.stem
    notes = [
        f"wrote {written}",
        f"With a data set embedded by {backbone}: iaa rank --head {name} --dataset NAME",
        f"Next: iaa head show {name}",
    ]
    answer(as_json, {"head": written, "backbone": backbone}, notes=notes)


def remove(head: HeadName, data: options.Data = None, as_json: options.Json = False) -> None:
    """Delete a head's two files."""
    removed = heads.remove_head(data_root(data), head)
    answer(as_json, {"removed": removed}, notes=[f"removed {path}" for path in removed])
