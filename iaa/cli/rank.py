"""`iaa rank` and `iaa search`: the photographs of a data set in an order, from the stored arrays."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer, note, progress
from iaa.library.backbones import one_weights_file
from iaa.library.errors import UsageError
from iaa.library.names import Method

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset
    from iaa.library.ranking import Ranking

verbs = typer.Typer()


@verbs.command("rank", no_args_is_help=True)
@options.explain(
    head="Rank by a fitted head: its name, or a path.",
    high="Rank by this word of praise, any word (repeatable).",
    low="Against this word of blame (repeatable).",
    prompts=("-p", "Rank by an encoded prompt set or TOML file; --high and --low then choose among its "
     "labels."),
    method="With --prompts: how its prompts make a score. Default: fixed for one prompt per label, else "
    "ensemble_mean_of_unit.",
)  # fmt: skip
def rank(
    head: str | None = None,
    high: list[str] | None = None,
    low: list[str] | None = None,
    prompts: str | None = None,
    method: Method | None = None,
    dataset: options.Dataset = None,
    backbone: options.OneEmbedded = None,
    top: options.Top = 30,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst to show, too.")] = 0,
    csv_file: options.CsvFile = None,
    sheet_file: options.SheetFile = None,
    copy_to: options.CopyTo = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """The photographs from best to worst: by a head, by words, or by a prompt set. Ratings are not needed.

    A head fits the features of one backbone only. Words go through the text tower of the backbone that
    made the vectors. What the methods are: docs/prompting.md.

    Example: iaa rank --head my-taste --top 30 --copy-to best/

    Example: iaa rank --high beautiful --low ugly --sheet ranking.html
    """
    from iaa.library.ranking import check_file_place

    check_file_place(csv_file)
    check_file_place(sheet_file, "--sheet")
    chosen = options.choose(dataset, data)
    file = one_weights_file(backbone, weights)
    found = chosen.rank(head, high, low, prompts, method, backbone, file, device, n_boot, seed, progress)
    _answer(chosen, found, top, worst, (csv_file, sheet_file, copy_to), as_json)


@verbs.command("search", no_args_is_help=True)
@options.explain(
    like="Look for images like this one: its id or file in the data set, or the end of one; or any image "
    "file.",
    output="With --like: the output to compare. Default: embedding, or else the first.",
    words=typer.Argument(metavar="TEXT", help="What to look for, in quotes."),
)
def search(
    words: list[str] | None = None,
    like: str | None = None,
    dataset: options.Dataset = None,
    backbone: options.OneEmbedded = None,
    output: str | None = None,
    top: options.Top = 20,
    csv_file: options.CsvFile = None,
    sheet_file: options.SheetFile = None,
    copy_to: options.CopyTo = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Search a library by words, or for images like one of its own or any other.

    A text, or a picture that is not in the data set, goes through the backbone that made the vectors. A
    picture of the data set needs no weights, and any backbone will do.

    Example: iaa search "a dog on a beach" -d holiday -b vit_b32.openai --sheet dogs.html

    Example: iaa search --like IMG_2041.jpg -d holiday
    """
    if len(words or []) > 1:  # without quotes; the shell has taken some away
        raise UsageError(f'put the text in quotes: iaa search "{" ".join(words or [])}"')
    from iaa.library.ranking import check_file_place

    check_file_place(csv_file)
    check_file_place(sheet_file, "--sheet")
    text = words[0].strip() if words else None
    chosen = options.choose(dataset, data)
    file = one_weights_file(backbone, weights)
    found = chosen.search(text, like, backbone, output, file, device, progress)
    _answer(chosen, found, top, 0, (csv_file, sheet_file, copy_to), as_json)


def _answer(
    chosen: "Dataset", found: "Ranking", top: int, worst: int, places: tuple[Path | None, ...], as_json: bool
) -> None:
    """One ranking as table, CSV, JSON, contact sheet and copies."""
    csv_file, sheet_file, copy_to = places
    for line in found.written(csv_file, sheet_file, copy_to, top, worst, progress):
        note(line)
    options.note_demo(found.asked.backbone, found.asked.dataset)
    notes = found.notes(top, worst, chosen.layout if sheet_file is None else None)
    answer(as_json, found.to_dict(top, worst), found.shown(top, worst), notes=notes)
