"""`iaa groups`: photographs that belong together, from the stored arrays."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import Answer, note, progress

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset

verbs = typer.Typer()


@verbs.command("groups")
@options.explain(
    kind=("-k", "Look for these alone: copies, near, burst, bracket, panorama (repeatable). Default: all."),
    output="Which of its outputs. Default: the embedding where there is one.",
    threshold="The cosine from which on two photographs are near-duplicates, up to 1. Default: what was "
    "measured for the backbone (docs/groups.md).",
    seconds="Bursts and brackets are taken within so many. Default: 10.",
    head="Suggest the best by this head, then by sharpness.",
    csv_file=("--csv", "Write all groups here, a row per photograph."),
)
@options.of_dataset
def groups(
    chosen: "Dataset",
    kind: list[str] | None = None,
    backbone: options.OneEmbedded = None,
    output: str | None = None,
    threshold: float | None = None,
    seconds: float | None = None,
    head: str | None = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many groups to show.")] = 10,
    csv_file: Path | None = None,
) -> Any:
    """Photographs that belong together: exact copies, near-duplicates, bursts, brackets, panoramas.

    The best of a group stands first, as a suggestion; brackets and panoramas are not ranked. Nothing is
    moved or deleted. How it works and what it cannot do: docs/groups.md.

    Example: iaa groups --kind copies --csv copies.csv
    """
    from iaa.library.groups import check_kinds
    from iaa.library.ranking import check_file_place

    check_file_place(csv_file)
    kinds = check_kinds(kind)
    found = chosen.groups(backbone, output, threshold, seconds, kinds, head, progress)
    if csv_file is not None:
        found.to_csv(csv_file)
        note(f"wrote {len(found):,} photographs: {csv_file}")
    shown = found.shown(top)
    return Answer(found.to_dict(), [shown] if len(shown) else [], found.remarks(top))
