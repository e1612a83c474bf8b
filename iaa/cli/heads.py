"""`iaa head`: fitted probes as files, and those that others have fitted."""

from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer

HeadName = Annotated[str, typer.Argument(help="A name in DATA/heads, or a path.")]

verbs = typer.Typer()


@verbs.command("list")
def list_(data: options.Data = None, as_json: options.Json = False) -> None:
    """List the heads of the data root, of the project, and those that others have published, which are
    fetched when they are first used (iaa rank --head laion-b32)."""
    from iaa.library import heads, layout

    found = heads.list_heads(layout.data_root(data))
    notes = ["Fit one of your own: iaa probe --dataset RATED --output O --save NAME"]
    answer(as_json, {"heads": found.rows()}, found, notes=notes)


@verbs.command("show", no_args_is_help=True)
@options.explain(
    dataset=("-d", "Data set whose spread of features weighs the dimensions (Figure 3)."),
)
def show(
    head: HeadName,
    dataset: str | None = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Say what a head expects and where it comes from; with a data set, which features count (Figure 3).

    Layers without activations multiply out to one vector, so this works for LAION's MLP as well.
    """
    from iaa.library import heads, layout

    found = heads.describe_head(layout.data_root(data), head, dataset)
    answer(as_json, found, found.table())


@verbs.command("import", no_args_is_help=True)
@options.explain(
    save="A name in DATA/heads, or a path. Default: the file's name.",
    backbone=typer.Option("--backbone", "-b", help="What it was trained on: vit_b32.openai, vit_l14.openai, "
        "open_clip:ViT-B-16-quickgelu/openai."),
)  # fmt: skip
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="LAION's .pth file.")],
    backbone: str,
    save: str | None = None,
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Import a head of LAION's aesthetic predictors, linear or MLP, bound to its backbone.

    Example: iaa head import sa_0_4_vit_b_32_linear.pth -b vit_b32.openai --save laion
    """
    from iaa.library import heads, layout

    written = heads.import_head(layout.data_root(data), checkpoint, backbone, save, overwrite)
    name = save or written.stem
    notes = [
        f"wrote {written}",
        f"With a data set embedded by {backbone}: iaa rank --head {name} --dataset NAME",
        f"Next: iaa head show {name}",
    ]
    answer(as_json, {"head": written, "backbone": backbone}, notes=notes)


@verbs.command("remove", no_args_is_help=True)
def remove(head: HeadName, data: options.Data = None, as_json: options.Json = False) -> None:
    """Delete a head's two files."""
    from iaa.library import heads, layout

    removed = heads.remove_head(layout.data_root(data), head)
    answer(as_json, {"removed": removed}, notes=[f"removed {path}" for path in removed])
