"""`iaa groups`: photographs that belong together, from the stored arrays."""

from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer, note, progress

verbs = typer.Typer()


@verbs.command("groups")
def groups(
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            "-k",
            help="Look for these alone: copies, near, burst, bracket, panorama (repeatable). Default: all.",
        ),
    ] = None,
    dataset: options.Dataset = None,
    backbone: options.OneEmbedded = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Which of its outputs. Default: the embedding where there is one.", show_default=False
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="The cosine from which on two photographs are near-duplicates, up to 1. Default: what was "
            "measured for the backbone (docs/groups.md)."
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Bursts and brackets are taken within so many. Default: 10.")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Suggest the best by this head, then by sharpness.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many groups to show.")] = 10,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write all groups here, a row per photograph.")
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Photographs that belong together: exact copies, near-duplicates, bursts, brackets, panoramas.

    The best of a group stands first, as a suggestion; brackets and panoramas are not ranked. Nothing is
    moved or deleted. How it works and what it cannot do: docs/groups.md.

    Example: iaa groups --kind copies --csv copies.csv
    """
    from iaa.library.groups import check_kinds
    from iaa.library.ranking import check_file_place

    check_file_place(csv_file)
    kinds = check_kinds(kind)
    found = options.choose(dataset, data).groups(backbone, output, threshold, seconds, kinds, head, progress)
    if csv_file is not None:
        found.to_csv(csv_file)
        note(f"wrote {len(found):,} photographs: {csv_file}")
    shown = found.shown(top)
    answer(as_json, found.to_dict(), *([shown] if len(shown) else []), notes=found.remarks(top))
