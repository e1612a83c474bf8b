"""`iaa caption`: what is on each photograph, in words, and prompts that say it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import Answer, answer, note, progress, removed, show

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset

verbs = typer.Typer()
Name = Annotated[str, typer.Argument(help="Name of captions (see: iaa caption list).")]


@verbs.command("add")
@options.explain(
    column="Column of the captions (repeatable); without FILE, of the data set's own table. Default: those "
    "called caption, text, description, caption_1 ...",
    name="What to call them. Default: the file's or column's name.",
    encoding="Of a file that is not UTF-8, such as cp1252.",
    file=typer.Argument(help="CSV, Parquet, JSON or JSON lines: a column of ids or files, and texts."),
)
@options.of_dataset
def add(
    chosen: "Dataset",
    file: Path | None = None,
    column: list[str] | None = None,
    name: str | None = None,
    encoding: str | None = None,
    overwrite: options.Overwrite = False,
) -> Any:
    """Take over captions: one or more texts per photograph. What is missing or wrong is counted and named.

    Example: iaa caption add captions.csv -d mine; iaa caption add --column subject -d demo
    """
    return chosen.add_captions(file, column, name, encoding, overwrite)


@verbs.command("write")
@options.explain(
    backbone=("-b", "A CoCa of open_clip: open_clip:coca_ViT-L-14/TAG, or your own."),
    weights="Its weights file. Default: the hub's.",
    name="What to call them.",
)
def write(
    context: typer.Context,
    backbone: str = "open_clip:coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k",
    weights: Path | None = None,
    name: str = "coca",
    device: options.Device = "auto",
    threads: options.Threads = None,
    overwrite: options.Overwrite = False,
    dataset: options.Dataset = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Let a CoCa write a caption of every photograph. Stop it at any time: the same command goes on.

    Example: iaa caption write -d mine --weights open_clip_pytorch_model.bin
    """
    options.run_apart(context)
    from iaa.library import captions

    layout = options.choose_layout(dataset, data)
    done = captions.caption_photographs(
        layout, backbone, weights, name, device, threads, overwrite, progress, note
    )
    show(done, as_json)


@verbs.command("embed", no_args_is_help=True)
@options.explain(
    high="Label that praises (repeatable). Default: outstanding.",
    low="Label that damns (repeatable). Default: horrible.",
    all_labels="All 39 labels of the paper.",
    template="Default: 'a {label} picture, of {content}', a caption in {content}.",
)
def embed(
    name: Name,
    backbone: options.Backbones = None,
    high: list[str] | None = None,
    low: list[str] | None = None,
    all_labels: bool = False,
    template: str | None = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    dataset: options.Dataset = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Encode captions as prompts, each different text once per label; says first what that costs. Stop it
    at any
    time: the same command goes on.

    Example: iaa caption embed subject -d demo --all-labels; iaa prompts evaluate -d demo -p captions-subject
    """
    from iaa.library import backbones, captions
    from iaa.library.embedding import reading_backbones

    layout = options.choose_layout(dataset, data)
    ids = reading_backbones(layout, backbone)
    files = backbones.weight_files(ids, weights)
    made = captions.embed_captions(
        layout, name, ids, high, low, all_labels, template, files, device, overwrite, progress, note
    )
    step = (
        f"Next: iaa prompts evaluate --dataset {layout.dataset} --backbone {ids[0]} --prompts captions-{name}"
    )
    answer(as_json, {"dataset": layout.dataset, "files": made.rows()}, made, notes=[step])


@verbs.command("list")
@options.of_dataset
def list_(chosen: "Dataset") -> Answer:
    """List the captions of a data set."""
    found = chosen.list_captions()
    first = f"None yet: iaa caption add FILE --dataset {chosen.name}"
    value = {"dataset": chosen.name, "captions": found.rows()}
    return Answer(value, [found], [] if len(found) else [first])


@verbs.command("remove", no_args_is_help=True)
@options.of_dataset
def remove(chosen: "Dataset", name: Name) -> Answer:
    """Delete captions and the prompts that were encoded from them."""
    return removed(chosen.remove_captions(name))
