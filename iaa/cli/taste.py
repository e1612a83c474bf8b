"""`iaa taste`: what somebody's ratings are worth, and photographs in that order."""

from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer
from iaa.library.names import ME

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
verbs = typer.Typer()


@verbs.command("fit")
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
    from iaa.library.taste import fit_taste

    layout = options.choose_layout(dataset, data)
    found = fit_taste(layout, rater, backbone, output, head, seed=seed)
    saved = None if save is None else found.save(save, overwrite)
    ranking = found.rank()
    value = {**found.to_dict(), "head": saved, "images": ranking.best(top)}
    if not as_json:
        answer(False, value, *found.shown(), notes=found.notes())
    use = f"head kept: {saved}; use it: iaa rank --head {save} --dataset {layout.dataset}"
    answer(as_json, value, found.order(ranking, top), notes=[] if saved is None else [use])


@verbs.command("evaluate")
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
    from iaa.library.taste import fit_taste

    layout = options.choose_layout(dataset, data)
    found = fit_taste(layout, rater, backbone, output, head, groups, seed)
    answer(as_json, found.to_dict(), *found.shown(), notes=found.notes())
