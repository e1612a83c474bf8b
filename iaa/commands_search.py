"""`iaa search`: a library searched by words or by a picture, on vectors that are there already."""

import difflib
import os
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import numpy as np
import typer

from iaa import options
from iaa.console import answer_json, answer_table, note
from iaa.paths import Layout, data_root
from iaa.sheet import has_photographs, open_sheet
from iaa.work import (
    check_file_place,
    has_text,
    image_files,
    load_backbones,
    note_demo,
    open_clip_features,
    open_embedded,
    open_only_embedded,
    write_csv,
)
from store import Features, IdentityError, StoreError, open_targets

_N_NAMED = 8
_WEIGHTS = ("weights_sha256", "weights_entry")
"""Keys of a feature file's identity that tell weights from others."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search", no_args_is_help=True)(search)


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="What to look for, in quotes.", show_default=False),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            help="Look for images like this one: its id or file in the data set, or the end of one.",
            show_default=False,
        ),
    ] = None,
    dataset: options.Dataset = "demo",
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
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    csv_file: options.CsvFile = None,
    sheet_file: options.SheetFile = None,
    device: options.Device = "auto",
    weights: options.Weights = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Search a library by words, or for images like one of its own; no image is read again.

    A text goes as it is through the text tower of the backbone that made the vectors.
    --like needs no weights, and any backbone will do.

    Example: iaa search "a dog on a beach" -d holiday -b vit_b32.openai --sheet dogs.html

    Example: iaa search --like IMG_2041.jpg -d holiday -b efficientnet_lite0.in1k
    """
    from analysis.prompting import rank_images
    from analysis.similarity import cosines_with
    from analysis.twins import first_equal_rows

    text = _text_of(words)
    _check_usage(text, like, output, weights)
    check_file_place(csv_file)
    layout = Layout(data_root(data), dataset)
    with _open(layout, backbone, by_text=like is None) as features:
        sheet = open_sheet(sheet_file, layout)
        ids = features.image_id.tolist()
        files = image_files(open_targets(layout.targets), ids)
        row: int | None = None
        if like is None:
            assert text is not None
            output = "embedding"
            query = _encode(layout, features, text, weights, device)
        else:
            output = output or min(features.outputs, key=lambda name: name != "embedding")
            row = _row_of(like, ids, files, layout.dataset, features.backbone)
            query = _read_query(features, output, row, files[row] or ids[row])
        first = first_equal_rows(partial(features.read, output), features.n_images)
        ranking = rank_images(cosines_with(features.blocks(output, unit_norm=True), first, query, row))
        n_failed = len(features.failures)
        n_unscored = features.n_images - n_failed - len(ranking.row) - (row is not None)
        columns: dict[str, list[Any]] = {
            "rank": ranking.rank.tolist(),
            "image_id": [ids[i] for i in ranking.row.tolist()],
            "cosine": ranking.score.tolist(),
            "percentile": ranking.percentile.tolist(),
            "file": [files[i] for i in ranking.row.tolist()],
        }
        table = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        if csv_file is not None:
            write_csv(csv_file, list(columns), table)
        shown = table[:top]
        asked = f'"{text}"' if row is None else f"Like {files[row] or ids[row]}"
        if sheet is not None:
            facts = [f"{dataset}, {features.backbone}/{output}; {len(table):,} images by cosine"]
            found = ("Closest to the words" if row is None else "Most similar", shown)
            query_card = {} if row is None else {"image_id": ids[row], "file": files[row]}
            sections = [("The picture", [query_card]), found] if query_card else [found]
            sheet.write(asked, facts, sections, features, "cosine")
    if as_json:
        answer_json(
            {"dataset": dataset, "backbone": features.backbone, "output": output, "text": text,
             "like": None if row is None else ids[row], "n_ranked": len(table), "n_failed": n_failed,
             "n_without_direction": n_unscored, "shown": shown}
        )  # fmt: skip
        return
    names = [n for n in columns if n != "file" or columns["file"] != columns["image_id"]]
    digits = {"cosine": 4, "percentile": 1}
    cells = [[round(line[n], digits[n]) if n in digits else line[n] for n in names] for line in shown]
    heads = ["image" if n == "image_id" else n for n in names]
    answer_table(f"{dataset}: {asked} ({features.backbone}/{output})", heads, cells)
    is_cut = len(shown) < len(table)
    note(f"{len(table):,} images ranked" + (f"; shown: the first {len(shown):,}" if is_cut else ""))
    if n_failed:
        note(f"{n_failed} images could not be read and have no rank; see: iaa info {features.path}")
    if n_unscored:
        note(f"{n_unscored} images have a vector of zeros, which is like nothing, and have no rank")
    if sheet is None and table and has_photographs(layout):
        note("To look at them: the same command with --sheet FILE.html")


def _text_of(words: list[str] | None) -> str | None:
    """The text; several words without quotes are a typer.BadParameter, for the shell has taken some away."""
    if not words:
        return None
    if len(words) > 1:
        raise typer.BadParameter(f'put the text in quotes: iaa search "{" ".join(words)}"')
    return words[0].strip()


def _check_usage(text: str | None, like: str | None, output: str | None, weights: list[str] | None) -> None:
    """Exactly one of TEXT and --like; options of the other are a typer.BadParameter, not ignored."""
    if (text is None) == (like is None):
        raise typer.BadParameter(
            'give either words, iaa search "a dog on a beach", or a picture, iaa search --like IMAGE'
        )
    if text == "" or like == "":
        raise typer.BadParameter("there is nothing to look for: the text, or the name of the image, is empty")
    if text is not None and output not in (None, "embedding"):
        raise typer.BadParameter(f"--output {output}: words are compared with the embedding; leave it out")
    if like is not None and weights:
        raise typer.BadParameter("--like compares stored vectors and needs no --weights; leave them out")


def _open(layout: Layout, backbone: str | None, by_text: bool) -> Features:
    if by_text:
        return open_clip_features(layout, backbone)
    return open_only_embedded(layout) if backbone is None else open_embedded(layout, backbone)


def _encode(
    layout: Layout, features: Features, text: str, weights: list[str] | None, device: str
) -> np.ndarray:
    """The text's vector, raw, by the very weights that made the features; else IdentityError."""
    name = features.backbone
    made_by = str(features.identity.get("weights_sha256", ""))
    by_picture = f"or search by a picture, without weights: iaa search --like IMAGE -d {layout.dataset}"
    if made_by == "imported":
        raise IdentityError(
            f"{features.path} holds imported vectors: which weights made them is not known, so no text can "
            f"be compared with them. Embed the images: iaa embed --dataset {layout.dataset} --backbone B; "
            + by_picture
        )
    if not has_text(name):
        raise typer.BadParameter(f"{name} has no text tower that goes with its images; {by_picture}")
    loaded = load_backbones([name], options.weight_files([name], weights), device)[0]
    made_of = {key: features.identity[key] for key in _WEIGHTS if key in features.identity}
    if loaded.weights_identity != made_of:
        stored = features.provenance.get("weights", {}).get("file", "a file not named")
        raise IdentityError(
            f"{features.path} was made by other weights of {name} than those loaded now:\n"
            f"  the features: sha256 {made_by[:16]}... ({stored}{_entry(made_of)})\n"
            f"  loaded now:   sha256 {loaded.weights_sha256[:16]}... ({loaded.weights_file}"
            f"{_entry(loaded.weights_identity)})\n"
            "Cosines between the two mean nothing. Name the weights that made the features: --weights FILE; "
            f"or embed anew: iaa embed --dataset {layout.dataset} --backbone {name} --overwrite; {by_picture}"
        )
    from embed.text import encode_part

    note_demo(name, layout.dataset)
    vector: np.ndarray = encode_part(loaded, [text])[0]
    return vector


def _entry(weights: Mapping[str, Any]) -> str:
    return f", its {weights['weights_entry']}" if "weights_entry" in weights else ""


def _read_query(features: Features, output: str, row: int, name: str) -> np.ndarray:
    """The stored vector of a picture, raw. Raises StoreError where it has none."""
    if not features.ok[row]:
        reason = features.failures.get(row, "not embedded")
        raise StoreError(
            f"{name} has no vector to compare with: {reason}. Choose another image; see: iaa info "
            f"{features.path}"
        )
    vector: np.ndarray = features.read(output, slice(row, row + 1))[0]
    if not vector.any():
        raise StoreError(f"{name} has a vector of zeros in {output}, which is like nothing; try --output")
    return vector


def _row_of(given: str, ids: list[str], files: list[str], dataset: str, backbone: str) -> int:
    """Row of the image that is meant: by its whole id or file, else by the end of one.

    Raises typer.BadParameter for a name that fits none or several, and lists what it may have meant.
    """
    wanted = given.replace(os.sep, "/").removeprefix("./")
    whole = [row for row, names in enumerate(zip(ids, files, strict=True)) if wanted in names]
    if len(whole) == 1:
        return whole[0]
    fitting = whole
    for fits in (_ends_at_folder, _is_stem, str.endswith):
        fitting = fitting or [
            row
            for row, (name, file) in enumerate(zip(ids, files, strict=True))
            if (file and fits(file, wanted)) or fits(name, wanted)
        ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        named = "; ".join(_both(ids[row], files[row]) for row in fitting[:_N_NAMED])
        more = f" and {len(fitting) - _N_NAMED:,} more" if len(fitting) > _N_NAMED else ""
        raise typer.BadParameter(
            f"--like {given} fits {len(fitting):,} images of {dataset}: {named}{more}. "
            "Say more of the name"
        )
    close = _close_names(wanted, ids, files)
    hint = f"; similar names: {'; '.join(close)}" if close else f"; the first of them: {'; '.join(ids[:3])}"
    raise typer.BadParameter(
        f"--like {given}: no such image among the {len(ids):,} of {dataset}{hint}. Added since they were "
        f"embedded? iaa embed --dataset {dataset} --backbone {backbone} --update"
    )


def _ends_at_folder(name: str, given: str) -> bool:
    """True if one is the end of the other, cut at a folder: a shell completes paths from where one is."""
    return name.endswith(f"/{given}") or given.endswith(f"/{name}")


def _is_stem(name: str, given: str) -> bool:
    """True for a file's name without its ending."""
    return os.path.splitext(name.rpartition("/")[2])[0] == given


def _both(name: str, file: str) -> str:
    return name if file in ("", name) else f"{name} ({file})"


def _close_names(given: str, ids: list[str], files: list[str]) -> list[str]:
    """Names that differ from the given one in case or a few letters."""
    lower = given.rpartition("/")[2].casefold()
    by_lower = {name.rpartition("/")[2].casefold(): name for names in (ids, files) for name in names if name}
    return [by_lower[found] for found in difflib.get_close_matches(lower, by_lower, 3)]
