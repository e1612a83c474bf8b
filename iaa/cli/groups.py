"""`iaa groups`: photographs that belong together, from the stored arrays."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, note, progress
from iaa.library.dataset import open_dataset
from iaa.library.groups import Groups, check_kinds

N_SHOWN = 10
_COLUMNS = ("group", "kind", "order", "image_id", "score", "sharpness", "taken", "cosine")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("groups")(groups)


def groups(
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            "-k",
            help="Look for these alone: copies, near, burst, bracket, panorama (repeatable). Default: all.",
            show_default=False,
        ),
    ] = None,
    dataset: options.Dataset = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", "-b", help="Whose vectors. Default: the only one embedded.", show_default=False
        ),
    ] = None,
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
            "measured for the backbone (docs/groups.md).",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Bursts and brackets are taken within so many. Default: 10.", show_default=False),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option("--head", help="Suggest the best by this head, then by sharpness.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many groups to show.")] = N_SHOWN,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write all groups here, a row per photograph.", show_default=False),
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Photographs that belong together: exact copies, near-duplicates, bursts, brackets, panoramas.

    The best of a group stands first, as a suggestion; brackets and panoramas are not ranked. Nothing is
    moved or deleted. How it works and what it cannot do: docs/groups.md.

    Example: iaa groups --kind copies --csv copies.csv
    """
    options.check_file_place(csv_file)
    kinds = check_kinds(kind)
    chosen = open_dataset(options.choose_dataset(dataset, data), data)
    found = chosen.groups(backbone, output, threshold, seconds, kinds, head, progress)
    if csv_file is not None:
        found.to_csv(csv_file)
    if as_json:
        answer_json(_as_json(found))
        return
    _answer(found, top)
    if csv_file is not None:
        note(f"wrote {len(found):,} photographs: {csv_file}")


def _answer(found: Groups, top: int) -> None:
    columns = [name for name in _COLUMNS if any(value not in (None, "") for value in found.columns[name])]
    rows = [row for row in found.rows() if row["group"] <= top]
    if rows:
        answer_table(
            found.title, columns, [["" if row[c] is None else row[c] for c in columns] for row in rows]
        )
    else:
        note("no photographs belong together")
    counts = ", ".join(f"{kind} {n:,}" for kind, n in found.counts.items())
    if counts:
        note(f"{len(found.groups):,} groups of {len(found):,} photographs: {counts}")
    if len(found.groups) > top:
        note(f"shown: the first {top:,}; all of them: --csv FILE.csv")
    if found.chosen is not None:
        limits = found.chosen.thresholds
        named = f"{limits.burst:g} within seconds, {limits.near:g} within an hour, {limits.later:g} later"
        note(f"alike from cosine {named}, {limits.unknown:g} at unknown times ({found.chosen.origin})")


def _as_json(found: Groups) -> dict[str, Any]:
    grouped: dict[int, dict[str, Any]] = {}
    for row in found.rows():
        number = row.pop("group")
        kind = row.pop("kind")
        is_ranked = row.pop("order") is not None
        head = {"group": number, "kind": kind, "is_ranked": is_ranked, "photographs": []}
        group = grouped.setdefault(number, head)
        group["photographs"].append(row)
    answer: dict[str, Any] = {"counts": found.counts, "groups": list(grouped.values())}
    if found.chosen is not None:
        answer["thresholds"] = {**asdict(found.chosen.thresholds), "origin": found.chosen.origin}
    return answer
