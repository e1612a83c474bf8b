"""Options that several commands share."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from iaa.cli.console import note
from iaa.library.errors import UsageError
from iaa.library.layout import data_root


class FloatType(enum.StrEnum):
    """The precisions that backbones compute in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Engine(enum.StrEnum):
    """What computes images: see embed.backbones.engines."""

    auto = "auto"
    torch = "torch"
    onnxruntime = "onnxruntime"


Data = Annotated[
    Path | None, typer.Option("--data", help="Data root. Default: IAA_DATA, else ./data.", show_default=False)
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        help="Name of a data set (see: iaa dataset list). Default: the only one there is.",
        show_default=False,
    ),
]
Backbones = Annotated[
    list[str] | None,
    typer.Option(
        "--backbone",
        "-b",
        help="Backbone id; repeat for several. Default: the demo's two for demo, else "
        "efficientnet_lite0.in1k. See: iaa backbone list.",
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


def choose_dataset(given: str | None, data: Path | None) -> str:
    """The data set asked for, or the only one of the data root.

    Raises UsageError where there is none or one must be chosen, and lists them.
    """
    if given is not None:
        return given
    root = data_root(data)
    there = sorted(p.parent.name for name in ("dataset.toml", "targets.h5") for p in root.glob(f"*/{name}"))
    names = list(dict.fromkeys(there))
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(
            f"{root.absolute()} has no data set yet. Add one: iaa dataset add NAME --kind folder "
            "--images DIR; or try the built-in demo: iaa embed --dataset demo"
        )
    choices = " or ".join(f"--dataset {name}" for name in names)
    raise UsageError(f"{root.absolute()} has several data sets: choose one by {choices}")


def note_demo(backbone: str, dataset: str) -> None:
    """Say so where one of the demo's backbones is asked about photographs."""
    if backbone.startswith("demo_") and dataset != "demo":
        note(f"{backbone} knows nothing but a synthetic world: its answers say nothing about photographs")


def check_file_place(path: Path | None, option: str = "--csv") -> None:
    """Say before the work, not after it, that the file of an option cannot be written, or is of another
    kind than what it would be replaced by."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: not a file in a folder that exists")
    kinds = {"--csv": (".csv", ".tsv", ".txt"), "--sheet": (".html", ".htm")}[option]
    if option == "--sheet" and path.suffix.lower() not in kinds:
        raise UsageError(f"--sheet {path}: the page is HTML, so call it {path.stem or 'sheet'}.html")
    if option == "--csv" and path.suffix.lower() in (".html", ".htm", ".h5"):
        raise UsageError(f"{option} {path}: call it {path.stem}.csv")
    if path.is_file() and path.suffix.lower() not in kinds:
        raise UsageError(f"{option} {path} exists and is no {kinds[0]} file: it is left as it is")


def one_weights_file(backbone: str | None, given: list[str] | None) -> Path | None:
    """The file of `--weights` for a command that takes one backbone; wrong usage is a UsageError."""
    if not given:
        return None
    name = backbone or given[0].partition("=")[0]
    return weight_files([name], given).get(name)


def weight_files(backbones: list[str], given: list[str] | None) -> dict[str, Path]:
    """Weights file per backbone id from `--weights`; wrong usage is a UsageError."""
    files: dict[str, Path] = {}
    for entry in given or []:
        name, separator, file = entry.partition("=")
        if not separator or (len(backbones) == 1 and name not in backbones and Path(entry).is_file()):
            if len(backbones) != 1:
                raise UsageError("--weights FILE needs exactly one --backbone; else BACKBONE=FILE")
            name, file = backbones[0], entry
        if name not in backbones:
            raise UsageError(f"--weights names {name}, but the backbones are {', '.join(backbones)}")
        files[name] = Path(file)
    return files


def batch_size(given: str) -> int | None:
    """The number given, or None for `auto`; anything else is a UsageError."""
    if given == "auto":
        return None
    if not given.isascii() or not given.isdigit() or int(given) == 0:
        raise UsageError(f"--batch-size is auto or a number of at least 1, not {given!r}")
    return int(given)
