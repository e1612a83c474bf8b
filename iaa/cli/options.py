"""Options that several commands share."""

import enum
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from iaa.cli.console import note, show
from iaa.library.supervision import crash_folder, supervise

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset as OpenDataset
    from iaa.library.layout import Layout


class FloatType(enum.StrEnum):
    """The precisions that backbones compute in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Data = Annotated[Path | None, typer.Option("--data", help="Data root. Default: IAA_DATA, else ./data.")]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset", "-d", help="Name of a data set (see: iaa dataset list). Default: the only one there is."
    ),
]
Backbones = Annotated[
    list[str] | None,
    typer.Option(
        "--backbone",
        "-b",
        help="Backbone id; repeat for several. Default: the demo's two for demo, else "
        "efficientnet_lite0.in1k. See: iaa backbone list.",
    ),
]
Embedded = Annotated[
    list[str] | None,
    typer.Option("--backbone", "-b", help="Backbone id; repeat for several. Default: all embedded ones."),
]
OneEmbedded = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        "-b",
        help="Backbone id; for words and prompts one with a text tower. Default: the only one embedded.",
    ),
]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write every image's score and percentile here.")]
SheetFile = Annotated[
    Path | None,
    typer.Option("--sheet", help="Write what is shown as a contact sheet, one HTML file with thumbnails."),
]
CopyTo = Annotated[
    Path | None,
    typer.Option(
        "--copy-to",
        metavar="DIR",
        help="Copy the files that are shown into a folder, named by rank. Originals stay as they are.",
    ),
]
Top = Annotated[int, typer.Option("--top", min=1, help="How many of the best to show.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    FloatType,
    typer.Option("--precision", help="Autocast to fewer bits, for GPUs; part of what identifies the file."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there under that name.")]
Seed = Annotated[int, typer.Option(help="Seed of bootstrap and folds.")]
Boot = Annotated[int, typer.Option(min=1, help="Bootstrap resamples behind each interval.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Decoding threads. Default: one per core.")]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        help="Weights file: FILE for one backbone, or BACKBONE=FILE (repeatable). safetensors, or what "
        "torch.save wrote.",
    ),
]


def explain(**told: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes options of a command's own parameters, by name what each is good for: "text", or ("-k", "text")
    for a short form beside the name, ("--csv", "text") for another name, or whatever else typer takes.
    Switches have no --no- form."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        for name, each in told.items():
            hints[name] = Annotated[hints[name], _option(name, each)]
        return _annotated(command, hints)

    return add


def of_dataset(command: Callable[..., Any]) -> Callable[..., None]:
    """A command about a data set, which is its first parameter and is chosen by --dataset and --data; what it
    returns is answered, with --json as one object."""

    def run(
        dataset: str | None = None, data: Path | None = None, as_json: bool = False, **given: Any
    ) -> None:
        show(command(choose(dataset, data), **given), as_json)

    run.__doc__, run.__name__ = command.__doc__, command.__name__
    own = list(inspect.signature(command).parameters.values())[1:]
    shared = list(inspect.signature(run).parameters.values())[:-1]
    both = [each.replace(kind=each.KEYWORD_ONLY) for each in own + shared]
    hints = {each.name: each.annotation for each in own} | {"dataset": Dataset, "data": Data, "as_json": Json}
    return _annotated(run, hints, both)


def _option(name: str, told: Any) -> Any:
    if not isinstance(told, str | tuple):
        return told
    *flags, text = (told,) if isinstance(told, str) else told
    named = flags if any(flag.startswith("--") for flag in flags) else [f"--{name.replace('_', '-')}", *flags]
    return typer.Option(*named, help=text)


def with_settings(
    meanings: Mapping[str, tuple[type, str]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option for each setting (type and meaning by name) that it does not take by itself;
    what is not typed is None, as in the preset."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        hints = get_type_hints(command, include_extras=True)
        for name, (kind, meaning) in meanings.items():
            if name not in signature.parameters:
                flags = [f"--{name.replace('_', '-')}"] if kind is bool else []
                hints[name] = Annotated[kind | None, typer.Option(*flags, help=meaning)]
                own.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None))
        return _annotated(command, hints, own)

    return add


def _annotated(
    command: Callable[..., None],
    hints: dict[str, Any],
    parameters: Sequence[inspect.Parameter] | None = None,
) -> Callable[..., None]:
    """The command with these annotations, and perhaps other parameters, as typer reads them."""
    signature = inspect.signature(command)
    given = list(signature.parameters.values()) if parameters is None else parameters
    typed = [each.replace(annotation=hints.get(each.name, each.annotation)) for each in given]
    command.__signature__ = signature.replace(parameters=typed)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    return command


def typed(context: typer.Context, *names: str) -> list[str]:
    """Those of these options that were typed, as they are typed."""
    given = [
        name for name in names if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    return [name.replace("_", "-") for name in given]


def choose_layout(dataset: str | None, data: Path | None) -> "Layout":
    """The files of the data set asked for, or of the only one there is. Raises UsageError."""
    from iaa.library.layout import Layout, data_root
    from iaa.library.opening import only_dataset

    root = data_root(data)
    return Layout(root, dataset or only_dataset(root))


def choose(dataset: str | None, data: Path | None) -> "OpenDataset":
    """The data set asked for, or the only one there is. Raises UsageError, DatasetError."""
    from iaa.library.dataset import open_dataset

    return open_dataset(choose_layout(dataset, data).dataset, data)


def run_apart(context: typer.Context) -> None:
    """Typed at a shell, what decodes images runs in a child process that may crash: this returns there."""
    if context.obj is not None and crash_folder() is None:
        code = supervise(context.obj, note)
        if code is not None:
            sys.exit(code)


def note_demo(backbone: str, dataset: str) -> None:
    """Say so where one of the demo's backbones is asked about photographs."""
    if backbone.startswith("demo_") and dataset != "demo":
        note(f"{backbone} knows nothing but a synthetic world: its answers say nothing about photographs")
