"""`iaa xmp`: stars from other photo programs, and for them."""


from typing import TYPE_CHECKING, Any, Literal

import typer

from iaa.cli import options
from iaa.cli.console import Answer, answer
from iaa.library.extras import naming_extras
from iaa.library.names import ME, STARS_FROM

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset

verbs = typer.Typer()


@verbs.command("read")
@naming_extras()
@options.explain(
    rater="Whose ratings they are.",
    newest="Where two places differ, the newest file wins.",
    dry_run="Say what is there, and add nothing.",
)
@options.of_dataset
def read(
    chosen: "Dataset",
    rater: str = ME,
    newest: bool = False,
    dry_run: bool = False,
) -> Any:
    """Take stars and rejects over from sidecars (name.jpg.xmp, name.xmp) and from inside photographs.

    Example: iaa xmp read -d mine
    """
    found = chosen.read_xmp(rater, newest, dry_run)
    return Answer({"dataset": chosen.name, **vars(found)}, notes=found.notes(chosen.name, rater, dry_run))


@verbs.command("write")
@naming_extras()
@options.explain(
    head="Stars by this head's percentiles.",
    rater="The stars that this person gave.",
    is_written=("--write", "Do it. Without, it is only said what would be done."),
    stars_from="Percentiles from which on there are two, three, four, five stars.",
    group="The group of each photograph, too, in our own namespace.",
    naming=("--names", "New sidecars: name.jpg.xmp (full), or name.xmp (stem)."),
    label=typer.Option("--label", metavar="KEY=TEXT", help="Colour labels, too (repeatable). KEY: 1 to 5 "
        "stars, reject, best (of its group) or rest (of its group). A person's label stays."),
    keyword=typer.Option("--keyword", metavar="KEY=TEXT", help="Keywords, too, by the same rules; others "
        "stay."),
)  # fmt: skip
def write(
    dataset: options.Dataset = None,
    head: str | None = None,
    rater: str | None = None,
    is_written: bool = False,
    stars_from: str = ",".join(f"{x:g}" for x in STARS_FROM),
    label: list[str] | None = None,
    keyword: list[str] | None = None,
    group: bool = False,
    naming: Literal["full", "stem"] = "full",
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Write stars into sidecars: by a head, or a person's own. What is in a sidecar already is kept, and a
    rating that a person gave is never replaced.

    Example: iaa xmp write -d mine --head my-taste --write

    Example: iaa xmp write -d mine --head my-taste --label 5=Green --keyword best=keep --group
    """
    from iaa.library.xmp import parse_percentiles, write_stars

    found = write_stars(
        options.choose_layout(dataset, data), head, rater, is_written, parse_percentiles(stars_from), label,
        keyword, group, naming,
    )  # fmt: skip
    shown = found.shown()
    answer(as_json, found.to_dict(), *([shown] if len(shown) else []), notes=found.notes())
    if found.counts["problem"]:
        raise typer.Exit(1)
