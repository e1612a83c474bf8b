"""`iaa rank` and `iaa search`: the photographs of a data set in an order, from the stored arrays."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, metric_cells, note, progress
from iaa.library.dataset import Dataset, open_dataset
from iaa.library.errors import UsageError
from iaa.library.opening import has_photographs
from iaa.library.ranking import Ranking
from iaa.library.scoring import Method

TopOption = Annotated[int, typer.Option("--top", min=1, help="How many of the best to show.")]
CopyTo = Annotated[
    Path | None,
    typer.Option(
        "--copy-to",
        metavar="DIR",
        help="Copy the files that are shown into a folder, named by rank. Originals stay as they are.",
        show_default=False,
    ),
]
_DIGITS = {"cosine": 4, "score": 4, "percentile": 1}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("rank", no_args_is_help=True)(rank)
    app.command("search", no_args_is_help=True)(search)


def rank(
    head: Annotated[
        str | None,
        typer.Option("--head", help="Rank by a fitted head: its name, or a path.", show_default=False),
    ] = None,
    high: Annotated[
        list[str] | None,
        typer.Option(help="Rank by this word of praise, any word (repeatable).", show_default=False),
    ] = None,
    low: Annotated[
        list[str] | None,
        typer.Option(help="Against this word of blame (repeatable).", show_default=False),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            "-p",
            help="Rank by an encoded prompt set or TOML file; --high and --low then choose among its labels.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="With --prompts: how its prompts make a score. Default: fixed for one prompt per label, "
            "else ensemble_mean_of_unit.",
            show_default=False,
        ),
    ] = None,
    dataset: options.Dataset = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            help="With words: a backbone with a text tower. Default: the only one embedded.",
            show_default=False,
        ),
    ] = None,
    top: TopOption = 30,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst to show, too.")] = 0,
    csv_file: options.CsvFile = None,
    sheet_file: options.SheetFile = None,
    copy_to: CopyTo = None,
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
    options.check_file_place(csv_file)
    options.check_file_place(sheet_file, "--sheet")
    chosen = open_dataset(options.choose_dataset(dataset, data), data)
    file = options.one_weights_file(backbone, weights)
    found = chosen.rank(head, high, low, prompts, method, backbone, file, device, n_boot, seed)
    _answer(chosen, found, top, worst, csv_file, sheet_file, copy_to, as_json)


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="What to look for, in quotes.", show_default=False),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            help="Look for images like this one: its id or file in the data set, or the end of one; or any "
            "image file.",
            show_default=False,
        ),
    ] = None,
    dataset: options.Dataset = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            help="Backbone id; for a text, one with a text tower. Default: the only one embedded.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="With --like: the output to compare. Default: embedding, or else the first.",
            show_default=False,
        ),
    ] = None,
    top: TopOption = 20,
    csv_file: options.CsvFile = None,
    sheet_file: options.SheetFile = None,
    copy_to: CopyTo = None,
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
    text = _text_of(words)
    options.check_file_place(csv_file)
    options.check_file_place(sheet_file, "--sheet")
    chosen = open_dataset(options.choose_dataset(dataset, data), data)
    file = options.one_weights_file(backbone, weights)
    found = chosen.search(text, like, backbone, output, file, device)
    _answer(chosen, found, top, 0, csv_file, sheet_file, copy_to, as_json)


def _answer(
    chosen: Dataset,
    found: Ranking,
    top: int,
    worst: int,
    csv_file: Path | None,
    sheet_file: Path | None,
    copy_to: Path | None,
    as_json: bool,
) -> None:
    """One ranking as table, CSV, JSON, contact sheet and copies."""
    asked = found.asked
    if csv_file is not None:
        note(f"wrote {len(found):,} rows: {found.to_csv(csv_file)}")
    shown = found.best(top)
    below = found.rows(max(top, len(found) - worst)) if worst else []
    if sheet_file is not None:
        _write_sheet(found, sheet_file, top, worst)
    if copy_to is not None:
        copies = found.copy_to(copy_to, top)
        note(f"copied {len(copies):,} files into {copy_to}; the originals are where they were")
    options.note_demo(asked.backbone, asked.dataset)
    if as_json:
        answer_json(
            {"dataset": asked.dataset, "backbone": asked.backbone, "output": asked.output, **asked.facts,
             "n_ranked": len(found), "n_failed": found.n_failed, "n_unscored": found.n_unscored,
             "shown": shown, "worst": below, "result": None if found.result is None else asdict(found.result)}
        )  # fmt: skip
        return
    is_named_twice = found.columns["file"] == found.columns["image_id"]
    columns = [name for name in found.columns if name != "file" or not is_named_twice]
    rows = shown + below
    cells = [[round(row[n], _DIGITS[n]) if n in _DIGITS else row[n] for n in columns] for row in rows]
    heads = ["image" if n == "image_id" else n for n in columns]
    answer_table(f"{found.title} ({asked.backbone}/{asked.output})", heads, cells)
    _notes_on(chosen, found, len(shown), len(below), sheet_file is not None)


def _notes_on(chosen: Dataset, found: Ranking, n_shown: int, n_below: int, has_sheet: bool) -> None:
    is_cut = n_shown + n_below < len(found)
    rest = f" and the last {n_below:,}" if n_below else ""
    note(f"{len(found):,} images ranked" + (f"; shown: the first {n_shown:,}{rest}" if is_cut else ""))
    if found.result is not None:
        names = ("accuracy", "SRCC", "PLCC")
        measured = [f"{name} {c}" for name, c in zip(names, metric_cells(found.result), strict=True) if c]
        result = found.result
        note(f"on the {result.n_test:,} test images of split {result.split_name}: {', '.join(measured)}")
    if found.why_not:
        note(f"not measured: {found.why_not}")
    scores = found.columns[found.score_name]
    if len(scores) > 1 and scores[0] == scores[-1]:
        note("every image has the same score: this ranks nothing here")
    if found.n_failed:
        note(f"{found.n_failed:,} images could not be read and have no rank")
    if found.n_unscored:
        note(f"{found.n_unscored:,} images have a vector of zeros, which is like nothing, and have no rank")
    if not has_sheet and len(found) and has_photographs(chosen.layout):
        note("To look at them: the same command with --sheet FILE.html")


def _write_sheet(found: Ranking, path: Path, top: int, worst: int) -> None:
    n_cards = min(top, len(found)) + min(worst, max(0, len(found) - top)) + (found.asked.query is not None)
    with progress("thumbnails", n_cards, "images") as bar:
        found.to_html(path, top, worst, bar.update)
    note(f"wrote a contact sheet of {n_cards:,} images: {path}")


def _text_of(words: list[str] | None) -> str | None:
    """The text; several words without quotes are a UsageError, for the shell has taken some away."""
    if not words:
        return None
    if len(words) > 1:
        raise UsageError(f'put the text in quotes: iaa search "{" ".join(words)}"')
    return words[0].strip()
