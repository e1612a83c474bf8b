"""`iaa taste`: what somebody's ratings are worth, and photographs in that order."""

from dataclasses import asdict
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, note
from iaa.library.rating.ratings import ME
from iaa.library.table import Table
from iaa.library.taste import TasteFit, fit_taste

Rater = Annotated[str, typer.Option("--rater", help="Whose taste.")]
Output = Annotated[
    str | None, typer.Option(help="Output of the backbone. Default: the first.", show_default=False)
]
General = Annotated[
    str | None,
    typer.Option(
        "--head", help="A general head to start from: only what the rater differs in is learned.",
        show_default=False,
    ),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands."""
    about = "One's own taste, learned from ratings, with what it is worth."
    taste = typer.Typer(no_args_is_help=True, help=about)
    taste.command("fit")(fit)
    taste.command("evaluate")(evaluate)
    app.add_typer(taste, name="taste")


def fit(
    dataset: options.Dataset = None,
    rater: Rater = ME,
    backbone: options.OneEmbedded = None,
    output: Output = None,
    head: General = None,
    save: Annotated[
        str | None,
        typer.Option(help="Keep it as a head of this name, for iaa rank and the page.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a head of that name.")] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="How many of the best to show.")] = 20,
    seed: options.Seed = 0,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Learn a taste from a rater's stars, flags and comparisons, and put the photographs in its order.

    Example: iaa taste fit -d mine --save my-taste
    """
    layout = options.choose_layout(dataset, data)
    found = fit_taste(layout, rater, backbone, output, head, seed=seed)
    saved = None if save is None else found.save(save, overwrite)
    ranking = found.rank()
    if as_json:
        answer_json({**_described(found), "head": saved, "images": ranking.best(top)})
        return
    _say(found)
    names = ("rank", "image_id", "score", "percentile", "stars")
    columns = {name: ranking.columns[name][:top] for name in names if name in ranking.columns}
    answer_table(Table(ranking.title, columns))
    if saved is not None:
        note(f"head kept: {saved}; use it: iaa rank --head {save} --dataset {layout.dataset}")


def evaluate(
    dataset: options.Dataset = None,
    rater: Rater = ME,
    backbone: options.OneEmbedded = None,
    output: Output = None,
    head: General = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="Also within groups: is the best of a burst found?")
    ] = False,
    seed: options.Seed = 0,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Say what a rater's ratings are worth: how well held-back ones are predicted, beside the general head
    and chance."""
    layout = options.choose_layout(dataset, data)
    found = fit_taste(layout, rater, backbone, output, head, groups, seed)
    if as_json:
        answer_json(_described(found))
        return
    _say(found)


def _described(found: TasteFit) -> dict[str, object]:
    worth = found.worth
    return {
        "dataset": found.layout.dataset,
        "rater": found.rater,
        "about": found.head.about,
        "worth": None if worth is None else {**asdict(worth), "sentence": worth.sentence},
    }


def _say(found: TasteFit) -> None:
    table = found.table()
    if found.worth is None:
        note("too few ratings to hold some back: from 10 on it is said what they are worth")
    else:
        given = table.columns
        values = [_cell(*each) for each in zip(given["value"], given["low"], given["high"], strict=True)]
        shown = {"held back": given["question"], "by": given["by"], "value": values, "n": given["n"]}
        answer_table(Table(table.title, shown))
        note(f"The taste is {found.worth.sentence}.")
    if found.n_elsewhere:
        note(f"{found.n_elsewhere:,} ratings are about photographs that have no features, or are gone")


def _cell(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.3f}" + ("" if low is None or low != low else f" [{low:.3f}, {high:.3f}]")
