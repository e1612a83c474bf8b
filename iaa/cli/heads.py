"""`iaa head`: fitted probes as files, and those that others have fitted."""

from pathlib import Path
from typing import Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, note
from iaa.library import heads
from iaa.library.layout import Layout, data_root

HeadName = Annotated[str, typer.Argument(help="A name in DATA/heads, or a path.", show_default=False)]


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
    if as_json:
        answer_json({"heads": found.rows()})
        return
    answer_table(found.title, list(found.columns), [list(row.values()) for row in found.rows()])
    note("Fit one of your own: iaa probe --dataset RATED --output O --save NAME")


def show(
    head: HeadName,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", "-d", help="Data set whose spread of features weighs the dimensions (Figure 3).",
            show_default=False,
        ),
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Say what a head expects and where it comes from; with a data set, which features count (Figure 3).

    Layers without activations multiply out to one vector, so this works for LAION's MLP as well.
    """
    root = data_root(data)
    described: dict[str, Any] = heads.describe_head(root, head)
    if dataset is not None:
        described["importance"] = heads.measure_importance(Layout(root, dataset), head)
    if as_json:
        answer_json(described)
        return
    described["layers"] = " -> ".join(str(width) for width in heads.widths(described["layers"]))
    about = described.pop("about")
    importance = described.pop("importance", {})
    rows = [[key, str(value)] for key, value in {**described, **about}.items()]
    rows += [[f"Figure 3 on {dataset}: {key}", str(value)] for key, value in importance.items()]
    answer_table(f"Head {described['name']}", ["what", "value"], rows)


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="LAION's .pth file.", show_default=False)],
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone", "-b", help="What it was trained on: vit_b32.openai or vit_l14.openai.",
            show_default=False,
        ),
    ],
    save: Annotated[
        str | None,
        typer.Option(help="A name in DATA/heads, or a path. Default: the file's name.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a head of that name.")] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Import a head of LAION's aesthetic predictors, linear or MLP, bound to its backbone.

    Example: iaa head import sa_0_4_vit_b_32_linear.pth -b vit_b32.openai --save laion
    """
    written = heads.import_head(data_root(data), checkpoint, backbone, save, overwrite)
    if as_json:
        answer_json({"head": str(written), "backbone": backbone})
        return
    note(f"wrote {written}")
    name = save or written.stem
    note(f"With a data set embedded by {backbone}: iaa rank --head {name} --dataset NAME")
    note(f"Next: iaa head show {name}")


def remove(head: HeadName, data: options.Data = None, as_json: options.Json = False) -> None:
    """Delete a head's two files."""
    removed = heads.remove_head(data_root(data), head)
    if as_json:
        answer_json({"removed": [str(path) for path in removed]})
        return
    for path in removed:
        note(f"removed {path}")
