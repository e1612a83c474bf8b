"""Options that several commands share."""

import enum
from pathlib import Path
from typing import Annotated

import typer


class FloatType(enum.StrEnum):
    """The precisions that backbones compute in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Data = Annotated[
    Path | None, typer.Option("--data", help="Data root. Default: IAA_DATA, else ./data.", show_default=False)
]
Dataset = Annotated[str, typer.Option("--dataset", "-d", help="Name of a data set; see: iaa dataset list.")]
Backbones = Annotated[
    list[str] | None,
    typer.Option(
        "--backbone",
        "-b",
        help="Backbone id; repeat for several. Default: the demo's two for demo, else "
        "efficientnet_lite0.in1k. See: iaa backbones.",
        show_default=False,
    ),
]
CsvFile = Annotated[
    Path | None,
    typer.Option("--csv", help="Write every image's score and percentile here.", show_default=False),
]
SheetFile = Annotated[
    Path | None,
    typer.Option(
        "--sheet",
        help="Write what is shown as a contact sheet, one HTML file with thumbnails.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    FloatType,
    typer.Option("--precision", help="Autocast to fewer bits, for GPUs; part of what identifies the file."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files and unfinished runs of another combination.")
]
Seed = Annotated[int, typer.Option(help="Seed of bootstrap and folds.")]
Boot = Annotated[int, typer.Option(min=1, help="Bootstrap resamples behind each interval.")]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        help="Weights file: FILE for one backbone, or BACKBONE=FILE (repeatable). safetensors, or what "
        "torch.save wrote.",
        show_default=False,
    ),
]


def default_backbones(dataset: str, given: list[str] | None) -> list[str]:
    """The backbones asked for, without repeats, or those that run offline on any machine."""
    if given:
        return list(dict.fromkeys(given))
    return ["demo_clip", "demo_vit"] if dataset == "demo" else ["efficientnet_lite0.in1k"]


def weight_files(backbones: list[str], given: list[str] | None) -> dict[str, Path]:
    """Weights file per backbone id from `--weights`; wrong usage is a typer.BadParameter."""
    files: dict[str, Path] = {}
    for entry in given or []:
        name, separator, file = entry.partition("=")
        if not separator or (len(backbones) == 1 and name not in backbones and Path(entry).is_file()):
            if len(backbones) != 1:
                raise typer.BadParameter("--weights FILE needs exactly one --backbone; else BACKBONE=FILE")
            name, file = backbones[0], entry
        if name not in backbones:
            raise typer.BadParameter(f"--weights names {name}, but the backbones are {', '.join(backbones)}")
        files[name] = Path(file)
    return files


def batch_size(given: str) -> int | None:
    """The number given, or None for `auto`; anything else is a typer.BadParameter."""
    if given == "auto":
        return None
    if not given.isascii() or not given.isdigit() or int(given) == 0:
        raise typer.BadParameter(f"--batch-size is auto or a number of at least 1, not {given!r}")
    return int(given)
