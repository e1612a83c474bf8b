"""`iaa xmp`: stars from other photo programs, and for them."""

from collections import Counter
from typing import Annotated, Literal

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, note
from iaa.library import xmp
from iaa.library.errors import UsageError
from iaa.library.extras import naming_extras
from iaa.library.rating.ratings import ME
from iaa.library.table import Table

_N_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    about = "Stars from other photo programs, and for them: sidecars. Photographs are never written."
    group = typer.Typer(no_args_is_help=True, help=about)
    group.command("read")(read)
    group.command("write")(write)
    app.add_typer(group, name="xmp")


@naming_extras()
def read(
    dataset: options.Dataset = None,
    rater: Annotated[str, typer.Option("--rater", help="Whose ratings they are.")] = ME,
    newest: Annotated[
        bool, typer.Option("--newest", help="Where two places differ, the newest file wins.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is there, and add nothing.")] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Take stars and rejects over from sidecars (name.jpg.xmp, name.xmp) and from inside photographs.

    Example: iaa xmp read -d mine
    """
    layout = options.choose_layout(dataset, data)
    found = xmp.read_xmp(layout, rater, newest, not dry_run)
    if as_json:
        answer_json({"dataset": layout.dataset, **vars(found)})
        return
    by_value = Counter(value for value, _ in found.found.values())
    said = ", ".join(f"{n:,} {'rejected' if v < 0 else f'with {v:g}'}" for v, n in sorted(by_value.items()))
    note(f"{len(found.found):,} photographs are rated: {said or 'none'}")
    verb = "would be added" if dry_run else "were added"
    note(f"{found.n_new:,} of them are new and {verb} as ratings of {rater}")
    if found.n_ours:
        note(f"{found.n_ours:,} were written by this program from scores, and are nobody's")
    for name, places in found.conflicts[:_N_SHOWN]:
        note(f"{name}: " + "; ".join(f"{value:g} in {place}" for value, place in places))
    if found.conflicts:
        note(
            f"{len(found.conflicts):,} are said to be two things and were left out: --newest takes the newest"
        )
    for place, why in found.problems[:_N_SHOWN]:
        note(f"{place}: {why}")
    if found.act:
        note(f"To take it back: iaa rate undo -d {layout.dataset} --rater {rater} --act {found.act}")


@naming_extras()
def write(
    dataset: options.Dataset = None,
    head: Annotated[
        str | None,
        typer.Option("--head", help="Stars by this head's percentiles.", show_default=False),
    ] = None,
    rater: Annotated[
        str | None, typer.Option("--rater", help="The stars that this person gave.", show_default=False)
    ] = None,
    is_written: Annotated[
        bool, typer.Option("--write", help="Do it. Without, it is only said what would be done.")
    ] = False,
    stars_from: Annotated[
        str,
        typer.Option(
            "--stars-from", help="Percentiles from which on there are two, three, four, five stars."
        ),
    ] = ",".join(f"{x:g}" for x in xmp.STARS_FROM),
    naming: Annotated[
        Literal["full", "stem"],
        typer.Option("--names", help="New sidecars: name.jpg.xmp (full), or name.xmp (stem)."),
    ] = "full",
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Write stars into sidecars: by a head, or a person's own. What is in a sidecar already is kept, and a
    rating that a person gave is never replaced.

    Example: iaa xmp write -d mine --head my-taste --write
    """
    layout = options.choose_layout(dataset, data)
    if (head is None) == (rater is None):
        raise UsageError("say whose stars: --head NAME (by its scores), or --rater NAME (a person's own)")
    if head is not None:
        stars = xmp.stars_of_head(layout, head, _numbers(stars_from))
    else:
        stars = xmp.stars_of_rater(layout, str(rater))
    found = xmp.write_xmp(layout, stars, head is None, is_written, naming)
    counts = Counter(each.what for each in found)
    if as_json:
        answer_json(
            {
                "dataset": layout.dataset,
                "written": is_written,
                "counts": dict(counts),
                "sidecars": xmp.written_table(layout, found).rows(),
            }
        )
    else:
        shown = [each for each in found if each.what != "same"][:_N_SHOWN]
        columns: dict[str, list[object]] = {
            "photograph": [each.image_id for each in shown],
            "what": [each.what for each in shown],
            "stars": [each.stars for each in shown],
            "sidecar": [each.sidecar.name for each in shown],
            "why": [each.why for each in shown],
        }
        answer_table(Table(f"{layout.dataset}: sidecars", columns))
        note(", ".join(f"{n:,} {what}" for what, n in counts.items()) or "nothing to write")
        if not is_written and counts["new"] + counts["changed"]:
            note("Nothing was written. To do it: the same again with --write")
    if counts["problem"]:
        raise typer.Exit(1)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--stars-from takes four numbers, such as 20,50,80,95; not {text!r}") from None
