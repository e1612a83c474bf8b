"""`iaa taste`: what somebody's ratings are worth, and photographs in that order."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import Answer, answer, progress
from iaa.library.names import ME, PROTOCOL

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset

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
@options.explain(
    save="Keep it as a head of this name, for iaa rank and the page.",
    overwrite="Replace a head of that name.",
)
def fit(
    dataset: options.Dataset = None,
    rater: Rater = ME,
    backbone: options.OneEmbedded = None,
    output: Output = None,
    head: General = None,
    save: str | None = None,
    overwrite: bool = False,
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
@options.explain(
    groups="Also within groups: is the best of a burst found?",
    protocol="Many people instead of one: curve (10 to 100 photographs of everybody), flickr-aes (37 "
    "people, 10 and 100), para (40 people, 10 and 100).",
    ratings="With --protocol: CSV or Parquet, a row per photograph, rater and score. Default: the data "
    "set's own.",
    column="Of --ratings: the scores; repeat for a column per rater.",
    people=("--person", "With --protocol: who is tested (repeatable)."),
)
@options.of_dataset
def evaluate(
    chosen: "Dataset",
    rater: Rater = ME,
    backbone: options.OneEmbedded = None,
    output: Output = None,
    head: General = None,
    groups: bool = False,
    protocol: str | None = None,
    ratings: Path | None = None,
    column: list[str] | None = None,
    people: list[str] | None = None,
    seed: options.Seed = 0,
) -> Any:
    """Say what a rater's ratings are worth: how well held-back ones are predicted, beside the general head
    and chance. With --protocol, how well many people's are, as research on personal taste measures it.

    Example: iaa taste evaluate -d vessel --protocol curve --ratings ratings_by_rater.csv
    """
    if protocol or ratings or column or people:
        asked = (protocol or PROTOCOL, ratings, column, people)
        many = chosen.evaluate_people(*asked, backbone, output, seed=seed, progress=progress)
        return Answer(many.to_dict(), many.shown(), many.notes())
    found = chosen.fit_taste(rater, backbone, output, head, groups, seed)
    return Answer(found.to_dict(), found.shown(), found.notes())
